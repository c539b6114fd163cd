"""How many requests come from each mapping unit: edges count, the controllers sum, smooth and let age.

An edge tells with each segment of hits that it ships, about once a second, where they came from. A rate is a mean
over ages: reports need no order, a lost one is a small error, and who falls silent is forgotten. A hit of the age
a weighs a exp(-a/t) / t^2, as behind two smoothings of t each: it comes as gently as it goes. If a report counted
most when it arrives, rates would swing with each, and full regions send users away and take them back.

Sums are kept as of a common moment (forward decay: Cormode, Shkapenyuk, Srivastava and Xu 2009), so a report costs
what it tells of, and all rates are a few operations on whole arrays.
"""

from collections.abc import Mapping, Sequence
from itertools import repeat
from math import exp, inf

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from nearmile.mapping.allocate import Floats
from nearmile.mapping.map import area_name

SUBJECT = "demand"  # on the bus: demand.<edge's name>
# The mean age of what counts: longer than the swings of single clients, shorter than a rush hour.
MEMORY_S = 60.0
STAGE_S = MEMORY_S / 2
# How long a report's hits took to come; they count as if all had come in the middle of it.
TOLD_EVERY_S = 1.0
# An edge tells of the busiest units only; the rest are together little.
TOLD_MAX = 512
# Hits that waited on an edge's disk for the bus are no demand of now.
RECENT_S = 10.0
# The common moment is moved after so long, before the weights of later reports grow out of hand (e^20).
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
        self._sums = np.zeros((2, len(units)))  # of weights, and of weights times seconds after the moment
        self._area_of = np.array(
            [self._rows.get(name, row) for row, name in enumerate(map(area_name, units))], dtype=np.intp
        )
        weights = np.ones(len(units)) if people is None else np.maximum(np.asarray(people), TINY)
        self._shares = weights / np.bincount(self._area_of, weights, minlength=len(units))[self._area_of]
        self._since_s = inf
        self._moment_s = 0.0

    def after(self, former: "Demand") -> "Demand":
        """This one, with what the former knew of the units that both have."""
        shared = self._rows.keys() & former._rows.keys()
        rows, theirs = ([own[name] for name in shared] for own in (self._rows, former._rows))
        self._sums[:, rows] = former._sums[:, theirs]
        self._since_s, self._moment_s = former._since_s, former._moment_s
        return self

    def add(self, hits: Mapping[str, int], now_s: float) -> None:
        """Takes a report."""
        if abs(now_s - self._moment_s) > MOVED_S:
            self._move(now_s)
        self._since_s = min(self._since_s, now_s - TOLD_EVERY_S)
        rows = np.fromiter(map(self._rows.get, hits, repeat(-1)), dtype=np.intp, count=len(hits))
        counts = np.fromiter(hits.values(), dtype=np.float64, count=len(hits))
        after_s = now_s - TOLD_EVERY_S / 2 - self._moment_s
        weights = np.maximum(counts, 0.0) * exp(after_s / STAGE_S)
        known = rows >= 0
        self._sums[:, rows[known]] += np.outer((1.0, after_s), weights[known])

    def rates(self, now_s: float) -> NDArray[np.float64]:
        """Requests/s of each of the units; MEMORY_S is the mean age of the hits that count."""
        after_s = max(now_s - self._moment_s, -MOVED_S)
        told = np.maximum(after_s * self._sums[0] - self._sums[1], 0.0)
        # A sum that has not been there for long lacks what is older.
        stages = max(now_s - self._since_s, TOLD_EVERY_S) / STAGE_S
        seen = 1 - (1 + stages) * exp(-stages)
        within = self._area_of != np.arange(len(told))
        rates = np.where(within, told, 0.0) + told[self._area_of] * self._shares
        found: NDArray[np.float64] = rates * (exp(-after_s / STAGE_S) / STAGE_S**2 / seen)
        return found

    def _move(self, now_s: float) -> None:
        """The common moment is now; where the clock stepped back by so much, nothing that was told has an age."""
        gone_s = now_s - self._moment_s
        if gone_s < 0:
            self._sums[:], self._since_s = 0.0, inf
        else:
            self._sums[1] -= gone_s * self._sums[0]
            self._sums *= exp(-gone_s / STAGE_S)
        self._moment_s = now_s
