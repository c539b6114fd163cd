"""Cuts the address space into mapping units, by place and network: merged as far as scores allow, split where it
pays.

Each country or state is a unit. A city is one of its own where its clients gain more than SPLIT_MS by another
region than the one that is best for its state as a whole; a network is one of its own at a place where it has many
addresses, since what is measured differs by network. Names say what a unit is: ``US/California/Fresno/AS7922``.
The same databases and regions always give the same units.
"""

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nearmile.base.gazetteer import Area
from nearmile.base.geography import Place, Point
from nearmile.mapping import atlas
from nearmile.mapping.atlas import BITS, Atlas, Starts
from nearmile.mapping.map import area_name, unit_of
from nearmile.mapping.score import chunks, radians, round_trips_ms, vectors

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

# Databases say nothing of finer blocks, and resolvers tell no longer prefixes (RFC 7871, section 11.1).
DEPTHS = {4: 24, 6: 48}
# For less, a city's own answers cost more queries than they are worth.
SPLIT_MS = 5.0
# A block counts for no more than so many /24 or /48: a registry's reserve is nobody's home.
BLOCK_WEIGHT_MAX = 256
# A network is split off for no fewer addresses than so many /24.
NETWORK_WEIGHT_MIN = 64
# Ranges of both families together, half of them for each that needs so many: packed they take 1.5 to 5 bytes each.
RANGES_MAX = 600_000
# In each round that makes ranges fewer, this share of those too many is taken into neighbours; few go at once.
ROUND_SHARE = 1 / 2
AT_ONCE = 10_000


class Ground(NamedTuple):
    """Consecutive ranges from 0 on: first numbers, indexes of places, numbers of networks (0: unknown)."""

    starts: Starts
    places: Ints
    networks: Ints


class Survey(NamedTuple):
    """What is known of addresses, by family; the first place is nowhere."""

    places: Sequence[Place]
    grounds: Mapping[int, Ground]


class Towns(NamedTuple):
    """The cities of places: their areas' rows, names, points (degrees) and weights."""

    areas: Ints
    names: list[str]
    points: Floats
    weights: Floats


def overlay(survey: Survey, entries: Iterable[tuple[IPv4Network | IPv6Network, Place]]) -> Survey:
    """With what the operator knows better; the longer of two prefixes counts."""
    places, grounds = list(survey.places), dict(survey.grounds)
    for block, place in sorted(entries, key=lambda entry: entry[0].prefixlen):
        bits = BITS[block.version]
        first = int(block.network_address) >> block.max_prefixlen - bits
        last = first + (1 << max(bits - block.prefixlen, 0)) - 1
        grounds[block.version] = _with(grounds[block.version], first, last, len(places))
        places.append(place)
    return Survey(places, grounds)


def cut(
    survey: Survey,
    areas: Sequence[Area],
    regions: Sequence[Point],
    units_max: int,
    basis: str,
    ranges_max: int = RANGES_MAX,
) -> Atlas:
    """The units of a survey: every area, and with cities and networks up to ``units_max``."""
    known = {unit_of(Place(area.country, area.state)): area for area in areas}
    sizes = {family: _sizes(ground, family) for family, ground in survey.grounds.items()}
    weights = np.zeros(len(survey.places))
    for family, ground in survey.grounds.items():
        weights += np.bincount(ground.places, sizes[family], minlength=len(weights))
    area_names, area_of = _areas(survey.places, known)
    area_points = _means(survey.places, area_of, weights, len(area_names))
    for row, name in enumerate(area_names):
        if name in known:
            area_points[row] = known[name].point.lat, known[name].point.lon
    towns, town_of = _towns(survey.places, area_of, weights)
    apart = _apart(towns, area_points, regions, max(units_max - len(area_names), 0))
    names = [*area_names, *(f"{_padded(area_names[towns.areas[row]])}/{towns.names[row]}" for row in apart)]
    points = np.concatenate((area_points, towns.points[apart]))
    base_of = area_of.copy()
    number_of = np.full(len(towns.names) + 1, -1)
    number_of[apart] = len(area_names) + np.arange(len(apart))
    own = number_of[town_of] >= 0  # who has no city has the last, which is none
    base_of[own] = number_of[town_of[own]]
    units_of, pairs = _networks(survey, sizes, base_of, max(units_max - len(names), 0), len(names))
    names += [f"{_padded(names[base])}/AS{network}" for base, network in pairs]
    points = np.concatenate((points, points[[base for base, _ in pairs]].reshape(-1, 2)))
    return _made(survey, units_of, sizes, names, points, known, basis, ranges_max)


def _made(
    survey: Survey,
    units_of: Mapping[int, Ints],
    sizes: Mapping[int, Floats],
    names: list[str],
    points: Floats,
    known: Mapping[str, Area],
    basis: str,
    ranges_max: int,
) -> Atlas:
    """With units in the order of their names, and no more ranges than that."""
    weights = np.zeros(len(names))
    for family, units in units_of.items():
        weights += np.bincount(units, sizes[family], minlength=len(names))
    order = np.argsort(np.array(names))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    count, columns = sum(len(units) for units in units_of.values()), {}
    for family, ground in survey.grounds.items():
        units = units_of[family]
        most = max(ranges_max // 2, ranges_max - (count - len(units)), 1)
        starts, units = _fewer(ground.starts, units, points, sizes[family], most)
        columns[family] = starts, rank[units].astype(np.uint32)
    people = _people([names[row] for row in order], weights[order], known).astype(np.float32)
    where = [Point(float(lat), float(lon)) for lat, lon in points[order].tolist()]
    return atlas.made(basis, [names[row] for row in order][1:], where[1:], people[1:], columns[4], columns[6])


def _people(names: Sequence[str], weights: Floats, known: Mapping[str, Area]) -> Floats:
    """Of each area its people, shared among its units by their addresses."""
    area_of = np.unique([area_name(name) for name in names], return_inverse=True)[1]
    addresses = np.bincount(area_of, weights)[area_of]
    alone = np.bincount(area_of)[area_of]
    share = np.where(addresses > 0, weights / np.maximum(addresses, 1e-9), 1 / alone)
    people = np.zeros(len(names))
    for row, name in enumerate(names):
        if name in known:
            people[row] = known[name].population
    found: Floats = np.maximum(np.bincount(area_of, people)[area_of] * share, 0.0)
    return found


def _with(ground: Ground, first: int, last: int, place: int) -> Ground:
    """With another place from one number to another; the networks stay."""
    for number in (first, last + 1):
        at = int(np.searchsorted(ground.starts, np.uint64(min(number, 2**64 - 1)), side="right")) - 1
        if number < 2**64 and ground.starts[at] != number:
            ground = Ground(
                np.insert(ground.starts, at + 1, np.uint64(number)),
                np.insert(ground.places, at + 1, ground.places[at]),
                np.insert(ground.networks, at + 1, ground.networks[at]),
            )
    inside = (ground.starts >= np.uint64(first)) & (ground.starts <= np.uint64(last))
    return ground._replace(places=np.where(inside, place, ground.places))


def _sizes(ground: Ground, family: int) -> Floats:
    """How much each range counts, in /24 or /48."""
    finest = BITS[family] - DEPTHS[family]
    ends = np.append(ground.starts[1:], np.uint64(0))
    blocks = (ends - ground.starts) >> np.uint64(finest)  # the last one's wraps around; nobody lives there
    found: Floats = np.clip(blocks.astype(np.float64), 0.1, BLOCK_WEIGHT_MAX)
    return found


def _areas(places: Sequence[Place], known: Mapping[str, Area]) -> tuple[list[str], Ints]:
    """All areas' names, nowhere first, and the row of each place's; a state that has no name is its country."""
    rows = {"": 0}
    for name in known:
        rows.setdefault(name, len(rows))
    area_of = [rows.setdefault(unit_of(place) if place.country else "", len(rows)) for place in places]
    return list(rows), np.array(area_of)


def _means(places: Sequence[Place], row_of: Ints, weights: Floats, count: int) -> Floats:
    """The middle of the places of each row, in degrees; (0, 0) where none has a point."""
    points = np.array([(place.point.lat, place.point.lon) if place.point else (0.0, 0.0) for place in places])
    own = weights * np.array([place.point is not None for place in places])
    total = np.maximum(np.bincount(row_of, own, minlength=count), 1e-9)
    return np.stack([np.bincount(row_of, own * column, minlength=count) / total for column in points.T], axis=1)


def _towns(places: Sequence[Place], area_of: Ints, weights: Floats) -> tuple[Towns, Ints]:
    """The cities, and the row of each place's; one more than there are for a place without."""
    rows: dict[tuple[int, str], int] = {}
    town_of = np.array(
        [
            rows.setdefault((int(area), place.city), len(rows)) if place.city and place.point else -1
            for place, area in zip(places, area_of, strict=True)
        ]
    )
    town_of[town_of < 0] = len(rows)
    count = len(rows) + 1
    towns = Towns(
        np.array([area for area, _ in rows], dtype=np.int64),
        [name.replace("/", " ") for _, name in rows],
        _means(places, town_of, weights, count)[:-1],
        np.bincount(town_of, weights, minlength=count)[:-1].astype(np.float64),
    )
    return towns, town_of


def _apart(towns: Towns, area_points: Floats, regions: Sequence[Point], most: int) -> Ints:
    """The rows of the towns that gain most by a unit of their own, at most so many, in order."""
    if not regions or not most or not towns.names:
        return np.zeros(0, dtype=np.int64)
    columns = radians(regions)
    best_of = np.concatenate(
        [
            round_trips_ms(np.radians(area_points[rows]), columns).argmin(axis=1)
            for rows in chunks(len(area_points))
        ]
    )
    gains = np.zeros(len(towns.names))
    for rows in chunks(len(gains)):
        rtt_ms = round_trips_ms(np.radians(towns.points[rows]), columns)
        shared = best_of[towns.areas[rows]]
        gains[rows] = np.take_along_axis(rtt_ms, shared[:, np.newaxis], axis=1)[:, 0] - rtt_ms.min(axis=1)
    worth = np.where(gains > SPLIT_MS, gains * towns.weights, 0.0)
    best = np.argsort(-worth, kind="stable")[:most]
    found: Ints = np.sort(best[worth[best] > 0])
    return found


def _networks(
    survey: Survey, sizes: Mapping[int, Floats], base_of: Ints, most: int, first: int
) -> tuple[dict[int, Ints], list[tuple[int, int]]]:
    """The unit of each range, and the networks that are units of their own from number ``first`` on."""
    bases = {family: base_of[ground.places] for family, ground in survey.grounds.items()}
    keys = {family: bases[family] << 32 | ground.networks for family, ground in survey.grounds.items()}
    unique, inverse = np.unique(np.concatenate(list(keys.values())), return_inverse=True)
    weights = np.bincount(inverse, np.concatenate(list(sizes.values())))
    able = (unique & 0xFFFFFFFF > 0) & (unique >> 32 > 0) & (weights >= NETWORK_WEIGHT_MIN)
    order = np.argsort(np.where(able, -weights, np.inf), kind="stable")[: min(most, int(able.sum()))]
    chosen = np.sort(order)
    number_of = unique >> 32
    number_of[chosen] = first + np.arange(len(chosen))
    units = {family: number_of[np.searchsorted(unique, own)] for family, own in keys.items()}
    return units, [(int(key) >> 32, int(key) & 0xFFFFFFFF) for key in unique[chosen]]


def _fewer(starts: Starts, units: Ints, points: Floats, sizes: Floats, most: int) -> tuple[Starts, Ints]:
    """Neighbours of the same unit as one; and then, while they are too many, those taken in that lose least by it.

    What a range loses is its weight times the way to the unit of the range before it.
    """
    where = vectors(np.radians(points))
    while True:
        first = np.append(True, units[1:] != units[:-1])
        at = np.flatnonzero(first)
        starts, units, sizes = starts[at], units[at], np.add.reduceat(sizes, at)
        surplus = len(starts) - most
        if surplus <= 0:
            return starts, units
        way = np.diff(where[units], axis=0)
        losses = sizes[1:] * np.sqrt(np.einsum("ij,ij->i", way, way))
        losses[(units[1:] == 0) | (units[:-1] == 0)] *= 10  # who is known must not become unknown, nor the reverse
        count = min(max(int(surplus * ROUND_SHARE), min(surplus, AT_ONCE)), len(losses))
        taken = np.sort(np.argpartition(losses, count - 1)[:count]) + 1
        # Of a row of such neighbours every second one is taken in at once.
        number = np.arange(len(taken))
        begun = np.maximum.accumulate(np.where(np.append(True, np.diff(taken) > 1), number, 0))
        taken = taken[(number - begun) % 2 == 0]
        units = units.copy()
        units[taken] = units[taken - 1]


def _padded(name: str) -> str:
    """A country's name as that of a state of its own without a name, so that what follows is no state."""
    return name if "/" in name else f"{name}/"
