"""Sites that are pinned to some regions: each unit has the best of these, by the scores that all sites go by.

A region that can carry no more comes behind those of the set that can, but not for the units that the allocation
has given it: of these, the requests of pinned sites are counted in what it carries. Where a unit is split, its
parts stay where they are, if that is in the set, and the others go to who has room. Whoever lives comes before who
does not, so there is always an answer.

Sites of the same regions and traffic class share a view of the map. It stays from map to map, and those units are
ranked anew of which something was measured, or which were placed elsewhere; all are, when a region of the set
dies, returns, fills up, or gets another load or cost. So the time goes by what has changed, not by sites.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from nearmile.config.network import RANKED_MAX
from nearmile.mapping.allocate import Floats, Indexes, Rows
from nearmile.mapping.corrections import Corrections
from nearmile.mapping.downloads import EXPECTED_MS_MAX, ROUNDS_ALL
from nearmile.mapping.map import PARTS, Units, View
from nearmile.mapping.score import DEAD_MS, Distances, best

Parts = dict[int, int]
"""How many of PARTS each region has."""

# What a region without room adds to its scores: more than is ever measured.
BEHIND_MS = DEAD_MS
# Scores that are looked at together: 8 MB an array.
CELLS_MAX = 1_000_000


class Placed(Struct, frozen=True):
    """Of a traffic class what was measured, and where its units are, all by rows of units.

    ``homes`` are the regions that have most of a unit, -1 where none that lives has; ``split`` has the parts of
    those that several have.
    """

    measured: Corrections
    homes: Indexes
    split: dict[int, Parts]


class Pin(Struct, frozen=True):
    """A set of regions, in their order in the map, and whether it is for downloads."""

    regions: tuple[int, ...]
    downloads: bool


class _Now(NamedTuple):
    """What views are made of; ``few`` are the corrections, by class, of those units that have ``changed``."""

    distances: Distances
    penalties_ms: Floats
    full: NDArray[np.bool_]
    placed: Sequence[Placed]
    changed: Rows
    few: tuple[Corrections, ...]


class _Kept(NamedTuple):
    """A view and what it was made of: what its regions add to scores, ranks, and parts of units."""

    state: bytes
    ranked: NDArray[np.uint16]
    split: dict[int, Parts]
    view: View


class Pins:
    """The pinned sites of a configuration, and their views in the last map."""

    def __init__(self, regions: Mapping[int, Collection[int]], downloads: Collection[int] = ()) -> None:
        """``regions`` are those of pinned sites, ``downloads`` all sites of that class, both by serial."""
        self._pins = {serial: Pin(tuple(sorted(set(own))), serial in downloads) for serial, own in regions.items()}
        self._before: _Now | None = None
        self._kept: dict[Pin, _Kept] = {}

    def __bool__(self) -> bool:
        """Whether any site is pinned."""
        return bool(self._pins)

    def views(
        self, distances: Distances, penalties_ms: Floats, full: NDArray[np.bool_], placed: Sequence[Placed]
    ) -> tuple[dict[int, int], tuple[View, ...]]:
        """For each site's serial an index into the views.

        ``penalties_ms`` and ``full``, who can carry no more, are by region. ``placed`` is of pages, and of
        downloads where there are sites of that class.
        """
        before = self._before
        if before is None or distances is not before.distances or len(placed) != len(before.placed):
            self._kept, changed = {}, np.arange(0)
        else:
            changed = _changed(placed, before.placed)
        few = tuple([each.measured.of(changed) for each in placed])
        now = self._before = _Now(distances, penalties_ms, full, placed, changed, few)
        self._kept = {pin: _renewed(pin, self._kept.get(pin), now) for pin in dict.fromkeys(self._pins.values())}
        numbers = {pin: number for number, pin in enumerate(self._kept)}
        views = tuple([kept.view for kept in self._kept.values()])
        return {serial: numbers[pin] for serial, pin in self._pins.items()}, views


def _changed(now: Sequence[Placed], before: Sequence[Placed]) -> Rows:
    """Units of which something else is known than was, in order."""
    rows = np.arange(0)
    for one, former in zip(now, before, strict=True):
        moved = np.flatnonzero(one.homes != former.homes)
        rows = np.union1d(rows, np.union1d(moved, one.measured.unlike(former.measured)))
    return rows


def _renewed(pin: Pin, kept: _Kept | None, now: _Now) -> _Kept:
    """The view as it is now."""
    regions = np.array(pin.regions)
    state = now.penalties_ms[regions].tobytes() + now.full[regions].tobytes()
    if kept is None or kept.state != state:
        rows, measured = np.arange(len(now.distances.units)), tuple([each.measured for each in now.placed])
        ranked = np.empty((len(rows), min(len(regions), RANKED_MAX)), dtype="<u2")
    else:
        rows, measured, ranked = now.changed, now.few, kept.ranked.copy()
    for start in range(0, len(rows), step := max(CELLS_MAX // len(regions), 1)):
        part = rows[start : start + step]
        ranked[part] = _ranked(pin, part, regions, measured, now)
    split = _split(now.placed[int(pin.downloads)].split, ranked, pin.regions, now.full)
    if kept is not None and kept.state == state and not len(rows) and kept.split == split:
        return kept
    return _Kept(state, ranked, split, _view(pin, ranked, split, now))


def _ranked(pin: Pin, rows: Rows, regions: Rows, measured: Sequence[Corrections], now: _Now) -> Rows:
    """Those units' regions, best first."""
    scores = measured[0].added(now.distances.expected_ms(rows, regions), rows, regions)
    if pin.downloads:
        scores = measured[1].added(np.minimum(scores * ROUNDS_ALL, EXPECTED_MS_MAX), rows, regions)
    homes = now.placed[int(pin.downloads)].homes[rows]
    behind = now.full[regions] & (homes[:, np.newaxis] != regions)
    ranked: Rows = regions[best(scores + now.penalties_ms[regions] + BEHIND_MS * behind)]
    return ranked


def _split(
    split: Mapping[int, Parts], ranked: NDArray[np.uint16], regions: Collection[int], full: NDArray[np.bool_]
) -> dict[int, Parts]:
    """The parts of units of which some are in the set already: the rest goes to its best region that has room.

    Where none has, all that have parts take more in the same proportion.
    """
    found = {}
    for row, parts in split.items():
        own = {region: count for region, count in parts.items() if region in regions}
        if own:
            roomy = next((region for region in ranked[row].tolist() if not full[region]), None)
            for _ in range(PARTS - sum(own.values())):
                region = min(own, key=lambda one: own[one] / parts[one]) if roomy is None else roomy
                own[region] = own.get(region, 0) + 1
            found[row] = own
    return found


def _view(pin: Pin, ranked: NDArray[np.uint16], split: Mapping[int, Parts], now: _Now) -> View:
    names, width, shares = now.distances.units, ranked.shape[1], dict[str, tuple[int, ...]]()
    ordered = ranked.copy() if split else ranked
    for row, parts in split.items():
        first = sorted(parts, key=lambda region: (-parts[region], region))
        ordered[row] = [*first, *(region for region in ranked[row].tolist() if region not in parts)][:width]
        if len(first) > 1:
            shares[names[row]] = tuple(parts[region] for region in first)
    fallback = now.distances.for_anybody(now.penalties_ms + BEHIND_MS * now.full, pin.regions)
    return View(Units(names, width, ordered.tobytes()), fallback, shares, downloads=pin.downloads)
