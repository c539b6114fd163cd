"""Fetches of one object under way together: what was asked for first never takes the place of what came later."""

import asyncio
import threading
from asyncio import Future

import pytest

from edge_world import Asked, Client, World, request, response, world
from nearmile.cache.purge import NEVER
from nearmile.edge.coder import PACK
from nearmile.edge.race import Racer, Races, overtake
from waiting import until

FRESH, NO_CACHE = "Cache-Control: max-age=60", "Cache-Control: no-cache"
GERMAN, FRENCH = ((b"accept-language", b"de"),), ((b"accept-language", b"fr"),)
LANGUAGE = (b"accept-language",)


def racer(races: Races, at_s: float, asked: tuple[tuple[bytes, bytes], ...] = (), key: bytes = b"k") -> Racer:
    made = Racer(races, key, asked, 7)
    made.enter()
    made.sent_at_s = at_s
    return made


def test_only_what_was_sent_before_is_overtaken() -> None:
    races: Races = {}
    first, second, third, other = (*(racer(races, float(n)) for n in range(3)), racer(races, 0.0, key=b"other"))
    second.overtake()
    assert [one.generation for one in (first, second, third, other)] == [NEVER, 7, 7, 7]
    first.sent_at_s = 3.0
    assert first.generation == 7, "it has asked somebody else since"
    for one in (first, second, third, other):
        one.leave()
    assert not races


def test_what_has_not_been_sent_is_not_overtaken() -> None:
    races: Races = {}
    unsent = Racer(races, b"k", (), 7)
    unsent.enter()
    racer(races, 1.0).overtake()
    assert unsent.generation == 7


@pytest.mark.parametrize(("vary", "late"), [((), True), (LANGUAGE, False), ((b"x",), True)])
def test_another_variant_is_not_overtaken(vary: tuple[bytes, ...], late: bool) -> None:
    races: Races = {}
    german = racer(races, 1.0, GERMAN)
    overtake(races, b"k", FRENCH, 2.0, vary)
    assert (german.generation == NEVER) is late


class Held:
    """An origin whose answers come when they are given, by the numbers of the questions."""

    def __init__(self) -> None:
        self.held: list[Future[bytes]] = []

    async def __call__(self, asked: Asked) -> bytes:
        self.held.append(asyncio.get_running_loop().create_future())
        return await self.held[-1]

    async def asked(self, times: int) -> None:
        await until(lambda: len(self.held) == times)

    def give(self, number: int, answer: bytes) -> None:
        self.held[number].set_result(answer)


async def ask_in_turn(here: World, origin: Held, *requests: bytes) -> list[Client]:
    """A client for each, of whom the origin has heard before the next one asks."""
    clients = []
    for data in requests:
        clients.append(await here.client())
        clients[-1].send(data)
        await origin.asked(len(origin.held) + 1)
    return clients


async def stored(here: World, origin: Held, *lines: str) -> None:
    """What the origin says first, which each client is to ask for anew."""
    (client,) = await ask_in_turn(here, origin, request("/"))
    origin.give(0, response(b"v0", *lines))
    await client.response()


CONFIRMED = b'HTTP/1.1 304 Not Modified\r\nETag: "0"\r\nCache-Control: max-age=60\r\n\r\n'


@pytest.mark.parametrize("late", [response(b"v1", FRESH), CONFIRMED], ids=["replaced", "confirmed"])
async def test_where_each_client_asks_for_itself(late: bytes) -> None:
    origin = Held()
    async with world(origin) as here:
        await stored(here, origin, NO_CACHE, 'ETag: "0"')
        one, other = await ask_in_turn(here, origin, request("/"), request("/"))
        origin.give(2, response(b"v2", FRESH, 'ETag: "2"'))
        assert (await other.response()).body == b"v2"
        origin.give(1, late)
        if late is CONFIRMED:
            await origin.asked(4)
            origin.give(3, response(b"v2", FRESH, 'ETag: "2"'))
        assert (await one.response()).body == (b"v2" if late is CONFIRMED else b"v1")
        again = await other.get("/")
        assert (again.body, again.cache) == (b"v2", "here-1; hit")


PART, PART_LINES = "206 Partial Content", (FRESH, "Content-Range: bytes 0-1/2")


@pytest.mark.parametrize("part_first", [False, True])
@pytest.mark.parametrize("tags", [("", ""), ('ETag: "1"', 'ETag: "2"'), ('ETag: W/"1"', 'ETag: W/"2"')])
async def test_where_a_part_and_the_whole_are_wanted(part_first: bool, tags: tuple[str, str]) -> None:
    origin = Held()
    async with world(origin) as here:
        asking = [request("/", "Range: bytes=0-1"), request("/")]
        statuses, lines = [PART, "200 OK"], [PART_LINES, (FRESH,)]
        if not part_first:
            for pair in (asking, statuses, lines):
                pair.reverse()
        one, other = await ask_in_turn(here, origin, *asking)
        for number, client in ((1, other), (0, one)):
            version, tag = b"v%d" % (number + 1), tags[number]
            origin.give(number, response(version, *lines[number], *filter(None, (tag,)), status=statuses[number]))
            assert (await client.response()).body == version
        again = await one.get("/", "Range: bytes=0-1")
        assert (again.body, again.cache) == (b"v2", "here-1; hit")


@pytest.mark.parametrize("tag", ['ETag: "1"', 'ETag: "2"'], ids=["same", "newer"])
async def test_a_part_takes_the_place_of_an_older_whole_alone(tag: str) -> None:
    origin = Held()
    async with world(origin) as here:
        one, other = await ask_in_turn(here, origin, request("/"), request("/", "Range: bytes=0-1"))
        origin.give(0, response(b"v1", FRESH, 'ETag: "1"'))
        await one.response()
        origin.give(1, response(b"v2", *PART_LINES, tag, status=PART))
        await other.response()
        again = await one.get("/", "Range: bytes=0-1")
        assert (again.body, again.cache) == (b"v2" if tag.endswith('"2"') else b"v1", "here-1; hit")


async def test_parts_of_one_version_are_joined_in_any_order() -> None:
    origin = Held()
    async with world(origin) as here:
        one, other = await ask_in_turn(
            here, origin, *(request("/", f"Range: bytes={number}-{number}") for number in range(2))
        )
        for number, client in ((1, other), (0, one)):
            placed = f"Content-Range: bytes {number}-{number}/2"
            origin.give(number, response(b"v1"[number:][:1], FRESH, 'ETag: "1"', placed, status=PART))
            await client.response()
        again = await one.get("/")
        assert (again.body, again.cache) == (b"v1", "here-1; hit")


@pytest.mark.parametrize("status", ["404 Not Found", "200 OK"])
async def test_what_is_not_stored_shows_what_is_old_too(status: str) -> None:
    origin = Held()
    async with world(origin) as here:
        await stored(here, origin, NO_CACHE, 'ETag: "0"')
        one, other = await ask_in_turn(here, origin, request("/"), request("/"))
        origin.give(2, response(b"own", "Cache-Control: private", status=status))
        assert (await other.response()).body == b"own"
        origin.give(1, response(b"v1", FRESH))
        assert (await one.response()).body == b"v1"
        assert len(here.node.store) == 0


async def test_a_failure_says_nothing_of_what_was_asked_before() -> None:
    origin = Held()
    async with world(origin) as here:
        await stored(here, origin, NO_CACHE, 'ETag: "0"')
        one, other = await ask_in_turn(here, origin, request("/"), request("/"))
        origin.give(2, response(b"busy", status="503 Service Unavailable"))
        assert (await other.response()).status == 503
        origin.give(1, response(b"v1", FRESH))
        await one.response()
        assert (await one.get("/")).cache == "here-1; hit"


def head(tag: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETag: {tag}\r\n{FRESH}\r\n\r\n".encode()


async def test_what_a_head_shows_to_be_old_is_not_stored_after_it() -> None:
    origin = Held()
    async with world(origin) as here:
        await stored(here, origin, NO_CACHE, 'ETag: "0"')
        one, other = await ask_in_turn(here, origin, request("/"), request("/", method="HEAD"))
        origin.give(2, head('"2"'))
        await other.response("HEAD")
        origin.give(1, response(b"v1", FRESH, 'ETag: "1"'))
        assert (await one.response()).body == b"v1"
        assert len(here.node.store) == 0


async def test_a_head_that_was_asked_first_says_nothing_of_what_came_meanwhile() -> None:
    origin = Held()
    async with world(origin) as here:
        one, other = await here.client(), await here.client()
        one.send(request("/", method="HEAD"))
        await origin.asked(1)
        here.skew_s = 1.0
        other.send(request("/"))
        await origin.asked(2)
        origin.give(1, response(b"v2", FRESH, 'ETag: "2"'))
        await other.response()
        origin.give(0, head('"1"'))
        await one.response("HEAD")
        again = await other.get("/")
        assert (again.body, again.cache) == (b"v2", "here-1; hit")


async def test_a_post_that_says_what_a_get_gets_does_not_replace_what_was_asked_for_after_it() -> None:
    origin = Held()
    async with world(origin) as here:
        one, other = await here.client(), await here.client()
        one.send(request("/", method="POST"))
        await origin.asked(1)
        answer = response(b"v1", FRESH, "Content-Location: /")
        origin.give(0, answer[:-1])
        await one.head()
        other.send(request("/"))
        await origin.asked(2)
        origin.give(1, response(b"v2", FRESH))
        await other.response()
        here.origin.asked[0].writer.write(answer[-1:])
        assert await one.reader.readexactly(2) == b"v1"
        assert (await other.get("/")).body == b"v2"


async def test_what_is_found_to_be_old_while_it_is_coded_is_not_stored_coded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(body: bytes) -> bytes:
        begun.set()
        go_on.wait()
        return body

    async def origin(asked: Asked) -> bytes:
        lines = FRESH, "Content-Type: text/html", f'ETag: "{len(here.origin.asked)}"'
        answer = response(b"hello" * 999, *lines)
        return answer[: -5 * 999] if asked.line.startswith("HEAD") else answer

    monkeypatch.setitem(PACK, b"gzip", slow)
    async with world(origin) as here:
        one, other = await here.client(), await here.client()
        await one.get("/")
        waiting = asyncio.ensure_future(one.get("/", "Accept-Encoding: gzip"))
        await until(begun.is_set)
        await other.get("/", NO_CACHE, method="HEAD")
        go_on.set()
        assert (await waiting).fields["etag"].startswith('"1')
        assert len(here.node.store) == 0


async def test_who_waits_gets_no_other_variant_where_the_origin_begins_to_vary_as_it_confirms() -> None:
    origin = Held()
    async with world(origin) as here:
        await stored(here, origin, "Cache-Control: max-age=1", 'ETag: "0"')
        here.skew_s = 5.0
        one, other = await here.client(), await here.client()
        one.send(request("/", "Accept-Language: de"))
        await origin.asked(2)
        other.send(request("/", "Accept-Language: fr"))
        await until(lambda: here.node.waiting.total == 2)
        origin.give(1, CONFIRMED.replace(b"ETag", b"Vary: Accept-Language\r\nETag"))
        assert (await one.response()).body == b"v0"
        await origin.asked(3)
        origin.give(2, response(b"fr", FRESH, "Vary: Accept-Language"))
        assert (await other.response()).body == b"fr"
