"""Ranges end to end: from what is stored whole, from parts, and through the edge where neither is there."""

import asyncio
import email
import email.message
import re
from pathlib import Path

import pytest

from edge_world import Asked, Client, Response, response, world
from nearmile.cache.tier.store import DiskStore
from waiting import until

OBJECT = bytes(range(256)) * 40
SIZE = len(OBJECT)
FRESH, TAG = "Cache-Control: max-age=60", 'ETag: "1"'


async def whole(asked: Asked) -> bytes:
    return response(OBJECT, FRESH, TAG)


class Ranged:
    """An origin that serves ranges of ``body``; ``lines`` go with each response."""

    def __init__(self, *lines: str, body: bytes = OBJECT) -> None:
        self.lines, self.body = lines, body

    async def __call__(self, asked: Asked) -> bytes:
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", asked.fields.get("range", ""))
        if found is None:
            return response(self.body, *self.lines)
        first, last = int(found[1]), min(int(found[2]), SIZE - 1)
        if first >= SIZE:
            return response(b"", f"Content-Range: bytes */{SIZE}", status="416 Range Not Satisfiable")
        place = f"Content-Range: bytes {first}-{last}/{SIZE}"
        return response(self.body[first : last + 1], place, *self.lines, status="206 Partial Content")


async def get(client: Client, value: str, *lines: str) -> Response:
    return await client.get("/a", f"Range: bytes={value}", *lines)


@pytest.mark.parametrize(
    ("value", "status", "body", "place"),
    [
        ("0-0", 206, OBJECT[:1], f"bytes 0-0/{SIZE}"),
        ("256-", 206, OBJECT[256:], f"bytes 256-{SIZE - 1}/{SIZE}"),
        ("-7", 206, OBJECT[-7:], f"bytes {SIZE - 7}-{SIZE - 1}/{SIZE}"),
        (f"{SIZE}-", 416, b"", f"bytes */{SIZE}"),
    ],
)
async def test_a_stored_object_is_cut(value: str, status: int, body: bytes, place: str) -> None:
    async with world(whole) as here:
        client = await here.client()
        await client.get("/a")
        got = await get(client, value)
        assert (got.status, got.body, got.fields["content-range"]) == (status, body, place)
        assert got.cache == "here-1; hit" and len(here.origin.asked) == 1
        assert status == 416 or got.fields["etag"] == '"1"'


async def test_a_range_with_conditions() -> None:
    async with world(whole) as here:
        client = await here.client()
        await client.get("/a")
        assert (await get(client, "0-1", 'If-Range: "1"')).status == 206
        assert (await get(client, "0-1", 'If-Range: "2"')).body == OBJECT
        assert (await get(client, "0-1", 'If-None-Match: "1"')).status == 304
        head = await client.get("/a", "Range: bytes=0-1", method="HEAD")
        assert head.status == 200 and head.fields["content-length"] == str(SIZE)
        assert len(here.origin.asked) == 1


async def test_a_part_is_stored_and_grows_into_the_whole() -> None:
    async with world(Ranged(FRESH, TAG)) as here:
        client = await here.client()
        first = await get(client, "0-5119")
        assert first.status == 206 and first.cache == "here-1; fwd=uri-miss; stored"
        inside = await get(client, "100-199")
        assert inside.body == OBJECT[100:200] and inside.cache == "here-1; hit"
        assert (await get(client, f"5120-{SIZE - 1}")).body == OBJECT[5120:]
        assert len(here.origin.asked) == 2
        got = await client.get("/a")
        assert (got.status, got.body, got.cache) == (200, OBJECT, "here-1; hit")
        assert "content-range" not in got.fields
        assert (await get(client, "5000-5200")).body == OBJECT[5000:5201]
        assert len(here.origin.asked) == 2


@pytest.mark.parametrize("lines", [(FRESH,), (FRESH, 'ETag: W/"1"')], ids=["no-tag", "weak-tag"])
async def test_parts_that_may_differ_are_not_joined(lines: tuple[str, ...]) -> None:
    async with world(Ranged(*lines)) as here:
        client = await here.client()
        await get(client, "0-5119")
        await get(client, f"5120-{SIZE - 1}")
        got = await client.get("/a")
        assert got.body == OBJECT and got.cache == "here-1; fwd=uri-miss; stored"
        # The whole takes the part's place.
        assert (await get(client, "0-1")).cache == "here-1; hit"
        assert len(here.origin.asked) == 3


async def test_a_part_never_takes_the_place_of_the_whole() -> None:
    async with world(Ranged(FRESH, TAG)) as here:
        client = await here.client()
        await client.get("/a")
        here.skew_s = 61
        # Stale: it is renewed whole, whatever range is asked for.
        got = await get(client, "0-1")
        assert (got.status, got.body) == (200, OBJECT)
        assert "range" not in here.origin.asked[1].fields
        assert (await get(client, "0-1")).body == OBJECT[:2]
        assert len(here.origin.asked) == 2


async def test_a_renewed_object_is_cut() -> None:
    async def unchanged(asked: Asked) -> bytes:
        if "if-none-match" in asked.fields:
            return response(b"", FRESH, TAG, status="304 Not Modified")
        return response(OBJECT, FRESH, TAG)

    async with world(unchanged) as here:
        client = await here.client()
        await client.get("/a")
        here.skew_s = 61
        got = await get(client, "2-3")
        assert (got.status, got.body) == (206, OBJECT[2:4])
        assert got.cache == "here-1; fwd=stale; fwd-status=304"


@pytest.mark.parametrize("asked_again", ["0-99", "10-19"])
async def test_a_part_is_renewed(asked_again: str) -> None:
    ranged = Ranged(FRESH, TAG)

    async def unchanged(asked: Asked) -> bytes:
        if "if-none-match" in asked.fields:
            return response(b"", FRESH, TAG, status="304 Not Modified")
        return await ranged(asked)

    async with world(unchanged) as here:
        client = await here.client()
        await get(client, "0-99")
        here.skew_s = 61
        first, last = map(int, asked_again.split("-"))
        got = await get(client, asked_again)
        assert (got.status, got.body) == (206, OBJECT[first : last + 1])
        assert got.fields["content-range"] == f"bytes {asked_again}/{SIZE}"
        assert got.cache == "here-1; fwd=stale; fwd-status=304"
        assert (await get(client, "1-2")).cache == "here-1; hit"
        assert (await client.get("/a")).body == OBJECT
        assert [asked.fields.get("range") for asked in here.origin.asked] == [
            "bytes=0-99", None, f"bytes=100-{SIZE - 1}"
        ]  # fmt: skip


async def test_what_the_origin_says_of_a_range_reaches_the_client() -> None:
    async with world(Ranged(FRESH, TAG)) as here:
        client = await here.client()
        assert (await get(client, f"{SIZE}-{SIZE}")).status == 416
        # A 416 says nothing about the object itself: it is still fetched once for all, and stored.
        assert (await client.get("/a")).cache.endswith("; stored")
        several = await get(client, "0-1,4-5")
        assert several.cache == "here-1; hit" and several.status == 206


async def test_an_origin_that_knows_no_ranges_gives_the_whole_to_store() -> None:
    async with world(whole) as here:
        client = await here.client()
        assert (await get(client, "0-1")).status == 200
        assert (await get(client, "0-1")).body == OBJECT[:2]
        assert len(here.origin.asked) == 1


def parts_of(got: Response) -> list[tuple[str, str, bytes]]:
    """What a multipart/byteranges holds, as a library that is not ours reads it: type, place, bytes."""
    assert got.fields["content-length"] == str(len(got.body))
    message = email.message_from_bytes(
        b"Content-Type: %b\r\n\r\n" % got.fields["content-type"].encode() + got.body
    )
    assert message.get_content_type() == "multipart/byteranges" and not message.defects
    found = []
    for part in message.get_payload():
        assert isinstance(part, email.message.Message)
        body = part.get_payload(decode=True)
        assert isinstance(body, bytes)
        found.append((part["content-type"], part["content-range"], body))
    return found


@pytest.mark.parametrize("memory_mb", [16, 4], ids=["memory", "disk"])
async def test_several_ranges_of_what_is_stored(memory_mb: int, tmp_path: Path) -> None:
    text = b"".join(b"%07d\n" % number for number in range(40_000))

    async def origin(asked: Asked) -> bytes:
        return response(text, FRESH, TAG, "Content-Type: text/x;a=100%")

    async with world(origin) as here:
        disk = DiskStore(tmp_path, 8 << 20, here.node.store)
        here.node.store.capacity_bytes = memory_mb << 20
        client = await here.client()
        await client.get("/a")
        got = await get(client, "300000-300006,0-6,1-2")
        assert got.status == 206 and "content-range" not in got.fields and got.fields["etag"] == '"1"'
        assert parts_of(got) == [
            ("text/x;a=100%", f"bytes 300000-300006/{len(text)}", text[300_000:300_007]),
            ("text/x;a=100%", f"bytes 0-6/{len(text)}", text[:7]),
        ]
        assert (await get(client, "0-1,9-10", 'If-Range: "2"')).body == text
        one = await get(client, f"0-6,{len(text)}-")
        assert one.status == 206 and one.body == text[:7]
        assert (await get(client, ",".join(["0-0"] * 65))).body == text
        none = await get(client, f"{len(text)}-,{len(text) + 5}-")
        assert (none.status, none.fields["content-range"]) == (416, f"bytes */{len(text)}")
        assert len(here.origin.asked) == 1
        await asyncio.to_thread(disk.close)


async def test_several_ranges_from_the_origin_are_passed() -> None:
    answer = b"--x\r\nContent-Range: bytes 0-0/9\r\n\r\na\r\n--x--\r\n"

    async def origin(asked: Asked) -> bytes:
        kind = "Content-Type: multipart/byteranges; boundary=x"
        return response(answer, FRESH, TAG, kind, status="206 Partial Content")

    async with world(origin) as here:
        client = await here.client()
        for _ in range(2):
            got = await get(client, "0-0,500-500")
            assert (got.status, got.body) == (206, answer)
            assert "stored" not in got.cache and here.origin.asked[-1].fields["range"] == "bytes=0-0,500-500"
        assert len(here.origin.asked) == 2


async def test_several_ranges_while_the_whole_is_on_its_way() -> None:
    async def slow(asked: Asked) -> bytes:
        if "range" in asked.fields:
            return await Ranged(FRESH, TAG)(asked)
        asked.writer.write(response(OBJECT, FRESH, TAG)[:-10])
        await go_on.wait()
        return OBJECT[-10:]

    go_on = asyncio.Event()
    async with world(slow) as here:
        first, second = await here.client(), await here.client()
        whole = asyncio.create_task(first.get("/a"))
        await until(lambda: len(here.origin.asked) == 1)
        got = await get(second, "0-0,900-900")
        assert got.body == OBJECT
        go_on.set()
        assert (await whole).body == OBJECT
        assert (await get(second, "0-0,900-900")).fields["content-type"].startswith("multipart/byteranges")


async def test_a_purge_forgets_parts_too() -> None:
    async with world(Ranged(FRESH, TAG)) as here:
        client = await here.client()
        await get(client, "0-9")
        assert here.purge(b"/a") == 1
        await get(client, "0-9")
        assert len(here.origin.asked) == 2


async def test_the_owner_of_an_object_is_asked_for_its_parts() -> None:
    async with world(Ranged(FRESH, TAG), servers=2) as here:
        here.tell_map()
        for index in (0, 1):
            got = await get(await here.client(index), "10-19")
            assert (got.status, got.body) == (206, OBJECT[10:20])
        assert len(here.origin.asked) == 1
        for server in here.servers:
            (entry,) = server.node.store
            assert entry.body == OBJECT[10:20] and entry.kept.part is not None


@pytest.mark.parametrize(
    ("stored", "wanted", "missing"),
    [
        ("0-5119", "", [f"5120-{SIZE - 1}"]),
        ("5120-10239", "", ["0-5119"]),
        ("4000-5999", "", ["0-3999", f"6000-{SIZE - 1}"]),
        ("0-5119", "5000-5200", ["5120-5200"]),
        ("4000-5999", "3990-4009", ["3990-3999"]),
        ("4000-5999", "-5000", [f"6000-{SIZE - 1}"]),
        ("4000-5999", "3999-6000", ["3999-3999", "6000-6000"]),
        ("4000-5999", "9000-9009", ["9000-9009"]),
    ],
)
async def test_of_a_stored_part_only_what_it_lacks_is_fetched(
    stored: str, wanted: str, missing: list[str]
) -> None:
    async with world(Ranged(FRESH, TAG, "Content-Type: text/x")) as here:
        client = await here.client()
        await get(client, stored)
        bare = await client.get("/b")  # what another object gets is what an origin with no cache would send
        got = await (get(client, wanted) if wanted else client.get("/a"))
        whole = bare.body
        cut = re.fullmatch(r"(\d*)-(\d*)", wanted)
        if cut is None:
            assert (got.status, got.body) == (200, whole) and "content-range" not in got.fields
        else:
            first, last = (int(cut[1]), int(cut[2])) if cut[1] else (SIZE - int(cut[2]), SIZE - 1)
            assert (got.status, got.body) == (206, whole[first : last + 1])
            assert got.fields["content-range"] == f"bytes {first}-{last}/{SIZE}"
        assert got.cache == "here-1; fwd=partial" and got.fields["content-type"] == "text/x"
        asked = here.origin.asked[2:]
        assert [one.fields["range"] for one in asked] == [f"bytes={span}" for span in missing]
        assert all(one.fields["if-range"] == '"1"' for one in asked)
        again = await (get(client, wanted) if wanted else client.get("/a"))
        assert again.body == got.body and again.cache == "here-1; hit"


@pytest.mark.parametrize("if_range", [True, False], ids=["heeds-if-range", "passes-over-if-range"])
async def test_a_part_of_an_old_version_is_not_completed(if_range: bool) -> None:
    async def origin(asked: Asked) -> bytes:
        if not changed:
            return await Ranged(FRESH, TAG)(asked)
        if if_range and "if-range" in asked.fields:
            del asked.fields["range"]
        return await Ranged(FRESH, 'ETag: "2"', body=OBJECT[::-1])(asked)

    changed: list[bool] = []
    async with world(origin) as here:
        client = await here.client()
        await get(client, "0-5119")
        changed.append(True)
        got = await client.get("/a")
        assert (got.status, got.fields["etag"], got.body) == (200, '"2"', OBJECT[::-1])
        assert (await get(client, "0-9")).body == OBJECT[::-1][:10]


async def test_parts_that_are_missing_are_fetched_once_for_all() -> None:
    async with world(Ranged(FRESH, TAG)) as here:
        clients = [await here.client() for _ in range(5)]
        await get(clients[0], "0-5119")
        got = await asyncio.gather(*(client.get("/a") for client in clients))
        assert all(one.body == OBJECT for one in got) and len(here.origin.asked) == 2


async def test_what_had_to_wait_for_a_missing_part_is_older_by_that() -> None:
    go = asyncio.Event()

    async def origin(asked: Asked) -> bytes:
        if "if-range" in asked.fields:
            await go.wait()
        return await Ranged(FRESH, TAG)(asked)

    async with world(origin) as here:
        client = await here.client()
        await get(client, "0-5119")
        waiting = asyncio.ensure_future(client.get("/a"))
        await until(lambda: len(here.origin.asked) == 2)
        here.skew_s = 30
        go.set()
        got = await waiting
        assert got.body == OBJECT and int(got.fields["age"]) >= 30
