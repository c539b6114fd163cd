"""Edges and who purges, joined by a real NATS server that is killed, or loses its log."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest

from nats_server import NatsServer
from nearmile.base.geography import Point
from nearmile.cache.purge import Order, Position
from nearmile.cache.store import MemoryStore
from nearmile.config.layout import lay_out
from nearmile.config.network import Nameserver, Network, Region
from nearmile.edge.node import Node
from nearmile.services import purges as module
from nearmile.services.bus import PURGE_STREAM, Bus, BusDown
from nearmile.services.purger import Purger
from nearmile.services.purges import Purges
from waiting import PATIENCE_S, until

ORIGIN = Point(0, 0)
NETWORK = Network(
    name="purges-test",
    zone="purges.test",
    regions={"a": Region(city="A", point=ORIGIN)},
    nameservers=tuple(Nameserver(tier=tier, city="A", point=ORIGIN) for tier in ("top", "low")),
)


class Me:
    def __init__(self, name: str) -> None:
        self.name = name


class Cache:
    """What ``Purges`` needs of an edge's node."""

    def __init__(self, name: str, position: Position | None = None) -> None:
        self.me, self.position, self.store = Me(name), position, MemoryStore(1 << 20)
        self.orders: list[str] = []
        """Their ids; `all` where everything went."""

    def purge(self, order: Order, position: Position) -> int:
        self.orders.append(order.id)
        self.position = position
        return 1

    def purge_all(self, position: Position) -> None:
        self.orders.append("all")
        self.position = position


class World:
    """A NATS server, and edges on it."""

    def __init__(self, root: Path) -> None:
        self.nats = NatsServer(root, lay_out(NETWORK, {}, {}, 1, "127.144.0.0/16"))
        self._ends: list[Callable[[], Awaitable[None]]] = []

    async def bus(self) -> Bus:
        bus = self.nats.bus()
        bus.start()
        self._ends.append(bus.close)
        return bus

    async def edge(self, cache: Cache) -> Callable[[], Awaitable[None]]:
        """Begins to serve with that cache; returns how to end it."""
        bus = await self.bus()
        purges = Purges(bus, cast(Node, cache))
        task = asyncio.create_task(purges.run())
        await purges.settled()

        async def end() -> None:
            task.cancel()
            await bus.close()

        self._ends.append(end)
        return end

    async def close(self) -> None:
        for end in reversed(self._ends):
            await end()
        await self.nats.kill()


def run(root: Path, act: Callable[[World], Awaitable[None]]) -> None:
    async def whole() -> None:
        world = World(root)
        await world.nats.start()
        try:
            async with asyncio.timeout(2 * PATIENCE_S):
                await act(world)
        finally:
            await world.close()

    asyncio.run(whole())


def order(id_: str) -> Order:
    return Order(id_, 1, "url", ("/",))


def nobody(_since_s: float) -> tuple[str, ...]:
    return ()


def test_an_edge_applies_in_order_what_it_hears_and_what_it_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RECHECK_S", 10 * PATIENCE_S)  # so nothing is found by chance

    async def act(world: World) -> None:
        one, other = Cache("one"), Cache("other")
        await world.edge(one)
        end = await world.edge(other)
        bus = await world.bus()
        assert await bus.connected(PATIENCE_S)
        purger = Purger(bus, ["one", "other"])
        done = await purger.purge(order("1"), nobody, PATIENCE_S)
        assert (done.missing, done.objects, done.servers) == (frozenset[str](), 2, frozenset(("one", "other")))
        await end()
        for id_ in ("2", "3"):
            assert "other" in (await purger.purge(order(id_), nobody, 0.5)).missing
        await until(lambda: one.orders == ["all", "1", "2", "3"])
        await world.edge(other)
        assert other.orders == ["all", "1", "2", "3"] == one.orders
        assert other.position == one.position
        done = await purger.purge(order("4"), nobody, PATIENCE_S)
        assert done.missing == frozenset()

    run(tmp_path, act)


def test_a_server_that_was_seen_down_after_the_order_need_not_confirm(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        await world.edge(Cache("one"))
        bus = await world.bus()
        assert await bus.connected(PATIENCE_S)
        began_s, asked = time.time(), list[float]()

        def down(since_s: float) -> list[str]:
            asked.append(since_s)
            return ["other"] if len(asked) > 1 else []

        done = await Purger(bus, ["one", "other"]).purge(order("1"), down, PATIENCE_S)
        assert (done.missing, done.servers) == (frozenset[str](), frozenset(("one",)))
        assert len(asked) == 2 and asked[0] >= began_s

    run(tmp_path, act)


def test_the_bus_dies_and_comes_back(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        cache = Cache("one")
        await world.edge(cache)
        bus = await world.bus()
        assert await bus.connected(PATIENCE_S)
        purger = Purger(bus, ["one"])
        await purger.purge(order("1"), nobody, PATIENCE_S)
        await world.nats.kill()
        await until(lambda: not bus.up)
        try:
            await purger.purge(order("2"), nobody, PATIENCE_S)
            raise AssertionError("who cannot store an order must say so")
        except BusDown:
            pass
        await world.nats.start()
        await until(lambda: bus.up)
        assert not (await purger.purge(order("3"), nobody, PATIENCE_S)).missing
        assert cache.orders == ["all", "1", "3"]

    run(tmp_path, act)


def test_a_log_made_anew_means_that_anything_may_have_been_missed(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        cache = Cache("one")
        end = await world.edge(cache)
        bus = await world.bus()
        assert await bus.connected(PATIENCE_S)
        for id_ in ("1", "2"):
            await Purger(bus, ["one"]).purge(order(id_), nobody, PATIENCE_S)
        await end()
        await bus.js.delete_stream(PURGE_STREAM)
        for id_ in ("3", "4", "5"):
            await Purger(bus, []).purge(order(id_), nobody, PATIENCE_S)
        await world.edge(cache)
        assert cache.orders == ["all", "1", "2", "all"]

    run(tmp_path, act)


def test_orders_that_have_expired(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        cache = Cache("one")
        end = await world.edge(cache)
        bus = await world.bus()
        assert await bus.connected(PATIENCE_S)
        purger = Purger(bus, [])
        await purger.purge(order("1"), nobody, PATIENCE_S)
        await until(lambda: cache.orders == ["all", "1"])
        await end()
        for id_ in ("2", "3", "4"):
            await purger.purge(order(id_), nobody, PATIENCE_S)
        await bus.js.purge_stream(PURGE_STREAM, seq=4)
        await world.edge(cache)
        assert cache.orders == ["all", "1", "all"]

    run(tmp_path, act)


def test_an_order_that_nobody_understands_empties_the_cache(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        cache = Cache("one")
        await world.edge(cache)
        bus = await world.bus()
        assert await bus.connected(PATIENCE_S)
        await bus.put_purge_order(b'{"kind": "of a later version"}', "x")
        await until(lambda: cache.orders == ["all", "all"])

    run(tmp_path, act)


def test_without_a_bus_an_edge_serves_after_a_moment(tmp_path: Path) -> None:
    async def act(world: World) -> None:
        await world.nats.kill()
        cache = Cache("one", Position("log", 7))
        await world.edge(cache)
        assert cache.orders == []
        await world.nats.start()
        await until(lambda: cache.orders == ["all"])

    run(tmp_path, act)
