"""Compression at the edge: one fetch, each coding made once, tags and conditions right, and all of it purged."""

import asyncio
import gzip
import threading
from pathlib import Path

import brotli
import pytest
import zstandard

from edge_world import Asked, Client, Response, World, response, world
from nearmile.cache.store import MemoryStore
from nearmile.cache.tier.store import DiskStore
from nearmile.edge.coder import PACK, Coder
from nearmile.edge.limits import CODING_WAIT_BYTES_MAX
from waiting import until

FRESH, HTML, TAG = "Cache-Control: max-age=3600", "Content-Type: text/html", 'ETag: "abc"'
PAGE = b"<p>A line of text, as there are many. </p>\n" * 100
BROWSER, GZIP, ZSTD, PLAIN = "gzip, deflate, br, zstd", "gzip", "zstd", "identity"
UNPACK = {
    "br": brotli.decompress,
    "gzip": gzip.decompress,
    "zstd": lambda body: zstandard.ZstdDecompressor().decompress(body),
}


class Site:
    """An origin; its page changes with ``version``, and it is asked again after ``max_age_s``."""

    def __init__(self, *lines: str, max_age_s: int = 3600, page: bytes = PAGE) -> None:
        self.lines, self.max_age_s, self.page = lines, max_age_s, page
        self.version = 1

    async def __call__(self, asked: Asked) -> bytes:
        lines = (f"Cache-Control: max-age={self.max_age_s}", f'ETag: "v{self.version}"', *self.lines)
        if asked.fields.get("if-none-match") == f'"v{self.version}"':
            return response(b"", *lines, status="304 Not Modified").replace(b"Content-Length: 0\r\n", b"")
        return response(b"%d" % self.version + self.page, HTML, *lines)


async def get(client: Client, coding: str, *lines: str, target: str = "/", method: str = "GET") -> Response:
    return await client.get(target, f"Accept-Encoding: {coding}", *lines, method=method)


def unpacked(got: Response) -> bytes:
    coding = got.fields.get("content-encoding")
    body: bytes = got.body if coding is None else UNPACK[coding](got.body)
    return body


def names_of(here: World) -> list[str]:
    return sorted(entry.kept.coding.decode() for entry in here.node.store)


async def test_one_fetch_serves_every_coding_and_each_is_made_once() -> None:
    async with world(Site()) as here:
        client = await here.client()
        first = await get(client, BROWSER)
        assert first.body == b"1" + PAGE and first.fields["vary"] == "Accept-Encoding", "it need not wait"
        for asked, coding in (
            (BROWSER, "br"),
            (ZSTD, "zstd"),
            (GZIP, "gzip"),
            (PLAIN, None),
            ("gzip, br", "br"),
        ):
            for _ in range(2):
                got = await get(client, asked)
                assert got.cache == "here-1; hit" and got.fields.get("content-encoding") == coding
                assert unpacked(got) == b"1" + PAGE and got.fields["vary"] == "Accept-Encoding"
                assert got.fields["etag"] == ('"v1"' if coding is None else f'"v1;nm-{coding}"')
                assert got.fields["content-type"] == "text/html"
        assert len(here.origin.asked) == 1 and here.node.coder.made == 3
        assert names_of(here) == ["", "br", "gzip", "zstd"]
        assert here.origin.asked[0].fields["accept-encoding"] == "br, zstd, gzip"
        head = await get(client, BROWSER, method="HEAD")
        assert head.fields["content-encoding"] == "br" and head.fields["etag"] == '"v1;nm-br"'


@pytest.mark.parametrize(
    "lines",
    [
        (FRESH, TAG, "Content-Type: image/png"),
        (FRESH, TAG, HTML, "Content-Encoding: identity"),
        (FRESH + ", no-transform", TAG, HTML),
        ("Cache-Control: no-store", TAG, HTML),
        (FRESH, TAG),
    ],
)
async def test_what_is_left_as_it_is(lines: tuple[str, ...]) -> None:
    async def origin(asked: Asked) -> bytes:
        return response(PAGE, *lines)

    async with world(origin) as here:
        client = await here.client()
        for _ in range(3):
            got = await get(client, BROWSER)
            assert got.body == PAGE and got.fields["etag"] == '"abc"' and "vary" not in got.fields
        assert here.node.coder.made == 0


async def test_a_site_says_what_is_compressed() -> None:
    async def origin(asked: Asked) -> bytes:
        return response(PAGE[:300], FRESH, "Content-Type: " + asked.line.split()[1][1:])

    async def coded(rules: dict[str, object], target: str) -> bool:
        async with world(origin, rules=rules) as here:
            client = await here.client()
            for _ in range(2):
                got = await get(client, GZIP, target=target)
            return "content-encoding" in got.fields

    assert not await coded({}, "/text/html"), "it is small"
    assert await coded({"compress": {"min_bytes": 300}}, "/text/html")
    assert not await coded({"compress": {"min_bytes": 300, "off": True}}, "/text/html")
    assert await coded({"compress": {"min_bytes": 0, "types": ["x/*"]}}, "/x/y")
    assert not await coded({"compress": {"min_bytes": 0, "types": ["x/*"]}}, "/text/html")


async def test_what_the_origin_compressed_is_never_compressed_again() -> None:
    async def origin(asked: Asked) -> bytes:
        if "gzip" in asked.fields.get("accept-encoding", ""):
            return response(gzip.compress(PAGE), FRESH, HTML, "Content-Encoding: gzip", "Vary: Accept-Encoding")
        return response(PAGE, FRESH, HTML, "Vary: Accept-Encoding")

    async with world(origin) as here:
        client = await here.client()
        choices = ((BROWSER, "gzip"), (ZSTD, "zstd"), (PLAIN, None), ("gzip, br;q=0.5", "gzip"))
        for asked, _ in choices * 2:
            await get(client, asked)
        fetched = len(here.origin.asked)
        for asked, coding in choices:
            got = await get(client, asked)
            assert got.cache == "here-1; hit" and got.fields.get("content-encoding") == coding
            assert unpacked(got) == PAGE and got.fields["vary"] == "Accept-Encoding"
        # In whatever way a browser writes it.
        assert (await get(client, "zstd;q=1.0,br , gzip;q=1")).cache == "here-1; hit"
        assert (await get(client, BROWSER, "Range: bytes=0-3")).fields["content-encoding"] == "gzip"
        assert len(here.origin.asked) == fetched <= 6 and here.node.coder.made == 1


async def test_conditions_and_ranges_are_of_the_bytes_that_a_client_has() -> None:
    async with world(Site("Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT")) as here:
        client = await here.client()
        for _ in range(2):
            in_br = await get(client, BROWSER)
        mine = in_br.fields["etag"]
        for tag, status in ((mine, 304), ('"x", ' + mine, 304), ('"v1"', 200), ('"v1;nm-gzip"', 200)):
            got = await get(client, BROWSER, f"If-None-Match: {tag}")
            assert got.status == status and got.fields["etag"] == mine
            assert got.fields["vary"] == "Accept-Encoding"
        assert (await get(client, GZIP, f"If-None-Match: {mine}")).status == 200
        part = await get(client, BROWSER, "Range: bytes=0-9")
        assert (part.status, part.body) == (206, (b"1" + PAGE)[:10]) and part.fields["etag"] == '"v1"'
        assert "content-encoding" not in part.fields
        for condition, status in (('"v1"', 206), (mine, 200), ("Sun, 06 Nov 1994 08:49:37 GMT", 200)):
            got = await get(client, BROWSER, "Range: bytes=5-", f"If-Range: {condition}")
            assert got.status == status and got.fields["etag"] == '"v1"'
        assert len(here.origin.asked) == 1
        await get(client, BROWSER, f"If-Match: {mine}", "Content-Length: 0", method="PUT")
        assert here.origin.asked[-1].fields["if-match"] == '"v1"'


async def test_what_the_origin_confirms_is_confirmed_in_every_coding() -> None:
    site = Site(max_age_s=10)
    async with world(site) as here:
        client = await here.client()
        for asked in (PLAIN, BROWSER, GZIP):
            await get(client, asked)
        here.skew_s = 20.0
        got = await get(client, BROWSER)
        assert got.cache == "here-1; fwd=stale; fwd-status=304" and unpacked(got) == b"1" + PAGE
        assert here.origin.asked[-1].fields["if-none-match"] == '"v1"'
        for asked, coding in ((GZIP, "gzip"), (BROWSER, "br"), (PLAIN, None)):
            got = await get(client, asked)
            assert got.cache == "here-1; hit" and got.fields.get("content-encoding") == coding
            assert got.fields["vary"] == "Accept-Encoding" and unpacked(got) == b"1" + PAGE
        assert len(here.origin.asked) == 2 and here.node.coder.made == 2


async def test_a_new_version_takes_the_place_of_every_coding() -> None:
    site = Site(max_age_s=10)
    async with world(site) as here:
        client = await here.client()
        for asked in (PLAIN, BROWSER, GZIP):
            await get(client, asked)
        site.version, here.skew_s = 2, 20.0
        assert (await get(client, BROWSER)).body == b"2" + PAGE
        assert names_of(here) == [""]
        got = await get(client, GZIP)
        assert unpacked(got) == b"2" + PAGE and got.fields["etag"] == '"v2;nm-gzip"'
        assert len(here.origin.asked) == 2


async def test_a_coding_alone_is_renewed_and_never_sent_to_who_does_not_know_it() -> None:
    async with world(Site(max_age_s=10)) as here:
        client = await here.client()
        for _ in range(2):
            await get(client, BROWSER)
        (plain,) = (entry for entry in here.node.store if not entry.kept.coding)
        here.node.store._remove(plain)  # as eviction does
        here.skew_s = 20.0
        got = await get(client, BROWSER)
        assert got.cache == "here-1; fwd=stale; fwd-status=304" and unpacked(got) == b"1" + PAGE
        assert got.fields["etag"] == '"v1;nm-br"' and got.fields["vary"] == "Accept-Encoding"
        got = await get(client, PLAIN)
        assert got.body == b"1" + PAGE and "content-encoding" not in got.fields


async def test_a_purge_takes_every_coding_and_what_is_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(body: bytes) -> bytes:
        begun.set()
        go_on.wait()
        return body

    async with world(Site()) as here:
        client, store = await here.client(), here.node.store
        for asked in (PLAIN, BROWSER, GZIP):
            await get(client, asked)
        assert here.purge(b"/") == 3 and len(store) == 0 and store.used_bytes == 0
        await get(client, BROWSER)
        monkeypatch.setitem(PACK, b"br", slow)
        waiting = asyncio.ensure_future(get(client, BROWSER))
        await until(begun.is_set)
        here.purge(b"/")
        go_on.set()
        assert "content-encoding" not in (await waiting).fields
        assert len(store) == 0


async def test_nobody_waits_for_what_takes_long() -> None:
    large = PAGE * (CODING_WAIT_BYTES_MAX // len(PAGE) + 1)
    async with world(Site(page=large)) as here:
        client = await here.client()
        for _ in range(2):
            assert (await get(client, BROWSER)).body == b"1" + large
        await until(lambda: "br" in names_of(here))
        got = await get(client, BROWSER)
        assert got.fields["content-encoding"] == "br" and unpacked(got) == b"1" + large


async def test_neighbours_pass_on_what_the_origin_sent() -> None:
    async with world(Site(), servers=2) as here:
        here.tell_map()
        targets = [f"/{number}" for number in range(6)]
        for index in (0, 1):
            client = await here.client(index)
            for target in targets:
                for _ in range(2):
                    got = await get(client, BROWSER, target=target)
                assert unpacked(got) == b"1" + PAGE and got.fields["content-encoding"] == "br"
                assert got.fields["vary"] == "Accept-Encoding" and got.fields["etag"] == '"v1;nm-br"'
                got = await get(client, GZIP, target=target)
                assert got.cache.endswith("; hit") and got.fields["content-encoding"] == "gzip"
                assert "nearmile-vary" not in got.fields
        assert len(here.origin.asked) == len(targets)


async def test_parts_of_neighbours_grow_into_what_is_coded() -> None:
    async def origin(asked: Asked) -> bytes:
        if "range" not in asked.fields:
            return response(PAGE, HTML, FRESH, TAG)
        first, last = map(int, asked.fields["range"].removeprefix("bytes=").split("-"))
        place = f"Content-Range: bytes {first}-{last}/{len(PAGE)}"
        return response(PAGE[first : last + 1], place, HTML, FRESH, TAG, status="206 Partial Content")

    async with world(origin, servers=2) as here:
        here.tell_map()
        first, second = await here.client(0), await here.client(1)
        for target in [f"/{number}" for number in range(6)]:
            for client in (first, second):
                assert (await get(client, BROWSER, "Range: bytes=0-99", target=target)).status == 206
            # The owner's is whole and coded when the other asks it for the rest.
            for client in (first, second, first, second):
                for _ in range(2):
                    got = await get(client, BROWSER, target=target)
                    assert unpacked(got) == PAGE and "nearmile-vary" not in got.fields
                assert got.fields["content-encoding"] == "br" and got.fields["vary"] == "Accept-Encoding"
        for node in (server.node for server in here.servers):
            assert {entry.kept.coding for entry in node.store} == {b"", b"br"}
            assert not any(b"accept-encoding" in entry.kept.vary for entry in node.store)


async def test_codings_outlive_memory_on_disk(tmp_path: Path) -> None:
    site = Site(max_age_s=10)
    async with world(site) as here:
        node, client = here.node, await here.client()
        below = DiskStore(tmp_path, 8 << 20, node.store)
        for asked in (PLAIN, BROWSER):
            await get(client, asked)
        below.close()
        node.store = MemoryStore(node.store.capacity_bytes)
        below = DiskStore(tmp_path, 8 << 20, node.store)
        node.coder = Coder(node.loop, node.store, node.spawn)
        got = await get(client, BROWSER)
        assert got.cache == "here-1; hit" and got.fields["content-encoding"] == "br"
        assert node.coder.made == 0 and len(here.origin.asked) == 1
        site.version, here.skew_s = 2, 20.0
        await get(client, PLAIN)
        assert unpacked(await get(client, BROWSER)) == b"2" + PAGE
        below.close()
