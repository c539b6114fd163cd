"""Allocations to try: candidates and capacities made of bare numbers, and the test of whether one is stable."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nearmile.mapping.allocate import (
    CANDIDATES_MAX,
    FULL,
    RAISED_MS,
    ROUNDING,
    Allocation,
    Candidates,
    Capacities,
    Floats,
    Scores,
    _staying,
    _worth,
    in_order,
)


def uncontracted(capacities: Sequence[float] | Floats) -> Capacities:
    """Regions only."""
    return Capacities(
        np.asarray(capacities, dtype=np.float64), np.zeros(len(capacities), dtype=np.intp), np.array([np.inf])
    )


def rank(scores: Scores, k: int = CANDIDATES_MAX) -> Candidates:
    """The ``k`` regions of the lowest scores (rows by regions), in order."""
    k = min(k, scores.shape[1])
    if k < scores.shape[1]:
        near = np.sort(np.argpartition(scores, k - 1, axis=1)[:, :k], axis=1)
    else:
        near = np.broadcast_to(np.arange(k), scores.shape)
    own, near = in_order(np.take_along_axis(scores, near, axis=1), near)
    return Candidates(near.astype(np.int32), own.astype(np.float32))


def blocking_pairs(
    found: Allocation, candidates: Candidates, capacities: Capacities, former: Allocation | None = None
) -> list[tuple[int, int]]:
    """Rows and ranks that would rather have each other than what they have; none in a stable allocation.

    ``found`` was made of all the others. A pair blocks where the row has demand at a worse rank, and every node
    above the region has room, or serves demand that it ranks lower.
    """
    own, placed = _worth(candidates, capacities), found.placed
    if former is not None:
        _, own = _staying(candidates, own, former)
    worth, candidates = own + RAISED_MS * found.raised[:, np.newaxis], found.candidates
    rows, ranks = np.nonzero(placed > 0)
    regions = candidates.regions[rows, ranks]
    amounts, least = placed[rows, ranks].astype(np.float64), worth[rows, ranks]
    of_region = _least(regions, amounts, least, capacities.regions)
    of_contract = _least(capacities.contract_of[regions], amounts, least, capacities.contracts)
    bars = np.maximum(of_region, of_contract[capacities.contract_of])
    worst = np.zeros(len(placed), dtype=np.intp)
    np.maximum.at(worst, rows, ranks)
    wanted = np.arange(placed.shape[1]) < worst[:, np.newaxis]
    pairs = np.nonzero(wanted & (worth > bars[candidates.regions]))
    return list(zip(pairs[0].tolist(), pairs[1].tolist(), strict=True))


def _least(nodes: NDArray[np.signedinteger], amounts: Floats, worth: Floats, capacity: Floats) -> Floats:
    """Per node the least worth that it serves; minus infinity where it has room."""
    load = np.bincount(nodes, weights=amounts, minlength=len(capacity))
    least = np.full(len(capacity), np.inf)
    np.minimum.at(least, nodes, worth)
    least[load < FULL * capacity * (1 - ROUNDING)] = -np.inf
    return least
