"""How well each region serves each mapping unit: the round trip to expect, and a penalty for load.

A score is milliseconds; less is better. Distances are computed once per set of regions; what changes from map to
map, load and life of the regions, is one number per region.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from nearmile.base.gazetteer import Area
from nearmile.base.geography import EARTH_RADIUS_KM, RTT_ACCESS_MS, RTT_MS_PER_KM, Place, Point
from nearmile.mapping.map import unit_of

Matrix = NDArray[np.float64]

# Answers use the best one or two; the rest are there for the day the nearest fail. 3,500 units stay below 150 KB.
RANKED_MAX = 8
# A region may work up to this load before it costs anything: below, queueing is small (M/M/1 doubles at 0.5).
LOAD_FREE = 0.8
# A region at full load is as if 50 ms (3,300 km) further away: neighbours take over, other continents do not.
LOAD_MS = 250.0
LOAD_PENALTY_MAX_MS = 50.0
# Further than any distance on Earth: regions without live servers rank last.
DEAD_MS = 10_000.0


class Distances:
    """Round trips in ms between all areas (rows) and regions (columns)."""

    def __init__(self, areas: Sequence[Area], regions: Sequence[Point]) -> None:
        self.units = tuple(unit_of(Place(country=area.country, state=area.state)) for area in areas)
        self.rtt_ms = _rtt_ms(_radians(area.point for area in areas), _radians(regions))
        self._population = np.array([area.population for area in areas], dtype=np.float64)

    def ranked(self, penalties_ms: Sequence[float]) -> dict[str, tuple[int, ...]]:
        """Per unit the indexes of the best regions, best first, given each region's penalty."""
        scores = self.rtt_ms + np.asarray(penalties_ms)
        return dict(zip(self.units, map(tuple, _best(scores).tolist()), strict=True))

    def ranked_for_anybody(self, penalties_ms: Sequence[float]) -> tuple[int, ...]:
        """The same for a client of whom nothing is known: by the mean over people."""
        people = max(float(self._population.sum()), 1.0)
        scores = self._population @ self.rtt_ms / people + np.asarray(penalties_ms)
        return tuple(_best(scores[np.newaxis])[0].tolist())


def penalty_ms(alive: bool, load: float) -> float:
    """What a region's state adds to its scores; ``load`` is its servers' mean share of what they can do."""
    return min(max(load - LOAD_FREE, 0.0) * LOAD_MS, LOAD_PENALTY_MAX_MS) + (0.0 if alive else DEAD_MS)


def _best(scores: Matrix) -> NDArray[np.intp]:
    """Per row the columns of the lowest scores, in order; ties go to the lower index, on every machine."""
    return np.argsort(scores, axis=1, kind="stable")[:, :RANKED_MAX]


def _rtt_ms(rows: Matrix, columns: Matrix) -> Matrix:
    """``base.geography``'s haversine and round trip, for all pairs at once."""
    lat_a, lon_a, lat_b, lon_b = rows[:, :1], rows[:, 1:], columns[:, 0], columns[:, 1]
    h = np.sin((lat_b - lat_a) / 2) ** 2 + np.cos(lat_a) * np.cos(lat_b) * np.sin((lon_b - lon_a) / 2) ** 2
    km = 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.minimum(1.0, h)))
    rtt: Matrix = RTT_ACCESS_MS + km * RTT_MS_PER_KM
    return rtt


def _radians(points: Iterable[Point]) -> Matrix:
    return np.radians(np.array([(point.lat, point.lon) for point in points], dtype=np.float64).reshape(-1, 2))
