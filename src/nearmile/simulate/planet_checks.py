"""What must hold of every map that is published for the planet, by what is true at that moment.

The judge knows nothing of how maps are made: it reads who is sent where from the map as a name server does, and
compares that with the servers that live, with the demand that there is, and with all regions of the planet.
"""

from collections.abc import Iterable
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nearmile.base.geography import EARTH_RADIUS_KM, RTT_MS_PER_KM
from nearmile.mapping import controller
from nearmile.mapping.choose import choose
from nearmile.mapping.map import PARTS, Map
from nearmile.simulate.checks import Found

if TYPE_CHECKING:
    from nearmile.simulate.planet import Planet

Floats = NDArray[np.float64]
Numbers = NDArray[np.intp]

# A region may be above its capacity by so much: its demand is known from counts of the last minute.
OVER = 1.1
# Another region is acceptable where it is at most so much further, and has this share of itself free.
FURTHER_MS, FREE = 25.0, 0.05
# In each such step so much of all demand may move, for each part that had to: what servers carried that are gone,
# or what those carry now that came back, since some displace others. And a little for the sun, for chance and for
# what settles later.
STEP_S, MOVED_PER_FORCED, MOVED_ANYWAY = 10.0, 1.5, 0.03
# Answers that are looked at with each map.
ANSWERS, SERIALS = 200, 1000
# From a server's death: the time until it counts as silent, the gap between maps, and a write.
SLACK_S = 0.2
CHUNK = 1000


class Judge:
    """Takes every map; ``found`` has what was violated, ``loads_rps`` what the last map gives each region."""

    def __init__(self, planet: "Planet") -> None:
        self._planet = planet
        self.found = {
            name: Found([], 0)
            for name in ("dead servers named", "regions too full", "moved at once", "empty answers")
        }
        scale = planet.scale
        gap_s = controller.MAP_GAP_S + controller.MAP_GAP_S_PER_SERVER * scale.regions * scale.servers
        self.bound_s = scale.dead_after_s + controller.COALESCE_S + gap_s + SLACK_S
        self.loads_rps = np.zeros(scale.regions)
        self.maps = self.placings = 0
        self.moved_most = self.over_most = 0.0
        self.mean_ms: list[float] = []
        names = (server.name for region in planet.regions for server in region.servers)
        self._index = {name: number for number, name in enumerate(names)}
        self._listed = np.zeros((scale.regions, scale.servers), dtype=np.bool_)
        self._ranked = b""
        self._first = np.zeros(0, dtype=np.intp)
        self._shares: dict[str, tuple[int, ...]] = {}
        self._usable_rps = np.zeros(scale.regions)
        self._step_rps, self._compared_at_s = np.zeros(scale.regions), -np.inf
        self._xyz = _unit_vectors(planet.places), _unit_vectors(planet.sites)

    def published(self, map_: Map) -> None:
        """A map reached everybody."""
        self.maps += 1
        self._listed[:] = False
        index = self._index
        self._listed.flat[[index[server.name] for region in map_.regions for server in region.servers]] = True
        self.look_for_the_dead()
        note = blake2b(map_.units.ranked, digest_size=16)
        note.update(repr(map_.shares).encode() + self._listed.tobytes())
        self._planet.clock.note(f"map {map_.version} {note.hexdigest()}")
        if map_.units.ranked is not self._ranked:
            self._placed(map_)
        self._ask(map_)

    def look_for_the_dead(self) -> None:
        """Nobody whom the last map names has been dead for longer than the bound."""
        now_s = self._planet.clock.now_s
        late = self._listed & (now_s - self._planet.dead_since_s > self.bound_s)
        self._note(
            "dead servers named", self._listed.size, (f"server {n} of region {r}" for r, n in np.argwhere(late))
        )

    def _placed(self, map_: Map) -> None:
        """The units were placed anew."""
        planet, self._ranked = self._planet, map_.units.ranked
        self.placings += 1
        demand = planet.demand_rps()
        first = np.frombuffer(map_.units.ranked, dtype="<u2")[:: map_.units.width].astype(np.intp)
        regions = len(planet.regions)
        loads: Floats = np.bincount(first, demand, minlength=regions).astype(np.float64)
        for name, parts in map_.shares.items():
            row = int(name)
            loads[first[row]] -= demand[row]
            for index, part in zip(map_.units[name], parts, strict=False):
                loads[index] += demand[row] * part / PARTS
        usable = planet.capacity_rps * self._listed.mean(axis=1)
        self.loads_rps = loads
        if planet.clock.now_s >= self._compared_at_s + STEP_S:
            if self.placings > 1:
                self._compare(first, map_.shares, demand, loads, usable)
            self._first, self._shares, self._usable_rps, self._step_rps = first, map_.shares, usable, loads
            self._compared_at_s = planet.clock.now_s
        self._look_for_the_full(first, demand, loads, usable)
        self.mean_ms.append(float(np.average(self._rtt_ms(first), weights=demand)))

    def _compare(
        self, first: Numbers, shares: dict[str, tuple[int, ...]], demand: Floats, loads: Floats, usable: Floats
    ) -> None:
        """How much of the demand has moved; of a split unit that part which changed."""
        moved = np.where(first != self._first, demand, 0.0)
        for name in shares.keys() | self._shares.keys():
            row = int(name)
            if first[row] == self._first[row]:
                new, old = (each.get(name, (PARTS,))[0] for each in (shares, self._shares))
                moved[row] = demand[row] * abs(new - old) / PARTS
        share = float(moved.sum() / demand.sum())
        changed = (usable - self._usable_rps) / self._planet.capacity_rps
        forced_rps = np.where(changed < 0, self._step_rps, loads) * np.abs(changed)
        forced = float(forced_rps.sum() / demand.sum())
        self.moved_most = max(self.moved_most, share)
        told = f"{share:.2%} of demand moved, where {forced:.2%} had to"
        self._note("moved at once", 1, [told] if share > MOVED_PER_FORCED * forced + MOVED_ANYWAY else [])

    def _look_for_the_full(self, first: Numbers, demand: Floats, loads: Floats, usable: Floats) -> None:
        """No region is above its capacity while another that is acceptable to somebody there has room."""
        self.over_most = max(self.over_most, float((loads / np.maximum(usable, 1e-9))[usable > 0].max()))
        room = np.where(usable > 0, usable * (1 - FREE) - loads, 0.0)
        wrong = []
        for region in np.flatnonzero(loads > OVER * usable).tolist():
            rows = np.flatnonzero(first == region)
            places = self._planet.place_of[rows]
            further_ms = (
                _ms(self._xyz[0][places] @ self._xyz[1].T) - self._rtt_ms(first[rows], rows)[:, np.newaxis]
            )
            better = (further_ms <= FURTHER_MS) & (room > demand[rows][:, np.newaxis])
            if better.any():
                row, other = np.argwhere(better)[0]
                wrong.append(
                    f"region {region} has {loads[region] / max(usable[region], 1e-9):.2f} of its capacity, "
                    f"and unit {rows[row]} could go to {other}"
                )
        self._note("regions too full", len(loads), wrong)

    def _ask(self, map_: Map) -> None:
        """Some answers, as name servers give them."""
        draw = np.random.default_rng(map_.version)
        units = draw.integers(0, len(self._planet.units), ANSWERS)
        asked = zip(units.tolist(), draw.integers(0, SERIALS, ANSWERS).tolist(), strict=True)
        empty = [f"unit {unit}" for unit, serial in asked if not choose(map_, f"{unit:07}", serial, 2).servers]
        self._note("empty answers", ANSWERS, empty)

    def _rtt_ms(self, regions: Numbers, rows: Numbers | None = None) -> Floats:
        """From the units of those rows, or of all, to a region each."""
        places = self._planet.place_of if rows is None else self._planet.place_of[rows]
        return _ms(np.einsum("ij,ij->i", self._xyz[0][places], self._xyz[1][regions]))

    def _note(self, check: str, cases: int, wrong: Iterable[str]) -> None:
        before, at_s = self.found[check], self._planet.clock.now_s
        violations = [*before.violations, *(f"{at_s:.3f} s: {each}" for each in wrong)]
        self.found[check] = Found(violations, before.checked + cases)


def nearest(places: Floats, sites: Floats) -> Numbers:
    """The nearest site of each place; both are latitudes and longitudes."""
    a, b = _unit_vectors(places), _unit_vectors(sites).T
    parts = [(a[start : start + CHUNK] @ b).argmax(axis=1) for start in range(0, len(a), CHUNK)]
    return np.concatenate(parts)


def _unit_vectors(points_deg: Floats) -> Floats:
    lat, lon = np.radians(points_deg).T
    return np.column_stack((np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)))


def _ms(cosines: Floats) -> Floats:
    """Round trips over that angle."""
    found: Floats = EARTH_RADIUS_KM * np.arccos(np.clip(cosines, -1.0, 1.0)) * RTT_MS_PER_KM
    return found
