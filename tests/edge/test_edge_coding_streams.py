"""Compression over HTTP/2 and HTTP/3, which have what HTTP/1.1 has: one store for all three."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import brotli

from edge_world import Asked, World, response, world
from h2_client import H2Client
from h3_client import H3Client
from secure_world import streams

PAGE = b"<p>A line of text, as there are many. </p>\n" * 100
BROWSER = ("accept-encoding", "gzip, deflate, br, zstd")


async def page(_asked: Asked) -> bytes:
    return response(PAGE, "Cache-Control: max-age=60", "Content-Type: text/html", 'ETag: "v1"')


@contextlib.asynccontextmanager
async def both(folder: Path) -> AsyncIterator[tuple[World, tuple[H2Client | H3Client, ...]]]:
    """A world and its clients of HTTP/2 and HTTP/3."""
    async with world(page, rules={"key": {"schemes": "together"}}) as here, streams(here, folder) as clients:
        yield here, clients


async def test_all_protocols_share_what_is_coded(folder: Path) -> None:
    async with both(folder) as (here, clients):
        for client in clients:
            await client.get("/", BROWSER)
            for _ in range(2):
                got = await client.get("/", BROWSER)
                assert got.fields["cache-status"] == "here-1; hit" and got.fields["content-encoding"] == "br"
                assert brotli.decompress(got.body) == PAGE and got.fields["etag"] == '"v1;nm-br"'
                assert got.fields["vary"] == "Accept-Encoding"
                assert int(got.fields["content-length"]) == len(got.body)
        old = await (await here.client()).get("/", "Accept-Encoding: br")
        assert old.cache == "here-1; hit" and old.fields["content-encoding"] == "br"
        assert len(here.origin.asked) == 1 and here.node.coder.made == 1


async def test_conditions_and_ranges_are_of_the_bytes_that_a_client_has(folder: Path) -> None:
    async with both(folder) as (here, clients):
        for client in clients:
            for _ in range(2):
                await client.get("/", BROWSER)
            got = await client.get("/", BROWSER, ("if-none-match", '"v1;nm-br"'))
            assert (got.status, got.body) == (304, b"") and got.fields["etag"] == '"v1;nm-br"'
            assert (await client.get("/", BROWSER, ("if-none-match", '"v1"'))).status == 200
            part = await client.get("/", BROWSER, ("range", "bytes=3-9"))
            assert (part.status, part.body) == (206, PAGE[3:10]) and "content-encoding" not in part.fields
            assert part.fields["etag"] == '"v1"'
            got = await client.get("/", BROWSER, ("range", "bytes=3-9"), ("if-range", '"v1;nm-br"'))
            assert (got.status, got.body) == (200, PAGE)
        assert len(here.origin.asked) == 1
