"""The model keeps what ``services.bus`` promises: compare-and-swap, watches, a connection that breaks."""

from typing import Any

from nearmile.fleet.lease import Outcome
from nearmile.simulate.bus import NOTICE_MAX_S, RECHECK_S, REQUEST_TIMEOUT_S, Bus
from nearmile.simulate.world import Node, World

KEY = ("map", "current")


class Client(Node):
    def __init__(self, world: World, name: str, bus: Bus) -> None:
        super().__init__(world, name)
        self.bus = bus
        self.heard: list[Any] = []
        self.answers: list[tuple[Outcome, int]] = []

    def booted(self) -> None:
        self.bus.join(self)
        self.bus.subscribe(self, "news", self.heard.append)
        self.bus.watch(self, KEY, lambda revision, value: self.heard.append((revision, value)))

    def bus_lost(self) -> None:
        self.heard.append("lost")

    def bus_back(self) -> None:
        self.heard.append("back")

    def put(self, value: Any, expected: int) -> None:
        self.bus.put(
            self, KEY, value, expected, lambda outcome, revision: self.answers.append((outcome, revision))
        )


def stage() -> tuple[World, Bus, Client, Client]:
    world = World(1)
    bus = Bus(world)
    clients = Client(world, "a", bus), Client(world, "b", bus)
    for node in (bus, *clients):
        node.boot()
    world.clock.run_until(1.0)
    return world, bus, *clients


def test_of_two_writers_one_wins_and_all_see_it() -> None:
    world, bus, a, b = stage()
    a.put("x", 0)
    b.put("y", 0)
    world.clock.run_until(2.0)
    assert sorted(outcome.value for outcome, _ in a.answers + b.answers) == ["lost", "won"]
    assert [revision for _, revision in a.answers + b.answers] == [1, 1]
    assert a.heard[-1] == b.heard[-1] == bus.held[KEY]


def test_subjects_reach_who_is_connected() -> None:
    world, bus, a, b = stage()
    bus.publish(a, "news", "hello")
    world.clock.run_until(2.0)
    assert "hello" in a.heard
    assert "hello" in b.heard
    b.crash()
    bus.publish(a, "news", "again")
    world.clock.run_until(3.0)
    assert "again" in a.heard
    assert "again" not in b.heard


def test_a_write_whose_answer_is_lost_is_done_all_the_same() -> None:
    world, _, a, b = stage()
    world.network.cut(["bus"], ["a"])
    a.put("x", 0)
    world.clock.run_until(1.0 + REQUEST_TIMEOUT_S + 0.1)
    assert a.answers == [(Outcome.FAILED, 0)]
    assert b.heard[-1] == (1, "x")


def test_a_silent_path_is_noticed_later_and_what_was_missed_is_told_after() -> None:
    world, bus, a, b = stage()
    heal = world.network.cut(["bus"], ["a"])
    bus.path_changed(a)
    assert bus.connected(a)
    world.clock.run_until(1.0 + NOTICE_MAX_S)
    assert a.heard[-1] == "lost"
    b.put("x", 0)
    world.clock.run_until(20.0)
    heal()
    bus.path_changed(a)
    world.clock.run_until(21.0)
    assert a.heard[-2:] == ["back", (1, "x")]


def test_a_lost_update_heals_at_the_next_look() -> None:
    world, _, a, b = stage()
    heal = world.network.cut(["bus"], ["a"])
    b.put("x", 0)
    world.clock.run_until(1.5)
    heal()
    world.clock.run_until(1.5 + RECHECK_S + 0.2)
    assert a.heard[-1] == (1, "x")


def test_a_crash_of_the_bus_breaks_all_connections_and_keeps_the_kv() -> None:
    world, bus, a, b = stage()
    a.put("x", 0)
    world.clock.run_until(2.0)
    bus.crash()
    world.clock.run_until(3.0)
    assert a.heard[-1] == b.heard[-1] == "lost"
    b.put("y", 1)
    bus.boot()
    world.clock.run_until(6.0)
    assert b.answers == [(Outcome.FAILED, 0)]
    assert a.heard[-1] == b.heard[-1] == (1, "x")
    assert a.heard.count("back") == b.heard.count("back") == 2
