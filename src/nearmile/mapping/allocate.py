"""Global allocation: which part of a unit's demand each region serves, stable under capacities.

Deferred acceptance (Gale and Shapley 1962; for content delivery: Maggs and Sitaraman, "Algorithmic Nuggets in
Content Delivery", 2015). Units propose the demand that nobody serves yet to the best region that has not turned
them down. Every node of the tree of capacities, a region or the contract of several, keeps what it prefers and
evicts the rest, which proposes on. A unit prefers low scores; a node prefers the units that would lose most at the
next region of their list. When nobody proposes any more, no pair blocks: no unit and region would both rather have
each other than what they have.

With a former allocation at hand, both sides prefer what they have, so that a small change moves little: units by a
few ms, regions by more, so that nobody has to go but for somebody who would be far worse off elsewhere. Else who
loses a region takes the place of others, they that of others further off, and so on to where there is room. The
rounds start from nothing all the same: that proved to cost less than repairing what was.

A unit that its whole list turned down is raised above all who were not, and tries again; others make room for it.
What finds none even then is spread over the list by letting the full carry more, all by the same factor. Where
demand is above all capacity together, every capacity is stretched by what is missing.

A row is a unit in a traffic class. Arrays are indexed by rows, by ranks of a row's list of candidates, by regions
or by contracts. Demands and capacities are in one unit, whichever; scores in ms.
"""

from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Scores = NDArray[np.float32]
Indexes = NDArray[np.int32]
Rows = NDArray[np.intp]

# Candidates of a row: further ones are hardly ever better than being overloaded at home.
CANDIDATES_MAX = 32
# A node is full from this share of its capacity on, and evicts down to it: what is evicted is never dust, which
# would go round in circles in ever smaller parts.
FULL = 0.999
# A region that was full has room again below this share: who would come from afar does not come and go with each
# change of demand.
ROOMY = 0.9
# Capacities that are below demand all together are stretched until it fills this share of them: to use the very
# last room would take long, and send users around the world.
STRETCHED = 0.97
# Demand below this share of a row's own is rounding, as is a load that misses its bound by less.
DUST = ROUNDING = 1e-6
# A row stays where it is unless it gains more than this.
STAY_MS = 3.0
# A node gives up what it serves only for who would lose so much more elsewhere. With 3 ms the loss of a continent
# moved three times the demand that had to move, and the mean round trip was the longer for it.
KEEP_MS = 30.0
# Added to a row's rank at a node in its second chance: more than any score.
RAISED_MS = np.float32(1e6)
# Each step lets full nodes carry so much more until all demand is placed: 200 steps are a factor of 17,000.
GROWTH, GROWTH_STEPS_MAX = 1.05, 200


class Candidates(Struct, frozen=True):
    """Per row its best regions in order: their indexes and scores, both of shape (rows, ranks)."""

    regions: Indexes
    scores: Scores


class Capacities(Struct, frozen=True):
    """What the nodes can carry. Regions without a contract name contract 0, whose capacity is then infinite."""

    regions: Floats
    contract_of: Rows
    contracts: Floats


class Allocation(Struct, frozen=True):
    """Who serves what.

    ``placed`` is demand by row and rank of ``candidates``; each row's sum is its demand. ``raised`` marks rows
    that their whole list turned down at first, and ``full`` the regions that can carry no more.
    """

    candidates: Candidates
    placed: Scores
    raised: NDArray[np.bool_]
    full: NDArray[np.bool_]


def in_order(scores: NDArray[Any], *beside: NDArray[Any]) -> list[NDArray[Any]]:
    """Each row's scores from the lowest on, and what stands beside them, of the same shape; equal ones stay."""
    order = np.argsort(scores, axis=1, kind="stable")
    return [np.take_along_axis(each, order, axis=1) for each in (scores, *beside)]


def allocate(
    demand: Floats, candidates: Candidates, capacities: Capacities, former: Allocation | None = None
) -> Allocation:
    """Places all demand, whatever the capacities.

    With a ``former`` allocation of the same rows little moves where little has changed; candidates that have
    something to lose then count STAY_MS less, and are ordered so; regions rank what they serve KEEP_MS higher.
    """
    worth = _worth(candidates, capacities)
    if former is not None:
        candidates, worth = _staying(candidates, worth, former)
    market = _Market(demand, candidates, worth, capacities)
    market.trade(np.flatnonzero(demand > 0))
    return market.finish(np.zeros(len(capacities.regions), dtype=np.bool_) if former is None else former.full)


def loads(allocation: Allocation, regions: int) -> Floats:
    """Demand placed at each region."""
    pieces = np.flatnonzero(allocation.placed)
    placed = allocation.placed.ravel()[pieces]
    found = np.bincount(allocation.candidates.regions.ravel()[pieces], placed, minlength=regions)
    return found.astype(np.float64, copy=False)


def usable(capacities: Capacities) -> float:
    """What all regions can carry together."""
    own = np.bincount(capacities.contract_of, weights=capacities.regions, minlength=len(capacities.contracts))
    return float(np.minimum(own, capacities.contracts).sum())


def _worth(candidates: Candidates, capacities: Capacities) -> Scores:
    """What each row would lose, in ms, at the next region of its list that is under another contract.

    The regions of a contract must not take users from each other who fit in together.
    """
    scores = candidates.scores
    beyond = scores[:, -1:] + (scores[:, -1:] - scores[:, :1])  # beyond the list it is further still
    if not np.isfinite(capacities.contracts).any():
        return np.diff(scores, axis=1, append=beyond)
    bound = np.isfinite(capacities.contracts)[capacities.contract_of]
    alone = len(capacities.contracts) + np.arange(len(bound))
    party = np.where(bound, capacities.contract_of, alone)[candidates.regions]
    worth = np.empty_like(scores)
    elsewhere = beyond[:, 0]
    for place in range(scores.shape[1] - 1, -1, -1):
        if place + 1 < scores.shape[1]:
            elsewhere = np.where(party[:, place + 1] == party[:, place], elsewhere, scores[:, place + 1])
        worth[:, place] = elsewhere - scores[:, place]
    return worth


def _staying(candidates: Candidates, worth: Scores, former: Allocation) -> tuple[Candidates, Scores]:
    """Candidates and worth as they are for who would rather stay, and for who would rather keep."""
    pieces = np.flatnonzero(former.placed)
    rows, homes = pieces // former.placed.shape[1], former.candidates.regions.ravel()[pieces]
    first = candidates.regions[rows, 0] == homes  # as nearly always
    others = rows[~first]
    found, ranks = np.nonzero(candidates.regions[others] == homes[~first, np.newaxis])
    further = others[found]
    kept = np.concatenate((rows[first], further)), np.concatenate((np.zeros(first.sum(), dtype=np.intp), ranks))
    regions, scores, worth = candidates.regions.copy(), candidates.scores.copy(), worth.copy()
    scores[kept] -= STAY_MS
    worth[kept] += KEEP_MS
    moving = np.unique(further)  # of the others the order stays
    scores[moving], regions[moving], worth[moving] = in_order(scores[moving], regions[moving], worth[moving])
    return Candidates(regions, scores), worth


class _Market:
    """The rounds of proposals. A piece is a row's demand at one rank, by its index in the flattened arrays."""

    def __init__(self, demand: Floats, candidates: Candidates, worth: Scores, capacities: Capacities) -> None:
        self._candidates = candidates
        self._k = candidates.regions.shape[1]
        self._region_of = candidates.regions.ravel()
        self._worth = worth.ravel()
        self._dust = DUST * demand
        self._unmet = demand.astype(np.float64)
        self._next = np.zeros(len(demand), dtype=np.intp)
        self._raised = np.zeros(len(demand), dtype=np.bool_)
        self._placed = np.zeros(len(self._region_of))
        self._held, self._held_at = np.empty(0, dtype=np.intp), np.empty(0, dtype=np.int32)
        filled = float(demand.sum()) / max(usable(capacities), ROUNDING)
        stretch = filled / STRETCHED if filled > 1 else 1.0
        levels = np.arange(len(capacities.regions)), capacities.contract_of
        limits = capacities.regions, capacities.contracts
        self._levels = [_Level(nodes, limit * stretch) for nodes, limit in zip(levels, limits, strict=True)]

    def trade(self, waiting: Rows) -> None:
        """Rounds of proposals and evictions, from those rows on, until all is placed or turned down everywhere."""
        while len(waiting):
            self._propose(self._advance(waiting))
            waiting = np.unique(np.concatenate([self._evict(level) for level in self._levels]))

    def finish(self, were_full: NDArray[np.bool_]) -> Allocation:
        """Raises who was turned down everywhere, then lets the full carry more, until all demand is placed."""
        while len(waiting := self._left(~self._raised)):
            self._raised[waiting] = True
            self._worth.reshape(-1, self._k)[waiting] += RAISED_MS
            self._next[waiting] = 0
            self.trade(waiting)
        for _ in range(GROWTH_STEPS_MAX):
            waiting = self._left(self._raised)
            if not len(waiting):
                break
            self._grow(waiting)
            self.trade(waiting)
        lost = self._left(self._raised)  # nobody on the list can carry anything: the best is the least bad
        self._placed[lost * self._k] += self._unmet[lost]
        placed = self._placed.reshape(-1, self._k).astype(np.float32)
        return Allocation(self._candidates, placed, self._raised, self._full(were_full))

    def _full(self, were_full: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Regions that carry what they can, or whose contract does."""
        share = np.where(were_full, ROOMY, FULL * (1 - ROUNDING))
        region, contract = (
            level.load[level.node_of] >= share * level.bound[level.node_of] for level in self._levels
        )
        full: NDArray[np.bool_] = region | contract
        return full

    def _left(self, among: NDArray[np.bool_]) -> Rows:
        left: Rows = np.flatnonzero((self._unmet > self._dust) & among)
        return left

    def _advance(self, rows: Rows) -> Rows:
        """Moves rows past the ranks that would turn them down; returns those with a rank left."""
        trying = rows
        while len(trying):
            trying = trying[self._next[trying] < self._k]
            pieces = trying * self._k + self._next[trying]
            regions = self._region_of[pieces]
            bars = np.maximum(*(level.bars[level.node_of[regions]] for level in self._levels))
            trying = trying[self._worth[pieces] <= bars]
            self._next[trying] += 1
        able: Rows = rows[self._next[rows] < self._k]
        return able

    def _propose(self, rows: Rows) -> None:
        pieces = rows * self._k + self._next[rows]
        new = pieces[self._placed[pieces] == 0]
        self._held = np.concatenate((self._held, new))
        self._held_at = np.concatenate((self._held_at, self._region_of[new]))
        self._move(pieces, self._unmet[rows])
        self._unmet[rows] = 0

    def _move(self, pieces: Rows, amounts: Floats) -> None:
        """Adds to what is placed, once a piece, and to the loads of the nodes above."""
        self._placed[pieces] += amounts
        regions = self._region_of[pieces]
        for level in self._levels:
            level.load += np.bincount(level.node_of[regions], weights=amounts, minlength=len(level.load))

    def _evict(self, level: "_Level") -> Rows:
        """Brings the nodes of a level back under their limits; returns the rows that lost something."""
        over = level.load > level.limit
        if not over.any():
            return np.empty(0, dtype=np.intp)
        inside = np.flatnonzero(over[level.node_of][self._held_at])
        pieces, nodes = self._held[inside], level.node_of[self._held_at[inside]]
        order = np.lexsort((pieces, self._worth[pieces], nodes))
        inside, pieces, nodes = inside[order], pieces[order], nodes[order]
        amounts = self._placed[pieces]
        before = np.cumsum(amounts) - amounts
        before -= before[np.searchsorted(nodes, nodes)]  # of the same node
        gone = np.clip((level.load - FULL * level.limit)[nodes] - before, 0, amounts)
        losing = gone > 0
        inside, pieces, nodes, gone = inside[losing], pieces[losing], nodes[losing], gone[losing]
        self._move(pieces, -gone)
        np.add.at(self._unmet, pieces // self._k, gone)
        np.maximum.at(level.bars, nodes, self._worth[pieces])
        emptied = inside[self._placed[pieces] <= 0]
        self._held, self._held_at = np.delete(self._held, emptied), np.delete(self._held_at, emptied)
        rows: Rows = pieces // self._k
        return rows

    def _grow(self, rows: Rows) -> None:
        """Lets all nodes that those rows may use carry more."""
        regions = np.unique(self._candidates.regions[rows])
        for level in self._levels:
            nodes = np.unique(level.node_of[regions])
            level.limit[nodes] *= GROWTH
            level.bars[nodes[level.limit[nodes] > 0]] = -np.inf
        self._next[rows] = 0


class _Level:
    """One level of the tree of capacities. A piece must be worth more than its node's bar to be let in."""

    def __init__(self, node_of: Rows, limit: Floats) -> None:
        self.node_of, self.limit = node_of, limit
        self.bound = limit.copy()
        self.load = np.zeros(len(limit))
        self.bars = np.where(limit > 0, -np.inf, np.inf).astype(np.float32)
