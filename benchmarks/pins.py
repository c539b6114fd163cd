"""What sites that are pinned to regions cost the controller: CPU time of the step that makes a map, and the map.

    python benchmarks/pins.py [--json]

20,000 units around the places of the built-in gazetteer, each measured from three of 500 regions; 1,000 sites in
50 sets of three regions, beside the same without pins. What was measured is told again before each step.
"""

import argparse
import time
from collections.abc import Mapping
from random import Random

import numpy as np
from measure import Case, case, show

from nearmile.base.gazetteer import Area, areas
from nearmile.base.geography import Point
from nearmile.fleet.beat import Beat
from nearmile.fleet.health import BeatArrived, BusBack
from nearmile.fleet.lease import LeaseAnswer, LeaseSeen, Outcome, PutLease
from nearmile.mapping.controller import (
    Controller,
    DrainSeen,
    Event,
    MapAnswer,
    MapSeen,
    MeasuresArrived,
    PutMap,
    RegionsChanged,
)
from nearmile.mapping.map import Map, MapRegion, Server, encode
from nearmile.mapping.measured import Report

UNITS, REGIONS, SITES, SETS, OF_SET, MEASURED_FROM = 20_000, 500, 1_000, 50, 3, 3
# Measurements that changed in a step, of 60,000.
MANY = 1_000
# All is placed anew so often, whatever happens, and when something is measured otherwise.
REFRESHED_S, MEASURED_S, ROUNDS = 10.0, 1.0, 5
Told = dict[str, dict[str, dict[str, float]]]
"""Round trips in ms by region, unit and target."""


def network() -> tuple[list[Area], tuple[MapRegion, ...], Told]:
    """Units, regions with a server each, and what these have measured of units."""
    chance = np.random.default_rng(1)
    found = list(areas())
    weights = np.sqrt([area.population for area in found])
    for number, at in enumerate(chance.choice(len(found), UNITS - len(found), p=weights / weights.sum())):
        near = np.array((found[at].point.lat, found[at].point.lon)) + chance.normal(0, 1.5, 2)
        point = Point(*np.clip(near, (-80, -179), (80, 179)).tolist())
        found.append(Area(found[at].country, f"{found[at].state}/City {number:05}", point, 1000))
    points = chance.uniform((-50, -180), (60, 180), (REGIONS, 2))
    regions = tuple(
        MapRegion(f"r{n:03}", Point(lat, lon), (Server(f"r{n:03}-1", "10.0.0.1", 80),))
        for n, (lat, lon) in enumerate(points.tolist())
    )
    told: Told = {region.name: {} for region in regions}
    for area in found:
        name = f"{area.country}/{area.state}" if area.state else area.country
        for at in chance.choice(REGIONS, MEASURED_FROM, replace=False).tolist():
            told[regions[at].name][name] = {"target": float(chance.uniform(100, 300))}
    return found, regions, told


class World:
    """A controller that leads, whose writes are always won, in virtual time."""

    def __init__(self, pins: Mapping[int, tuple[int, ...]]) -> None:
        units, self.regions, self.told = network()
        self.machine, self.now_s, self.maps = Controller("me", units, Random(1)), 50.0, list[Map]()
        self.happens(RegionsChanged(self.regions, 5.0, pins=dict(pins)))
        for event in (BusBack(), LeaseSeen(0, None), MapSeen(0, None)):
            self.happens(event)
        while not self.maps:
            self.step(1.0)

    def happens(self, event: Event | None) -> None:
        """That, or that the time has come."""
        commands = self.machine.wake(self.now_s) if event is None else self.machine.handle(event, self.now_s)
        for command in commands:
            if isinstance(command, PutLease):
                self.happens(LeaseAnswer(command, Outcome.WON, 1))
            elif isinstance(command, PutMap):
                self.maps.append(command.map)
                self.happens(MapAnswer(command, Outcome.WON, len(self.maps)))

    def step(self, gap_s: float, event: Event | None = None) -> float:
        """CPU milliseconds of the step after that time; all is measured as before, but for that event."""
        self.now_s += gap_s + 0.1
        for region in self.regions:
            beat = Beat(name=region.servers[0].name, role="edge", epoch=1, seq=int(self.now_s * 10), ready=True)
            self.machine.health.handle(BeatArrived(beat), self.now_s)
        for name, units in self.told.items():
            self.machine.measured.add(Report(name, {}, units), self.now_s)
        before_s = time.process_time()
        self.happens(event)
        return 1000 * (time.process_time() - before_s)

    def remeasured(self, count: int, chance: Random) -> MeasuresArrived:
        """So many pairs have another round trip from now on; of the last one it is the report."""
        for _ in range(count):
            region = chance.choice(self.regions).name
            unit = chance.choice(list(self.told[region]))
            self.told[region][unit] = {"target": chance.uniform(100, 300)}
        return MeasuresArrived(Report(region, {}, {unit: self.told[region][unit]}))


def times(world: World) -> dict[str, list[float]]:
    """CPU milliseconds by what has happened."""
    chance, found = Random(1), dict[str, list[float]]()
    found["nothing new for 10 s"] = [world.step(REFRESHED_S) for _ in range(ROUNDS)]
    for what, count in (("a pair measured otherwise", 1), (f"{MANY:,} pairs measured otherwise", MANY)):
        found[what] = [world.step(MEASURED_S, world.remeasured(count, chance)) for _ in range(ROUNDS)]
    drains = [DrainSeen(frozenset({region.name})) for region in world.regions[:ROUNDS]]
    found["another region drained"] = [world.step(MEASURED_S, event) for event in drains]
    return found


def main() -> None:
    """Prints what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    chance = Random(2)
    sets = [tuple(sorted(chance.sample(range(REGIONS), OF_SET))) for _ in range(SETS)]
    pinned, plain = World({n + 1: sets[n % SETS] for n in range(SITES)}), World({})
    ours, theirs = times(pinned), times(plain)
    cases: list[Case] = [
        case(f"step, {what}; peer: no site pinned", ours[what], theirs[what], "ms", "(information)")
        for what in ours
    ]
    large, small = ([len(encode(world.maps[-1])) / 1000] for world in (pinned, plain))
    cases.append(case("map on the bus, of 3146 KB that the bus carries", large, small, "KB", "< 3146"))
    show(cases, args.json)


if __name__ == "__main__":
    main()
