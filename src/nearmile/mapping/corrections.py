"""What was measured, as arrays: made once for a map, and then added to whatever scores are expected by distance.

A pair is a unit and a region that has measured it. Regions that have not get what is common to the unit's own (see
``measured``).
"""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from nearmile.mapping.allocate import Candidates, Floats, Rows, Scores, in_order
from nearmile.mapping.map import NO_REGION


class Corrections(Struct, frozen=True):
    """``units`` are the rows of those that were measured, in order, and ``common_ms`` is by these.

    The pairs are in the order of units and then of regions: ``at`` is an index into ``units``, ``deltas_ms`` is
    what to add to what is expected by distance, and ``scores_ms`` the sum of both.
    """

    units: Rows
    common_ms: Scores
    at: Rows
    regions: Rows
    deltas_ms: Scores
    scores_ms: Floats

    def applied(self, candidates: Candidates, penalties_ms: Floats) -> Candidates:
        """The candidates in order.

        A region that is too far away to be a candidate, but was measured to be near, takes the place of the last.
        """
        if not len(self.units):
            return candidates
        regions, scores = candidates.regions[self.units], candidates.scores[self.units]
        width = regions.shape[1]
        pairs, ranks = np.nonzero(regions[self.at] == self.regions[:, np.newaxis])
        own = self.at[pairs], ranks
        corrected = scores + self.common_ms[:, np.newaxis]
        corrected[own] = scores[own] + self.deltas_ms[pairs]
        others = np.delete(np.arange(len(self.at)), pairs)
        more = self._strangers(others, penalties_ms, width)
        corrected, regions = in_order(
            np.concatenate((corrected, more.scores), axis=1), np.concatenate((regions, more.regions), axis=1)
        )
        found = Candidates(candidates.regions.copy(), candidates.scores.copy())
        found.regions[self.units], found.scores[self.units] = regions[:, :width], corrected[:, :width]
        return found

    def added(self, expected_ms: Floats, rows: Rows, regions: Rows) -> Floats:
        """The scores of those units at those regions, both in order; what is expected is of that shape."""
        place, column = _places(self.units, rows), _places(self.regions, regions)
        known = np.flatnonzero(place >= 0)
        pairs = np.flatnonzero((column >= 0) & (place >= 0)[self.at])
        own = place[self.at[pairs]], column[pairs]
        found = expected_ms.copy()
        found[place[known]] += self.common_ms[known, np.newaxis]
        found[own] = expected_ms[own] + self.deltas_ms[pairs]
        return found

    def of(self, rows: Rows) -> "Corrections":
        """Those of some units alone."""
        inside = np.isin(self.units, rows)
        pairs = np.flatnonzero(inside[self.at])
        return Corrections(
            self.units[inside],
            self.common_ms[inside],
            (np.cumsum(inside) - 1)[self.at[pairs]],
            self.regions[pairs],
            self.deltas_ms[pairs],
            self.scores_ms[pairs],
        )

    def unlike(self, other: "Corrections") -> Rows:
        """The units that have other corrections there, in order."""
        return np.union1d(self._lacking(other), other._lacking(self))

    def _lacking(self, other: "Corrections") -> Rows:
        """The units of pairs that the other does not have, or otherwise."""
        places = _places(self._keys(), other._keys())
        same = places >= 0
        same[same] = self.deltas_ms[same] == other.deltas_ms[places[same]]
        return self.units[self.at[~same]]

    def _keys(self) -> Rows:
        """A number for each pair, in order."""
        return self.units[self.at] * (NO_REGION + 1) + self.regions

    def _strangers(self, pairs: Rows, penalties_ms: Floats, width: int) -> Candidates:
        """Of these pairs the best by unit, in order, and infinity where there are no more."""
        scores = (self.scores_ms[pairs] + penalties_ms[self.regions[pairs]]).astype(np.float32)
        order = np.lexsort((self.regions[pairs], scores, self.at[pairs]))
        pairs, scores = pairs[order], scores[order]
        rows = self.at[pairs]
        ranks = np.arange(len(rows)) - np.searchsorted(rows, rows)
        best = np.flatnonzero(ranks < width)
        shape = len(self.units), int(ranks[best].max(initial=-1)) + 1
        found = Candidates(np.zeros(shape, dtype=np.int32), np.full(shape, np.inf, dtype=np.float32))
        found.regions[rows[best], ranks[best]] = self.regions[pairs[best]]
        found.scores[rows[best], ranks[best]] = scores[best]
        return found


def _places(values: Rows, among: Rows) -> Rows:
    """Where each value is in numbers that are in order; -1 where it is not."""
    if not len(among):
        return np.full(len(values), -1)
    places = np.minimum(np.searchsorted(among, values), len(among) - 1)
    return np.where(among[places] == values, places, -1)


def of_pairs(units: Sequence[int], common_ms: Scores, pairs: Sequence[tuple[float, ...]] | Floats) -> Corrections:
    """Of the rows of units, in order, and for each pair ``at``, its region, delta and score, in any order."""
    table = np.asarray(pairs, dtype=np.float64).reshape(-1, 4)
    at, regions, deltas_ms, scores_ms = table[np.lexsort((table[:, 1], table[:, 0]))].T
    return Corrections(
        np.array(units, dtype=np.intp),
        common_ms,
        at.astype(np.intp),
        regions.astype(np.intp),
        deltas_ms.astype(np.float32),
        scores_ms,
    )


NOTHING_MEASURED = of_pairs([], np.zeros(0, dtype=np.float32), [])
