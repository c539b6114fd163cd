"""Purges of real edge servers: what is on its way, what neighbours answer, what is stale but may be served."""

import asyncio

from edge_world import HOST, Asked, World, request, response, world
from nearmile.cache.purge import Kind, Order, Position
from nearmile.edge.node import Node
from nearmile.edge.visitors import Hop
from waiting import until

FRESH = "Cache-Control: max-age=60"


class Versions:
    """An origin whose every answer is newer."""

    def __init__(self, *lines: str) -> None:
        self.lines, self.asked, self.fails = lines, 0, False

    async def __call__(self, asked: Asked) -> bytes:
        if self.fails:
            return response(b"", status="503 Service Unavailable")
        self.asked += 1
        return response(b"v%d" % self.asked, *self.lines)


def serial(node: Node) -> int:
    return node.sites[HOST.encode()].serial


def purge(node: Node, seq: int, kind: Kind, *values: str, soft: bool = False) -> int:
    return node.purge(Order("id", serial(node), kind, values, soft), Position("log", seq))


def roles(here: World, target: bytes) -> tuple[int, int]:
    """The indices of the server that asks for an object, and of the one that owns it."""
    here.tell_map()
    node = here.node
    site = node.sites[HOST.encode()]
    return (0, 1) if list(node.servers_before(site, site.prefix + target, Hop.CLIENT)) else (1, 0)


async def test_neighbours_know_the_tags_and_clients_do_not() -> None:
    async with world(Versions(FRESH, "Surrogate-Key: red  blue"), servers=2) as here:
        asker, _ = roles(here, b"/a")
        client = await here.client(asker)
        first = await client.get("/a")
        assert (first.body, "surrogate-key" in first.fields) == (b"v1", False)
        assert (await client.get("/a")).cache.endswith(f", here-{asker + 1}; hit")
        nodes = [server.node for server in here.servers]
        for node in nodes:
            (entry,) = node.store
            assert entry.kept.tags == (b"blue", b"red") and b"surrogate" not in entry.head
            purge(node, 1, "tag", "red")
        assert (await client.get("/a")).body == b"v2"
        # Now the neighbour's answer comes from its store, and says where it had come to.
        nodes[asker].purge_key(nodes[asker].sites[HOST.encode()].prefix + b"/a")
        again = await client.get("/a")
        assert (again.body, "nearmile-applied" in again.fields) == (b"v2", False)
        (entry,) = nodes[asker].store
        assert entry.kept.tags == (b"blue", b"red")


async def test_the_answer_of_a_neighbour_that_is_behind_is_not_used() -> None:
    async with world(Versions(FRESH), servers=2) as here:
        asker, owner = roles(here, b"/a")
        nodes = [server.node for server in here.servers]
        client = await here.client(asker)
        assert (await client.get("/a")).body == b"v1"
        purge(nodes[asker], 2, "url", "/a")
        assert (await client.get("/a")).body == b"v2", "the owner still has the old one, and says nothing"
        purge(nodes[asker], 3, "all")
        nodes[owner].position = Position("log", 2)
        assert (await client.get("/a")).body == b"v3", "the owner says that it has not come so far"
        purge(nodes[asker], 4, "all")
        nodes[owner].position = Position("log", 4)
        assert (await client.get("/a")).body == b"v1", "it is believed"


async def test_what_is_on_its_way_is_neither_shared_nor_stored_after_a_purge_by_tag() -> None:
    go = asyncio.Event()
    origin = Versions(FRESH, "Cache-Tag: red")

    async def slow(asked: Asked) -> bytes:
        answer = await origin(asked)
        if origin.asked == 1:
            await go.wait()
        return answer

    async with world(slow) as here:
        before, after = await here.client(), await here.client()
        before.send(request("/a"))
        await until(lambda: origin.asked == 1)
        purge(here.node, 1, "tag", "red")
        assert (await after.get("/a")).body == b"v2"
        go.set()
        assert (await before.response()).body == b"v1"
        assert (await after.get("/a")).body == b"v2"


async def test_a_fill_that_the_purge_does_not_concern_is_stored() -> None:
    go, begun = asyncio.Event(), asyncio.Event()

    async def slow(asked: Asked) -> bytes:
        begun.set()
        await go.wait()
        return response(b"v", FRESH, "Cache-Tag: red")

    async with world(slow) as here:
        client = await here.client()
        client.send(request("/a"))
        await begun.wait()
        purge(here.node, 1, "tag", "blue")
        purge(here.node, 2, "prefix", "/b")
        go.set()
        await client.response()
        assert (await client.get("/a")).cache == "here-1; hit"


async def test_soft_is_stale_served_meanwhile_and_renewed() -> None:
    origin = Versions("Cache-Control: max-age=60, stale-while-revalidate=60, stale-if-error=60")
    async with world(origin) as here:
        client = await here.client()
        await client.get("/a")
        purge(here.node, 1, "prefix", "/", soft=True)
        stale = await client.get("/a")
        assert stale.body == b"v1" and stale.cache.startswith("here-1; hit; ttl=")
        await until(lambda: origin.asked == 2 and not here.node.fills)
        assert ((await client.get("/a")).body, origin.asked) == (b"v2", 2)


async def test_soft_stands_in_for_an_origin_that_fails_and_hard_does_not() -> None:
    origin = Versions("Cache-Control: max-age=60, stale-if-error=60")
    async with world(origin) as here:
        client = await here.client()
        await client.get("/a")
        purge(here.node, 1, "url", "/a", soft=True)
        origin.fails = True
        assert (await client.get("/a")).body == b"v1"
        purge(here.node, 2, "all")
        assert (await client.get("/a")).status == 503


async def test_a_304_keeps_the_tags() -> None:
    async def origin(asked: Asked) -> bytes:
        if "if-none-match" in asked.fields:
            return b"HTTP/1.1 304 Not Modified\r\n" + FRESH.encode() + b'\r\nETag: "x"\r\n\r\n'
        return response(b"v", FRESH, 'ETag: "x"', "xkey: red")

    async with world(origin) as here:
        client = await here.client()
        await client.get("/a")
        purge(here.node, 1, "tag", "red", soft=True)
        assert "fwd-status=304" in (await client.get("/a")).cache
        (entry,) = here.node.store
        assert entry.kept.tags == (b"red",)
        purge(here.node, 2, "tag", "red")
        assert here.node.store.get(entry.key, ()) is None
