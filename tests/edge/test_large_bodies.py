"""Bodies that the kernel sends by itself: the same for every client, however slow, and nothing is left behind."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from edge_world import ADDRESSES, HOST, PORT, Asked, Client, World, config, request, response, world
from h2_client import SECURE_PORT, connect, trusting
from nearmile.cache.pages import CUT_BYTES_MIN, Pages
from nearmile.cache.tier.store import DiskStore
from nearmile.config.network import Edge
from nearmile.edge import limits
from nearmile.edge.clients import h1server
from nearmile.mapping.downloads import Delivery, beyond_ms
from nearmile.services import state
from nearmile.services.certificates import Certificates
from waiting import until

SIZE_BYTES = 3_000_001
BODY = Random(1).randbytes(SIZE_BYTES)
TAG = '"large"'
FIELDS = ("Cache-Control: max-age=60", f"ETag: {TAG}", "Accept-Ranges: bytes")
EDGE = Edge(http_port=PORT, memory_mb=64, max_object_mb=8)


async def large(_: Asked) -> bytes:
    return response(BODY, *FIELDS)


@contextlib.asynccontextmanager
async def warm(edge: Edge = EDGE) -> AsyncIterator[tuple[World, Client]]:
    """A server that has the object, and a client that knows it has."""
    async with world(large, edge=edge) as here:
        client = await here.client()
        client.send(request("/a"))
        assert (await client.response()).body == BODY
        assert len(here.node.store.shelf) == 1, "it is in pages"
        yield here, client


async def slow(here: World, *lines: str) -> socket.socket:
    """A client that has asked for the object, and between whom and the server the kernel keeps little."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    client.setblocking(False)
    loop, guests = asyncio.get_running_loop(), here.servers[0]._connections
    known = len(guests)
    await loop.sock_connect(client, (here.node.me.address, PORT))
    await until(lambda: len(guests) > known)
    for guest in guests:
        connection = guest._transport.get_extra_info("socket")  # type: ignore[attr-defined]
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
    await loop.sock_sendall(client, request("/a", *lines))
    return client


async def take(client: socket.socket, count_bytes: int) -> bytes:
    """So many bytes of a body whose head comes first, or what has come when the server ends."""
    got, size_bytes = bytearray(), count_bytes
    while len(got) < size_bytes and (data := await asyncio.get_running_loop().sock_recv(client, 50_000)):
        got += data
        size_bytes = got.find(b"\r\n\r\n") + 4 + count_bytes
    return bytes(got).partition(b"\r\n\r\n")[2]


async def test_hits_and_what_is_pipelined_behind_them() -> None:
    async with warm() as (here, client):
        client.send(request("/a") + request("/a", f"If-None-Match: {TAG}") + request("/a") + request("/a"))
        answers = [await client.response() for _ in range(4)]
        assert [answer.status for answer in answers] == [200, 304, 200, 200]
        assert all(answer.body == BODY for answer in answers if answer.status == 200)
        await until(lambda: len(here.records) == 5)
        assert all(record[3] for record in here.records)
        assert here.records[1][2] == here.records[3][2] > SIZE_BYTES


SPANS = (
    (0, 0),
    (0, SIZE_BYTES - 1),
    (SIZE_BYTES - 1, SIZE_BYTES - 1),
    (4095, 4096),
    (1, CUT_BYTES_MIN - 1),
    (1, CUT_BYTES_MIN),
    (CUT_BYTES_MIN + 7, SIZE_BYTES - 2),
)


@pytest.mark.parametrize(("first", "last"), SPANS)
async def test_a_single_range(first: int, last: int) -> None:
    async with warm() as (_, client):
        client.send(request("/a", f"Range: bytes={first}-{last}"))
        answer = await client.response()
        assert answer.status == 206 and answer.body == BODY[first : last + 1]
        assert answer.fields["content-range"] == f"bytes {first}-{last}/{SIZE_BYTES}"


async def test_several_ranges_large_and_small() -> None:
    async with warm() as (_, client):
        client.send(request("/a", "Range: bytes=0-9,100000-299999,2999990-"))
        answer = await client.response()
        assert answer.status == 206
        parts = answer.body.split(b"\r\n--" + answer.fields["content-type"].partition("=")[2].encode())
        bodies = [part.partition(b"\r\n\r\n")[2] for part in parts[1:-1]]
        assert bodies == [BODY[:10], BODY[100_000:300_000], BODY[2_999_990:]]


async def test_how_it_came_is_told_to_the_mapping(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Delivery(20.0, 1e6, False, 700, 0.01)
    monkeypatch.setattr(h1server, "delivery", lambda _: seen)
    async with warm() as (here, _):
        here.node.downloads.take()
        small = await here.client(local="127.0.0.8")
        small.send(request("/a", "Range: bytes=0-99"))
        assert (await small.response()).status == 206
        assert here.node.downloads.take() == {}
        slowly = await slow(here)
        assert await take(slowly, SIZE_BYTES) == BODY
        peer = slowly.getsockname()[0]
        await until(lambda: len(here.records) == 3)
        assert here.node.downloads.take() == {peer: beyond_ms(seen)}
        slowly.close()


async def test_a_slow_client_gets_it_whole_and_others_have_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PAGES_TURN_BYTES", 100_000)
    async with warm() as (here, client):
        slowly = await slow(here)
        client.send(request("/a"))
        assert (await client.response()).body == BODY
        assert await take(slowly, SIZE_BYTES) == BODY
        await asyncio.get_running_loop().sock_sendall(slowly, request("/a", "Range: bytes=9-999999"))
        assert await take(slowly, 999_991) == BODY[9:1_000_000]
        slowly.close()
        await until(lambda: len(here.records) == 4)
        assert all(record[3] for record in here.records)


async def test_a_purge_takes_nothing_from_who_is_being_answered() -> None:
    async with warm() as (here, _):
        slowly = await slow(here)
        await until(lambda: any(guest._full for guest in here.servers[0]._connections))  # type: ignore[attr-defined]
        assert here.purge(b"/a") == 1 and len(here.node.store) == 0
        assert len(here.node.store.shelf) == 1, "its pages stay as long as they are needed"
        assert await take(slowly, SIZE_BYTES) == BODY
        await until(lambda: len(here.node.store.shelf) == 0)
        slowly.close()


@pytest.mark.parametrize("range_", ["", "Range: bytes=1-2900000"])
async def test_a_client_that_leaves_takes_the_pages_along(range_: str) -> None:
    async with warm() as (here, _):
        slowly = await slow(here, *([range_] if range_ else []))
        taken_bytes = len(await take(slowly, 100_000))
        here.purge(b"/a")
        slowly.close()
        await until(lambda: len(here.records) == 2 and len(here.node.store.shelf) == 0)
        assert not here.records[1][3] and taken_bytes < here.records[1][2] < taken_bytes + 1_000_000


async def test_the_origins_end_comes_to_a_slow_client_as_an_end() -> None:
    async def broken(asked: Asked) -> None:
        asked.writer.write(response(BODY, *FIELDS)[:2_000_000])
        await asked.writer.drain()

    async with world(broken, edge=EDGE) as here:
        slowly = await slow(here)
        got = await take(slowly, SIZE_BYTES)
        assert len(got) < 2_000_000 and BODY.startswith(got)
        slowly.close()
        await until(lambda: len(here.records) == 1 and len(here.node.store.shelf) == 0)
        assert not here.records[0][3] and len(here.node.store) == 0


async def test_who_joins_a_fetch_reads_the_pages_as_they_come() -> None:
    gate = asyncio.Event()

    async def halting(asked: Asked) -> bytes:
        data = response(BODY, *FIELDS)
        asked.writer.write(data[:1_000_000])
        await gate.wait()
        return data[1_000_000:]

    async with world(halting, edge=EDGE) as here:
        first, second = await here.client(), await here.client()
        first.send(request("/a"))
        assert len(await first.reader.readexactly(900_000)) == 900_000
        second.send(request("/a"))
        got = await second.reader.readuntil(b"\r\n\r\n") + await second.reader.readexactly(900_000)
        assert got.endswith(BODY[:900_000]) and len(here.node.store.shelf) == 1
        gate.set()
        assert await second.reader.readexactly(SIZE_BYTES - 900_000) == BODY[900_000:]
        await until(lambda: len(here.node.store) == 1)
        entry = next(iter(here.node.store))
        assert isinstance(entry.body, Pages) and bytes(entry.body) == BODY
        assert len(here.node.store.shelf) == 1 and len(here.origin.asked) == 1


async def test_slices_are_in_pages() -> None:
    async def ranged(asked: Asked) -> bytes:
        first, _, last = asked.fields["range"].partition("=")[2].partition("-")
        body = BODY[int(first) : int(last) + 1]
        place = f"Content-Range: bytes {first}-{int(first) + len(body) - 1}/{SIZE_BYTES}"
        return response(body, *FIELDS, place, status="206 Partial Content")

    async def pages(asked: Asked) -> bytes:
        return await (ranged if "range" in asked.fields else large)(asked)

    async with world(pages, edge=Edge(http_port=PORT, memory_mb=64, max_object_mb=1)) as here:
        client = await here.client()
        for _ in range(2):
            client.send(request("/a"))
            assert (await client.response()).body == BODY
        assert len(here.node.store.shelf) == 3 and len(here.origin.asked) == 1
        client.send(request("/a", "Range: bytes=1048000-2097200"))
        assert (await client.response()).body == BODY[1_048_000:2_097_201]


@pytest.mark.parametrize("protocol", ["http/1.1", "h2"])
async def test_over_tls_they_are_read_through_a_mapping(folder: Path, protocol: str) -> None:
    certificates = Certificates(folder)
    certificates.take_config(config())
    certificates.refresh()
    async with warm() as (here, _):
        await here.servers[0].listen_secure(ADDRESSES[0], SECURE_PORT, certificates.context)
        trust = trusting(str(state.authority_files(folder)[0]), protocol)
        for line in ("Accept: */*", "Range: bytes=5-2999990"):
            name, _, value = line.partition(": ")
            expected = BODY[5:2_999_991] if name == "Range" else BODY
            if protocol == "h2":
                h2 = await connect(trust)
                assert (await h2.get("/a", (name.lower(), value))).body == expected
                await h2.close()
                continue
            streams = await asyncio.open_connection(ADDRESSES[0], SECURE_PORT, ssl=trust, server_hostname=HOST)
            assert (await Client(*streams).get("/a", line)).body == expected
            streams[1].close()


async def test_from_disk(tmp_path: Path) -> None:
    async with world(large, edge=EDGE) as here:
        store = here.node.store
        disk = DiskStore(tmp_path, 64 << 20, store)
        store.capacity_bytes = 128 << 20
        try:
            client = await here.client()
            client.send(request("/a"))
            assert (await client.response()).body == BODY
            disk.flush()
            store.below = None
            here.purge(b"/a")
            store.below = disk
            assert len(store) == len(store.shelf) == 0
            for _ in range(2):
                client.send(request("/a"))
                assert (await client.response()).body == BODY
            assert len(here.origin.asked) == 1 and len(store.shelf) == 1
        finally:
            disk.close()
