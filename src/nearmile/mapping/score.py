"""How well each region serves each mapping unit: the round trip to expect, and a penalty for load.

A score is milliseconds; less is better. Each place where units are has a list of candidates: its nearest regions,
and some further ones for the day when all near ones are full. It is computed once per set of regions; what changes
from map to map, load and life of the regions, is one number per region. Where hardly any candidate lives (a
continent is cut off), or where all have turned somebody down, the place gets another list, half of it regions that
have room for all such places.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from nearmile.base.gazetteer import Area
from nearmile.base.geography import EARTH_RADIUS_KM, RTT_ACCESS_MS, RTT_MS_PER_KM, Place, Point
from nearmile.config.network import RANKED_MAX
from nearmile.mapping.allocate import CANDIDATES_MAX, Candidates, in_order
from nearmile.mapping.map import unit_of

Matrix = NDArray[np.float64]
Indexes = NDArray[np.intp]

# Candidates of all units together: below 100 MB in each of the allocation's arrays. A million units have 16 each.
CELLS_MAX, CANDIDATES_MIN = 16_000_000, 12
# Of the candidates a quarter is from further away, drawn from the next ones up to this rank.
FAR_SHARE, FAR_RANK_MAX = 4, 256
# A list of which fewer than this share lives is replaced.
LIVING_SHARE = 1 / 2
# Of a substitute the nearest that live are a half. The others have room for so many times the demand that looks
# for it: places choose on their own.
ROOM = 2.0
# Places whose distances to all regions are computed at once, so that 5,000 regions need 40 MB an array.
CHUNK = 1000
# A region may work up to this load before it costs anything: below, queueing is small (M/M/1 doubles at 0.5).
LOAD_FREE = 0.8
# A region at full load is as if 50 ms (3,300 km) further away: neighbours take over, other continents do not.
LOAD_MS = 250.0
LOAD_PENALTY_MAX_MS = 50.0
# Further than any distance on Earth: regions without live servers rank last.
DEAD_MS = 10_000.0
# Turns numbers of places into fractions spread evenly (the golden ratio): neighbours draw differently.
GOLDEN = 0.6180339887498949
RTT_MS_PER_RADIAN = EARTH_RADIUS_KM * RTT_MS_PER_KM


class Distances:
    """Round trips in ms from all areas to their candidates among the regions."""

    def __init__(self, areas: Sequence[Area], regions: Sequence[Point]) -> None:
        named = sorted(
            ((unit_of(Place(country=area.country, state=area.state)), area) for area in areas), key=itemgetter(0)
        )
        self.units = tuple(name for name, _ in named)
        """Sorted. Rows are units in this order."""
        self.rows = {name: row for row, name in enumerate(self.units)}
        self.people = np.array([area.population for _, area in named], dtype=np.float64)
        points = radians(area.point for _, area in named)
        self._places, place_of = np.unique(points, axis=0, return_inverse=True)
        self._place_of: Indexes = place_of.reshape(-1)
        self._regions = radians(regions)
        people = np.bincount(self._place_of, self.people, minlength=len(self._places))
        width = min(len(regions), CANDIDATES_MAX, max(CELLS_MAX // max(len(named), 1), CANDIDATES_MIN))
        self._nearest = np.empty((len(self._places), width), dtype=np.intp)
        self._mean_ms = np.zeros(len(regions))
        for rows in chunks(len(self._places)):
            rtt_ms = round_trips_ms(self._places[rows], self._regions)
            self._nearest[rows] = _near(rtt_ms, width, rows.start)
            self._mean_ms += people[rows] @ rtt_ms
        self._mean_ms /= max(float(people.sum()), 1.0)
        self._lists, self._substituted = self._nearest.copy(), np.zeros(len(self._places), dtype=np.bool_)
        self._rtt_ms = self._measure(np.arange(len(self._places)))

    def candidates(
        self,
        penalties_ms: Matrix,
        alive: NDArray[np.bool_],
        room: Callable[[], Matrix],
        demand: Matrix,
        turned_down: NDArray[np.bool_] | None = None,
        homes: NDArray[np.int32] | None = None,
    ) -> Candidates:
        """Each unit's candidates in order, given each region's penalty; ``room`` is for demand like that of units.

        ``turned_down`` marks units whose last candidates were all full, ``homes`` are the regions that units have.
        Depends on the calls before: a place keeps the substitutes that it has until its own regions are back and
        have room.
        """
        self._substitute(alive, room, demand, turned_down)
        scores, regions = in_order(self._rtt_ms + penalties_ms[self._lists], self._lists)
        found = Candidates(regions.astype(np.int32)[self._place_of], scores.astype(np.float32)[self._place_of])
        if homes is not None:
            self._keep(found, homes, penalties_ms, alive)
        return found

    def expected_ms(self, units: Sequence[int] | Indexes, regions: Sequence[int] | Indexes) -> Matrix:
        """What is expected between those units (by their rows) and regions."""
        return round_trips_ms(self._places[self._place_of[units]], self._regions[regions])

    def for_anybody(self, penalties_ms: Matrix, regions: Sequence[int] | None = None) -> tuple[int, ...]:
        """The best of all regions, or of these, for a client of whom nothing is known: by the mean over people."""
        own = np.arange(len(self._mean_ms)) if regions is None else np.array(sorted(set(regions)))
        ranks = best((self._mean_ms + penalties_ms)[np.newaxis, own])[0]
        return tuple(own[ranks].tolist())

    def _substitute(
        self,
        alive: NDArray[np.bool_],
        room: Callable[[], Matrix],
        demand: Matrix,
        turned_down: NDArray[np.bool_] | None,
    ) -> None:
        """Brings the lists up to date with who lives and has room."""
        width, count = self._nearest.shape[1], len(self._places)
        if width >= len(alive):
            return  # everybody has all regions
        needed, crowded = width * LIVING_SHARE, np.zeros(count, dtype=np.bool_)
        if turned_down is not None:
            crowded[self._place_of[turned_down]] = True
        poor = crowded | (alive[self._lists].sum(axis=1) < needed)
        if not (poor.any() or self._substituted.any()):
            return
        own, roomy = np.bincount(self._place_of, demand, minlength=count), np.where(alive, room(), 0.0)
        good = (alive[self._nearest].sum(axis=1) >= needed) & (roomy[self._nearest].sum(axis=1) >= ROOM * own)
        back = np.flatnonzero(self._substituted & good & ~crowded)
        self._lists[back], self._substituted[back] = self._nearest[back], False
        thin = np.flatnonzero(crowded | (alive[self._lists].sum(axis=1) < needed))
        wanted = ROOM * float(own[thin].sum())
        for rows in (thin[chunk] for chunk in chunks(len(thin))):
            rtt_ms = round_trips_ms(self._places[rows], self._regions)
            rtt_ms[:, ~alive] += DEAD_MS
            self._lists[rows] = _roomy(rtt_ms, roomy, wanted, width, rows)
        self._substituted[thin] = True
        changed = np.concatenate((back, thin))
        self._rtt_ms[changed] = self._measure(changed)

    def _keep(
        self, found: Candidates, homes: NDArray[np.int32], penalties_ms: Matrix, alive: NDArray[np.bool_]
    ) -> None:
        """Puts the region that a unit has into its list for the last one, where a substitute is without it."""
        rows = np.flatnonzero(self._substituted[self._place_of] & alive[homes])
        rows = rows[(found.regions[rows] != homes[rows, np.newaxis]).all(axis=1)]
        own = homes[rows]
        cosines = np.einsum("ij,ij->i", vectors(self._places[self._place_of[rows]]), vectors(self._regions[own]))
        found.regions[rows, -1], found.scores[rows, -1] = own, _rtt_ms(cosines) + penalties_ms[own]
        found.scores[rows], found.regions[rows] = in_order(found.scores[rows], found.regions[rows])

    def _measure(self, rows: Indexes) -> Matrix:
        """Round trips to the regions of the lists of those places."""
        chosen = self._regions[self._lists[rows]]
        return _rtt_ms(np.einsum("ik,ijk->ij", vectors(self._places[rows]), vectors(chosen)))


def penalty_ms(alive: bool, load: float) -> float:
    """What a region's state adds to its scores; ``load`` is its servers' mean share of what they can do."""
    return min(max(load - LOAD_FREE, 0.0) * LOAD_MS, LOAD_PENALTY_MAX_MS) + (0.0 if alive else DEAD_MS)


def _near(rtt_ms: Matrix, width: int, first: int) -> Indexes:
    """Per row its nearest columns, and some further ones; all, where they are no more than ``width``."""
    count = rtt_ms.shape[1]
    if width >= count:
        return np.broadcast_to(np.arange(count), rtt_ms.shape)
    furthest = min(FAR_RANK_MAX, count)
    near = np.sort(np.argpartition(rtt_ms, furthest - 1, axis=1)[:, :furthest], axis=1)
    order = np.argsort(np.take_along_axis(rtt_ms, near, axis=1), axis=1, kind="stable")
    far = min(width // FAR_SHARE, furthest - width)
    edges = np.geomspace(width - far, furthest, far + 1)
    drawn = edges[:-1] + np.diff(edges) * ((first + np.arange(len(rtt_ms))) * GOLDEN % 1)[:, np.newaxis]
    ranks = np.concatenate((np.broadcast_to(np.arange(width - far), (len(drawn), width - far)), drawn), axis=1)
    return np.take_along_axis(near, np.take_along_axis(order, _apart(ranks, furthest), axis=1), axis=1)


def _roomy(rtt_ms: Matrix, room: Matrix, wanted: float, width: int, rows: Indexes) -> Indexes:
    """Per row the nearest columns, and some of the nearest that have as much room as is wanted, by their room."""
    order = np.argsort(rtt_ms, axis=1, kind="stable")
    sums = np.cumsum(np.minimum(room, max(wanted, 1.0))[order], axis=1)
    reach, far = np.minimum(sums[:, -1], wanted)[:, np.newaxis], width - width // 2
    marks = (np.arange(far) + (rows * GOLDEN % 1)[:, np.newaxis]) / far * reach
    drawn = [np.searchsorted(own, wished, "right") for own, wished in zip(sums, marks, strict=True)]
    near = np.broadcast_to(np.arange(width // 2), (len(rows), width // 2))
    ranks = np.sort(np.concatenate((near, drawn), axis=1), axis=1)
    return np.take_along_axis(order, _apart(ranks.astype(np.float64), room.size), axis=1)


def _apart(ranks: Matrix, count: int) -> Indexes:
    """Whole numbers below ``count``, growing along each row."""
    steps = np.arange(ranks.shape[1])
    rising = np.maximum.accumulate(ranks.astype(np.intp) - steps, axis=1) + steps
    found: Indexes = np.minimum(rising, count - ranks.shape[1] + steps)
    return found


def best(scores: Matrix) -> Indexes:
    """Per row the columns of the lowest scores, in order; ties go to the lower index, on every machine."""
    return np.argsort(scores, axis=1, kind="stable")[:, :RANKED_MAX]


def chunks(count: int) -> Iterator[slice]:
    """So many rows in parts of CHUNK."""
    return (slice(start, start + CHUNK) for start in range(0, count, CHUNK))


def round_trips_ms(rows: Matrix, columns: Matrix) -> Matrix:
    """Those to expect between all pairs of points (in radians), as ``base.geography`` has them."""
    return _rtt_ms(vectors(rows) @ vectors(columns).T)


def _rtt_ms(cosines: Matrix) -> Matrix:
    """Over the angle between two unit vectors."""
    rtt: Matrix = RTT_ACCESS_MS + RTT_MS_PER_RADIAN * np.arccos(np.clip(cosines, -1.0, 1.0))
    return rtt


def vectors(points: Matrix) -> Matrix:
    """Unit vectors; latitudes and longitudes are along the last axis."""
    lat, lon = points[..., 0], points[..., 1]
    return np.stack((np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)), axis=-1)


def radians(points: Iterable[Point]) -> Matrix:
    """Latitudes and longitudes."""
    return np.radians(np.array([(point.lat, point.lon) for point in points], dtype=np.float64).reshape(-1, 2))
