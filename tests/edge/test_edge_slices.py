"""Objects too large to store whole: slices, over real sockets, with origins that change and that lie."""

import asyncio
import contextlib
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_world import HOST, Asked, Client, Response, World, response, world
from nearmile.cache.purge import Order, Position
from nearmile.cache.tier.store import DiskStore
from nearmile.edge.lately import Lately
from waiting import until

SLICE = 1 << 18
FRESH = "Cache-Control: max-age=60"


def content(seed: int, size: int = 5 * SLICE + 1000) -> bytes:
    return random.Random(seed).randbytes(size)


class Big:
    """An origin of one large object; ``change`` makes it another version."""

    def __init__(self, *lines: str) -> None:
        self.lines = (FRESH, "Accept-Ranges: bytes", *lines)
        self.sent_bytes = 0
        self.spoil: Callable[[bytes, Asked], bytes] = lambda answer, asked: answer
        self.change(1)

    def change(self, version: int) -> None:
        self.body, self.tag = content(version), f'"{version}"'

    async def __call__(self, asked: Asked) -> bytes:
        lines = (f"ETag: {self.tag}", *self.lines)
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", asked.fields.get("range", ""))
        size = len(self.body)
        if asked.fields.get("if-none-match") == self.tag:
            answer = response(b"", *lines, status="304 Not Modified")
        elif found is None or asked.fields.get("if-range", self.tag) != self.tag:
            answer = response(self.body, *lines)
        elif int(found[1]) >= size:
            answer = response(b"", f"Content-Range: bytes */{size}", status="416 Range Not Satisfiable")
        else:
            first, last = int(found[1]), min(int(found[2] or size), size - 1)
            place = f"Content-Range: bytes {first}-{last}/{size}"
            answer = response(self.body[first : last + 1], place, *lines, status="206 Partial Content")
        answer = self.spoil(answer, asked)
        self.sent_bytes += len(answer)
        return answer


@contextlib.asynccontextmanager
async def large(origin: Big, servers: int = 1):  # type: ignore[no-untyped-def]
    async with world(origin, servers) as here:
        for server in here.servers:
            server.node.slice_bytes = SLICE
        yield here
        nodes = [server.node for server in here.servers]
        await until(lambda: not any(node.fills or node.filling_bytes for node in nodes))


async def get(client: Client, first: int, last: int | str = "", *lines: str) -> Response:
    return await client.get("/a", f"Range: bytes={first}-{last}", *lines)


def ranges(here: World) -> list[str]:
    return [asked.fields.get("range", "whole") for asked in here.origin.asked]


def aligned(number: int, size: int) -> str:
    return f"bytes={number * SLICE}-{min((number + 1) * SLICE, size) - 1}"


async def test_a_range_costs_a_slice_and_no_more() -> None:
    origin = Big()
    async with large(origin) as here:
        client = await here.client()
        first = await get(client, 0, 9)
        assert (first.status, first.body) == (206, origin.body[:10])
        at = 3 * SLICE + 5
        for status in ("fwd=partial", "hit", "hit"):
            got = await get(client, at, at + 99)
            assert (got.status, got.body) == (206, origin.body[at : at + 100])
            assert got.fields["content-range"] == f"bytes {at}-{at + 99}/{len(origin.body)}"
            assert got.fields["etag"] == '"1"' and got.cache == f"here-1; {status}"
        assert ranges(here) == ["bytes=0-9", aligned(3, len(origin.body))]


async def test_the_whole_is_stored_as_it_streams_and_served_from_slices() -> None:
    origin = Big()
    async with large(origin) as here:
        client = await here.client()
        got = await client.get("/a")
        assert (got.status, got.body) == (200, origin.body)
        again = await client.get("/a")
        assert (again.status, again.body, again.cache) == (200, origin.body, "here-1; hit")
        assert again.fields["content-length"] == str(len(origin.body))
        tail = await client.get("/a", "Range: bytes=-1500")
        assert tail.body == origin.body[-1500:] and tail.cache == "here-1; hit"
        several = await client.get("/a", f"Range: bytes=0-0,{SLICE - 1}-{SLICE}")
        assert several.status == 206 and several.fields["content-type"].startswith("multipart/byteranges")
        assert origin.body[SLICE - 1 : SLICE + 1] in several.body
        assert ranges(here) == ["whole"]


async def test_what_is_missing_is_fetched_between_what_is_stored() -> None:
    origin = Big()
    async with large(origin) as here:
        client, size = await here.client(), len(origin.body)
        await get(client, SLICE, 2 * SLICE - 1)
        await get(client, 3 * SLICE, 5 * SLICE - 1)
        asked = len(here.origin.asked)
        got = await client.get("/a")
        assert (got.status, got.body, got.cache) == (200, origin.body, "here-1; fwd=partial")
        assert ranges(here)[asked:] == [aligned(number, size) for number in (0, 2, 5)]
        assert all(one.fields["if-range"] == '"1"' for one in here.origin.asked[1:])


async def test_heads_conditions_and_ranges_that_are_not_there() -> None:
    origin = Big()
    async with large(origin) as here:
        client, size = await here.client(), len(origin.body)
        await get(client, 0, 9)
        head = await client.get("/a", method="HEAD")
        assert head.status == 200 and head.fields["content-length"] == str(size)
        assert (await client.get("/a", 'If-None-Match: "1"')).status == 304
        none = await get(client, size)
        assert (none.status, none.fields["content-range"]) == (416, f"bytes */{size}")
        other = await get(client, 0, 9, 'If-Range: "0"')
        assert (other.status, other.body) == (200, origin.body)
        assert len(here.origin.asked) == 1 + 6


async def test_one_fetch_for_all_who_wait_for_a_slice() -> None:
    origin = Big()
    async with large(origin) as here:
        await get(await here.client(), 0, 9)
        clients = [await here.client() for _ in range(8)]
        got = await asyncio.gather(*(get(client, SLICE + n, SLICE + n + 9) for n, client in enumerate(clients)))
        assert [one.body for one in got] == [origin.body[SLICE + n : SLICE + n + 10] for n in range(8)]
        assert ranges(here)[1:] == [aligned(1, len(origin.body))]


async def test_parallel_downloads_of_the_whole() -> None:
    origin = Big()
    async with large(origin) as here:
        await get(await here.client(), 0, 9)
        clients = [await here.client() for _ in range(5)]
        got = await asyncio.gather(*(client.get("/a") for client in clients))
        assert all(one.body == origin.body for one in got)
        size = len(origin.body)
        assert ranges(here)[1:] == [aligned(number, size) for number in range(6)]


async def test_who_comes_later_reads_along() -> None:
    origin, go_on = Big(), asyncio.Event()

    async def pausing(asked: Asked) -> bytes:
        answer = await origin(asked)
        half = len(answer) // 2
        asked.writer.write(answer[:half])
        await go_on.wait()
        return answer[half:]

    async with large(origin) as here:
        here.origin.handler = pausing
        first, second = await here.client(), await here.client()
        leader = asyncio.create_task(first.get("/a"))
        await until(lambda: len(here.node.store) > 2)
        follower = asyncio.create_task(second.get("/a"))
        await until(lambda: any(not fill.read_by_nobody for fill in here.node.fills.values()))
        go_on.set()
        assert (await leader).body == (await follower).body == origin.body
        assert ranges(here) == ["whole"]


@pytest.mark.parametrize("slices", [1, 5, 9])
async def test_a_store_that_is_too_small(slices: int) -> None:
    """Slices are evicted while they are read, or not stored at all."""
    origin = Big()
    async with large(origin) as here:
        here.node.store.capacity_bytes = slices * SLICE
        clients = [await here.client() for _ in range(4)]
        for _ in range(3):
            at = SLICE - 5
            asked = [client.get("/a") for client in clients[:2]] + [
                get(clients[2], at),
                get(clients[3], at, at + 9),
            ]
            got = await asyncio.gather(*asked)
            assert [one.body for one in got[:3]] == [origin.body, origin.body, origin.body[at:]]
            assert got[3].body == origin.body[at : at + 10]
            assert here.node.store.used_bytes <= slices * SLICE


async def test_a_slow_client_holds_up_nobody() -> None:
    origin = Big()
    origin.body = content(1, 16 << 20)
    async with large(origin) as here:
        slow, quick = await here.client(), await here.client()
        slow.send(f"GET /a HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        await slow.head()
        assert (await quick.get("/a")).body == origin.body
        assert (await slow.reader.readexactly(len(origin.body))) == origin.body


async def test_a_long_list_of_ranges_is_the_origins_to_answer() -> None:
    origin = Big()
    async with large(origin) as here:
        client = await here.client()
        await get(client, 0, 9)
        listed = ",".join(f"{number * SLICE}-{number * SLICE}" for number in range(5))
        assert (await client.get("/a", f"Range: bytes={listed}")).cache == "here-1; fwd=request"
        assert ranges(here)[1:] == [f"bytes={listed}"]


async def test_servers_that_give_tags_of_their_own_are_not_asked_for_slices() -> None:
    origin = Big()

    async def either(asked: Asked) -> bytes:
        origin.tag = f'"{len(here.origin.asked)}"'
        return await origin(asked)

    async with large(origin) as here:
        here.origin.handler = either
        for _ in range(2):
            assert (await get(await here.client(), 0, 9)).body == origin.body[:10]
            # Another tag: what was stored goes, and the answer is fetched as it was asked for.
            assert (await get(await here.client(), 20, 29)).body == origin.body[20:30]
        count = len(here.origin.asked)
        for _ in range(3):
            assert (await (await here.client()).get("/a")).body == origin.body
        assert ranges(here)[count:] == ["whole"] * 3


async def test_a_stale_object_is_renewed_with_its_slices() -> None:
    origin = Big()
    async with large(origin) as here:
        client = await here.client()
        await client.get("/a")
        here.skew_s = 61
        got = await get(client, 7, 9)
        assert got.body == origin.body[7:10] and got.cache == "here-1; fwd=stale; fwd-status=304"
        assert (await client.get("/a")).cache == "here-1; hit"
        assert len(here.origin.asked) == 2
        here.skew_s = 200
        origin.change(2)
        got = await get(client, 7, 9)
        assert got.body == origin.body[7:10] and here.origin.asked[-1].fields["range"] == "bytes=7-9"
        assert (await client.get("/a")).body == origin.body


async def test_the_answer_to_a_head_may_show_a_change() -> None:
    def bodiless(answer: bytes, asked: Asked) -> bytes:
        return answer[: answer.index(b"\r\n\r\n") + 4] if asked.line.startswith("HEAD") else answer

    origin = Big()
    origin.spoil = bodiless
    async with large(origin) as here:
        client = await here.client()
        for _ in range(2):
            await get(client, 0, 9)
        for cache in ("here-1; hit", "here-1; fwd=uri-miss"):
            await client.get("/a", "Cache-Control: no-cache", method="HEAD")
            got = await get(client, 0, 9)
            assert (got.body, got.cache.removesuffix("; stored")) == (origin.body[:10], cache)
            origin.change(2)


async def test_a_change_before_the_answer_begins_anew() -> None:
    origin = Big()
    async with large(origin) as here:
        client = await here.client()
        await get(client, 0, 9)
        old = origin.body
        origin.change(2)
        got = await get(client, SLICE, SLICE + 9)
        assert got.body == origin.body[SLICE : SLICE + 10] != old[SLICE : SLICE + 10]
        assert got.fields["etag"] == '"2"'
        assert (await client.get("/a")).body == origin.body


async def test_a_change_in_the_middle_breaks_off() -> None:
    origin = Big()
    async with large(origin) as here:
        client = await here.client()
        await get(client, 0, 2 * SLICE - 1)
        old = origin.body
        origin.change(2)
        client.send(f"GET /a HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        status, fields = await client.head()
        assert status == 200 and fields["etag"] == '"1"'
        body = await client.ended()
        assert len(body) <= 2 * SLICE and old.startswith(body)
        client = await here.client()
        got = await client.get("/a")
        assert (got.body, got.fields["etag"]) == (origin.body, '"2"')
        assert (await client.get("/a")).cache == "here-1; hit"


async def test_many_see_the_change_at_once() -> None:
    origin = Big()
    async with large(origin) as here:
        await get(await here.client(), 0, 9)
        origin.change(2)
        clients = [await here.client() for _ in range(8)]
        asked = ((n % 4 + 1) * SLICE + n for n in range(8))
        got = await asyncio.gather(*(get(client, at, at + 9) for client, at in zip(clients, asked, strict=True)))
        assert {one.fields["etag"] for one in got} == {'"2"'}
        assert [one.body for one in got] == [
            origin.body[at : at + 10] for at in ((n % 4 + 1) * SLICE + n for n in range(8))
        ]
        assert (await clients[0].get("/a")).body == (await clients[1].get("/a")).body == origin.body
        assert (await clients[2].get("/a")).cache == "here-1; hit"


def wrong_place(answer: bytes, asked: Asked) -> bytes:
    return re.sub(rb"Content-Range: bytes (\d+)-", b"Content-Range: bytes 1-", answer)


def wrong_total(answer: bytes, asked: Asked) -> bytes:
    return re.sub(rb"(Content-Range: bytes \d+-\d+)/\d+", rb"\1/99999999", answer)


def short(answer: bytes, asked: Asked) -> bytes:
    return answer[:-1000]


def no_tag(answer: bytes, asked: Asked) -> bytes:
    return re.sub(rb"ETag: .*\r\n", b"", answer)


def broken(answer: bytes, asked: Asked) -> bytes:
    return response(b"no", status="500 Internal Server Error")


def gone(answer: bytes, asked: Asked) -> bytes:
    return response(b"no", status="404 Not Found")


@pytest.mark.parametrize("spoil", [wrong_place, wrong_total, short, no_tag, broken, gone])
async def test_an_origin_that_lies_never_gets_bytes_mixed(spoil: Callable[[bytes, Asked], bytes]) -> None:
    origin = Big()
    async with large(origin) as here:
        await get(await here.client(), 0, 2 * SLICE - 1)
        honest = origin.spoil
        # Only slices are asked for with If-Range.
        origin.spoil = lambda answer, asked: spoil(answer, asked) if "if-range" in asked.fields else answer
        if spoil is short:

            async def breaks(asked: Asked) -> bytes | None:
                asked.writer.write(await origin(asked))
                return None

            here.origin.handler = breaks
        client = await here.client()
        client.send(f"GET /a HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        status, _ = await client.head()
        body = await client.ended()
        assert status == 200 and origin.body.startswith(body) and len(body) < len(origin.body)
        origin.spoil, here.origin.handler = honest, origin
        assert (await (await here.client()).get("/a")).body == origin.body


async def test_a_slice_that_breaks_off_once_is_asked_for_again() -> None:
    origin = Big()
    cut: list[int] = []

    async def breaks_once(asked: Asked) -> bytes | None:
        answer = await origin(asked)
        if asked.fields.get("range") != aligned(1, len(origin.body)) or cut:
            return answer
        cut.append(1)
        asked.writer.write(answer[:-1000])
        return None

    async with large(origin) as here:
        client = await here.client()
        await get(client, 0, 9)
        here.origin.handler = breaks_once
        assert (await client.get("/a")).body == origin.body and cut


async def test_an_origin_that_passes_over_range_is_left_alone() -> None:
    origin = Big()

    async def whole(asked: Asked) -> bytes:
        asked.fields.pop("range", None)
        return await origin(asked)

    async with large(origin) as here:
        here.origin.handler = whole
        client = await here.client()
        await get(client, 0, 9)
        assert len(here.node.store) > 1
        here.node.store.purge_all()
        await client.get("/a", "Range: bytes=0-9")
        for entry in [entry for entry in here.node.store if entry.kept.part is not None]:
            here.node.store.delete(entry)
        # It turns out here, and is known from then on.
        for _ in range(3):
            assert (await client.get("/a")).body == origin.body
        assert len(here.node.store) == 0


@pytest.mark.parametrize(
    ("kind", "value"), [("url", "/a"), ("prefix", "/"), ("tag", "films"), ("all", "")], ids=lambda value: value
)
async def test_purges_end_slices_too(kind: str, value: str) -> None:
    origin = Big("Cache-Tag: films")
    async with large(origin) as here:
        client = await here.client()
        await client.get("/a")
        old, origin.body = origin.body, content(3)  # the tag lies: it is the same
        assert (await client.get("/a")).body == old
        order = Order("1", here.node.sites[HOST.encode()].serial, kind, (value,) if value else ())  # type: ignore[arg-type]
        here.node.purge(order, Position("log", 1))
        assert (await get(client, SLICE, SLICE + 9)).body == origin.body[SLICE : SLICE + 10]
        assert (await client.get("/a")).body == origin.body


async def test_slices_on_disk(tmp_path: Path) -> None:
    origin = Big()
    async with large(origin) as here:
        here.node.store.capacity_bytes = 4 << 20
        disk = DiskStore(tmp_path, 64 << 20, here.node.store)
        client = await here.client()
        await client.get("/a")
        assert len(here.node.store) == 2 and len(disk) == 7  # the record and the last, short one
        for _ in range(2):
            got = await client.get("/a")
            assert got.body == origin.body and got.cache == "here-1; hit"
        assert len(here.origin.asked) == 1
        await asyncio.to_thread(disk.close)
    async with large(origin) as here:
        disk = DiskStore(tmp_path, 64 << 20, here.node.store)
        client = await here.client()
        assert (await get(client, SLICE, SLICE + 9)).body == origin.body[SLICE : SLICE + 10]
        assert (await client.get("/a")).body == origin.body and not here.origin.asked
        await asyncio.to_thread(disk.close)


async def test_the_servers_of_a_region_share_slices() -> None:
    origin = Big()
    async with large(origin, servers=2) as here:
        here.tell_map()
        clients = [await here.client(0), await here.client(1)]
        for client in clients:
            await get(client, 0, 9)
        asked = len(here.origin.asked)
        for client in clients:
            assert (await client.get("/a")).body == origin.body
        size = len(origin.body)
        assert sorted(ranges(here)[asked:]) == sorted(aligned(number, size) for number in range(6))


async def test_a_client_that_leaves_stops_the_reading() -> None:
    origin = Big()
    async with large(origin) as here:
        await get(await here.client(), 0, 9)
        client = await here.client()
        client.send(f"GET /a HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        await client.head()
        client.writer.transport.abort()
        await until(lambda: not here.node.fills and here.node.filling_bytes == 0)


@pytest.mark.parametrize("seed", range(4))
async def test_any_requests_and_any_changes_yield_one_version_each(seed: int) -> None:
    """Clients ask for anything at the same time as the origin changes: each answer is of one version, or short."""
    chance = random.Random(seed)

    async def ask(here: World, versions: dict[str, bytes]) -> None:
        client = await here.client()
        for _ in range(12):
            size = 5 * SLICE + 1000
            first = chance.randrange(size)
            last = min(first + chance.choice((9, SLICE, 3 * SLICE)), size - 1)
            whole = chance.random() < 0.3
            client.send(f"GET /a HTTP/1.1\r\nHost: {HOST}\r\n".encode())
            client.send(b"\r\n" if whole else f"Range: bytes={first}-{last}\r\n\r\n".encode())
            try:
                status, fields = await client.head()
                length = int(fields["content-length"])
                body = await client.reader.readexactly(length)
            except asyncio.IncompleteReadError as error:
                body, client = error.partial, await here.client()
            if status in (200, 206):
                of = versions[fields["etag"]]
                start = int(fields["content-range"].split()[1].split("-")[0]) if status == 206 else 0
                assert of[start : start + len(body)] == body

    origin = Big()
    versions = {origin.tag: origin.body}
    async with large(origin) as here:
        clients = [asyncio.create_task(ask(here, versions)) for _ in range(4)]
        version = 1
        while not all(client.done() for client in clients):
            await asyncio.sleep(chance.random() / 20)
            version += 1
            origin.change(version)
            versions[origin.tag] = origin.body
            here.node.unsliceable = Lately(0, 1)  # it goes on as if it changed for the first time
        await asyncio.gather(*clients)
