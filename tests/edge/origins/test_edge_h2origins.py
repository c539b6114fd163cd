"""Origins that speak HTTP/2."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import h2.errors
import h2.settings
import pytest

from edge_world import Asked, Client, Origin, World, request, response, world
from h2_origin import H2Origin, Handler, Stream
from nearmile.edge.origins.h2link import H2Link
from nearmile.edge.origins.health import FAILURES_MAX
from nearmile.edge.rules.site import Files
from tls_origin import OTHER, TLS_PORT, Authority, authority, listening, secure
from waiting import until

NO_STORE = ("cache-control", "no-store")
STREAMS_MAX = h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS


async def unasked(_asked: Asked) -> None:
    raise AssertionError("the origin is another")


@contextlib.asynccontextmanager
async def beside(
    handler: Handler, settings: dict[h2.settings.SettingCodes, int] | None = None, **upstream: Any
) -> AsyncIterator[tuple[World, H2Origin, Client]]:
    """An edge, its origin by prior knowledge, and a client."""
    origin = H2Origin(handler, settings)
    server = await asyncio.start_server(origin.serve, OTHER, 8080)
    rules = {"origin": f"http://{OTHER}:8080", "upstream": {"http2": "always", **upstream}}
    async with server, world(unasked, rules=rules) as here:
        yield here, origin, await here.client()


def links(here: World) -> list[H2Link]:
    [pool] = here.node.origins._pools.values()
    return [link for link in pool.links if isinstance(link, H2Link)]


async def echo(stream: Stream) -> None:
    await stream.ended.wait()
    told = stream.head[":path"].encode() + b" " + bytes(stream.body)
    body = b"" if stream.head[":method"] == "HEAD" else told
    await stream.respond(body, NO_STORE, ("x-method", stream.head[":method"]), ("content-length", str(len(told))))


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("authority"))


async def test_many_requests_go_by_one_connection() -> None:
    async with beside(echo) as (here, origin, client):
        clients = [client, *[await here.client() for _ in range(39)]]
        for number in range(3):
            for index, one in enumerate(clients):
                one.send(request(f"/{index}/{number}"))
            for index, one in enumerate(clients):
                assert (await one.response()).body == f"/{index}/{number} ".encode()
        assert len(origin.connections) == 1 and len(origin.asked) == 120
        head = origin.asked[0].head
        assert (head[":scheme"], head[":authority"]) == ("http", "www.test.example")
        assert not {"connection", "host", "transfer-encoding"} & head.keys() and head["via"] == "1.1 here-1"
        assert not links(here)[0].streams


async def test_bodies_of_every_framing() -> None:
    async with beside(echo) as (_here, origin, client):
        client.send(request("/a", "Content-Length: 3", method="POST") + b"abc")
        assert (await client.response()).body == b"/a abc"
        assert origin.asked[-1].head["content-length"] == "3"
        client.send(
            request("/b", "Transfer-Encoding: chunked", method="PUT") + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        )
        assert (await client.response()).body == b"/b abcde"
        client.send(request("/c", "Content-Length: 0", method="POST"))
        assert (await client.response()).body == b"/c "
        large = bytes(3 << 20)
        client.send(request("/d", f"Content-Length: {len(large)}", method="POST") + large)
        assert (await client.response()).body == b"/d " + large
        assert (await client.get("/e", method="HEAD")).fields["content-length"] == "3"
        assert len(origin.connections) == 1


async def test_which_protocol_is_agreed_on_by_tls(trusted: Authority) -> None:
    async def one(_asked: Asked) -> bytes:
        return response(b"one", "Cache-Control: no-store")

    async def over(alpn: tuple[str, ...], http2: str) -> tuple[int, int]:
        """Requests over HTTP/2, and status."""
        origin = H2Origin(echo)
        context = trusted.context(OTHER, alpn=alpn)
        files = Files(authorities=trusted.pem)
        async with world(unasked, rules=secure(http2=http2), files=files) as here:
            clients = [await here.client() for _ in range(5)]
            if "h2" in alpn and http2 != "never":
                server = await asyncio.start_server(origin.serve, OTHER, TLS_PORT, ssl=context)
            else:
                server = await asyncio.start_server(Origin(one).serve, OTHER, TLS_PORT, ssl=context)
            async with server:
                for number, client in enumerate(clients):
                    client.send(request(f"/{number}"))
                status = {(await client.response()).status for client in clients}
                assert len(status) == 1
            assert len(origin.connections) <= 1
            return len(origin.asked), status.pop()

    assert await over(("h2", "http/1.1"), "offer") == (5, 200)
    assert await over(("http/1.1",), "offer") == (0, 200)
    assert await over((), "offer") == (0, 200)
    assert await over(("h2", "http/1.1"), "never") == (0, 200)
    assert await over(("h2",), "always") == (5, 200)


async def test_a_connection_that_dies_while_nobody_uses_it() -> None:
    async with beside(echo) as (here, origin, client):
        await client.get("/a")
        origin.connections[0].writer.transport.abort()
        assert (await client.get("/b")).body == b"/b "
        await until(lambda: len(links(here)) == 1)


async def test_requests_beyond_a_goaway_are_asked_again_and_others_finish() -> None:
    async def leaves(stream: Stream) -> None:
        if len(stream.origin.asked) == 1:
            await stream.connection.streams[1].ended.wait()
            while len(stream.origin.asked) < 2:
                await asyncio.sleep(0.001)
            stream.connection.h2.close_connection(last_stream_id=1)
            # The library sends no more: an answer in flight is made by hand.
            stream.connection.writer.write(stream.connection.h2.data_to_send())
        elif stream.connection is not stream.origin.connections[0]:
            await echo(stream)

    async with beside(leaves) as (here, origin, first):
        second = await here.client()
        first.send(request("/first"))
        await until(lambda: len(origin.asked) == 1)
        second.send(request("/second", "Content-Length: 0", method="POST"))
        assert (await second.response()).body == b"/second ", "POST, too: it was not processed"
        assert len(origin.connections) == 2


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_refused_stream_is_asked_again_once(method: str) -> None:
    async def refuses(stream: Stream) -> None:
        if len(stream.origin.asked) == 1:
            stream.connection.h2.reset_stream(stream.number, h2.errors.ErrorCodes.REFUSED_STREAM)
            stream.connection.flush()
        else:
            await echo(stream)

    async with beside(refuses) as (_here, origin, client):
        client.send(request("/a", "Content-Length: 0", method=method))
        assert (await client.response()).body == b"/a " and len(origin.asked) == 2
        client.send(request("/b", "Content-Length: 1", method="POST") + b"x")
        assert (await client.response()).body == b"/b x"


async def test_what_was_processed_is_not_asked_again() -> None:
    async def breaks(stream: Stream) -> None:
        stream.connection.h2.reset_stream(stream.number, h2.errors.ErrorCodes.INTERNAL_ERROR)
        stream.connection.flush()

    async with beside(breaks) as (_here, origin, client):
        assert (await client.get("/a", "Content-Length: 0", method="POST")).status == 502
        assert len(origin.asked) == 1


async def test_a_stalled_stream_holds_up_nobody() -> None:
    async def flood(stream: Stream) -> None:
        if stream.head[":path"] == "/flood":
            stream.head_only(NO_STORE)
            await stream.data(bytes(32 << 20))
        else:
            await echo(stream)

    async with beside(flood) as (here, origin, client):
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.send(request("/flood"))
        other = await here.client()
        for number in range(50):
            assert (await other.get(f"/{number}")).status == 200
        assert len(origin.connections) == 1


async def test_windows_are_given_back_whatever_becomes_of_streams() -> None:
    async def much(stream: Stream) -> None:
        stream.head_only(NO_STORE)
        await stream.data(bytes(1 << 20), end="/whole" in stream.head[":path"])

    async with beside(much) as (here, origin, _):
        for number in range(60):
            client = await here.client()
            client.send(request(f"/whole{number}" if number % 2 else f"/half{number}"))
            if number % 2:
                assert len((await client.response()).body) == 1 << 20
            else:
                await client.head()
                client.writer.close()
        assert len(origin.connections) == 1
        [link] = links(here)
        await until(lambda: not link.streams)


WRONG: dict[str, list[tuple[str, str]]] = {
    "no status": [("x", "y")],
    "a word for a status": [(":status", "ok")],
    "101": [(":status", "101")],
    "upper case": [(":status", "200"), ("X-Y", "z")],
    "connection": [(":status", "200"), ("connection", "close")],
    "chunked": [(":status", "200"), ("transfer-encoding", "chunked")],
    "two lengths": [(":status", "200"), ("content-length", "1"), ("content-length", "2")],
    "a line end in a value": [(":status", "200"), ("x", "y\r\nset-cookie: a=b")],
    "a colon in a name": [(":status", "200"), ("x:y", "z")],
    "a request's field": [(":status", "200"), (":path", "/")],
    "too large": [(":status", "200"), ("x", "y" * 70_000)],
    "too many": [(":status", "200"), *[(f"x{number}", "y") for number in range(200)]],
}


@pytest.mark.parametrize("headers", WRONG.values(), ids=WRONG)
async def test_heads_that_are_none(headers: list[tuple[str, str]]) -> None:
    async def wrong(stream: Stream) -> None:
        stream.connection.h2.send_headers(stream.number, headers)
        stream.connection.h2.send_data(stream.number, b"poison", end_stream=True)
        stream.connection.flush()

    async with beside(wrong) as (here, _origin, client):
        answer = await client.get("/a", method="POST")
        assert answer.status == 502 and b"poison" not in answer.body
        [pool] = here.node.origins._pools.values()
        await until(lambda: pool.requests == 0)


@pytest.mark.parametrize("length", ["5", "7", "0"])
async def test_a_body_of_another_length_is_not_whole(length: str) -> None:
    async def wrong(stream: Stream) -> None:
        stream.head_only(("content-length", length), ("cache-control", "max-age=60"))
        await stream.data(b"poison", end=True)

    async with beside(wrong) as (here, _origin, client):
        client.send(request("/a"))
        got = await client.ended() if length == "7" else b""
        assert not got.endswith(b"poison!")
        await until(lambda: not here.node.fills)
        assert not list(here.node.store)


@pytest.mark.parametrize("junk", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0" * 100, b"\xff" * 10_000])
async def test_an_origin_that_speaks_something_else(junk: bytes) -> None:
    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(junk)
        with contextlib.suppress(ConnectionError):
            await reader.read(1 << 16)
            await reader.read(1 << 16)
        writer.close()

    server = await asyncio.start_server(other, OTHER, 8080)
    rules = {"origin": f"http://{OTHER}:8080", "upstream": {"http2": "always", "first_byte_timeout_s": 1}}
    async with server, world(unasked, rules=rules) as here:
        assert (await (await here.client()).get("/a")).status in (502, 504)


async def test_a_silent_one_times_out_and_the_connection_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearmile.edge.limits.SWEEP_S", 0.05)

    async def silent(stream: Stream) -> None:
        if "/silent" not in stream.head[":path"]:
            await echo(stream)

    async with beside(silent, first_byte_timeout_s=0.2) as (_here, origin, client):
        assert (await client.get("/silent")).status == 504
        assert (await client.get("/b")).status == 200
        assert len(origin.connections) == 1
        await until(lambda: origin.connections[0].resets == [1])


async def test_a_request_that_breaks_off_is_no_fault_of_the_origin_s() -> None:
    async with beside(echo) as (here, origin, client):
        assert (await client.get("/a")).status == 200
        for number in range(1, FAILURES_MAX + 1):
            broken = await here.client()
            broken.send(request("/b", "Transfer-Encoding: chunked", method="POST") + b"3\r\nabc\r\n")
            await until(lambda: len(origin.asked) > number)  # noqa: B023
            broken.send(b"+\r\n")
            assert (await broken.response()).status == 400
        await until(lambda: origin.connections[0].resets == [3, 5, 7])
        assert (await client.get("/c")).status == 200
        assert len(origin.connections) == 1
        [pool] = here.node.origins._pools.values()
        assert pool.health.failures == pool.requests == 0


async def test_no_more_streams_than_the_origin_wants() -> None:
    go = asyncio.Event()

    async def slow(stream: Stream) -> None:
        await go.wait()
        await echo(stream)

    async with beside(slow, {STREAMS_MAX: 2}) as (here, origin, client):
        client.send(request("/warm"))
        go.set()
        await client.response()
        go.clear()
        clients = [await here.client() for _ in range(6)]
        for number, one in enumerate(clients):
            one.send(request(f"/{number}"))
        await until(lambda: len(origin.asked) == 7)
        assert all(len(connection.streams) <= 3 for connection in origin.connections)
        assert len(origin.connections) == 3
        go.set()
        for one in clients:
            assert (await one.response()).status == 200


async def test_early_hints_pass() -> None:
    async def hints(stream: Stream) -> None:
        stream.head_only(("link", "</a.css>"), status=103)
        await echo(stream)

    async with beside(hints) as (_here, _origin, client):
        client.send(request("/a"))
        assert (await client.head())[0] == 103
        assert (await client.response()).body == b"/a "


async def test_websocket_goes_by_http_1(trusted: Authority) -> None:
    async def refuse(asked: Asked) -> bytes:
        assert asked.fields["upgrade"] == "websocket"
        return response(b"not here", status="403 No")

    context = trusted.context(OTHER, alpn=("http/1.1",))
    async with (
        world(unasked, rules=secure(), files=Files(authorities=trusted.pem)) as here,
        listening(refuse, OTHER, TLS_PORT, context),
    ):
        client = await here.client()
        hello = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
        assert (await client.get("/", *hello, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")).status == 403
