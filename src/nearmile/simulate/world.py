"""The virtual world: nodes that live, die, hang and come back, with clocks and disks of their own.

A node is a small adapter that joins production machines to the world. What it keeps in ``disk`` outlives its
crashes; everything else must be made anew in ``boot``.
"""

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from nearmile.simulate.clock import Clock
from nearmile.simulate.network import Network

# Clocks disagree by minutes and run at rates that differ by 100 parts in a million, like cheap quartz.
CLOCK_APART_S, CLOCK_RATE = 300.0, 1e-4
# From a node's clock to the world's and back, a time must not come out earlier: an alarm would ring for ever.
ROUNDING_S = 1e-9


class World:
    """One seeded run. Every part of it draws from a generator of its own, so that parts can change alone."""

    def __init__(self, seed: int, loss: float = 0.0) -> None:
        self.seed = seed
        self.clock = Clock()
        self.network = Network(self.clock, self.chance("network"), loss)
        self.nodes: dict[str, Node] = {}
        self.on_change: list[Callable[[], None]] = []

    def chance(self, part: str) -> Random:
        """The generator of that part of the world."""
        return Random(f"{self.seed}/{part}")

    def changed(self) -> None:
        """A node came, went, froze or thawed, or a path or a connection changed."""
        for told in self.on_change:
            told()


class Node:
    """A process on a machine of its own."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.up = False
        self.life = 0
        self.disk: dict[str, Any] = {}
        self.thaws_at_s = 0.0
        chance = world.chance(f"node {name}")
        self.chance = chance
        self._ahead_s = chance.uniform(0.0, CLOCK_APART_S)
        self._rate = 1.0 + chance.uniform(-CLOCK_RATE, CLOCK_RATE)
        self._wakes_at_s: float | None = None
        world.nodes[name] = self
        world.network.join(name)

    @property
    def working(self) -> bool:
        """Whether it is up and not frozen."""
        return self.up and self.thaws_at_s <= self.world.clock.now_s

    def now_s(self) -> float:
        """The time by its own clock."""
        return self._ahead_s + self.world.clock.now_s * self._rate

    def boot(self) -> None:
        """Comes to life; nothing happens where it is alive."""
        if not self.up:
            self.up = True
            self.life += 1
            self._wakes_at_s = None
            self.world.clock.note(f"{self.name} boots")
            self.booted()
            self.world.changed()

    def crash(self) -> None:
        """Dies at once, as by kill -9 or loss of power; only its disk stays."""
        if self.up:
            self.up = False
            self.thaws_at_s = 0.0
            self.world.clock.note(f"{self.name} crashes")
            self.crashed()
            self.world.changed()

    def freeze(self, freeze_s: float) -> None:
        """Hangs for a while: what arrives waits, timers are late, nobody is told."""
        if self.up:
            self.thaws_at_s = max(self.thaws_at_s, self.world.clock.now_s + freeze_s)
            self.world.clock.note(f"{self.name} freezes for {freeze_s!r}")
            self.world.clock.at(self.thaws_at_s, self.world.changed)
            self.world.changed()

    def guarded(self, act: Callable[[], None]) -> Callable[[], None]:
        """The act, done only in this life, and after a freeze."""
        return partial(self._do, self.life, act)

    def _do(self, life: int, act: Callable[[], None]) -> None:
        if not self.up or self.life != life:
            return
        if self.thaws_at_s > self.world.clock.now_s:
            self.world.clock.at(self.thaws_at_s, self.guarded(act))
        else:
            act()

    def after(self, pause_s: float, act: Callable[[], None]) -> None:
        """Does it after a pause by its own clock, in this life."""
        self.world.clock.after(pause_s / self._rate, self.guarded(act))

    def arm(self, deadline_s: float | None) -> None:
        """Calls ``wake`` at that time of its own clock, or sooner; a timer set for later than that is replaced."""
        if deadline_s is None:
            return
        at_s = (deadline_s - self._ahead_s) / self._rate + ROUNDING_S
        if self._wakes_at_s is None or at_s < self._wakes_at_s:
            self._wakes_at_s = at_s
            self.world.clock.at(at_s, self.guarded(partial(self._fire, at_s)))

    def _fire(self, at_s: float) -> None:
        if self._wakes_at_s == at_s:
            self._wakes_at_s = None
            self.wake()

    def booted(self) -> None:
        """It came to life: makes its machines."""

    def crashed(self) -> None:
        """It died."""

    def wake(self) -> None:
        """A deadline has come."""

    def bus_lost(self) -> None:
        """Its connection to the bus broke."""

    def bus_back(self) -> None:
        """It is connected to the bus."""
