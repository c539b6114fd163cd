"""WebSocket from client to origin."""

import asyncio
import contextlib
import ssl
from base64 import b64decode, b64encode
from hashlib import sha1
from pathlib import Path

import pytest

from chromium import CHROMIUM, PATIENCE_S, Browser, key_of
from edge_world import ADDRESSES, HOST, Asked, Client, request, response, world
from h2_client import SECURE_PORT, Answer, H2Client
from h3_client import H3Client
from nearmile.edge import limits
from nearmile.edge.clients.h2server import H2Connection
from nearmile.edge.rules.site import Files
from nearmile.reports.hit import Cache
from nearmile.services import state
from secure_world import secure as secure_world
from secure_world import streams
from tls_origin import OTHER, TLS_PORT, authority, listening, secure
from waiting import at_rest, until

# The example of RFC 6455 section 1.3.
KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
HELLO = ("Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
ASK = (*HELLO, f"Sec-WebSocket-Key: {KEY}")
AGREED = (
    f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Accept: {ACCEPT}\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
).encode()
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
ON_STREAM = ((":protocol", "websocket"), ("sec-websocket-version", "13"), ("sec-websocket-protocol", "chat"))
SHORT_IDLE = {"upstream": {"websocket_idle_s": 1}}


async def echo(asked: Asked) -> None:
    """Says again whatever it hears."""
    asked.writer.write(AGREED)
    while data := await asked.reader.read(1 << 16):
        asked.writer.write(data)
        await asked.writer.drain()


def agree_to(asked: Asked) -> None:
    accept = b64encode(sha1(asked.fields["sec-websocket-key"].encode() + GUID).digest())
    asked.writer.write(AGREED.replace(ACCEPT.encode(), accept))


async def agree(asked: Asked) -> None:
    """As ``echo``, to whatever key; to "bye" it says the same, and ends."""
    agree_to(asked)
    while data := await asked.reader.read(1 << 16):
        asked.writer.write(data)
        await asked.writer.drain()
        if data == b"bye":
            break
    asked.writer.close()


async def one(_asked: Asked) -> bytes:
    return response(b"one", "Cache-Control: max-age=60")


async def opened(client: Client) -> dict[str, str]:
    client.send(request("/chat", *ASK, "Sec-WebSocket-Protocol: chat"))
    status, fields = await client.head()
    assert status == 101
    return fields


@pytest.mark.parametrize("early", [b"", b"\x81\x85at once"])
async def test_what_one_says_the_other_hears(early: bytes) -> None:
    async with world(echo) as here:
        client = await here.client()
        client.send(request("/chat", *ASK, "Sec-WebSocket-Protocol: chat") + early)
        status, fields = await client.head()
        assert status == 101 and fields["cache-status"] == "here-1; fwd=bypass"
        assert fields["upgrade"] == "websocket" and fields["connection"] == "Upgrade"
        assert fields["sec-websocket-accept"] == ACCEPT and fields["sec-websocket-protocol"] == "chat"
        assert await client.reader.readexactly(len(early)) == early
        for number in range(20):
            client.send(b"%d" % number * 1000)
            assert await client.reader.readexactly(len(b"%d" % number) * 1000) == b"%d" % number * 1000
        told = here.origin.asked[0].fields
        assert (told["connection"], told["upgrade"]) == ("Upgrade", "websocket")
        assert told["sec-websocket-key"] == KEY and "here-1" in told["via"]
        pool = next(iter(here.node.origins._pools.values()))
        assert pool.requests == 0 and here.node.tunnels.total == 1
        client.writer.close()
        await until(lambda: here.node.tunnels.total == 0 and not pool.links)
        [record] = here.records
        assert record[:2] == (101, Cache.PASS) and record[2] > 30_000


async def test_over_tls_to_the_origin(tmp_path: Path) -> None:
    trusted = authority(tmp_path)
    async with (
        world(one, rules=secure(), files=Files(authorities=trusted.pem)) as here,
        listening(echo, OTHER, TLS_PORT, trusted.context(OTHER)),
    ):
        client = await here.client()
        await opened(client)
        client.send(b"x" * 200_000)
        assert await client.reader.readexactly(200_000) == b"x" * 200_000


async def test_a_client_over_tls(tmp_path: Path) -> None:
    trusted = authority(tmp_path)
    async with world(echo) as here:
        await here.servers[0].listen_secure(ADDRESSES[0], TLS_PORT, trusted.context("a.test"))
        trust = ssl.create_default_context(cadata=trusted.pem)
        client = Client(
            *await asyncio.open_connection(ADDRESSES[0], TLS_PORT, ssl=trust, server_hostname="a.test")
        )
        await opened(client)
        client.send(b"x" * 500_000)
        assert await client.reader.readexactly(500_000) == b"x" * 500_000
        client.writer.close()
        await until(lambda: here.node.tunnels.total == 0)


@pytest.mark.parametrize(
    ("lines", "method", "status"),
    [
        (HELLO, "GET", 400),
        ((*HELLO, "Sec-WebSocket-Key: short"), "GET", 400),
        ((*HELLO, "Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!=="), "GET", 400),
        ((*ASK, f"Sec-WebSocket-Key: {KEY}"), "GET", 400),
        (ASK, "POST", 400),
        ((*ASK, "Content-Length: 1"), "GET", 400),
        ((*ASK[:2], *ASK[3:], "Sec-WebSocket-Version: 8"), "GET", 426),
        ((*ASK[:2], *ASK[3:]), "GET", 426),
    ],
)
async def test_no_handshake(lines: tuple[str, ...], method: str, status: int) -> None:
    async with world(echo) as here:
        client = await here.client()
        answer = await client.get("/chat", *lines, method=method)
        assert answer.status == status and not here.origin.asked
        assert status != 426 or answer.fields["sec-websocket-version"] == "13"


async def test_an_origin_that_does_not_want_to() -> None:
    async with world(one) as here:
        client = await here.client()
        client.send(request("/chat", *ASK))
        assert (await client.response()).body == b"one"
        assert (await client.get("/again")).body == b"one", "the connection goes on"


@pytest.mark.parametrize(
    "wrong",
    [
        AGREED.replace(ACCEPT.encode(), b"x" * 28),
        AGREED.replace(b"Upgrade: websocket", b"Upgrade: h2c"),
        AGREED.replace(b"Connection: Upgrade\r\n", b""),
    ],
)
async def test_an_origin_that_agrees_to_something_else(wrong: bytes) -> None:
    async def other(_asked: Asked) -> bytes:
        return wrong + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"

    async with world(other) as here:
        client = await here.client()
        client.send(request("/chat", *ASK))
        assert (await client.response()).status == 502
        pool = next(iter(here.node.origins._pools.values()))
        await until(lambda: not pool.links and not pool.requests)


async def test_either_side_ends_it() -> None:
    async def farewell(asked: Asked) -> None:
        asked.writer.write(AGREED + b"bye")
        await asked.writer.drain()

    async def broken(asked: Asked) -> None:
        asked.writer.write(AGREED + b"bye")
        await asked.writer.drain()
        asked.writer.transport.abort()

    for handler in (farewell, broken):
        async with world(handler) as here:
            client = await here.client()
            await opened(client)
            assert await client.ended() in (b"bye", b"")
            await until(lambda here=here: here.node.tunnels.total == 0)  # type: ignore[misc]


@pytest.mark.virtual
async def test_silence_ends_it_and_talk_of_one_side_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SWEEP_S", 0.05)
    monkeypatch.setattr(limits, "STALLED_TIMEOUT_S", 0.3)
    monkeypatch.setattr(limits, "PACE_GRACE_S", 0.3)

    async def listener(asked: Asked) -> None:
        asked.writer.write(AGREED)
        while await asked.reader.read(100):
            pass

    async with world(listener, rules=SHORT_IDLE) as here:
        talker, silent = await here.client(), await here.client()
        await opened(talker)
        await opened(silent)
        ended = asyncio.ensure_future(silent.ended())
        while not ended.done():
            talker.send(b".")
            await asyncio.sleep(0.05)
        assert here.node.tunnels.total == 1
        await until(lambda: here.node.tunnels.total == 0)


async def test_no_more_than_a_site_may_have() -> None:
    async with world(echo, rules={"upstream": {"websockets_max": 1}}) as here:
        first, second = await here.client(), await here.client()
        await opened(first)
        second.send(request("/chat", *ASK))
        answer = await second.response()
        assert answer.status == 503 and "retry-after" in answer.fields
    async with world(echo, rules={"upstream": {"websockets_max": 0}}) as here:
        client = await here.client()
        client.send(request("/chat", *ASK))
        assert (await client.response()).status == 501


async def test_who_does_not_take_what_comes_holds_up_the_other() -> None:
    sent = 0

    async def flood(asked: Asked) -> None:
        nonlocal sent
        asked.writer.write(AGREED)
        with contextlib.suppress(ConnectionError):
            while sent < 64 << 20:
                asked.writer.write(bytes(1 << 16))
                await asked.writer.drain()
                sent += 1 << 16

    async with world(flood) as here:
        client = await here.client()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.send(request("/chat", *ASK))
        await until(lambda: sent > 0)
        await at_rest(lambda: sent)
        assert sent < 32 << 20, "the rest waits at the origin"


async def test_rules_of_the_site_come_first() -> None:
    async with world(echo, rules={"access": {"deny_addresses": ["127.0.0.0/8"]}}) as here:
        client = await here.client()
        client.send(request("/chat", *ASK))
        assert (await client.response()).status == 403 and not here.origin.asked


async def test_a_response_is_as_it_was_before_for_other_protocols() -> None:
    async def hello(_asked: Asked) -> bytes:
        return response(b"hello")

    async with world(hello) as here:
        client = await here.client()
        answer = await client.get("/", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c")
        assert answer.body == b"hello" and "upgrade" not in here.origin.asked[0].fields


Streams = H2Client | H3Client


def say(client: Streams, stream: int, data: bytes, end: bool = False) -> None:
    if isinstance(client, H2Client):
        client.h2.send_data(stream, data, end_stream=end)
        client.flush()
    else:
        client.upload(stream, data, end)


async def heard(client: Streams, stream: int, size_bytes: int) -> Answer:
    """What came on that stream, once it is so much, or all."""
    while stream not in client.done and (stream not in client.got or len(client.got[stream].body) < size_bytes):
        await client.read()
    return client.got[stream]


async def test_on_a_stream_what_one_says_the_other_hears(folder: Path) -> None:
    """RFC 8441, and RFC 9220."""
    async with world(agree) as here, streams(here, folder) as clients:
        for client in clients:
            stream = client.ask("/chat", *ON_STREAM, method="CONNECT", end=False)
            answer = await heard(client, stream, 0)
            assert answer.status == 200 and answer.fields["sec-websocket-protocol"] == "chat"
            assert answer.fields.keys().isdisjoint({"sec-websocket-accept", "upgrade", "content-length"})
            assert answer.fields["cache-status"] == "here-1; fwd=bypass"
            said = b""
            for number in range(20):
                say(client, stream, b"%d" % number * 500)
                said += b"%d" % number * 500
                assert (await heard(client, stream, len(said))).body == said
            told = here.origin.asked.pop()
            assert told.line == "GET /chat HTTP/1.1"
            assert (told.fields["connection"], told.fields["upgrade"]) == ("Upgrade", "websocket")
            assert len(b64decode(told.fields["sec-websocket-key"])) == 16
            pool = next(iter(here.node.origins._pools.values()))
            assert pool.requests == 0 and here.node.tunnels.total == 1
            say(client, stream, b"", end=True)
            assert (await client.answer(stream)).error is None
            await until(lambda pool=pool: here.node.tunnels.total == 0 and not pool.links)  # type: ignore[misc]
            record = here.records.pop()
            assert record[:2] == (200, Cache.PASS) and record[2] > len(said)


async def test_on_a_stream_the_origin_may_end_it_and_the_client_give_it_up(folder: Path) -> None:
    async with world(agree) as here, streams(here, folder) as clients:
        for client in clients:
            ended, given_up = (client.ask("/chat", *ON_STREAM, method="CONNECT", end=False) for _ in range(2))
            for stream in (ended, given_up):
                await heard(client, stream, 0)
            say(client, ended, b"bye")
            answer = await client.answer(ended)
            assert answer.body == b"bye"
            assert here.node.tunnels.total == 1
            if isinstance(client, H2Client):
                client.h2.reset_stream(given_up)
            else:
                client.quic.reset_stream(given_up, 0x10C)
                client.quic.stop_stream(given_up, 0x10C)
            client.flush()
            await until(lambda: here.node.tunnels.total == 0)


async def test_a_stream_is_told_of_websocket_by_its_status_alone(folder: Path) -> None:
    """So no other answer of an origin may look like it."""

    async def other(asked: Asked) -> bytes:
        return response(b"x", status="404 Not Found" if "none" in asked.line else "200 OK")

    async with world(other) as here, streams(here, folder) as clients:
        for client in clients:
            for path, fields, status in (
                ("/chat", ON_STREAM, 502),
                ("/none", ON_STREAM, 404),
                ("/chat", (ON_STREAM[0], ("sec-websocket-version", "8")), 426),
                ("/chat", ((":protocol", "connect-udp"), *ON_STREAM[1:]), 501),
            ):
                stream = client.ask(path, *fields, method="CONNECT", end=False)
                assert (await client.answer(stream)).status == status


async def test_silence_ends_a_stream_and_talk_of_one_side_does_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SWEEP_S", 0.05)
    monkeypatch.setattr(limits, "STALLED_TIMEOUT_S", 0.3)
    monkeypatch.setattr(limits, "PACE_GRACE_S", 0.3)
    async with world(agree, rules=SHORT_IDLE) as here, streams(here, folder) as (client, _):
        talker, silent = (client.ask("/chat", *ON_STREAM, method="CONNECT", end=False) for _ in range(2))
        for stream in (talker, silent):
            await heard(client, stream, 0)
        size_bytes = 0
        while silent not in client.done:
            say(client, talker, b".")
            size_bytes += 1
            await heard(client, talker, size_bytes)
            await asyncio.sleep(0.05)
        assert here.node.tunnels.total == 1
        await client.answer(talker)
        await until(lambda: here.node.tunnels.total == 0)


SCRIPT = """socket = new WebSocket("wss://" + location.host + "/chat", "chat");
socket.onopen = () => socket.send("hello");
socket.onmessage = event => fetch("/heard/" + event.data); 1"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
async def test_chromium_opens_it_on_the_connection_that_it_has(folder: Path) -> None:
    heard_of = asyncio.Event()

    async def page(asked: Asked) -> bytes:
        if asked.line.startswith("GET /heard/hello "):
            heard_of.set()
        if "upgrade" not in asked.fields:
            return response(b"<p>", "Content-Type: text/html")
        agree_to(asked)
        head = await asked.reader.readexactly(2 + 4 + 5)  # of a frame: its kind and length, its mask, "hello"
        text = bytes(letter ^ head[2 + at % 4] for at, letter in enumerate(head[6:]))
        asked.writer.write(b"\x81\x05" + text)
        await asked.reader.read()
        return b""

    def browse() -> None:
        flags = (
            "--disable-quic",
            f"--ignore-certificate-errors-spki-list={key_of(state.site_files(folder, 'www')[0])}",
            f"--host-resolver-rules=MAP {HOST} {ADDRESSES[0]}, MAP * ~NOTFOUND",
        )
        with Browser(folder / "profile", *flags) as browser:
            browser.open(f"https://{HOST}:{SECURE_PORT}/")
            browser.value(SCRIPT)
            asyncio.run_coroutine_threadsafe(heard_of.wait(), loop).result(PATIENCE_S)

    async with secure_world(folder, page) as (here, _):
        loop = asyncio.get_running_loop()
        browsing = asyncio.create_task(asyncio.to_thread(browse))
        await heard_of.wait()
        assert here.node.tunnels.total == 1
        assert {type(guest) for guest in here.servers[0]._connections} == {H2Connection}
        await browsing
