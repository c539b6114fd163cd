"""What is stored stands in for an origin that fails, whichever way the request took."""

import asyncio

import pytest

from edge_world import Asked, response, run, until, world

ONCE, LATER = "Cache-Control: max-age=1", 5.0
BUSY = response(b"busy", status="503 Service Unavailable")


@pytest.mark.parametrize("failing", [None, BUSY])
def test_for_a_head(failing: bytes | None) -> None:
    answers = [response(b"hello", ONCE, 'ETag: "1"'), failing, failing]

    async def handler(asked: Asked) -> bytes | None:
        return answers.pop(0)

    async def test() -> None:
        async with world(handler) as here:
            client = await here.client()
            await client.get("/")
            here.skew_s = LATER
            for method in ("HEAD", "GET"):
                found = await client.get("/", method=method)
                assert (found.status, found.fields["content-length"]) == (200, "5")
                assert found.cache.startswith("here-1; hit; ttl=-")

    run(test())


@pytest.mark.parametrize("failing", [None, BUSY])
@pytest.mark.parametrize("line", ["X: y", "Cache-Control: no-store"])
def test_after_an_answer_for_one_client_alone(failing: bytes | None, line: str) -> None:
    answers = [response(b"hello", ONCE, 'ETag: "1"'), response(b"no", status="403 Forbidden"), failing]

    async def handler(asked: Asked) -> bytes | None:
        return answers.pop(0)

    async def test() -> None:
        async with world(handler) as here:
            client = await here.client()
            await client.get("/")
            here.skew_s = LATER
            assert (await client.get("/")).status == 403
            found = await client.get("/", line)
            assert (found.status, found.body) == (200, b"hello")
            assert found.cache.startswith("here-1; hit; ttl=-")

    run(test())


def test_not_where_it_must_not() -> None:
    answers = [response(b"hello", "Cache-Control: max-age=1, must-revalidate", 'ETag: "1"')]

    async def handler(asked: Asked) -> bytes:
        return answers.pop(0) if answers else BUSY

    async def test() -> None:
        async with world(handler) as here:
            client = await here.client()
            await client.get("/")
            here.skew_s = LATER
            for method in ("HEAD", "GET", "HEAD"):
                assert (await client.get("/", method=method)).status == 503

    run(test())


def test_an_error_is_no_reason_to_fetch_for_each_client() -> None:
    answers = [BUSY, response(b"hello", "Cache-Control: max-age=60")]

    async def handler(asked: Asked) -> bytes:
        if len(answers) == 1:
            await all_wait.wait()
        return answers.pop(0)

    async def test() -> None:
        async with world(handler) as here:
            clients = [await here.client() for _ in range(8)]
            assert (await clients[0].get("/")).status == 503
            asking = asyncio.gather(*(client.get("/") for client in clients))
            await until(lambda: here.node.waiting.total == len(clients))
            all_wait.set()
            found = await asking
            assert {one.body for one in found} == {b"hello"}
            assert len(here.origin.asked) == 2

    all_wait = asyncio.Event()
    run(test())
