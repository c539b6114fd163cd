"""How many requests come from each mapping unit: edges count, the controllers sum, smooth and let age.

An edge tells with each segment of hits that it ships, about once a second, where they came from. Every report adds
to a sum that decays, so reports need no order, a lost one is a small error, and who falls silent is forgotten.
"""

from collections.abc import Iterable, Mapping
from math import exp

from msgspec import Struct

SUBJECT = "demand"  # on the bus: demand.<edge's name>
# Longer than the swings of single clients, shorter than a rush hour.
MEMORY_S = 60.0
# An edge tells of the busiest units only; the rest are together little.
TOLD_MAX = 512
# Hits that waited on an edge's disk for the bus are no demand of now.
RECENT_S = 10.0
# Units that nobody knows must not fill the memory.
UNITS_MAX = 100_000


class DemandArrived(Struct, frozen=True):
    """Hits of one edge since its last report, by unit."""

    hits: dict[str, int]


class Demand:
    """Requests/s by unit."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, float]] = {}
        self._since_s: float | None = None

    def add(self, hits: Mapping[str, int], now_s: float) -> None:
        """Takes a report."""
        if self._since_s is None:
            self._since_s = now_s
        for unit, count in hits.items():
            if unit in self._sums or len(self._sums) < UNITS_MAX:
                self._sums[unit] = (self._sum(unit, now_s) + max(count, 0), now_s)

    def rates(self, units: Iterable[str], now_s: float) -> list[float]:
        """Requests/s of each of the units, by what was told in about the last MEMORY_S."""
        if self._since_s is None:
            return [0.0 for _ in units]
        # A sum that has not been there for long has not seen MEMORY_S seconds of hits.
        seen_s = MEMORY_S * max(1 - exp(-(now_s - self._since_s) / MEMORY_S), 1 / MEMORY_S)
        return [self._sum(unit, now_s) / seen_s for unit in units]

    def _sum(self, unit: str, now_s: float) -> float:
        value, at_s = self._sums.get(unit, (0.0, now_s))
        return value * exp(-max(now_s - at_s, 0.0) / MEMORY_S)
