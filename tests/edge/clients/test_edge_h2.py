"""HTTP/2 to an edge server, by a client of another library, over TLS."""

import asyncio
import contextlib
import gc
import struct
from collections.abc import Callable
from pathlib import Path

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_world import ADDRESSES, HOST, PORT, Asked, response, run, world
from h2_client import H2Client, connect
from nearmile.edge import limits
from nearmile.edge.clients.h2server import H2Connection
from nearmile.edge.fill import Fill
from nearmile.edge.origins.link import Link
from nearmile.http.h2frames import PREFACE
from nearmile.http.limits import H2_STREAMS_MAX
from nearmile.reports.hit import Cache
from secure_world import LONG, pages, secure
from waiting import until

# Of what was read at once for each of a hundred streams: the kernel's first window is 64 KB, and it may grow.
HELD_BYTES_MAX = 20 << 20
NO_ERROR, PROTOCOL, FLOW, CLOSED, SIZE, CANCEL, COMPRESSION, CALM = 0, 1, 3, 5, 6, 8, 9, 11
SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


async def test_every_object_is_the_same_over_both_protocols(folder: Path) -> None:
    async with secure(folder) as (here, trust):
        plain, client = await here.client(), await connect(trust)
        for number in range(30):
            paths = [f"/{number}", "/long", "/unstored", "/chunked"]
            streams = [client.ask(path) for path in paths]
            for path, stream in zip(paths, streams, strict=True):
                answer = await client.answer(stream)
                assert (answer.status, answer.error) == (200, None)
                assert answer.body == (await plain.get(path)).body
                assert not {"connection", "transfer-encoding"} & answer.fields.keys()
        await client.close()


async def test_hits_are_answered_from_memory_and_recorded(folder: Path) -> None:
    async with secure(folder) as (here, trust):
        client = await connect(trust)
        first = await client.get("/a")
        again = await client.get("/a")
        assert first.fields["cache-status"] == "here-1; fwd=uri-miss; stored"
        assert again.fields["cache-status"] == "here-1; hit" and again.body == first.body
        assert again.fields["via"] == "1.1 here-1" and again.fields["age"] == "0"
        unchanged = await client.get("/a", ("if-none-match", '"1"'))
        assert (unchanged.status, unchanged.body) == (304, b"")
        head = await client.get("/a", method="HEAD")
        assert head.status == 200 and not head.body and head.fields["content-length"] == "80"
        assert [record[:2] for record in here.records] == [
            (200, Cache.MISS), (200, Cache.HIT), (304, Cache.HIT), (200, Cache.HIT)
        ]  # fmt: skip
        assert len(here.origin.asked) == 1 and here.requests == 4
        await client.close()


async def test_many_streams_at_a_time(folder: Path) -> None:
    async with secure(folder) as (_, trust):
        client = await connect(trust)
        await client.get("/warm")
        for _ in range(3):
            streams = {client.ask(f"/{number % 7}"): number % 7 for number in range(100)}
            for stream, number in streams.items():
                assert (await client.answer(stream)).body == f"/{number}".encode() * 40
        assert client.h2.remote_settings.max_concurrent_streams == H2_STREAMS_MAX
        await client.close()


async def test_bodies_go_to_the_origin_whole(folder: Path) -> None:
    async with secure(folder) as (here, trust):
        client = await connect(trust)
        for method in ("POST", "GET"):
            for fields in ((), (("content-length", str(len(LONG))),)):
                stream = client.ask("/echo", *fields, method=method, end=False)
                await client.upload(stream, LONG)
                answer = await client.answer(stream)
                assert answer.body == LONG and "x-odd" not in answer.fields
            assert "transfer-encoding" in here.origin.asked[-2].fields
            assert here.origin.asked[-1].fields["content-length"] == str(len(LONG))
        await client.close()


async def test_trailers_of_a_request_are_dropped(folder: Path) -> None:
    async with secure(folder) as (_, trust):
        client = await connect(trust)
        stream = client.ask("/echo", method="POST", end=False)
        client.h2.send_data(stream, b"abc")
        client.h2.send_headers(stream, [("x-sum", "1")], end_stream=True)
        client.flush()
        assert (await client.answer(stream)).body == b"abc"
        await client.close()


async def test_cookies_are_joined_and_interim_responses_passed_on(folder: Path) -> None:
    async with secure(folder) as (_, trust):
        client = await connect(trust)
        answer = await client.get("/cookie", ("cookie", "a=1"), ("cookie", "b=2"))
        assert answer.body == b"a=1; b=2"
        early = await client.get("/early")
        assert (early.interim, early.body) == ((103,), b"late")
        await client.close()


async def test_a_slow_reader_holds_up_itself_alone(folder: Path) -> None:
    async with secure(folder) as (here, trust):
        slow, quick = await connect(trust, window=False), await connect(trust)
        for path in ("/long", "/unstored"):
            stream = slow.ask(path)
            for _ in range(20):
                assert (await quick.get("/other")).status == 200
                assert (await quick.get("/long")).body == LONG
            while len(slow._have(stream).body) < 65_535:
                await slow.read()
            assert stream not in slow.done
            slow.window = True
            slow.h2.increment_flow_control_window(len(LONG))
            slow.h2.increment_flow_control_window(len(LONG), stream)
            slow.flush()
            assert (await slow.answer(stream)).body == LONG
            slow.window = False
        # A hit is recorded as whole once all of it went.
        await until(lambda: all(record[3] for record in here.records))
        slow.writer.close()
        quick.writer.close()


async def test_a_hundred_streams_that_nobody_reads_hold_little(folder: Path) -> None:
    async def endless(asked: Asked) -> bytes:
        return response(bytes(2 << 20), "Cache-Control: no-store")

    async with secure(folder, endless) as (here, trust):
        client = await connect(trust, window=False)
        asked = [client.ask(f"/{number}") for number in range(100)]
        await until(lambda: any(isinstance(one, H2Connection) for one in here.servers[0]._connections))
        (guest,) = here.servers[0]._connections
        assert isinstance(guest, H2Connection)
        await until(lambda: sum(stream.waiting_bytes > 0 for stream in guest.streams.values()) == len(asked))
        for _ in range(20):
            await asyncio.sleep(0.01)  # the origins would send more
        # One object may wait for the kernel, for its windows and in a fill at the same time: counted once.
        gc.collect()
        fills = [one for one in gc.get_objects() if isinstance(one, Fill)]
        links = [one for one in gc.get_objects() if isinstance(one, Link)]
        chunks = {id(chunk): len(chunk) for one in fills for chunk in one._chunks}
        chunks |= {id(chunk): len(chunk) for one in links for chunk in one._pieces}
        queued_bytes = sum(stream.waiting_bytes for stream in guest.streams.values())
        print(sum(chunks.values()), queued_bytes)
        assert max(sum(chunks.values()), queued_bytes) < HELD_BYTES_MAX
        await client.close()


async def test_a_reader_that_stops_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STALLED_TIMEOUT_S", 0.1)
    monkeypatch.setattr(limits, "SWEEP_S", 0.05)
    async with secure(folder) as (here, trust):
        client = await connect(trust, window=False)
        await client.get("/1")
        for path in ("/long", "/long", "/unstored"):
            stream = client.ask(path)
            assert (await client.answer(stream)).error is not None
            assert not here.records[-1][3]
        await client.close()


async def test_a_stream_that_drips_is_too_slow(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SWEEP_S", 0.05)
    monkeypatch.setattr(limits, "PACE_GRACE_S", 0.3)
    monkeypatch.setattr(limits, "PACE_BYTES_PER_S_MIN", 1 << 20)
    async with secure(folder) as (_, trust):
        client = await connect(trust, window=False)
        await client.get("/long", method="HEAD")
        reading = client.ask("/long")
        sending = client.ask("/echo", method="POST", end=False)
        # Never silent, either of them: a byte at a time of what is asked for, and of what is sent.
        while not {reading, sending} <= client.done:
            if reading not in client.done:
                client.h2.increment_flow_control_window(1, reading)
                client.h2.increment_flow_control_window(1)
            if sending not in client.done:
                client.h2.send_data(sending, b"x")
            client.flush()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(client.read(), 0.02)
        assert client.got[reading].error == client.got[sending].error == CANCEL
        await client.close()


async def test_an_idle_connection_is_ended(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "IDLE_TIMEOUT_S", 0.1)
    monkeypatch.setattr(limits, "SWEEP_S", 0.05)
    async with secure(folder) as (here, trust):
        client = await connect(trust)
        await client.get("/1")
        while not client.ended:
            await client.read()
        assert client.goaway == NO_ERROR
        await until(lambda: here.servers[0].connections == 0)


async def test_a_broken_response_is_not_taken_for_a_whole_one(folder: Path) -> None:
    async with secure(folder) as (here, trust):
        client = await connect(trust)
        assert (await client.get("/broken")).error == 2
        assert (await client.get("/1")).status == 200
        assert not here.records[0][3]
        await client.close()


async def test_streams_given_up_end_their_exchanges(folder: Path) -> None:
    async def never(asked: Asked) -> None:
        await asked.reader.read()

    async with secure(folder, never) as (here, trust):
        client = await connect(trust)
        streams = [client.ask(f"/{number}") for number in range(20)]
        await until(lambda: len(here.origin.asked) == 20)
        for stream in streams:
            client.h2.reset_stream(stream)
        client.flush()
        (connection,) = here.servers[0]._connections
        await until(lambda: not connection.streams)  # type: ignore[attr-defined]
        await client.close()


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def head(*more: tuple[str, str], method: str = "GET", path: str = "/1") -> bytes:
    pseudo = [(":method", method), (":scheme", "https"), (":authority", HOST), (":path", path)]
    return bytes(hpack.Encoder().encode([*pseudo, *more]))


def asks(payload: bytes, flags: int = 5) -> bytes:
    return frame(1, flags, 1, payload)


async def frames(client: H2Client, data: bytes = b"") -> list[tuple[int, int, bytes]]:
    """Kind, stream and payload of all that comes until the end, after ``data``."""
    found = []
    with contextlib.suppress(ConnectionError):
        while piece := await client.reader.read(65536):
            data += piece
    await client.close()
    while data:
        size = int.from_bytes(data[:3], "big")
        found.append((data[3], int.from_bytes(data[5:9], "big"), data[9 : 9 + size]))
        data = data[9 + size :]
    return found


async def goaway(client: H2Client, data: bytes = b"") -> int:
    """Why the server ended the connection."""
    (error,) = (payload[4:8] for kind, _, payload in await frames(client, data) if kind == 7)
    return int.from_bytes(error, "big")


WINDOW_OVER = frame(8, 0, 0, b"\x7f\xff\xff\xff")
CONNECTION_ERRORS = {
    "SETTINGS on a stream": (frame(4, 0, 1, b""), PROTOCOL),
    "SETTINGS of a wrong length": (frame(4, 0, 0, b"abcd"), SIZE),
    "SETTINGS acknowledged with a payload": (frame(4, 1, 0, b"abcdef"), SIZE),
    "PING of a wrong length": (frame(6, 0, 0, b"abc"), SIZE),
    "an even stream": (frame(1, 5, 2, head()), PROTOCOL),
    "DATA on an idle stream": (frame(0, 1, 1, b"x"), PROTOCOL),
    "RST_STREAM on an idle stream": (frame(3, 0, 1, b"\0\0\0\x08"), PROTOCOL),
    "WINDOW_UPDATE of 0": (frame(8, 0, 0, b"\0\0\0\0"), PROTOCOL),
    "a window beyond 2^31-1": (WINDOW_OVER, FLOW),
    "PUSH_PROMISE from a client": (frame(5, 4, 1, b"\0\0\0\2"), PROTOCOL),
    "HPACK that is none": (asks(b"\xff\xff\xff\xff\xff\xff"), COMPRESSION),
    "a frame beyond 16 KB": (frame(0, 0, 1, b"x" * 17_000), SIZE),
    "padding beyond the frame": (asks(head(), 4) + frame(0, 9, 1, b"\x09abc"), PROTOCOL),
    "a frame between HEADERS and CONTINUATION": (asks(head(), 1) + frame(6, 0, 0, b"12345678"), PROTOCOL),
    "a flood of PING": (frame(6, 0, 0, b"12345678") * 500, CALM),
    "a flood of SETTINGS": (SETTINGS * 500, CALM),
    "a flood of CONTINUATION": (asks(head(), 1) + frame(9, 0, 1, b"") * 100, CALM),
    "far too many fields": (asks(head(*[(f"a{n}", "") for n in range(900)])), CALM),
}


@pytest.mark.parametrize("name", CONNECTION_ERRORS)
async def test_what_breaks_the_connection(folder: Path, name: str) -> None:
    data, error = CONNECTION_ERRORS[name]
    async with secure(folder) as (here, trust):
        client = await connect(trust)
        client.writer.write(data)
        assert await goaway(client) == error
        assert not here.origin.asked
        await until(lambda: here.servers[0].connections == 0)


STREAM_ERRORS = {
    "an upper-case name": head(("Foo", "1")),
    "Connection": head(("connection", "close")),
    "Transfer-Encoding": head(("transfer-encoding", "chunked")),
    "TE but trailers": head(("te", "gzip")),
    "a pseudo-header field twice": head((":path", "/2")),
    "an unknown pseudo-header field": head((":odd", "/2")),
    "a pseudo-header field after a field": bytes(hpack.Encoder().encode([("a", "b"), (":path", "/")])),
    "no path": bytes(hpack.Encoder().encode([(":method", "GET"), (":scheme", "https"), (":authority", HOST)])),
    "an empty path": head(path=""),
    "a path with a blank": head(path="/a b"),
    "a path that is none": head(path="a"),
    "a line break in a value": head(("x", "a\r\nhost: evil")),
    "a blank in a name": head(("x y", "a")),
    "a body that was not announced": head(("content-length", "5")),
    "Content-Length twice": head(("content-length", "0"), ("content-length", "0")),
    "a Content-Length that is none": head(("content-length", "+5")),
}


@pytest.mark.parametrize("name", STREAM_ERRORS)
async def test_what_breaks_a_stream(folder: Path, name: str) -> None:
    async with secure(folder) as (here, trust):
        client = await connect(trust)
        client.h2.get_next_available_stream_id()
        client.writer.write(asks(STREAM_ERRORS[name]))
        client.h2.send_headers(1, [(":method", "GET")], end_stream=True)
        client.h2.data_to_send()
        answer = await client.answer(1)
        assert answer.error == PROTOCOL and answer.status == 0
        assert not here.origin.asked and not client.ended
        await client.close()


REFUSED = {
    "another Host": (head(("host", "evil.example")), 400),
    "CONNECT": (bytes(hpack.Encoder().encode([(":method", "CONNECT"), (":authority", HOST)])), 501),
    "too many fields": (head(*[(f"a{n}", "") for n in range(120)]), 431),
    "a fragment": (head(path="/a#b"), 400),
    "a very long path": (head(path="/" + "a" * 9_000), 414),
    "an unknown host": (bytes(hpack.Encoder().encode(
        [(":method", "GET"), (":scheme", "https"), (":authority", "who.example"), (":path", "/")])), 421),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_refused_with_a_page(folder: Path, name: str) -> None:
    payload, status = REFUSED[name]
    async with secure(folder) as (here, trust):
        client = await connect(trust)
        client.writer.write(asks(payload))
        client.h2.send_headers(1, [(":method", "GET")], end_stream=True)
        client.h2.data_to_send()
        answer = await client.answer(1)
        assert answer.status == status and answer.body
        assert not here.origin.asked
        assert (await client.get("/after")).error in (None, COMPRESSION) or client.goaway is not None
        await client.close()


def resets(count: int) -> list[bytes]:
    """Each stream is given up at once (CVE-2023-44487)."""
    encoder = hpack.Encoder()
    fields = [(":method", "GET"), (":scheme", "https"), (":authority", HOST), (":path", "/1")]
    pairs = ((2 * n + 1, encoder.encode(fields)) for n in range(count))
    return [b"".join(frame(1, 5, n, bytes(data)) + frame(3, 0, n, b"\0\0\0\x08") for n, data in pairs)]


def invalid(count: int) -> list[bytes]:
    """Each stream makes the server reset it (CVE-2025-8671); no more at a time than are allowed."""
    data = bytes(hpack.Encoder().encode([(":method", "GET")]))
    every = [frame(1, 5, 2 * n + 1, data) for n in range(count)]
    return [b"".join(every[at : at + 100]) for at in range(0, count, 100)]


@pytest.mark.parametrize("flood", [resets, invalid])
async def test_rapid_resets_end_the_connection(folder: Path, flood: Callable[[int], list[bytes]]) -> None:
    async with secure(folder) as (here, trust):
        client = await connect(trust)
        data = b""
        for part in flood(limits.H2_SPOILED_MAX + 100):
            client.writer.write(part)
            data += await client.reader.read(65536)
        assert await goaway(client, data) == CALM
        await until(lambda: here.servers[0].connections == 0)


def test_http2_without_tls_is_for_those_who_are_believed(folder: Path) -> None:
    async def scene(trusted: tuple[str, ...]) -> None:
        async with world(pages, trusted=trusted) as here:
            reader, writer = await asyncio.open_connection(ADDRESSES[0], PORT, local_addr=("127.42.7.7", 0))
            if trusted:
                client = H2Client(reader, writer)
                answer = await client.get("/1", ("x-forwarded-for", "1.2.3.9"))
                assert answer.status == 200
                assert here.records[0][4] == 9
            else:
                writer.write(PREFACE + SETTINGS)
                assert b" 505 " in await reader.readline()
            writer.close()

    run(scene(()))
    run(scene(("127.42.7.0/24",)))


async def test_a_server_that_ends_lets_streams_finish(folder: Path) -> None:
    async with secure(folder) as (here, trust):
        client = await connect(trust, window=False)
        stream = client.ask("/long")
        await until(lambda: bool(here.servers[0]._connections) and bool(here.origin.asked))
        closing = asyncio.create_task(here.servers[0].close())
        client.window = True
        client.h2.increment_flow_control_window(len(LONG))
        client.h2.increment_flow_control_window(len(LONG), stream)
        client.flush()
        found = await frames(client)
        assert b"".join(payload for kind, _, payload in found if kind == 0) == LONG
        assert [payload[4:8] for kind, _, payload in found if kind == 7] == [bytes(4)]
        await closing


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(1, 60), max_size=40))
def test_bytes_may_come_in_any_pieces(tmp_path_factory: pytest.TempPathFactory, cuts: list[int]) -> None:
    data = PREFACE + SETTINGS + asks(head(), 4) + frame(0, 1, 1, b"abc") + frame(1, 5, 3, head(("a", "b" * 90)))

    async def scene() -> None:
        async with world(pages, trusted=("127.42.7.0/24",)) as here:
            reader, writer = await asyncio.open_connection(ADDRESSES[0], PORT, local_addr=("127.42.7.7", 0))
            writer.get_extra_info("socket").setsockopt(6, 1, 1)
            at = 0
            for cut in [*cuts, len(data)]:
                writer.write(data[at : at + cut])
                at += cut
                await asyncio.sleep(0)
            got = b""
            while got.count(b"/1" * 40) < 2:
                piece = await reader.read(65536)
                assert piece
                got += piece
            writer.close()
            assert here.servers

    run(scene())


# RFC 9113 and RFC 7541, section by section, beside the cases above.
DATA, HEADERS, PRIORITY, RST, SETTING, PING, GOAWAY, WINDOW, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9


def setting(number: int, value: int) -> bytes:
    return frame(SETTING, 0, 0, number.to_bytes(2, "big") + value.to_bytes(4, "big"))


def literal(value: bytes) -> bytes:
    """A field ``x`` with that value as it stands, behind a whole request."""
    return head() + b"\x00\x01x" + value


async def settled(client: H2Client, data: bytes) -> bytes:
    """Sends that, and returns what came up to the answer of a PING, or to the end."""
    mark, found = b"settled!", b""
    client.writer.write(data + frame(PING, 0, 0, mark))
    while frame(PING, 1, 0, mark) not in found and (piece := await client.reader.read(65536)):
        found += piece
    return found


TRAILER = bytes(hpack.Encoder().encode([("a", "b")]))
POSTED = {size: asks(head(("content-length", size), method="POST"), 4) for size in ("1", "5")}
ASKED = asks(head(path="/1"))
CONNECTION_SECTIONS = {
    "4.2 a head beyond 16 KB": (asks(b"x" * 16_385), SIZE),
    "4.3 a CONTINUATION of another stream": (asks(head(), 1) + frame(CONTINUATION, 4, 3, b""), PROTOCOL),
    "5.1 WINDOW_UPDATE on an idle stream": (frame(WINDOW, 0, 1, b"\0\0\0\1"), PROTOCOL),
    "5.1.1 a number below the last": (frame(HEADERS, 5, 5, head()) + frame(HEADERS, 5, 3, head()), PROTOCOL),
    "5.1 CONTINUATION on an idle stream": (frame(CONTINUATION, 4, 1, head()), PROTOCOL),
    "6.1 DATA on stream 0": (frame(DATA, 0, 0, b"x"), PROTOCOL),
    "6.2 HEADERS on stream 0": (frame(HEADERS, 5, 0, head()), PROTOCOL),
    "6.2 padding beyond HEADERS": (asks(b"\xff" + head(), 13), PROTOCOL),
    "6.3 PRIORITY on stream 0": (frame(PRIORITY, 0, 0, bytes(5)), PROTOCOL),
    "6.4 RST_STREAM on stream 0": (frame(RST, 0, 0, b"\0\0\0\x08"), PROTOCOL),
    "6.4 RST_STREAM of a wrong length": (asks(head(), 4) + frame(RST, 0, 1, b"\0\0\0"), SIZE),
    "6.5.2 ENABLE_PUSH of 2": (setting(2, 2), PROTOCOL),
    "6.5.2 a first window beyond 2^31-1": (setting(4, 1 << 31), FLOW),
    "6.5.2 frames below 16 KB": (setting(5, 16_383), PROTOCOL),
    "6.5.2 frames of 2^24": (setting(5, 1 << 24), PROTOCOL),
    "6.7 PING on a stream": (frame(PING, 0, 1, bytes(8)), PROTOCOL),
    "6.8 GOAWAY on a stream": (frame(GOAWAY, 0, 1, bytes(8)), PROTOCOL),
    "6.9 WINDOW_UPDATE of a wrong length": (frame(WINDOW, 0, 0, b"\0\0\1"), SIZE),
    "6.10 CONTINUATION on stream 0": (asks(head(), 1) + frame(CONTINUATION, 4, 0, b""), PROTOCOL),
    "6.10 CONTINUATION behind a whole head": (asks(head(), 4) + frame(CONTINUATION, 4, 1, b""), PROTOCOL),
    "HPACK 2.3.3 index 0": (asks(b"\x80"), COMPRESSION),
    "HPACK 2.3.3 an index beyond the table": (asks(head() + b"\xff\x00"), COMPRESSION),
    "HPACK 4.2 an update of the size behind a field": (asks(head() + b"\x20"), COMPRESSION),
    "HPACK 5.2 more than 7 bits of padding": (asks(literal(b"\x82\x1f\xff")), COMPRESSION),
    "HPACK 5.2 padding of zeros": (asks(literal(b"\x81\x18")), COMPRESSION),
    "HPACK 5.2 the end of a string within it": (asks(literal(b"\x84\xff\xff\xff\xff")), COMPRESSION),
    "HPACK 6.3 a table beyond the limit": (asks(b"\x3f\xe2\x1f" + head()), COMPRESSION),
}  # fmt: skip


@pytest.mark.parametrize("name", CONNECTION_SECTIONS)
async def test_sections_whose_breach_ends_the_connection(folder: Path, name: str) -> None:
    data, error = CONNECTION_SECTIONS[name]
    async with secure(folder) as (here, trust):
        client = await connect(trust)
        client.writer.write(data)
        assert await goaway(client) == error
        await until(lambda: here.servers[0].connections == 0)


# What may end the stream or, where the server prefers it, the connection: the code counts.
STREAM_SECTIONS = {
    "5.1 DATA after the end": (ASKED + frame(DATA, 1, 1, b"x"), CLOSED),
    "5.1 HEADERS after the end": (ASKED + asks(head()), CLOSED),
    "6.3 PRIORITY of a wrong length": (asks(head(), 4) + frame(PRIORITY, 0, 1, b"\0\0\0\1"), SIZE),
    "6.9 a stream's WINDOW_UPDATE of 0": (asks(head(), 4) + frame(WINDOW, 0, 1, bytes(4)), PROTOCOL),
    "6.9.1 a stream's window beyond 2^31-1": (asks(head(), 4) + frame(WINDOW, 0, 1, b"\x7f\xff\xff\xff"), FLOW),
    "8.1 a second head that is no end": (asks(head(), 4) + asks(TRAILER, 4), PROTOCOL),
    "8.1.1 less than Content-Length": (POSTED["5"] + frame(DATA, 1, 1, b"x"), PROTOCOL),
    "8.1.1 more than Content-Length": (POSTED["1"] + frame(DATA, 1, 1, b"xx"), PROTOCOL),
    "8.3 a pseudo-header field in trailers": (
        asks(head(), 4) + asks(bytes(hpack.Encoder().encode([(":path", "/")])), 5), PROTOCOL),
}  # fmt: skip


@pytest.mark.parametrize("name", STREAM_SECTIONS)
async def test_sections_whose_breach_ends_a_stream(folder: Path, name: str) -> None:
    data, error = STREAM_SECTIONS[name]
    async with secure(folder) as (_, trust):
        client = await connect(trust)
        came = await settled(client, data)
        # Whatever the answer was, this ends the connection.
        client.writer.write(frame(PING, 0, 1, bytes(8)))
        found = await frames(client, came)
        codes = [int.from_bytes(body[:4], "big") for kind, _, body in found if kind == RST]
        codes += [int.from_bytes(body[4:8], "big") for kind, _, body in found if kind == GOAWAY]
        assert error in codes[:1], codes


IGNORED = {
    "4.1 an unknown type of frame": frame(0xEE, 0xFF, 1, b"12345"),
    "4.1 flags without a meaning": frame(PING, 0xFE, 0, b"abcdefgh"),
    "5.1 PRIORITY on an idle stream": frame(PRIORITY, 0, 9, b"\0\0\0\1\0"),
    "6.5.2 an unknown setting": setting(0xEEEE, 1),
    "6.9.2 a first window that shrinks and grows": setting(4, 0) + setting(4, 65_535),
}


@pytest.mark.parametrize("name", IGNORED)
async def test_sections_that_ask_to_ignore(folder: Path, name: str) -> None:
    async with secure(folder) as (_, trust):
        client = await connect(trust)
        client.writer.write(IGNORED[name])
        assert (await client.get("/1")).status == 200
        await client.close()


async def test_settings_and_pings_are_answered(folder: Path) -> None:
    async with secure(folder) as (_, trust):
        client = await connect(trust)
        came = await settled(client, setting(4, 1_000))
        client.writer.write(frame(PING, 0, 1, bytes(8)))
        found = await frames(client, came)
        assert found[0][0] == SETTING and len(found[0][2]) > 0
        assert (PING, 0, b"settled!") in found
        assert (SETTING, 0, b"") in found
