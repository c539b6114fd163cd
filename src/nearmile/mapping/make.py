"""Makes the map: for every unit the best regions, given who lives, how loaded they are, what they can carry."""

from collections.abc import Sequence
from math import inf

import numpy as np
from msgspec import Struct, structs
from numpy.typing import NDArray

from nearmile.mapping.allocate import Allocation, Capacities, allocate, rank
from nearmile.mapping.map import PARTS, Map, MapRegion, View
from nearmile.mapping.score import DEAD_MS, RANKED_MAX, Distances, penalty_ms

# A load counts anew when it differs by so much from the one last reckoned with: small changes move nobody.
LOAD_STEP = 0.15
# For a pinned site, regions of others are further than dead ones of its own.
OUTSIDE_MS = 2 * DEAD_MS


class Terms(Struct, frozen=True, kw_only=True):
    """On which terms a region serves; ``contract`` is empty where it has none."""

    capacity_rps: float = inf
    contract: str = ""
    contract_rps: float = inf
    cost_ms: float = 0.0
    drain: bool = False


class Made(Struct, frozen=True):
    """A map, and the allocation that it applies, from which the next should differ little; None without any."""

    map: Map
    allocation: Allocation | None


def make_map(
    distances: Distances,
    regions: tuple[MapRegion, ...],
    loads: Sequence[float],
    *,
    terms: Sequence[Terms] = (),
    demand_rps: Sequence[float] = (),
    pins: dict[int, tuple[int, ...]] | None = None,
    former: Allocation | None = None,
    version: int = 0,
    term: int = 0,
    made_at_s: float = 0.0,
) -> Made:
    """The map for these regions, with their live servers, in the order of the columns of ``distances``.

    ``terms`` is by region and ``demand_rps`` by unit, each empty where nothing is said; ``pins`` gives the regions
    of pinned sites by serial.
    """
    terms = terms or [Terms() for _ in regions]
    penalties_ms = [
        penalty_ms(bool(region.servers), load) + term.cost_ms
        for region, load, term in zip(regions, loads, terms, strict=True)
    ]
    units, allocation = distances.ranked(penalties_ms), None
    shares: dict[str, tuple[int, ...]] = {}
    if any(min(term.capacity_rps, term.contract_rps) < inf for term in terms) and sum(demand_rps) > 0:
        scores = (distances.rtt_ms + np.asarray(penalties_ms)).astype(np.float32)
        capacities = _capacities(regions, terms)
        allocation = allocate(np.asarray(demand_rps), rank(scores), capacities, former)
        units, shares = _applied(distances.units, allocation)
    sets = list(dict.fromkeys((pins or {}).values()))
    map_ = Map(
        version=version,
        term=term,
        made_at_s=made_at_s,
        regions=regions,
        units=units,
        fallback=distances.ranked_for_anybody(penalties_ms),
        shares=shares,
        pins={serial: sets.index(own) for serial, own in (pins or {}).items()},
        views=tuple(_view(distances, penalties_ms, own) for own in sets),
    )
    return Made(map_, allocation)


def _capacities(regions: Sequence[MapRegion], terms: Sequence[Terms]) -> Capacities:
    contracts = {"": inf} | {term.contract: term.contract_rps for term in terms if term.contract}
    names = list(contracts)
    return Capacities(
        np.array(
            [term.capacity_rps if region.servers else 0.0 for region, term in zip(regions, terms, strict=True)]
        ),
        np.array([names.index(term.contract) for term in terms]),
        np.array(list(contracts.values())),
    )


def _applied(
    units: Sequence[str], allocation: Allocation
) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    """Per unit the regions, those first that serve most of it, and for split units the parts of these."""
    placed, regions = allocation.placed, allocation.candidates.regions
    order = np.argsort(-placed, axis=1, kind="stable")
    ranked = np.take_along_axis(regions, order, axis=1)[:, :RANKED_MAX].tolist()
    by_unit = dict(zip(units, map(tuple, ranked), strict=True))
    shares = {}
    for row in np.flatnonzero((placed > 0).sum(axis=1) > 1).tolist():
        parts = _parts(np.take_along_axis(placed[row], order[row], axis=0)[:RANKED_MAX])
        if len(parts) > 1:
            shares[units[row]] = parts
    return by_unit, shares


def _parts(amounts: NDArray[np.float32]) -> tuple[int, ...]:
    """PARTS split in proportion; who gets none is left out."""
    bounds = np.rint(np.cumsum(amounts) / amounts.sum() * PARTS).astype(int)
    parts = np.diff(bounds, prepend=0).tolist()
    while parts and parts[-1] == 0:
        parts.pop()
    return tuple(parts)


def _view(distances: Distances, penalties_ms: Sequence[float], regions: Sequence[int]) -> View:
    """Only these regions in order, for each unit."""
    only = set(regions)
    outside_ms = [ms if index in only else ms + OUTSIDE_MS for index, ms in enumerate(penalties_ms)]
    count = len(only)
    units = {unit: ranked[:count] for unit, ranked in distances.ranked(outside_ms).items()}
    return View(units, distances.ranked_for_anybody(outside_ms)[:count])


def steady(reckoned: float, measured: float) -> float:
    """The load to reckon with: the former one, until the measured one is well away from it (hysteresis)."""
    return measured if abs(measured - reckoned) >= LOAD_STEP else reckoned


def same_answers(a: Map, b: Map) -> bool:
    """Whether two maps differ in nothing but their stamps."""
    return structs.replace(b, version=a.version, term=a.term, made_at_s=a.made_at_s) == a
