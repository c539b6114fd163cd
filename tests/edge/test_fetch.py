"""A miss that finds an idle connection to its origin: whatever comes on it, clients get what they would anyway."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from edge_world import Asked, Client, Response, World, request, response, run, world
from nearmile.edge.fetch import Fetch
from nearmile.edge.limits import FIRST_BYTE_TIMEOUT_S
from waiting import until

FRESH = "Cache-Control: max-age=100"
NO_STORE = "Cache-Control: no-store"
Come = Callable[[Asked], Awaitable[bytes | None]]


async def whole(_asked: Asked) -> bytes:
    return response(b"body", FRESH)


async def in_parts(asked: Asked) -> bytes:
    answer = response(b"body", FRESH)
    for at in range(len(answer) - 1):
        asked.writer.write(answer[at : at + 1])
        await asked.writer.drain()
        if at % 20 == 0:
            await asyncio.sleep(0.001)
    return answer[-1:]


async def head_first(asked: Asked) -> bytes:
    asked.writer.write(response(b"body", FRESH)[:-4])
    await asyncio.sleep(0.01)
    return b"body"


async def hinted(_asked: Asked) -> bytes:
    return b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + response(b"body", FRESH)


async def chunked(_asked: Asked) -> bytes:
    return f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{FRESH}\r\n\r\n4\r\nbody\r\n0\r\n\r\n".encode()


async def to_the_end(asked: Asked) -> None:
    asked.writer.write(f"HTTP/1.1 200 OK\r\n{FRESH}\r\n\r\nbody".encode())


async def spoiled(_asked: Asked) -> bytes:
    return response(b"body", FRESH) + response(b"poison", FRESH)


async def own(_asked: Asked) -> bytes:
    return response(b"body", NO_STORE)


async def missing(_asked: Asked) -> bytes:
    return response(b"body", FRESH, status="404 Not Found")


async def empty(_asked: Asked) -> bytes:
    return response(b"", FRESH)


async def large(_asked: Asked) -> bytes:
    return response(bytes(2 << 20), FRESH)


async def short(asked: Asked) -> None:
    asked.writer.write(response(b"body", FRESH)[:-1])


async def nonsense(_asked: Asked) -> bytes:
    return b"HTTP/1.1 OK\r\n\r\n"


async def on_kept(come: Come, then: Callable[[World, Client], Awaitable[None]], **rules: Any) -> None:
    """``then`` on a server with an idle connection to an origin that answers with ``come``."""

    async def handler(asked: Asked) -> bytes | None:
        return response(b"first", FRESH) if "/first" in asked.line else await come(asked)

    async with world(handler, rules=rules or None) as here:
        client = await here.client()
        assert (await client.get("/first")).body == b"first"
        await then(here, client)


@pytest.mark.parametrize(
    ("come", "status", "body", "stored"),
    [
        (whole, 200, b"body", True),
        (in_parts, 200, b"body", True),
        (head_first, 200, b"body", True),
        (chunked, 200, b"body", True),
        (to_the_end, 200, b"body", True),
        (spoiled, 200, b"body", True),
        (own, 200, b"body", False),
        (missing, 404, b"body", True),
        (empty, 200, b"", True),
        (large, 200, bytes(2 << 20), False),
        (nonsense, 502, None, False),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_whatever_comes(come: Come, status: int, body: bytes | None, stored: bool) -> None:
    async def then(here: World, client: Client) -> None:
        found = await client.get("/a")
        assert found.status == status and body in (found.body, None)
        again = await client.get("/a")
        assert again.status == status and body in (again.body, None)
        assert again.cache.endswith("; hit") == stored
        await until(lambda: here.node.fetching.total == here.node.waiting.total == 0)
        assert not here.node.fills
        assert all(pool.requests == 0 for pool in here.node.origins._pools.values())

    run(on_kept(come, then))


def test_hints_come_before_what_was_asked_at_once() -> None:
    async def then(_here: World, client: Client) -> None:
        client.send(request("/a"))
        assert (await client.head())[0] == 103
        assert (await client.response()).body == b"body"

    run(on_kept(hinted, then))


def test_what_breaks_off_is_not_whole() -> None:
    async def then(here: World, client: Client) -> None:
        client.send(request("/a"))
        assert (await client.ended()).endswith(b"\r\n\r\nbod")
        assert len(here.node.store) == 1 and not here.node.fills

    run(on_kept(short, then))


def test_a_connection_that_ends_as_it_is_asked_is_replaced() -> None:
    times = 0

    async def once(asked: Asked) -> bytes | None:
        nonlocal times
        times += 1
        return await whole(asked) if times > 1 else None

    async def then(here: World, client: Client) -> None:
        assert (await client.get("/a")).body == b"body"
        assert times == 2 and here.origin.connections == 2

    run(on_kept(once, then))


def test_a_silent_origin_is_given_up() -> None:
    async def silent(asked: Asked) -> None:
        await asked.reader.read()

    async def then(here: World, client: Client) -> None:
        client.send(request("/a"))
        await until(lambda: len(here.origin.asked) == 2)
        here.node.origins.sweep(asyncio.get_running_loop().time() + FIRST_BYTE_TIMEOUT_S)
        assert (await client.response()).status == 504

    run(on_kept(silent, then))


def test_one_question_for_all_and_a_purge_meanwhile() -> None:
    go = asyncio.Event()

    async def late(_asked: Asked) -> bytes:
        await go.wait()
        return response(b"body", FRESH)

    async def then(here: World, client: Client) -> None:
        clients = [client, *[await here.client() for _ in range(9)]]
        for one in clients:
            one.send(request("/a"))
        await until(lambda: here.node.waiting.total == len(clients))
        here.purge(b"/a")
        go.set()
        found: list[Response] = [await one.response() for one in clients]
        assert {one.body for one in found} == {b"body"} and len(here.origin.asked) == 2
        assert not (await client.get("/a")).cache.endswith("hit")
        assert (await client.get("/a")).cache.endswith("hit")

    run(on_kept(late, then))


def test_the_commonest_takes_no_coroutine(monkeypatch: pytest.MonkeyPatch) -> None:
    async def then(_here: World, client: Client) -> None:
        monkeypatch.setattr(Fetch, "_run", None)
        assert (await client.get("/a")).body == b"body"

    run(on_kept(whole, then))
