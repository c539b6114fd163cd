"""Who may wait for another's answer: only who could have had it from the store (RFC 9111 section 4)."""

import asyncio

import pytest

from edge_world import Asked, response, world
from waiting import until

OWN = ["no-cache", "max-age=0", "max-age=0, must-revalidate", "public, max-age=0", ""]
ALL = ["max-age=60", "max-age=0, stale-while-revalidate=9"]


@pytest.mark.parametrize(("terms", "shared"), [(one, False) for one in OWN] + [(one, True) for one in ALL])
async def test_a_page_that_each_must_ask_for_goes_to_nobody_else(terms: str, shared: bool) -> None:
    go = asyncio.Event()

    async def handler(asked: Asked) -> bytes:
        await go.wait()
        user = asked.fields["cookie"]
        lines = f'ETag: "{user}"', f"Cache-Control: {terms}" if terms else "X: y"
        if asked.fields.get("if-none-match") == f'"{user}"':
            return response(b"", *lines, status="304 Not Modified")
        return response(user.encode(), *lines)

    async with world(handler) as here:
        clients = [await here.client() for _ in range(3)]
        for turn in range(3):  # first stored, then confirmed for one, and not for the others
            go.clear()
            asking = [
                asyncio.ensure_future(client.get("/", f"Cookie: {number}"))
                for number, client in enumerate(clients)
            ]
            if not (shared and turn):
                await until(lambda: here.node.waiting.total == 3)
            go.set()
            bodies = [one.body for one in await asyncio.gather(*asking)]
            assert bodies == ([b"0"] * 3 if shared else [b"0", b"1", b"2"])


async def test_a_page_that_each_must_ask_for_is_not_had_by_wishing() -> None:
    async def handler(asked: Asked) -> bytes:
        return response(asked.fields["cookie"].encode(), f'ETag: "{asked.fields["cookie"]}"')

    async with world(handler) as here:
        client = await here.client()
        for user in (b"mine", b"yours"):
            found = await client.get("/", f"Cookie: {user.decode()}", "Cache-Control: max-stale")
            assert found.body == user


async def test_a_page_that_each_must_ask_for_stands_in_for_none() -> None:
    up = [True]

    async def handler(asked: Asked) -> bytes | None:
        return response(asked.fields["cookie"].encode(), 'ETag: "1"') if up[0] else None

    async with world(handler) as here:
        client = await here.client()
        assert (await client.get("/", "Cookie: mine")).body == b"mine"
        up[0] = False
        assert (await client.get("/", "Cookie: yours")).status == 502


async def test_who_waited_for_a_confirmation_is_told() -> None:
    go = asyncio.Event()

    async def handler(asked: Asked) -> bytes:
        if "if-none-match" not in asked.fields:
            return response(b"hello", "Cache-Control: max-age=1", 'ETag: "1"')
        await go.wait()
        return response(b"", "Cache-Control: max-age=1", 'ETag: "1"', status="304 Not Modified")

    async with world(handler) as here:
        clients = [await here.client() for _ in range(2)]
        await clients[0].get("/")
        here.skew_s = 5.0
        asking = asyncio.gather(*(client.get("/") for client in clients))
        await until(lambda: here.node.waiting.total == 2)
        go.set()
        told = sorted(found.cache for found in await asking)
        assert told == [f"here-1; fwd=stale; fwd-status=304{more}" for more in ("", "; collapsed")]
