"""What is stored stands in for an origin that fails, whichever way the request took."""

import asyncio

import pytest

from edge_world import Asked, response, world
from waiting import until

ONCE, LATER = "Cache-Control: max-age=1", 5.0
BUSY = response(b"busy", status="503 Service Unavailable")


@pytest.mark.parametrize("failing", [None, BUSY])
async def test_for_a_head(failing: bytes | None) -> None:
    answers = [response(b"hello", ONCE, 'ETag: "1"'), failing, failing]

    async def handler(asked: Asked) -> bytes | None:
        return answers.pop(0)

    async with world(handler) as here:
        client = await here.client()
        await client.get("/")
        here.skew_s = LATER
        for method in ("HEAD", "GET"):
            found = await client.get("/", method=method)
            assert (found.status, found.fields["content-length"]) == (200, "5")
            assert found.cache.startswith("here-1; hit; ttl=-")


@pytest.mark.parametrize("failing", [None, BUSY])
@pytest.mark.parametrize("line", ["X: y", "Cache-Control: no-store"])
async def test_where_another_variant_cannot_be_stored(failing: bytes | None, line: str) -> None:
    answers = [
        response(b"hello", ONCE, 'ETag: "1"', "Vary: A"),
        response(b"own", "Cache-Control: private", "Vary: A"),
        failing,
    ]

    async def handler(asked: Asked) -> bytes | None:
        return answers.pop(0)

    async with world(handler) as here:
        client = await here.client()
        await client.get("/")
        here.skew_s = LATER
        assert (await client.get("/", "A: b")).body == b"own"
        found = await client.get("/", line)
        assert (found.status, found.body) == (200, b"hello")
        assert found.cache.startswith("here-1; hit; ttl=-")


GONE = response(b"gone", status="404 Not Found")
OTHERS = [
    GONE,
    response(b"gone", status="403 Forbidden"),
    response(b"gone", "Cache-Control: private"),
    response(b"gone" * (1 << 19), "Cache-Control: max-age=60"),
    b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nConnection: close\r\n\r\n" + b"gone" * (1 << 19),
]


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("coding", ["identity", "gzip"])
async def test_not_where_the_origin_has_something_else_by_now(other: bytes, coding: str) -> None:
    terms = "Cache-Control: max-age=1, stale-while-revalidate=600, stale-if-error=600"
    now = [response(b"hello" * 999, terms, 'ETag: "1"', "Content-Type: text/plain")]

    async def handler(asked: Asked) -> bytes:
        asked.writer.write(now[0])
        if b"Connection: close" in now[0]:
            await asked.writer.drain()
            asked.writer.close()
        return b""

    async with world(handler) as here:
        client = await here.client()
        for _ in range(2):
            await client.get("/", f"Accept-Encoding: {coding}")
        here.skew_s, now[0] = LATER, other
        found = await client.get("/", f"Accept-Encoding: {coding}")
        assert found.status == 200 and found.cache.startswith("here-1; hit; ttl=-"), "asked for meanwhile"
        await until(lambda: not here.node.fills and not here.node.fetching.total)
        for line in (coding, "identity"):
            assert (await client.get("/", f"Accept-Encoding: {line}")).body[:4] == b"gone"
        now[0] = BUSY
        assert (await client.get("/")).status == 503


@pytest.mark.parametrize("status", ["429 Too Many Requests", "520 Web Server Returned an Unknown Error"])
async def test_where_the_origin_has_not_looked(status: str) -> None:
    terms = "Cache-Control: max-age=1, stale-while-revalidate=600"
    answers = [response(b"hello", terms, 'ETag: "1"')]

    async def handler(asked: Asked) -> bytes:
        return answers.pop(0) if answers else response(b"", status=status)

    async with world(handler) as here:
        client = await here.client()
        await client.get("/")
        here.skew_s = LATER
        for _ in range(2):
            assert (await client.get("/")).body == b"hello"
            await until(lambda: not here.node.fills)


async def test_not_where_it_must_not() -> None:
    answers = [response(b"hello", "Cache-Control: max-age=1, must-revalidate", 'ETag: "1"')]

    async def handler(asked: Asked) -> bytes:
        return answers.pop(0) if answers else BUSY

    async with world(handler) as here:
        client = await here.client()
        await client.get("/")
        here.skew_s = LATER
        for method in ("HEAD", "GET", "HEAD"):
            assert (await client.get("/", method=method)).status == 503


async def test_an_error_is_no_reason_to_fetch_for_each_client() -> None:
    answers = [BUSY, response(b"hello", "Cache-Control: max-age=60")]

    async def handler(asked: Asked) -> bytes:
        if len(answers) == 1:
            await all_wait.wait()
        return answers.pop(0)

    all_wait = asyncio.Event()
    async with world(handler) as here:
        clients = [await here.client() for _ in range(8)]
        assert (await clients[0].get("/")).status == 503
        asking = asyncio.gather(*(client.get("/") for client in clients))
        await until(lambda: here.node.waiting.total == len(clients))
        all_wait.set()
        found = await asking
        assert {one.body for one in found} == {b"hello"}
        assert len(here.origin.asked) == 2
