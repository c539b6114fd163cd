"""How many requests come from each mapping unit: edges count, the controllers sum, smooth and let age.

An edge tells with each segment of hits that it ships, about once a second, where they came from. Every report adds
to a sum that decays, so reports need no order, a lost one is a small error, and who falls silent is forgotten.

Sums are kept as of a common moment (forward decay: Cormode, Shkapenyuk, Srivastava and Xu 2009), so a report costs
what it tells of, and all rates are one operation on one array.
"""

from collections.abc import Mapping, Sequence
from itertools import repeat
from math import exp, inf

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from nearmile.mapping.allocate import Floats

SUBJECT = "demand"  # on the bus: demand.<edge's name>
# Longer than the swings of single clients, shorter than a rush hour.
MEMORY_S = 60.0
# An edge tells of the busiest units only; the rest are together little.
TOLD_MAX = 512
# Hits that waited on an edge's disk for the bus are no demand of now.
RECENT_S = 10.0
# The common moment is moved after so long, before the weights of later reports grow out of hand (e^10).
MOVED_S = 10 * MEMORY_S

# A unit without people has some all the same, or nobody would carry what comes from it.
TINY = 1e-3


class DemandArrived(Struct, frozen=True):
    """Hits of one edge since its last report, by unit; those of sites of class downloads apart."""

    hits: dict[str, int]
    downloads: dict[str, int] = {}


class Demand:
    """Requests/s of those units; what is told of others is not kept.

    Edges know countries and states. What is told of one is that of all units in it, by their people.
    """

    def __init__(self, units: Sequence[str], people: Sequence[float] | Floats | None = None) -> None:
        self._rows = {name: row for row, name in enumerate(units)}
        self._sums = np.zeros(len(units))
        areas = ("/".join(name.split("/", 2)[:2]).rstrip("/") for name in units)
        self._area_of = np.array([self._rows.get(area, row) for row, area in enumerate(areas)], dtype=np.intp)
        weights = np.ones(len(units)) if people is None else np.maximum(np.asarray(people), TINY)
        self._shares = weights / np.bincount(self._area_of, weights, minlength=len(units))[self._area_of]
        self._since_s = inf
        self._moment_s = 0.0

    def after(self, former: "Demand") -> "Demand":
        """This one, with what the former knew of the units that both have."""
        shared = self._rows.keys() & former._rows.keys()
        rows, theirs = ([own[name] for name in shared] for own in (self._rows, former._rows))
        self._sums[rows] = former._sums[theirs]
        self._since_s, self._moment_s = former._since_s, former._moment_s
        return self

    def add(self, hits: Mapping[str, int], now_s: float) -> None:
        """Takes a report."""
        self._since_s = min(self._since_s, now_s)
        if abs(now_s - self._moment_s) > MOVED_S:
            self._sums *= exp(min(self._moment_s - now_s, 0.0) / MEMORY_S)
            self._moment_s = now_s
        rows = np.fromiter(map(self._rows.get, hits, repeat(-1)), dtype=np.intp, count=len(hits))
        counts = np.fromiter(hits.values(), dtype=np.float64, count=len(hits))
        weights = np.maximum(counts, 0.0) * exp((now_s - self._moment_s) / MEMORY_S)
        known = rows >= 0
        self._sums[rows[known]] += weights[known]

    def rates(self, now_s: float) -> NDArray[np.float64]:
        """Requests/s of each of the units, by what was told in about the last MEMORY_S."""
        # A sum that has not been there for long has not seen MEMORY_S seconds of hits.
        seen_s = MEMORY_S * max(1 - exp(-max(now_s - self._since_s, 0.0) / MEMORY_S), 1 / MEMORY_S)
        within = self._area_of != np.arange(len(self._sums))
        rates = np.where(within, self._sums, 0.0) + self._sums[self._area_of] * self._shares
        found: NDArray[np.float64] = rates * (exp(min(self._moment_s - now_s, MOVED_S) / MEMORY_S) / seen_s)
        return found
