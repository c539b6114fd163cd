"""Clients that send slowly, take slowly, or want too much: each ends, and what it costs is bounded.

``test_edge_server`` has those that fall silent altogether.
"""

import asyncio
import gc
import socket
import time
import tracemalloc

import pytest

from edge_world import ADDRESSES, PORT, Asked, Client, request, response, world
from nearmile.config.network import Edge
from nearmile.edge import limits
from nearmile.edge.clients.pace import Pace
from waiting import until

FRESH = "Cache-Control: max-age=60"
MB = 1 << 20


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tenths of seconds where clients get minutes."""
    monkeypatch.setattr(limits, "SWEEP_S", 0.05)
    monkeypatch.setattr(limits, "HEAD_TIMEOUT_S", 0.3)
    monkeypatch.setattr(limits, "LINGER_S", 0.3)
    monkeypatch.setattr(limits, "PACE_GRACE_S", 0.3)


async def echo(asked: Asked) -> bytes:
    return response(b"%d" % len(await asked.body()), FRESH)


async def drip(client: Client, piece: bytes) -> None:
    """Sends a piece now and then, until the server has enough of it."""
    while not client.reader.at_eof() and not client.writer.is_closing():
        client.send(piece)
        await asyncio.sleep(0.02)


def test_the_pace_is_an_average_and_fast_times_cannot_be_saved_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SWEEP_S", 1.0)
    monkeypatch.setattr(limits, "PACE_GRACE_S", 10.0)
    steady, saved = Pace(), Pace()
    lumps = [0, 0, 0, 4 * limits.PACE_BYTES_PER_S_MIN]
    assert not any(steady.too_slow(bytes_) for bytes_ in lumps * 100)
    assert not saved.too_slow(1 << 30)
    assert [saved.too_slow(1) for _ in range(12)] == [False] * 10 + [True] * 2


@pytest.mark.virtual
async def test_a_head_that_drips_is_not_waited_for_for_ever() -> None:
    async with world(echo) as here:
        client = await here.client()
        client.send(b"GET / HTTP/1.1\r\n")
        await drip(client, b"X: y\r\n")
        assert await client.ended() == b""


async def test_the_time_of_a_head_begins_with_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SWEEP_S", 60.0)
    monkeypatch.setattr(limits, "HEAD_TIMEOUT_S", 180.0)
    monkeypatch.setattr(limits, "IDLE_TIMEOUT_S", 600.0)
    async with world(echo) as here:
        client = await here.client()
        await until(lambda: here.servers[0].connections == 1)
        (guest,) = here.servers[0]._connections
        for _ in range(9):
            guest.sweep()
        whole = request("/a")
        client.send(whole[:20])
        await until(lambda: bool(guest._held))  # type: ignore[attr-defined]
        for _ in range(3):
            guest.sweep()
        client.send(whole[20:])
        assert (await client.response()).status == 200


@pytest.mark.virtual
@pytest.mark.parametrize("framing", ["Content-Length: 100000", "Transfer-Encoding: chunked"])
async def test_a_body_that_drips_is_too_slow(framing: str) -> None:
    async with world(echo) as here:
        client = await here.client()
        client.send(request("/p", framing, method="POST"))
        await drip(client, b"1\r\nx\r\n")
        assert await client.ended() == b""
        assert not here.servers[0].connections


async def test_a_response_taken_in_drips_is_taken_too_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PACE_BYTES_PER_S_MIN", 20 * MB)

    async def large(asked: Asked) -> bytes:
        return response(b"x" * (8 * MB), FRESH)

    async with world(large, edge=Edge(http_port=PORT, memory_mb=64, max_object_mb=16)) as here:
        await (await here.client()).get("/a")
        loop, slow = asyncio.get_running_loop(), socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        slow.setblocking(False)
        await loop.sock_connect(slow, (ADDRESSES[0], PORT))
        await loop.sock_sendall(slow, request("/a"))
        taken_bytes = 0
        with pytest.raises(ConnectionResetError):
            # Never silent: without a least rate it would be served for as long as it likes.
            while taken_bytes < 8 * MB:
                taken_bytes += len(await loop.sock_recv(slow, 8192))
                await asyncio.sleep(0.01)
        assert 0 < taken_bytes < 4 * MB
        slow.close()


async def test_what_comes_after_an_early_answer_is_dropped_and_soon_not_even_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "SWEEP_S", 60.0)
    monkeypatch.setattr(limits, "LINGER_S", 120.0)
    async with world(echo) as here:
        client = await here.client()
        client.send(b"POST / HTTP/1.1\r\nHost: elsewhere.example\r\nContent-Length: 500000000\r\n\r\n")
        assert (await client.response()).status == 421
        (guest,) = here.servers[0]._connections
        gc.collect()
        tracemalloc.start()
        for _ in range(3):
            assert here.servers[0].connections
            for _ in range(32):
                client.send(b"x" * 65536)
                await client.writer.drain()
            guest.sweep()
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        await until(lambda: not here.servers[0].connections)
        assert peak_bytes < 2 * MB


async def test_half_a_body_and_an_end_is_no_request() -> None:
    async with world(echo) as here:
        for framing, half in (
            ("Content-Length: 10", b"12345"),
            ("Transfer-Encoding: chunked", b"5\r\n12345\r\n"),
        ):
            client = await here.client()
            client.send(request("/p", framing, method="POST") + half)
            client.writer.write_eof()
            assert await client.ended() == b""
        assert not here.records or all(record[0] != 200 for record in here.records)


async def test_a_flood_of_pipelined_requests_waits_outside() -> None:
    go = asyncio.Event()

    async def slow(asked: Asked) -> bytes:
        await go.wait()
        return response(b"x", "Cache-Control: no-store")

    async with world(slow) as here:
        loop, flood = asyncio.get_running_loop(), socket.socket()
        flood.setblocking(False)
        await loop.sock_connect(flood, (ADDRESSES[0], PORT))
        await loop.sock_sendall(flood, request("/a"))
        await until(lambda: bool(here.origin.asked))
        many = request("/a") * 200_000
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await loop.sock_sendall(flood, many)
        (connection,) = here.servers[0]._connections
        assert len(connection._held) < limits.PIPELINE_BYTES_MAX + 512 * 1024  # type: ignore[attr-defined]
        flood.close()
        go.set()


async def test_a_flood_of_hits_costs_in_proportion() -> None:
    async with world(echo) as here:
        client = await here.client()
        await client.get("/a")
        # Looking at all that is left for each request would take about a minute for as many in one piece.
        count = 40_000
        began_s = time.process_time()
        client.send(request("/a") * count)
        for _ in range(count):
            await client.reader.readuntil(b"\r\n\r\n0")
        assert time.process_time() - began_s < 12


@pytest.mark.parametrize(
    ("lines", "status"), [(b"X: y\r\n" * 200, 431), (b"X: " + b"y" * 40_000 + b"\r\n", 431), (b"X" * 40_000, 431)]
)
async def test_bombs_of_fields(lines: bytes, status: int) -> None:
    async with world(echo) as here:
        client = await here.client()
        client.send(b"GET / HTTP/1.1\r\nHost: www.test.example\r\n" + lines + b"\r\n")
        assert (await client.response()).status == status
        assert await client.ended() == b""


async def test_the_refusal_reaches_a_client_that_is_still_sending() -> None:
    async with world(echo) as here:
        client = await here.client()
        client.send(b"GET / HTTP/1.1\r\nHost : a\r\n\r\n")
        for _ in range(20):
            client.send(b"x" * 65536)
            await asyncio.sleep(0.002)
        assert (await client.response()).status == 400


async def test_one_client_cannot_take_all_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CLIENT_CONNECTIONS_MIN", 2)
    async with world(echo, edge=Edge(http_port=PORT, max_connections=10), trusted=("127.45.9.0/24",)) as here:
        greedy = [await here.client(local="127.45.1.1") for _ in range(3)]
        proxy = [await here.client(local="127.45.9.1") for _ in range(4)]
        other = await here.client(local="127.45.1.2")
        assert await greedy[2].ended() == b"" and here.servers[0].refused == 1
        assert [(await client.get("/")).status for client in (*greedy[:2], *proxy, other)] == [200] * 7
        greedy[0].writer.close()
        await until(lambda: here.servers[0].connections == 6)
        assert (await (await here.client(local="127.45.1.1")).get("/")).status == 200
