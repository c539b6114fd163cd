"""What servers of a region tell each other of what they store."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from edge_world import ADDRESSES, HOST, Asked, Client, Handler, World, config, request, response, world
from nearmile.cache.purge import Order, Position
from nearmile.edge.visitors import Hop
from waiting import until

FRESH, TAG = "Cache-Control: max-age=60", 'ETag: "1"'
BUSY = response(b"busy", status="503 Service Unavailable")


def owned_by_another(here: World) -> str:
    """A target that the first server asks the second for."""
    node, site = here.node, here.node.sites[HOST.encode()]
    targets = (f"/{number}" for number in range(99))
    return next(
        target for target in targets if list(node.servers_before(site, site.prefix + target.encode(), Hop.CLIENT))
    )


@asynccontextmanager
async def beside_owner(
    handler: Handler, rules: dict[str, Any] | None = None
) -> AsyncIterator[tuple[World, str, Client, Client]]:
    """Two servers, a target that the second owns, and a client of each."""
    async with world(handler, servers=2, rules=rules) as here:
        here.tell_map()
        yield here, owned_by_another(here), await here.client(0), await here.client(1)


def in_turn(answers: list[bytes]) -> Handler:
    """An origin that gives these, one after the other."""

    async def handler(asked: Asked) -> bytes:
        return answers.pop(0)

    return handler


async def test_a_304_of_the_origin_changes_fields_at_all_servers() -> None:
    policies = ["one"]

    async def handler(asked: Asked) -> bytes:
        lines = "Cache-Control: max-age=60", 'ETag: "1"', f"Content-Security-Policy: {policies[-1]}"
        known = "if-none-match" in asked.fields
        return response(b"", *lines, status="304 Not Modified") if known else response(b"hello", *lines)

    async with world(handler, servers=2) as here:
        here.tell_map()
        clients = [await here.client(0), await here.client(1)]
        for policy in ("one", "two"):
            policies.append(policy)
            for client in clients:
                found = await client.get("/a")
                assert (found.body, found.fields["content-security-policy"]) == (b"hello", policy)
            here.skew_s += 61
        assert ["if-none-match" in asked.fields for asked in here.origin.asked] == [False, True]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_a_change_that_passes_by_a_server_is_seen_there_at_once(method: str) -> None:
    versions = [0]

    async def handler(asked: Asked) -> bytes:
        if asked.line.startswith(method):
            versions[0] += 1
            return response(b"done")
        return response(b"%d" % versions[0], "Cache-Control: max-age=60", f'ETag: "{versions[0]}"')

    async with beside_owner(handler) as (_here, theirs, client, other):
        for version in range(3):
            assert (await client.get(theirs)).body == b"%d" % version
            assert (await other.get(theirs)).body == b"%d" % version, "the owner knows by then"
            await client.get(theirs, "Content-Length: 0", method=method)


@pytest.mark.parametrize("known", [False, True], ids=["new-to-it", "to-be-renewed"])
async def test_what_stands_in_at_the_owner_is_not_fresh_elsewhere(known: bool) -> None:
    answers = [response(b"old", FRESH, TAG), BUSY, BUSY, response(b"new", FRESH, 'ETag: "2"')]
    async with beside_owner(in_turn(answers)) as (here, theirs, client, owner):
        await (client if known else owner).get(theirs)
        order = Order("o", here.node.sites[HOST.encode()].serial, "url", (theirs,), soft=True)
        for server in here.servers:
            server.node.purge(order, Position("log", 1))
        for _ in range(2):
            assert (await client.get(theirs)).body == b"old"
        assert (await client.get(theirs)).body == b"new", "asked for again, though the first is 60 s fresh"


async def test_what_a_request_has_changed_is_not_taken_from_an_owner_that_cannot_ask() -> None:
    answers = [response(b"old", FRESH, TAG), response(b"done"), *[BUSY] * 2, response(b"new", FRESH, 'ETag: "2"')]
    async with beside_owner(in_turn(answers)) as (_here, theirs, client, owner):
        await owner.get(theirs)
        await client.get(theirs, "Content-Length: 0", method="POST")
        assert (await client.get(theirs)).status == 503
        assert (await client.get(theirs)).body == b"new"


async def test_how_stale_a_client_takes_it_is_between_it_and_its_server() -> None:
    answers = [response(b"old", FRESH, TAG), response(b"new", FRESH, 'ETag: "2"')]
    async with beside_owner(in_turn(answers)) as (here, theirs, client, owner):
        await owner.get(theirs)
        here.skew_s = 61
        assert (await client.get(theirs, "Cache-Control: max-stale=60")).body == b"new"
        assert (await client.get(theirs)).cache.endswith("here-1; hit")


async def test_what_a_head_shows_to_have_changed_is_not_taken_from_the_owner_unasked() -> None:
    version = [1]

    async def handler(asked: Asked) -> bytes:
        answer = response(b"%d" % version[0], FRESH, f'ETag: "{version[0]}"')
        return answer[:-1] if asked.line.startswith("HEAD") else answer

    async with world(handler, servers=2) as here:
        here.tell_map()
        theirs, client = owned_by_another(here), await here.client(0)
        assert (await client.get(theirs)).body == b"1"
        version[0] = 2
        await client.get(theirs, "Cache-Control: no-cache", method="HEAD")
        assert (await client.get(theirs)).body == b"2"


async def test_what_a_request_has_changed_is_not_what_the_owner_began_to_fetch_before() -> None:
    version, go = [1], asyncio.Event()

    async def handler(asked: Asked) -> bytes:
        if asked.line.startswith("POST"):
            version[0] = 2
            return response(b"done")
        body = b"%d" % version[0]
        if body == b"1":
            await go.wait()
        return response(body, FRESH)

    async with beside_owner(handler) as (here, theirs, client, owner):
        slow = asyncio.ensure_future(owner.get(theirs))
        await until(lambda: len(here.origin.asked) == 1)
        await client.get(theirs, "Content-Length: 0", method="POST")
        assert (await client.get(theirs)).body == b"2"
        go.set()
        assert (await slow).body == b"1"
        assert (await owner.get(theirs)).body == b"2", "the owner keeps what was asked for last"


@pytest.mark.parametrize("known", [False, True], ids=["new-to-it", "to-be-renewed"])
async def test_an_owner_that_has_too_much_to_do_is_passed_over(known: bool) -> None:
    go = asyncio.Event()

    async def handler(asked: Asked) -> bytes:
        if "/slow" in asked.line:
            await go.wait()
        return response(b"hello", "Cache-Control: max-age=1")

    async with beside_owner(handler, {"upstream": {"requests_max": 1}}) as (here, theirs, client, owner):
        owners = here.servers[1].node
        if known:
            await client.get(theirs)
            here.skew_s = 5.0
            owners.store.purge_all()
        owner.send(request("/slow?1", "Cache-Control: no-store"))
        (await here.client(1)).send(request("/slow?2", "Cache-Control: no-store"))
        await until(lambda: owners.waiting.total == 2)
        found = await client.get(theirs)
        assert (found.status, found.body, "here-2" in found.cache) == (200, b"hello", False)
        assert (await (await here.client(1)).get(theirs)).status == 503, "as its own clients are told"
        go.set()


@pytest.mark.parametrize("failing", [None, BUSY])
async def test_an_origin_that_fails_is_not_asked_again_by_all_who_ask_its_owner(failing: bytes | None) -> None:
    async def handler(asked: Asked) -> bytes | None:
        return failing

    async with beside_owner(handler) as (here, theirs, client, _owner):
        assert (await client.get(theirs)).status == (503 if failing else 502)
        assert len(here.origin.asked) == 1


@pytest.mark.parametrize("tag", [TAG, "X: y"], ids=["tagged", "without-validator"])
@pytest.mark.parametrize("known", [False, True], ids=["new-to-it", "to-be-renewed"])
async def test_what_stands_in_at_the_owner_is_for_all_who_wait_for_it(known: bool, tag: str) -> None:
    go, up = asyncio.Event(), [True]

    async def handler(asked: Asked) -> bytes:
        if up[0]:
            return response(b"old", "Cache-Control: max-age=1", tag)
        await go.wait()
        return BUSY

    async with beside_owner(handler) as (here, theirs, client, owner):
        await (client if known else owner).get(theirs)
        here.skew_s, up[0] = 5.0, False
        clients = [client, *[await here.client(0) for _ in range(4)]]
        asking = asyncio.gather(*(one.get(theirs) for one in clients))
        await until(lambda: here.node.waiting.total == len(clients))
        go.set()
        assert {one.body for one in await asking} == {b"old"}
        assert (await client.get(theirs)).cache.count("here-2") == 1, "its answers are worth waiting for"
        assert len(here.origin.asked) == 3


async def test_what_comes_late_is_for_all_who_wait_at_the_owner_and_at_who_asks_it() -> None:
    """Though its age grows by the time that it took at each of them."""
    go = asyncio.Event()

    async def handler(asked: Asked) -> bytes:
        number = len(here.origin.asked)
        await go.wait()
        return response(b"%d" % number, "Cache-Control: max-age=2")

    async with beside_owner(handler) as (here, theirs, client, owner):
        clients = [client, owner, *[await here.client(number) for number in (0, 0, 1, 1)]]
        asking = asyncio.gather(*(one.get(theirs) for one in clients))
        await until(lambda: [server.node.waiting.total for server in here.servers] == [3, 4])
        here.skew_s = 5.0
        go.set()
        assert {one.body for one in await asking} == {b"1"}
        assert len(here.origin.asked) == 1


async def test_a_server_that_is_to_end_asks_the_origin_itself() -> None:
    """To others it is a client now, whom a site may not serve at all."""
    rules = {"access": {"deny_addresses": [ADDRESSES[0]]}}
    async with beside_owner(in_turn([response(b"hello", FRESH)]), rules) as (here, target, client, _):
        for server in here.servers:
            server.node.take_config(config(rules=rules, regions={"here": ADDRESSES[1:]}))
        found = await client.get(target)
        assert (found.status, found.body) == (200, b"hello")


async def test_an_owner_with_an_older_version_than_is_stored_is_not_believed() -> None:
    answers = [
        response(b"1", FRESH, TAG),
        response(b"2", "Cache-Control: max-age=1", 'ETag: "2"'),
        response(b"3", FRESH, 'ETag: "3"'),
    ]
    async with beside_owner(in_turn(answers)) as (here, theirs, client, owner):
        order = Order("o", here.node.sites[HOST.encode()].serial, "url", ("/other",))
        assert (await owner.get(theirs)).body == b"1"
        here.skew_s = 10.0
        here.node.purge(order, Position("log", 1))
        assert (await client.get(theirs)).body == b"2", "the owner does not know the order yet"
        here.servers[1].node.purge(order, Position("log", 1))
        here.skew_s = 15.0
        assert (await client.get(theirs)).body == b"3"


async def test_ages_that_are_rounded_make_no_answer_an_older_one() -> None:
    """Two servers away, a response seems to be younger by up to two seconds than it is."""

    async def handler(asked: Asked) -> bytes:
        return response(b"x", "Cache-Control: max-age=10, stale-while-revalidate=20")

    async with beside_owner(handler) as (here, theirs, client, owner):
        begun_s = 1 - here.node.now_s() % 1  # a whole second, for the sake of Date
        for after_s in (0.0, 0.8, 12.0, 12.1):
            here.skew_s = begun_s + after_s
            assert (await (client if after_s else owner).get(theirs)).body == b"x"
            await until(lambda: not here.node.fills)
        assert not any("here-1" in asked.fields["via"].split(",")[-1] for asked in here.origin.asked)


async def test_what_was_asked_for_before_a_change_does_not_make_it_forgotten() -> None:
    go = asyncio.Event()
    answers = [
        response(b"1", "Cache-Control: max-age=1", TAG),
        BUSY,
        response(b"done"),
        response(b"2", "Cache-Control: max-age=1"),
        response(b"", FRESH, TAG, status="304 Not Modified"),
        response(b"3", FRESH, 'ETag: "3"'),
    ]

    async def handler(asked: Asked) -> bytes:
        answer = answers.pop(0)
        if answer is BUSY:
            await go.wait()
        return answer

    async with beside_owner(handler) as (here, theirs, client, owner):
        await owner.get(theirs)
        here.skew_s = 5.0
        slow = asyncio.ensure_future(client.get(theirs))
        await until(lambda: len(here.origin.asked) == 2)
        await (await here.client(0)).get(theirs, "Content-Length: 0", method="POST")
        go.set()
        assert (await slow).body == b"2", "what stands in at the owner may be of before"
        assert (await owner.get(theirs)).body == b"1"
        here.skew_s = 7.0
        assert (await client.get(theirs)).body == b"3"
