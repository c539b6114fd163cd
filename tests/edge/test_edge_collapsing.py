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


@pytest.mark.parametrize(
    ("terms", "wish", "shared"),
    [
        ("max-age=2", "Accept: */*", True),
        ("max-age=2", "Cache-Control: max-age=9", True),
        ("s-maxage=2", "Accept: */*", False),
        ("max-age=2, must-revalidate", "Accept: */*", False),
        ("max-age=1, stale-while-revalidate=1", "Accept: */*", True),
        ("max-age=2", "Cache-Control: max-age=4", False),
        ("max-age=2", "Cache-Control: no-cache", False),
        ("max-age=2", "Cache-Control: min-fresh=1", False),
        ("private, max-age=2", "Accept: */*", False),
        ("no-store, max-age=2", "Accept: */*", False),
        *((terms, "Accept: */*", False) for terms in OWN),
    ],
)
@pytest.mark.parametrize("known", [False, True])
async def test_what_comes_later_than_it_is_fresh_is_for_all_who_waited(
    terms: str, wish: str, shared: bool, known: bool
) -> None:
    """Else an origin that is slow would be asked by each of them, and be slower."""
    go, slow = asyncio.Event(), [not known]

    async def handler(asked: Asked) -> bytes:
        if not slow[0]:
            return response(b"old", "Cache-Control: max-age=1", 'ETag: "1"')
        number = len(here.origin.asked)
        await go.wait()
        validator = 'ETag: "2"' if known else "X: y"
        return response(b"%d" % number, f"Cache-Control: {terms}" if terms else "X: y", validator)

    async with world(handler) as here:
        clients = [await here.client() for _ in range(4)]
        if known:
            await clients[0].get("/")
            here.skew_s, slow[0] = 3.0, True
        asked = len(here.origin.asked)
        asking = [asyncio.ensure_future(client.get("/", wish)) for client in clients]
        await until(lambda: here.node.waiting.total == 4)
        here.skew_s += 5.0
        go.set()
        found = await asyncio.gather(*asking)
        assert len({one.body for one in found}) == len(here.origin.asked) - asked == (1 if shared else 4)
        if shared:
            assert {one.fields["age"] for one in found} == {"5"}
            await clients[0].get("/")
            assert len(here.origin.asked) == asked + 2, "who comes after it is not one of them"


async def test_who_comes_while_what_is_stale_still_comes_shares_the_next() -> None:
    go = asyncio.Event()

    async def handler(asked: Asked) -> bytes:
        head = response(b"%d" % len(here.origin.asked), "Cache-Control: max-age=2")
        asked.writer.write(head[:-1])
        await go.wait()
        return head[-1:]

    async with world(handler) as here:
        first, *others = [await here.client() for _ in range(4)]
        asking = [asyncio.ensure_future(first.get("/"))]
        await until(lambda: any(fill.head is not None for fill in here.node.fills.values()))
        here.skew_s = 5.0
        asking += [asyncio.ensure_future(client.get("/")) for client in others]
        await until(lambda: here.node.waiting.total == 4)
        go.set()
        assert [one.body for one in await asyncio.gather(*asking)] == [b"1", b"2", b"2", b"2"]


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
