"""Servers of a region with a parent, clients that ask for anything at any time, an origin that changes and fails.

Each run is a seed, in virtual time; what clients get is held against what the origin had (see judge). To look for
more: ``python tests/edge/test_edge_random.py FIRST LAST``, with tests/support and src on the path.
"""

import asyncio
import sys
from random import Random

import pytest

from edge_world import HOST, Client, Origin, World, request, world
from judge import ANY, CALM, CROWDED, Judge, Manner, Query, Truth
from nearmile.cache.purge import Kind, Order, Position
from virtual import VirtualLoop, run_virtually

REGIONS = {"here": ("127.31.40.1", "127.31.40.2", "127.31.40.3"), "mid": ("127.31.42.1",)}
RULES = {
    "parents": ["mid"],
    "upstream": {"connect_timeout_s": 1, "first_byte_timeout_s": 5, "between_bytes_timeout_s": 5},
}
# So that some objects are large.
OBJECT_BYTES_MAX, SLICE_BYTES = 2_000, 1_000
HANG_S = 60.0
WISHES = (
    "no-cache",
    "max-age=0",
    "max-age=2",
    "max-stale",
    "max-stale=2",
    "min-fresh=1",
    "only-if-cached",
    "no-store",
)
RANGES = ("bytes=0-9", "bytes=20-", "bytes=5-1999")


class Scene:
    """One run."""

    def __init__(self, loop: VirtualLoop, here: World, truth: Truth) -> None:
        self.loop, self.here, self.truth = loop, here, truth
        self.chance, self.judge = truth.chance, Judge(truth)
        self.over = False

    async def client(self, number: int) -> None:
        """Asks, and has the answers judged."""
        chance = self.chance
        server = chance.randrange(len(self.here.servers) - 1)
        connection = await self.here.client(server)
        tags: dict[str, str] = {}
        for _ in range(self.truth.manner.queries):
            await asyncio.sleep(chance.choice([0, chance.expovariate(1), chance.expovariate(10)]))
            query = self.query(server, number, tags)
            async with asyncio.timeout(HANG_S):
                whole = await self.ask(connection, query, tags)
            if not whole:
                server = chance.randrange(len(self.here.servers) - 1)
                connection = await self.here.client(server)

    def query(self, server: int, number: int, tags: dict[str, str]) -> Query:
        """Any."""
        chance, odd = self.chance, self.truth.manner.odd
        path = chance.choice(list(self.truth.things))
        method = chance.choices(["GET", "HEAD", "POST"], [20, 2, 1])[0] if odd else "GET"
        odd = odd and method == "GET"
        wishes = chance.choice(WISHES) if odd and chance.random() < 0.25 else ""
        wanted = chance.choice(RANGES) if odd and chance.random() < 0.25 else ""
        tag = tags.get(path, "") if odd and chance.random() < 0.3 else ""
        return Query(
            server,
            method,
            path,
            f"u{number % 3}",
            "de" if number % 2 else "fr",
            wishes,
            wanted,
            tag,
            self.truth.now_s(),
        )

    async def ask(self, connection: Client, query: Query, tags: dict[str, str]) -> bool:
        """Whether the connection is good for another query."""
        judge, thing = self.judge, self.truth.things[query.path]
        lines = [f"Cookie: {query.user}", f"X-Lang: {query.language}"]
        lines += [f"Cache-Control: {query.wishes}"] if query.wishes else []
        lines += [f"Range: {query.wanted}"] if query.wanted else []
        lines += [f"If-None-Match: {query.tag}"] if query.tag else []
        lines += ["Content-Length: 0"] if query.method == "POST" else []
        floor_s = judge.floor_s(query)
        newest = judge.newest(query, thing)
        connection.send(request(query.path, *lines, method=query.method))
        if self.truth.manner.odd and self.chance.random() < 0.05:
            await asyncio.sleep(self.chance.random())
            connection.writer.close()
            return False
        try:
            status, fields = await connection.head()
            head_s = self.truth.now_s()
            got = await connection.rest(status, fields, query.method)
        except (asyncio.IncompleteReadError, ConnectionError):
            judge.check_broken(query)
            return False
        try:
            judge.check(query, floor_s, newest, got, head_s)
        except (AssertionError, KeyError) as error:
            raise AssertionError(f"{error}: {query} -> {got.status} {got.fields} at {head_s:.3f}") from error
        if "etag" in fields:
            tags[query.path] = fields["etag"]
        return fields.get("connection") != "close"

    async def weather(self) -> None:
        """Objects change, the origin is ill for some time, orders come."""
        seq = 0
        while not self.over:
            await asyncio.sleep(self.chance.expovariate(2))
            what = self.chance.random()
            thing = self.chance.choice(list(self.truth.things.values()))
            if what < 0.6:
                thing.change(self.truth.now_s())
            elif not self.truth.manner.odd:
                continue
            elif what < 0.75:
                self.truth.ill = not self.truth.ill
            else:
                seq += 1
                await self.purge(seq, thing.path, soft=self.chance.random() < 0.3)

    async def purge(self, seq: int, path: str, soft: bool) -> None:
        """Carried out by all servers, one after the other; then it is confirmed."""
        begun_s, nodes = self.truth.now_s(), [server.node for server in self.here.servers]
        kind: Kind = self.chance.choice(["url", "prefix"])
        order = Order("o", nodes[0].sites[HOST.encode()].serial, kind, (path,), soft)
        for node in self.chance.sample(nodes, len(nodes)):
            await asyncio.sleep(self.chance.choice([0, self.chance.uniform(0, 0.3)]))
            node.purge(order, Position("log", seq))
        if not soft:
            for server in range(len(nodes)):
                self.judge.learn(server, path, begun_s)

    async def run(self) -> None:
        """Until all clients have had enough, and everything has ended."""
        weather = asyncio.ensure_future(self.weather())
        await asyncio.gather(*(self.client(number) for number in range(self.truth.manner.clients)))
        self.over = True
        await weather
        await asyncio.sleep(HANG_S)
        for server in self.here.servers:
            node = server.node
            assert not node.fills and not node.races and not node.filling_bytes
            assert node.fetching.total == node.waiting.total == 0
            assert all(pool.requests == 0 for pool in node.origins._pools.values())


def run_seed(seed: int, manner: Manner) -> Scene:
    """One run."""
    scenes: list[Scene] = []

    async def play(loop: VirtualLoop) -> None:
        truth = Truth(loop.wall_s, Random(seed), manner)
        async with world(Origin(truth), rules=RULES, regions=REGIONS, clock=loop.wall_s) as here:
            here.tell_map()
            for server in here.servers:
                server.node.object_bytes_max, server.node.slice_bytes = OBJECT_BYTES_MAX, SLICE_BYTES
            scenes.append(Scene(loop, here, truth))
            await scenes[0].run()

    run_virtually(play, seed)
    return scenes[0]


@pytest.mark.parametrize("manner", [ANY, CROWDED], ids=["any", "crowded"])
@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_answered_that_may_not_be(seed: int, manner: Manner) -> None:
    run_seed(seed, manner)


@pytest.mark.parametrize("seed", range(3))
def test_what_all_may_share_is_asked_for_once_at_a_time(seed: int) -> None:
    assert run_seed(seed, CALM).truth.asking_max == 1


if __name__ == "__main__":
    for one in range(*map(int, sys.argv[1:3])):
        for name, way in {"any": ANY, "crowded": CROWDED, "calm": CALM}.items():
            try:
                run_seed(one, way)
            except Exception as error:
                print(one, name, error or type(error), flush=True)
