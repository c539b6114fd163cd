"""What passes by the store and still changes it, and what reaches one client alone."""

import asyncio

import pytest

from edge_world import Asked, Client, request, response, world
from waiting import until

FRESH, TAG = "Cache-Control: max-age=60", 'ETag: "1"'


async def test_the_answer_to_a_head_renews_what_is_stored() -> None:
    async def origin(asked: Asked) -> bytes:
        answer = response(b"12345", FRESH, TAG, f"X: {len(here.origin.asked)}")
        return answer.removesuffix(b"12345") if asked.line.startswith("HEAD") else answer

    async with world(origin) as here:
        client = await here.client()
        await client.get("/a")
        here.skew_s = 61
        assert (await client.get("/a", method="HEAD")).fields["x"] == "2"
        got = await client.get("/a")
        assert (got.body, got.fields["x"], got.cache) == (b"12345", "2", "here-1; hit")
        assert len(here.origin.asked) == 2


async def test_the_answer_to_a_head_without_validators_renews_nothing() -> None:
    async def origin(asked: Asked) -> bytes:
        answer = response(b"%05d" % len(asked_so_far), FRESH)
        asked_so_far.append(asked)
        return answer[:-5] if asked.line.startswith("HEAD") else answer

    asked_so_far: list[Asked] = []
    async with world(origin) as here:
        client = await here.client()
        assert (await client.get("/a")).body == b"00000"
        here.skew_s = 61
        await client.get("/a", method="HEAD")
        assert (await client.get("/a")).body == b"00002"


async def test_the_answer_to_a_head_may_show_that_what_is_stored_is_old() -> None:
    async def origin(asked: Asked) -> bytes:
        if asked.line.startswith("HEAD"):
            return b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: "2"\r\n\r\n'
        return response(b"12345", FRESH, TAG)

    async with world(origin) as here:
        client = await here.client()
        await client.get("/a")
        await client.get("/a", "Cache-Control: no-cache", method="HEAD")
        assert (await client.get("/a")).cache == "here-1; fwd=uri-miss; stored"


@pytest.mark.parametrize(("place", "cached"), [("/a", True), ("/b", False)])
async def test_a_post_may_be_what_a_get_gets(place: str, cached: bool) -> None:
    async def origin(asked: Asked) -> bytes:
        await asked.body()
        return response(b"posted", FRESH, f"Content-Location: {place}")

    async with world(origin) as here:
        client = await here.client()
        client.send(request("/a", "Content-Length: 2", method="POST") + b"ab")
        assert (await client.response()).body == b"posted"
        assert ((await client.get("/a")).cache == "here-1; hit") is cached
        assert here.node.filling_bytes == 0


async def test_a_post_that_was_overtaken_by_a_purge_is_not_stored() -> None:
    go = asyncio.Event()

    async def origin(asked: Asked) -> bytes:
        if asked.line.startswith("POST"):
            await go.wait()
        return response(b"x", FRESH, "Content-Location: /a")

    async with world(origin) as here:
        client = await here.client()
        client.send(request("/a", method="POST"))
        await until(lambda: len(here.origin.asked) == 1)
        here.purge(b"/a")
        go.set()
        await client.response()
        assert (await client.get("/a")).cache == "here-1; fwd=uri-miss; stored"


HINT = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nConnection: x\r\nX: 1\r\n\r\n"


async def hinting(asked: Asked) -> bytes:
    return b"HTTP/1.1 100 Continue\r\n\r\n" + HINT + response(b"hello", FRESH)


@pytest.mark.parametrize("method", ["GET", "OPTIONS"], ids=["fetched-for-all", "passed"])
async def test_hints_reach_the_client_that_made_the_edge_ask(method: str) -> None:
    async with world(hinting) as here:
        client = await here.client()
        client.send(request("/a", method=method))
        assert await client.head() == (103, {"link": "</a.css>"})
        assert (await client.response()).body == b"hello"
        if method == "GET":
            assert (await client.get("/a")).cache == "here-1; hit"


async def test_hints_come_before_the_answer_and_to_nobody_who_waits_along() -> None:
    go = asyncio.Event()

    async def slow(asked: Asked) -> bytes:
        asked.writer.write(HINT)
        await go.wait()
        return response(b"hello", FRESH)

    async with world(slow) as here:
        one, other = await here.client(), await here.client()
        one.send(request("/a"))
        assert (await one.head())[0] == 103
        other.send(request("/a"))
        (fill,) = here.node.fills.values()
        await until(lambda: len(fill._readers) == 2)
        go.set()
        assert (await other.head())[0] == (await one.head())[0] == 200
        assert len(here.origin.asked) == 1


async def test_an_old_client_gets_no_hints() -> None:
    async with world(hinting) as here:
        client = await here.client()
        client.send(b"GET /a HTTP/1.0\r\nHost: www.test.example\r\n\r\n")
        assert (await client.ended()).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("directive", ["private", "no-cache"])
async def test_fields_for_one_client_reach_that_one(directive: str) -> None:
    async def origin(asked: Asked) -> bytes:
        return response(b"hello", f'Cache-Control: max-age=60, {directive}="set-cookie"', "Set-Cookie: a=1")

    async def cookie(client: Client) -> str | None:
        return (await client.get("/a")).fields.get("set-cookie")

    async with world(origin) as here:
        client = await here.client()
        assert [await cookie(client), await cookie(client)] == ["a=1", None]
