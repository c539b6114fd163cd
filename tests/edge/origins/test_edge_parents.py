"""Parents: regions that others ask before the origin."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_world import HOST, Asked, Response, World, run, world
from edge_world import response as answer
from nearmile.cache.purge import Order, Position
from nearmile.edge.visitors import Hop
from waiting import until

REGIONS = {
    "here": ("127.31.40.1", "127.31.40.2"),
    "mid": ("127.31.42.1", "127.31.42.2"),
    "far": ("127.31.43.1",),
}
PARENTS = {"parents": ["mid", "far"]}
FRESH = "Cache-Control: max-age=60"


class Counted:
    """Answers with how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    async def __call__(self, _asked: Asked) -> bytes:
        self.asked += 1
        return answer(b"v%d" % self.asked, FRESH)


async def get(here: World, name: str, target: str = "/a") -> Response:
    """Asks the server of that name."""
    return await (await here.client(names(here).index(name))).get(target)


def names(here: World) -> list[str]:
    return [server.node.me.name for server in here.servers]


def route(here: World, start: str, target: bytes = b"/a") -> list[str]:
    """The servers that a question goes through, if each but the last asks the first that it may."""
    by_address = {server.node.me.address: server.node for server in here.servers}
    node, hop, gone = here.servers[names(here).index(start)].node, Hop.CLIENT, [start]
    while True:
        site = node.sites[HOST.encode()]
        first = next(node.servers_before(site, site.prefix + target, hop), None)
        if first is None:
            return gone
        origin, hop = first
        node = by_address[origin.peers[0].host]
        gone.append(node.me.name)


def longest(here: World, start: str) -> bytes:
    """A target whose object has an owner besides the one that is asked."""
    return next(target for n in itertools.count() if len(route(here, start, target := b"/%d" % n)) == 3)


async def test_a_miss_goes_by_way_of_the_owner_and_the_parent_and_each_stores_it() -> None:
    origin = Counted()
    async with world(origin, rules=PARENTS, regions=REGIONS) as here:
        here.tell_map()
        target = longest(here, "here-1").decode()
        way = route(here, "here-1", target.encode())
        assert [name[:-2] for name in way] == ["here", "here", "mid"]
        first = await get(here, "here-1", target)
        assert first.body == b"v1"
        assert first.cache == ", ".join(f"{name}; fwd=uri-miss; stored" for name in reversed(way))
        for name in names(here):
            assert (await get(here, name, target)).body == b"v1"
        assert origin.asked == 1


async def test_the_next_parent_region_where_the_first_has_no_live_server() -> None:
    origin = Counted()
    async with world(origin, rules=PARENTS, regions=REGIONS) as here:
        alive = list(here.servers)
        here.servers = [server for server in alive if server.node.me.region != "mid"]
        here.tell_map()
        assert route(here, "here-1")[-1] == "far-1"
        here.servers = [server for server in alive if server.node.me.region == "here"]
        here.tell_map()
        assert route(here, "here-1")[-1].startswith("here")
        here.servers = alive


async def test_a_parent_that_does_not_answer_is_skipped_and_then_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nearmile.edge.limits.SWEEP_S", 0.05)
    origin = Counted()
    async with world(origin, rules=PARENTS, regions=REGIONS) as here:
        here.tell_map()
        gone = here.servers[2:4]
        for server in gone:
            await server.close()
        for number in range(12):
            assert (await get(here, "here-1", f"/{number}")).status == 200
        node = here.node
        asked = [pool for pool in node.origins._pools.values() if pool.peer.host.startswith("127.31.42")]
        assert asked and origin.asked == 12


async def test_the_answer_of_a_parent_that_has_not_purged_yet_is_not_used() -> None:
    origin = Counted()
    async with world(origin, rules=PARENTS, regions=REGIONS) as here:
        here.tell_map()
        target = longest(here, "here-1").decode()
        way = route(here, "here-1", target.encode())
        assert (await get(here, "here-1", target)).body == b"v1"
        nodes = {server.node.me.name: server.node for server in here.servers}
        order = Order("id", nodes["here-1"].sites[HOST.encode()].serial, "url", (target,))
        # Children first: the parent still has what was purged, and says how far it has come.
        for node in nodes.values():
            node.position = Position("log", 1)
        for name in way[:2]:
            nodes[name].purge(order, Position("log", 2))
        assert (await get(here, "here-1", target)).body == b"v2"
        assert (await get(here, way[2], target)).body == b"v1", "it has it still"
        # The one that asks is ahead of the owner, which is ahead of nobody.
        nodes[way[0]].purge(order, Position("log", 3))
        assert (await get(here, "here-1", target)).body == b"v3"
        for name in way[1:]:
            nodes[name].purge(order, Position("log", 3))
        nodes[way[0]].purge(order, Position("log", 3))
        last = await get(here, "here-1", target)
        assert last.body == b"v4" and last.cache.count("stored") == 3
        await until(lambda: not here.node.fills)


@settings(max_examples=40)
@given(
    st.lists(st.sampled_from(list(REGIONS)), unique=True, max_size=3),
    st.lists(st.integers(0, 31), min_size=5, max_size=5),
    st.integers(0, 99),
)
def test_no_question_goes_round_whatever_each_server_believes(
    parents: list[str], maps: list[int], number: int
) -> None:
    """Each server may have another map: some think that others are dead."""

    async def test() -> None:
        async with world(Counted(), rules={"parents": parents}, regions=REGIONS) as here:
            everyone = list(here.servers)
            for server, alive in zip(everyone, maps, strict=True):
                seen = [one for bit, one in enumerate(everyone) if alive >> bit & 1] or [server]
                here.servers = seen
                here.tell_map()
            here.servers = everyone
            for start in names(here):
                way = route(here, start, b"/%d" % number)
                assert len(way) <= 3

    run(test())


async def test_what_stands_in_at_a_parent_is_as_stale_for_its_grandchildren() -> None:
    answers = [
        answer(b"v1", FRESH),
        *[answer(b"busy", status="503 Service Unavailable")] * 2,
        answer(b"v2", FRESH),
    ]

    async def origin(_asked: Asked) -> bytes:
        return answers.pop(0)

    async with world(origin, rules=PARENTS, regions=REGIONS) as here:
        here.tell_map()
        target = longest(here, "here-1").decode()
        parent = route(here, "here-1", target.encode())[-1]
        assert (await get(here, parent, target)).body == b"v1"
        order = Order("o", here.node.sites[HOST.encode()].serial, "url", (target,), soft=True)
        for server in here.servers:
            server.node.purge(order, Position("log", 1))
        for body in (b"v1", b"v1", b"v2"):
            assert (await get(here, "here-1", target)).body == body
