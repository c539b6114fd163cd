"""An edge server with a disk under its memory: hits after eviction and restart, and never a damaged byte."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge_world import PORT, Asked, Response, World, request, response, world
from nearmile.cache.store import MemoryStore
from nearmile.cache.tier.record import PIECE_BYTES
from nearmile.cache.tier.store import DiskStore
from nearmile.config.network import Edge
from nearmile.edge.coder import Coder
from tier_world import segments

FRESH = "Cache-Control: max-age=3600"
LARGE = bytes(range(251)) * 3500


async def origin(asked: Asked) -> bytes:
    target = asked.line.split()[1]
    if "if-none-match" in asked.fields:
        return response(b"", FRESH, 'ETag: "v"', status="304 Not Modified").replace(b"Content-Length: 0\r\n", b"")
    if target.startswith("/large"):
        terms = "Cache-Control: max-age=0" if target.endswith("stale") else FRESH
        return response(LARGE, terms, 'ETag: "v"')
    return response(target.encode() * 1000, FRESH)


def reopen(here: World, folder: Path) -> DiskStore:
    """Empties memory, as a restart does, and begins with what is on disk."""
    node = here.node
    if node.store.below is not None:
        assert isinstance(node.store.below, DiskStore)
        node.store.below.close()
    node.store = MemoryStore(node.store.capacity_bytes)
    node.coder = Coder(node.loop, node.store, node.spawn)
    return DiskStore(folder, 64 << 20, node.store)


@contextlib.asynccontextmanager
async def on_disk(folder: Path, memory_mb: int = 4) -> AsyncIterator[tuple[World, DiskStore]]:
    async with world(origin, edge=Edge(http_port=PORT, memory_mb=memory_mb, max_object_mb=1)) as here:
        yield here, reopen(here, folder)
        assert isinstance(here.node.store.below, DiskStore)
        here.node.store.below.close()


async def test_what_memory_has_no_room_for_is_a_hit_all_the_same(tmp_path: Path) -> None:
    async with on_disk(tmp_path, memory_mb=1) as (here, _):
        client = await here.client()
        targets = [f"/{number:03}" for number in range(400)]
        for target in targets:
            assert (await client.get(target)).body == target.encode() * 1000
        assert len(here.node.store) < 300
        for target in targets:
            got = await client.get(target)
            assert got.body == target.encode() * 1000 and got.cache.endswith("hit")
        assert len(here.origin.asked) == 400
        reopen(here, tmp_path)
        got = await client.get(targets[0])
        assert got.cache.endswith("hit") and len(here.origin.asked) == 400
        assert here.purge(targets[0].encode()) == 1
        assert "miss" in (await client.get(targets[0])).cache


async def test_a_large_object_is_streamed_cut_and_compared(tmp_path: Path) -> None:
    async with on_disk(tmp_path) as (here, disk):
        client = await here.client()
        assert (await client.get("/large")).body == LARGE
        disk.flush()
        assert here.node.store.used_bytes == 0
        for _ in range(2):
            got = await client.get("/large")
            assert got.body == LARGE and got.cache.endswith("hit") and "age" in got.fields
        for first, last in ((0, 0), (PIECE_BYTES - 1, PIECE_BYTES), (500_000, len(LARGE) - 1)):
            got = await client.get("/large", f"Range: bytes={first}-{last}")
            assert got.status == 206 and got.body == LARGE[first : last + 1]
        assert (await client.get("/large", f"Range: bytes={len(LARGE)}-")).status == 416
        assert (await client.get("/large", 'If-None-Match: "v"')).status == 304
        head = await client.get("/large", method="HEAD")
        assert head.fields["content-length"] == str(len(LARGE)) and head.cache.endswith("hit")
        assert len(here.origin.asked) == 1
        assert here.purge(b"/large") == 1
        assert "miss" in (await client.get("/large")).cache


async def test_a_large_object_is_renewed(tmp_path: Path) -> None:
    async with on_disk(tmp_path) as (here, disk):
        client = await here.client()
        await client.get("/large-stale")
        disk.flush()
        got = await client.get("/large-stale")
        assert got.body == LARGE and "fwd-status=304" in got.cache
        disk.flush()
        assert (await client.get("/large-stale")).cache.endswith("hit")
        assert len(here.origin.asked) == 2


@pytest.mark.parametrize("tag", ["v", "w"])
async def test_the_answer_to_a_head_is_of_what_is_on_disk_alone_too(tmp_path: Path, tag: str) -> None:
    async with on_disk(tmp_path) as (here, disk):
        client = await here.client()
        await client.get("/large")
        disk.flush()
        assert here.node.store.used_bytes == 0

        async def now(asked: Asked) -> bytes:
            answer = response(LARGE[::-1], FRESH, f'ETag: "{tag}"', "X: y")
            return answer.removesuffix(LARGE[::-1]) if asked.line.startswith("HEAD") else answer

        here.origin.handler = now
        await client.get("/large", "Cache-Control: no-cache", method="HEAD")
        got = await client.get("/large")
        assert got.fields["x"] == "y", "as the HEAD said"
        assert (got.body, got.cache) == {
            "v": (LARGE, "here-1; hit"),
            "w": (LARGE[::-1], "here-1; fwd=uri-miss; stored"),
        }[tag]


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", ["first", "middle", "range"])
async def test_no_damaged_byte_is_sent(tmp_path: Path, damage: str) -> None:
    async with on_disk(tmp_path) as (here, disk):
        client = await here.client()
        await client.get("/large")
        disk.flush()
        (segment,) = segments(tmp_path)
        body_at = segment.stat().st_size - len(LARGE)
        flip(segment, body_at + (0 if damage == "first" else PIECE_BYTES + 5))
        if damage == "middle":
            client.send(request("/large"))
            _, fields = await client.head()
            sent = await client.ended()
            assert int(fields["content-length"]) == len(LARGE) and sent == LARGE[:PIECE_BYTES]
            client = await here.client()
        lines = [f"Range: bytes={PIECE_BYTES}-{PIECE_BYTES + 9}"] if damage == "range" else []
        got = await client.get("/large", *lines)
        assert got.body in (LARGE, LARGE[PIECE_BYTES : PIECE_BYTES + 10]) and "fwd" in got.cache
        assert (await client.get("/large")).body == LARGE
        assert disk.damaged == 1


async def test_many_clients_read_a_large_object_at_their_own_pace(tmp_path: Path) -> None:
    async with on_disk(tmp_path) as (here, disk):
        await (await here.client()).get("/large")
        disk.flush()
        clients = [await here.client() for _ in range(20)]
        for client in clients:
            client.send(request("/large"))
        answers: list[Response] = await asyncio.gather(*(client.response() for client in clients))
        assert all(answer.body == LARGE for answer in answers) and len(here.origin.asked) == 1


async def test_hits_are_as_fresh_as_they_were_stored(tmp_path: Path) -> None:
    async with on_disk(tmp_path) as (here, _):
        client = await here.client()
        await client.get("/old")
        reopen(here, tmp_path)
        here.skew_s = 100.0
        assert int((await client.get("/old")).fields["age"]) >= 100
        reopen(here, tmp_path)
        here.skew_s = 4000.0
        assert "hit" not in (await client.get("/old")).cache


async def test_what_the_origin_replaces_by_what_is_not_stored_leaves_the_disk(tmp_path: Path) -> None:
    async with on_disk(tmp_path) as (here, _):
        client = await here.client()
        await client.get("/large-stale")
        reopen(here, tmp_path)
        assert (await client.get("/large-stale")).cache == "here-1; fwd=stale; fwd-status=304"

        async def gone(asked: Asked) -> bytes:
            status = "404 Not Found" if "if-none-match" in asked.fields else "503 Service Unavailable"
            return response(b"gone", status=status)

        here.origin.handler, here.skew_s = gone, 7200
        assert (await client.get("/large-stale")).status == 404
        assert (await client.get("/large-stale")).status == 503, "nothing stands in"
