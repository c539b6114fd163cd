"""The client's side: hits, pipelining, and what is refused or ended."""

import asyncio
import socket

import pytest

from edge_world import ADDRESSES, HOST, PORT, Asked, request, response, world
from nearmile.config.network import Edge
from nearmile.edge import limits
from nearmile.edge.sites import Sites
from nearmile.http.limits import HEAD_BYTES_MAX
from nearmile.reports.hit import Cache
from waiting import until

FRESH = "Cache-Control: max-age=60"


async def named(asked: Asked) -> bytes:
    return response(asked.line.split()[1].encode() * 10, FRESH)


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with world(named) as here:
        client = await here.client()
        await client.get("/hit")
        targets = ["/hit", "/miss1", "/hit", "/hit", "/miss2", "/miss2", "/hit"]
        client.send(b"".join(map(request, targets)))
        answers = [await client.response() for _ in targets]
        assert [answer.body.decode() for answer in answers] == [target * 10 for target in targets]
        kinds = [record[1] for record in here.records[1:]]
        assert kinds == [Cache.HIT, Cache.MISS, Cache.HIT, Cache.HIT, Cache.MISS, Cache.HIT, Cache.HIT]


@pytest.mark.parametrize("size", [1, 7, 64])
async def test_requests_in_small_pieces(size: int) -> None:
    async with world(named) as here:
        client = await here.client()
        await client.get("/a")
        wire = request("/a") + request("/b", "X: y") + request("/a", 'If-None-Match: "none"')
        for at in range(0, len(wire), size):
            client.send(wire[at : at + size])
            await asyncio.sleep(0)
        assert [(await client.response()).body for _ in range(3)] == [b"/a" * 10, b"/b" * 10, b"/a" * 10]


async def test_each_request_says_what_it_says_whatever_the_last_one_said() -> None:
    async with world(named) as here:
        client = await here.client()
        tag = (await client.get("/a")).fields.get("etag", '"t"')
        for lines, cache in (
            ((), Cache.HIT),
            (("Cache-Control: no-cache",), Cache.MISS),
            ((), Cache.HIT),
            (("X: y",), Cache.HIT),
            (("X: y", "X: y"), Cache.HIT),
            ((f"If-None-Match: {tag}", "Cache-Control: no-cache"), Cache.MISS),
        ):
            assert (await client.get("/a", *lines)).body == b"/a" * 10
            assert here.records[-1][1] == cache


async def test_hits_have_heads_that_count() -> None:
    async with world(named) as here:
        client = await here.client()
        await client.get("/a")
        here.skew_s = 7
        client.send(request("/a"))
        head = await client.reader.readuntil(b"\r\n\r\n")
        body = await client.reader.readexactly(20)
        assert b"\r\nage: 7\r\n" in head
        assert here.records[-1] == (200, Cache.HIT, len(head) + len(body), True, 1)
        answer = await client.get("/a", method="HEAD")
        assert answer.fields["content-length"] == "20" and answer.cache == "here-1; hit"


@pytest.mark.parametrize(
    ("wire", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: a\n\n\r\n\r\n", 400),
        (b"\r\n\r\n\r\n\r\n", 400),
        (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
        (b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nHost: a\r\n X: folded\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * HEAD_BYTES_MAX, 431),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * HEAD_BYTES_MAX + b"\r\n\r\n", 431),
    ],
)
async def test_what_is_no_request_is_refused_and_the_connection_ends(wire: bytes, status: int) -> None:
    async with world(named) as here:
        client = await here.client()
        # What follows in the connection must never be read as a request.
        client.send(wire + request("/smuggled"))
        answer = await client.response()
        assert answer.status == status and answer.fields["connection"] == "close"
        assert await client.ended() == b""
        assert not here.origin.asked
        assert here.records[-1][:2] == (status, Cache.ERROR)


@pytest.mark.parametrize(
    ("start", "status"),
    [("GET /a\r\nX:y", 400), ("GET /a\tb", 400), ("GET  /a", 400), ("GET /a HTTP/1.0\r\nX: GET", 200)],
)
async def test_what_only_ends_like_a_request_line_is_none(start: str, status: int) -> None:
    async with world(named) as here:
        client = await here.client()
        await client.get("/a")
        client.send(f"{start} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        answer = await client.response()
        assert (answer.status, answer.fields["connection"]) == (status, "close")


async def test_an_empty_line_before_a_request_is_forgiven() -> None:
    async with world(named) as here:
        client = await here.client()
        client.send(b"\r\n" + request("/a"))
        assert (await client.response()).status == 200
        client.send(b"\r\n" + request("/a"))
        assert (await client.response()).cache == "here-1; hit"


async def test_close_is_kept() -> None:
    async with world(named) as here:
        client = await here.client()
        assert (await client.get("/a", "Connection: close")).fields["connection"] == "close"
        assert await client.ended() == b""


async def test_connections_are_limited() -> None:
    async with world(named, edge=Edge(http_port=PORT, max_connections=2)) as here:
        clients = [await here.client() for _ in range(2)]
        await until(lambda: here.servers[0].connections == 2)
        third = await here.client()
        assert await third.ended() == b""
        assert here.servers[0].refused == 1
        assert (await clients[0].get("/a")).status == 200


@pytest.mark.virtual
@pytest.mark.parametrize(
    ("wire", "limit"),
    [(b"", "IDLE_TIMEOUT_S"), (b"GET / HTTP/1.1\r\nHo", "HEAD_TIMEOUT_S"), (b"body", "STALLED_TIMEOUT_S")],
)
async def test_slow_clients_are_sent_away(wire: bytes, limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SWEEP_S", 0.05)
    monkeypatch.setattr(limits, limit, 0.1)

    async def patient(asked: Asked) -> bytes:
        return response(await asked.body())

    async with world(patient) as here:
        client = await here.client()
        client.send(request("/p", "Content-Length: 9", method="POST") if wire == b"body" else wire)
        assert await client.ended() == b""


async def test_a_client_that_stops_reading_is_sent_away_and_not_counted_as_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "SWEEP_S", 0.05)
    monkeypatch.setattr(limits, "STALLED_TIMEOUT_S", 0.3)
    size_bytes = 7 << 20

    async def large(asked: Asked) -> bytes:
        return response(b"x" * size_bytes, FRESH)

    async with world(large, edge=Edge(http_port=PORT, memory_mb=64, max_object_mb=16)) as here:
        client = await here.client()
        await client.get("/a")
        stuck = socket.socket()
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.setblocking(False)
        await asyncio.get_running_loop().sock_connect(stuck, (ADDRESSES[0], PORT))
        await asyncio.get_running_loop().sock_sendall(stuck, request("/a") * 3)
        await until(lambda: len(here.records) == 2)
        status, cache, sent_bytes, whole, _ = here.records[1]
        assert (status, cache, whole) == (200, Cache.HIT, False)
        assert sent_bytes < size_bytes
        stuck.close()


async def test_a_stop_lets_responses_end() -> None:
    go = asyncio.Event()

    async def slow(asked: Asked) -> bytes:
        await go.wait()
        return response(b"done", FRESH)

    async with world(slow) as here:
        idle, busy = await here.client(), await here.client()
        busy.send(request("/a"))
        await until(lambda: bool(here.origin.asked))
        closing = asyncio.create_task(here.servers[0].close())
        assert await idle.ended() == b""
        go.set()
        assert (await busy.response()).body == b"done"
        assert await busy.ended() == b""
        await closing


async def test_the_place_of_a_client_behind_a_trusted_proxy() -> None:
    async with world(named, trusted=("127.31.60.0/24",)) as here:
        proxy, stranger = await here.client(local="127.31.60.1"), await here.client(local="127.31.61.9")
        for client in (proxy, stranger):
            for target in ("/miss", "/miss"):
                await client.get(target, "X-Forwarded-For: 9.9.9.3, 9.9.9.4")
        assert [record[4] for record in here.records] == [4, 4, 9, 9]
        assert here.origin.asked[0].fields["x-forwarded-for"] == "9.9.9.3, 9.9.9.4, 127.31.60.1"


async def test_sites_change_and_the_cache_stays() -> None:
    async with world(named) as here:
        client = await here.client()
        await client.get("/a")
        sites = here.node.sites
        here.node.sites = Sites()
        assert (await client.get("/a")).status == 421
        here.node.sites = sites
        assert (await client.get("/a")).cache == "here-1; hit"
        assert HOST.encode() in sites
