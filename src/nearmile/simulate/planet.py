"""Scenario 3: the whole planet for an hour, with demand that follows the sun, failures, and a continent cut off.

5,000 regions of 20 servers and a million mapping units. One production controller hears every beat and every
report of demand, leads, and publishes maps through a KV that answers; the bus itself is not modelled, since the
first scenario is about it. Every map is judged when it is published (``planet_checks``).
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from nearmile.base.gazetteer import Area, cities
from nearmile.base.geography import Point
from nearmile.fleet.beat import Beat
from nearmile.fleet.health import BeatArrived, BusBack, ExitReported
from nearmile.fleet.lease import LeaseAnswer, LeaseSeen, Outcome, PutLease
from nearmile.mapping.controller import Command, Controller, Event, MapAnswer, MapSeen, PutMap, RegionsChanged
from nearmile.mapping.demand import DemandArrived
from nearmile.mapping.make import Terms
from nearmile.mapping.map import Map, MapRegion, Server
from nearmile.simulate import planet_checks
from nearmile.simulate.checks import Found
from nearmile.simulate.clock import Clock
from nearmile.simulate.world import World

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Numbers = NDArray[np.intp]

# From a write of the KV to its answer, and from an exit to the agent's word.
WRITE_S, SEE_EXIT_S = 0.05, 0.02
# Demand of a unit is Pareto's (1.5), cut at 50 times the least, and between NIGHT and 1 of that in a day's course;
# it is highest at 20 o'clock by the sun. A run begins when it is 17 o'clock in Greenwich.
UNIT_RPS, NIGHT, PEAK_HOUR, BEGIN_HOUR = 2.0, 0.3, 20.0, 17.0
# What edges tell of a unit they tell once in so many seconds; the controller has heard it for so long already.
TOLD_EVERY_S, HEARD_S = 10, 120
# Servers that work as much as their region can carry use so much of their processors.
CPU_AT_CAPACITY = 0.75
# The first maps, before anything fails.
QUIET_S = 60.0
# South and Central America: latitudes and longitudes.
CONTINENT = (-56.0, 25.0, -120.0, -34.0)
CUT_FROM, CUT_UNTIL = 0.4, 0.5  # shares of the run


class Scale(Struct, frozen=True, kw_only=True):
    """How large the planet is and how rough."""

    regions: int = 5000
    servers: int = 20
    """Of a region."""
    units: int = 1_000_000
    places: int = 50_000
    """Several units are at each, of different networks."""
    load: float = 0.75
    """Demand at the beginning by what all regions can carry."""
    beat_s: float = 10.0
    dead_after_s: float = 25.0
    """The longest pause between beats that the network document allows, as so many servers would need it."""
    fault_every_s: float = 12.0
    fault_lasts_s: float = 300.0


class Planet:
    """One run of the scenario. ``listed`` says which servers the published map names."""

    def __init__(self, seed: int, scale: Scale) -> None:
        self.scale = scale
        self.clock = Clock()
        self.chance = np.random.default_rng(seed)
        self._draw = World(seed).chance("planet")
        self.places, self.sites = self._spots(scale.places, 1.0, 1.5), self._spots(scale.regions, 0.7, 1.0)
        self.place_of: Numbers = np.arange(scale.units) * scale.places // scale.units
        self.base_rps = UNIT_RPS * np.minimum(self.chance.pareto(1.5, scale.units) + 1, 50.0)
        self.capacity_rps = self._capacities()
        self.regions = tuple(
            MapRegion(
                f"r{n:04}",
                Point(*site),
                tuple(Server(f"r{n:04}-{k:02}", f"10.{n >> 8}.{n & 255}.{k}", 80) for k in range(scale.servers)),
            )
            for n, site in enumerate(self.sites.tolist())
        )
        self._names = [[server.name for server in region.servers] for region in self.regions]
        self.units = tuple(f"{n:07}" for n in range(scale.units))
        shape = (scale.regions, scale.servers)
        self.faults = 0
        self._down, self._off = np.zeros(shape, np.int16), np.zeros(scale.regions, np.int16)
        self._boots = np.ones(shape, np.int64)
        self.dead_since_s = np.full(shape, np.inf)
        """When each server that cannot serve or be heard came to this; infinite for all others."""
        self.cpu = np.zeros(scale.regions)
        self.judge = planet_checks.Judge(self)
        self._machine = self._controller()
        self._revisions = {"map": 0, "lease": 0}
        self._wakes_at_s = np.inf
        self._start()

    def run(self, for_s: float, progress: Callable[[float], None] = lambda now_s: None) -> None:
        """Quiet time, then failures for that long; ``progress`` hears of every ten seconds."""
        end_s = QUIET_S + for_s
        self.clock.after(QUIET_S, partial(self._await_fault, end_s))
        cut_s, heal_s = (QUIET_S + share * for_s for share in (CUT_FROM, CUT_UNTIL))
        south, north, west, east = CONTINENT
        lat, lon = self.sites.T
        inside = np.flatnonzero((lat > south) & (lat < north) & (lon > west) & (lon < east))
        self.clock.at(cut_s, partial(self._switch, inside, 1))
        self.clock.at(heal_s, partial(self._switch, inside, -1))
        while self.clock.now_s < end_s:
            self.clock.run_until(min(self.clock.now_s + 10.0, end_s))
            progress(self.clock.now_s)

    def checks(self) -> dict[str, Found]:
        """All checks of this scenario, by name."""
        return self.judge.found

    def demand_rps(self, rows: slice = slice(None)) -> Floats:
        """Of each unit, or of those, at this moment."""
        hour = BEGIN_HOUR + self.clock.now_s / 3600 + self.places[:, 1] / 15
        share = NIGHT + (1 - NIGHT) * (1 + np.cos((hour - PEAK_HOUR) * np.pi / 12)) / 2
        found: Floats = self.base_rps[rows] * share[self.place_of[rows]]
        return found

    def dead(self) -> Flags:
        """Which servers cannot serve or be heard."""
        found: Flags = np.isfinite(self.dead_since_s)
        return found

    def _spots(self, count: int, by_people: float, spread_deg: float) -> Floats:
        """Latitudes and longitudes around cities, drawn by a power of their populations."""
        towns = cities()
        weights = np.array([max(town.population, 1) for town in towns], dtype=np.float64) ** by_people
        drawn = self.chance.choice(len(towns), count, p=weights / weights.sum())
        points = np.array([(town.point.lat, town.point.lon) for town in towns])[drawn]
        points += self.chance.normal(0, spread_deg, points.shape)
        return np.column_stack((np.clip(points[:, 0], -89, 89), (points[:, 1] + 180) % 360 - 180))

    def _capacities(self) -> Floats:
        """Planned for the units that are nearest at their busiest, as they once were."""
        nearest = planet_checks.nearest(self.places, self.sites)
        own = np.bincount(nearest[self.place_of], self.base_rps, minlength=self.scale.regions)
        own = (own + own.mean() / 10) * self.chance.uniform(0.7, 1.3, self.scale.regions)
        planned: Floats = own * (self.demand_rps().sum() / own.sum() / self.scale.load)
        return planned

    def _controller(self) -> Controller:
        points = [Point(*place) for place in self.places.tolist()]
        areas = [Area(self.units[n], "", points[place], 1000) for n, place in enumerate(self.place_of.tolist())]
        return Controller("controller", areas, self._draw)

    def _start(self) -> None:
        terms = tuple(Terms(capacity_rps=capacity) for capacity in self.capacity_rps.tolist())
        self._tell(RegionsChanged(self.regions, self.scale.dead_after_s, terms))
        for event in (BusBack(), LeaseSeen(0, None), MapSeen(0, None)):
            self._tell(event)
        for region in range(self.scale.regions):
            self.clock.after(self._draw.uniform(0, self.scale.beat_s), partial(self._beat, region, 1))
        for second in range(-HEARD_S, 0):
            self._tell_demand(second)
        self._report(0)

    def _tell(self, event: Event) -> None:
        self._execute(self._machine.handle(event, self.clock.now_s))

    def _execute(self, commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, PutLease | PutMap):
                self.clock.after(WRITE_S, partial(self._written, command))
        deadline_s = self._machine.next_deadline()
        if deadline_s is not None and deadline_s < self._wakes_at_s:
            self._wakes_at_s = deadline_s
            self.clock.at(deadline_s, partial(self._wake, deadline_s))

    def _wake(self, at_s: float) -> None:
        if at_s == self._wakes_at_s:
            self._wakes_at_s = np.inf
            self._execute(self._machine.wake(self.clock.now_s))

    def _written(self, put: PutLease | PutMap) -> None:
        if isinstance(put, PutLease):
            self._revisions["lease"] += 1
            self._tell(LeaseAnswer(put, Outcome.WON, self._revisions["lease"]))
        else:
            self._revisions["map"] += 1
            self._published(put.map)
            self._tell(MapAnswer(put, Outcome.WON, self._revisions["map"]))

    def _published(self, map_: Map) -> None:
        self.judge.published(map_)
        self.cpu = CPU_AT_CAPACITY * self.judge.loads_rps / self.capacity_rps

    def _beat(self, region: int, seq: int) -> None:
        """All servers of the region that work and can be heard."""
        if not self._off[region]:
            cpu, now_s, boots = float(self.cpu[region]), self.clock.now_s, self._boots[region].tolist()
            for name, down, epoch in zip(self._names[region], self._down[region].tolist(), boots, strict=True):
                if not down:
                    beat = Beat(name=name, role="edge", epoch=epoch, seq=seq, ready=True, cpu=cpu)
                    self._execute(self._machine.handle(BeatArrived(beat), now_s))
        self.clock.after(self.scale.beat_s, partial(self._beat, region, seq + 1))

    def _report(self, second: int) -> None:
        self._tell_demand(second)
        self.clock.after(1.0, partial(self._report, second + 1))

    def _tell_demand(self, second: int) -> None:
        """What the edges counted of a tenth of the units."""
        own = slice(second % TOLD_EVERY_S, None, TOLD_EVERY_S)
        counts = self.chance.poisson(self.demand_rps(own) * TOLD_EVERY_S)
        hits = dict(zip(self.units[own], counts.tolist(), strict=True))
        self._execute(self._machine.handle(DemandArrived(hits), float(second)))

    def _await_fault(self, end_s: float) -> None:
        pause_s = self._draw.expovariate(1 / self.scale.fault_every_s)
        if self.clock.now_s + pause_s < end_s:
            self.clock.after(pause_s, partial(self._fault, end_s))

    def _fault(self, end_s: float) -> None:
        """A process or a machine dies, or the power of a region fails; all are mended after a while."""
        self.faults += 1
        region, server = self._draw.randrange(self.scale.regions), self._draw.randrange(self.scale.servers)
        (kind,) = self._draw.choices(("process", "machine", "region"), (6, 3, 1))
        lasts_s = self._draw.expovariate(1 / self.scale.fault_lasts_s)
        self.clock.note(f"{kind} {region} {server} for {lasts_s!r}")
        if kind == "region":
            here = np.array([region])
            self._switch(here, 1)
            self.clock.after(lasts_s, partial(self._switch, here, -1))
        else:
            self._turn(region, server, 1)
            self.clock.after(lasts_s, partial(self._turn, region, server, -1))
            if kind == "process" and not self._off[region]:
                exited = ExitReported(self._names[region][server])
                self.clock.after(SEE_EXIT_S, partial(self._tell, exited))
        self._await_fault(end_s)

    def _turn(self, region: int, server: int, by: int) -> None:
        """One server off, or on."""
        self._down[region, server] += by
        self._boots[region, server] += by < 0
        self._mark()

    def _switch(self, regions: Numbers, by: int) -> None:
        """Whole regions off, or on."""
        self._off[regions] += by
        self._mark()

    def _mark(self) -> None:
        dead = (self._down > 0) | (self._off > 0)[:, np.newaxis]
        died = dead & ~self.dead()
        self.dead_since_s[died] = self.clock.now_s
        self.dead_since_s[~dead] = np.inf
        self.clock.after(self.judge.bound_s, self.judge.look_for_the_dead)
