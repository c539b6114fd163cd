"""Makes the map: for every unit the best regions, given who lives, how loaded they are, what they can carry."""

from collections.abc import Sequence
from math import inf

import numpy as np
from msgspec import Struct, structs
from numpy.typing import NDArray

from nearmile.config.network import RANKED_MAX, Network
from nearmile.mapping.allocate import Allocation, Candidates, Capacities, Floats, Indexes, allocate
from nearmile.mapping.allocate import loads as loads_of
from nearmile.mapping.corrections import NOTHING_MEASURED, Corrections
from nearmile.mapping.downloads import of_downloads
from nearmile.mapping.map import PARTS, Map, MapRegion, Units, View
from nearmile.mapping.pins import Pins, Placed
from nearmile.mapping.score import Distances, penalty_ms

# A load counts anew when it differs by so much from the one last reckoned with: small changes move nobody.
LOAD_STEP = 0.15


class Terms(Struct, frozen=True, kw_only=True):
    """On which terms a region serves; ``contract`` is empty where it has none."""

    capacity_rps: float = inf
    contract: str = ""
    contract_rps: float = inf
    cost_ms: float = 0.0
    drain: bool = False


def terms_of(network: Network, name: str) -> Terms:
    """What the document says of that region."""
    region = network.regions[name]
    contract = network.contracts[region.contract] if region.contract is not None else None
    return Terms(
        capacity_rps=inf if region.capacity_rps is None else region.capacity_rps,
        contract=region.contract or "",
        contract_rps=inf if contract is None else contract.capacity_rps,
        cost_ms=region.cost_ms,
        drain=region.drain,
    )


def left(terms: Terms, live: int, all_: int) -> Terms:
    """The terms of a region of whose servers so many live: they carry their share of it."""
    if live == all_ or terms.capacity_rps == inf:
        return terms
    return structs.replace(terms, capacity_rps=terms.capacity_rps * live / max(all_, 1))


class Downloads(Struct, frozen=True):
    """The other traffic class: serials of its sites, requests/s by unit, what corrects the expected."""

    serials: tuple[int, ...]
    demand_rps: Floats
    measured: Corrections


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
    demand_rps: Sequence[float] | Floats = (),
    pins: Pins | None = None,
    former: Allocation | None = None,
    measured: Corrections = NOTHING_MEASURED,
    downloads: Downloads | None = None,
    version: int = 0,
    term: int = 0,
    made_at_s: float = 0.0,
) -> Made:
    """The map for these regions, with their live servers, in the order of the columns of ``distances``.

    ``terms`` is by region and ``demand_rps`` by unit, each empty where nothing is said. Rows of the allocation are
    the units for pages, and behind them, where there are ``downloads``, the same for these.
    """
    terms = terms or [Terms() for _ in regions]
    demand = np.asarray(demand_rps, dtype=np.float64) if len(demand_rps) else np.zeros(len(distances.units))
    penalties_ms = _penalties_ms(regions, loads, terms)
    capacities = _capacities(regions, terms)
    alive = np.array([bool(region.servers) for region in regions])
    whole, classes = (demand, 1) if downloads is None else (demand + downloads.demand_rps, 2)
    candidates = distances.candidates(
        penalties_ms, alive, lambda: _room(capacities, former), whole, *_of_former(former, classes)
    )
    candidates = measured.applied(candidates, penalties_ms)
    if downloads is not None:
        theirs = downloads.measured.applied(of_downloads(candidates, penalties_ms), penalties_ms)
        candidates = _joined(candidates, theirs)
        demand = np.concatenate((demand, downloads.demand_rps))
    allocation, ranked, shares = None, candidates.regions[:, :RANKED_MAX], dict[int, tuple[int, ...]]()
    if any(min(term.capacity_rps, term.contract_rps) < inf for term in terms) and demand.any():
        allocation = allocate(demand, candidates, capacities, former)
        ranked, shares = _applied(allocation)
    units, fallback = distances.units, distances.for_anybody(penalties_ms)
    in_view, views = dict[int, int](), tuple[View, ...]()
    if pins:
        full = ~alive if allocation is None else allocation.full | ~alive
        known = [measured] if downloads is None else [measured, downloads.measured]
        placed = _placed(known, alive[ranked[:, 0]] & (demand > 0), ranked, shares)
        in_view, views = pins.views(distances, penalties_ms, full, placed)
    if downloads is not None:
        in_view = dict.fromkeys(downloads.serials, len(views)) | in_view
        views = (*views, _of_downloads(units, ranked, shares, fallback))
    map_ = Map(
        version=version,
        term=term,
        made_at_s=made_at_s,
        regions=regions,
        units=_packed(units, ranked[: len(units)]),
        fallback=fallback,
        shares={units[row]: parts for row, parts in shares.items() if row < len(units)},
        pins=in_view,
        views=views,
    )
    return Made(map_, allocation)


def _joined(pages: Candidates, downloads: Candidates) -> Candidates:
    return Candidates(
        np.concatenate((pages.regions, downloads.regions)), np.concatenate((pages.scores, downloads.scores))
    )


def _of_downloads(
    units: tuple[str, ...], ranked: Indexes, shares: dict[int, tuple[int, ...]], fallback: tuple[int, ...]
) -> View:
    """Those units that have another first region for downloads than for pages, or are split for either."""
    count = len(units)
    other = ranked[:count, 0] != ranked[count:, 0] if ranked.shape[1] else np.zeros(count, dtype=np.bool_)
    other[[row % count for row in shares]] = True
    rows = np.flatnonzero(other)
    return View(
        _packed(tuple(units[row] for row in rows.tolist()), ranked[count + rows]),
        fallback,
        {units[row - count]: parts for row, parts in shares.items() if row >= count},
        partial=True,
        downloads=True,
    )


def _placed(
    corrections: Sequence[Corrections],
    used: NDArray[np.bool_],
    ranked: Indexes,
    shares: dict[int, tuple[int, ...]],
) -> list[Placed]:
    """By class, whose rows are one after the other. ``used`` says which are served by their best region."""
    count, found = len(ranked) // len(corrections), []
    homes = np.where(used, ranked[:, 0], -1)
    for number, measured in enumerate(corrections):
        rows = range(number * count, (number + 1) * count)
        split = {
            row - rows.start: {
                region: part for region, part in zip(ranked[row].tolist(), parts, strict=False) if part
            }
            for row, parts in shares.items()
            if row in rows
        }
        found.append(Placed(measured, homes[rows.start : rows.stop], split))
    return found


def _penalties_ms(regions: Sequence[MapRegion], loads: Sequence[float], terms: Sequence[Terms]) -> Floats:
    return np.array(
        [
            penalty_ms(bool(region.servers), load) + term.cost_ms
            for region, load, term in zip(regions, loads, terms, strict=True)
        ]
    )


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


def _room(capacities: Capacities, former: Allocation | None) -> Floats:
    """What each region could carry besides what it had."""
    had = loads_of(former, len(capacities.regions)) if former is not None else 0.0
    left_over: Floats = np.maximum(capacities.regions - had, 0.0)
    return left_over


def _of_former(former: Allocation | None, classes: int) -> tuple[NDArray[np.bool_] | None, Indexes | None]:
    """Of each unit whether all candidates turned it down, and the region that had most of it."""
    if former is None:
        return None, None
    turned_down = np.logical_or.reduce(former.raised.reshape(classes, -1))
    units = np.arange(len(turned_down))
    return turned_down, former.candidates.regions[units, former.placed[: len(units)].argmax(axis=1)]


def _packed(names: tuple[str, ...], ranked: Indexes) -> Units:
    return Units(names, ranked.shape[1], ranked.astype("<u2").tobytes())


def _applied(allocation: Allocation) -> tuple[Indexes, dict[int, tuple[int, ...]]]:
    """Per row the regions, those first that serve most of it, and for split rows the parts of these."""
    placed, regions = allocation.placed, allocation.candidates.regions
    ranked = regions[:, :RANKED_MAX].copy()
    elsewhere = np.flatnonzero(placed[:, 0] < placed.sum(axis=1))  # the others have their first choice
    order = np.argsort(-placed[elsewhere], axis=1, kind="stable")[:, :RANKED_MAX]
    ranked[elsewhere] = np.take_along_axis(regions[elsewhere], order, axis=1)
    amounts = np.take_along_axis(placed[elsewhere], order, axis=1)
    shares = {}
    for at in np.flatnonzero((amounts > 0).sum(axis=1) > 1).tolist():
        parts = _parts(amounts[at])
        if len(parts) > 1:
            shares[int(elsewhere[at])] = parts
    return ranked, shares


def _parts(amounts: NDArray[np.float32]) -> tuple[int, ...]:
    """PARTS split in proportion; who gets none is left out."""
    bounds = np.rint(np.cumsum(amounts) / amounts.sum() * PARTS).astype(int)
    parts = np.diff(bounds, prepend=0).tolist()
    while parts and parts[-1] == 0:
        parts.pop()
    return tuple(parts)


def steady(reckoned: float, measured: float) -> float:
    """The load to reckon with: the former one, until the measured one is well away from it (hysteresis)."""
    return measured if abs(measured - reckoned) >= LOAD_STEP else reckoned


def same_answers(a: Map, b: Map) -> bool:
    """Whether two maps differ in nothing but their stamps."""
    return structs.replace(b, version=a.version, term=a.term, made_at_s=a.made_at_s) == a
