"""Pinned sites: by the scores of all others and by who has room, and from map to map as if made from nothing."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearmile.base.gazetteer import Area
from nearmile.base.geography import Point, distance_km, expected_rtt_ms
from nearmile.mapping.allocate import Allocation
from nearmile.mapping.choose import choose, ranked, shares
from nearmile.mapping.corrections import Corrections, of_pairs
from nearmile.mapping.downloads import ROUNDS_ALL
from nearmile.mapping.make import Downloads, Made, Terms, make_map
from nearmile.mapping.map import PARTS, Map, MapRegion, Server, decode, encode
from nearmile.mapping.pins import Pins
from nearmile.mapping.score import Distances

COUNT = 5
# None is as far as another from any unit.
POINTS = [Point(0, lon) for lon in (0.0, 10.7, 19.6, 30.9, 40.4)]
AREAS = tuple(Area(f"C{lon:02}", "", Point(0, lon), 1000) for lon in range(1, 50, 6))
DISTANCES = Distances(AREAS, POINTS)
UNITS = DISTANCES.units
RTT_MS = [[expected_rtt_ms(distance_km(area.point, point)) for point in POINTS] for area in AREAS]
SITES = {1: (0, 3), 2: (4, 1, 2), 3: (2,), 4: (3, 0), 5: (0, 3)}
# Of these site 9 is not pinned.
DOWNLOADS = (5, 9)
COMMON_MS = 7.0
Told = Mapping[int, Mapping[int, float]]
"""By unit and region."""
NOTHING: Told = {}


class World(NamedTuple):
    """What a map is made of; ``pages`` and ``downloads`` say what was measured beyond what was to be expected."""

    alive: tuple[bool, ...] = (True,) * COUNT
    pages: Told = NOTHING
    downloads: Told = NOTHING
    capacities: tuple[float, ...] = (np.inf,) * COUNT
    costs_ms: tuple[float, ...] = (0.0,) * COUNT
    demand: tuple[float, ...] = (1.0,) * len(UNITS)


def corrections(told: Told, rounds: float) -> Corrections:
    units = sorted(unit for unit, own in told.items() if own)
    pairs = [
        (at, region, ms, RTT_MS[unit][region] * rounds + ms)
        for at, unit in enumerate(units)
        for region, ms in told[unit].items()
    ]
    return of_pairs(units, np.full(len(units), COMMON_MS, dtype=np.float32), pairs)


def make(world: World, pins: Pins | None = None, former: Allocation | None = None) -> Made:
    regions = tuple(
        MapRegion(f"r{n}", POINTS[n], (Server(f"r{n}-1", "10.0.0.1", 80),) if alive else ())
        for n, alive in enumerate(world.alive)
    )
    return make_map(
        DISTANCES,
        regions,
        [0.0] * COUNT,
        terms=[
            Terms(capacity_rps=capacity, cost_ms=cost_ms)
            for capacity, cost_ms in zip(world.capacities, world.costs_ms, strict=True)
        ],
        demand_rps=world.demand,
        pins=pins or Pins(SITES, DOWNLOADS),
        former=former,
        measured=corrections(world.pages, 1.0),
        downloads=Downloads(DOWNLOADS, np.zeros(len(UNITS)), corrections(world.downloads, ROUNDS_ALL)),
    )


def scores_ms(world: World, unit: int, downloads: bool) -> list[float]:
    """Of all regions, by hand."""
    found = []
    for region in range(COUNT):
        common = COMMON_MS if world.pages.get(unit) else 0.0
        ms = RTT_MS[unit][region] + world.pages.get(unit, {}).get(region, common)
        if downloads:
            common = COMMON_MS if world.downloads.get(unit) else 0.0
            ms = ms * ROUNDS_ALL + world.downloads.get(unit, {}).get(region, common)
        found.append(ms + world.costs_ms[region] + (0 if world.alive[region] else 1e6))
    return found


told = st.dictionaries(
    st.integers(0, len(UNITS) - 1),
    st.dictionaries(st.integers(0, COUNT - 1), st.integers(-30, 60).map(lambda n: n + n / 97), max_size=3),
    max_size=3,
)
worlds = st.builds(
    World,
    st.tuples(*[st.booleans()] * COUNT),
    told,
    told,
    st.tuples(*[st.sampled_from((np.inf, 0.0, 1.0, 2.5))] * COUNT),
    st.tuples(*[st.sampled_from((0.0, 0.0, 13.1))] * COUNT),
    st.tuples(*[st.sampled_from((0.0, 1.0, 5.0))] * len(UNITS)),
)


@given(worlds)
@settings(max_examples=100)
def test_the_scores_are_those_made_by_hand(world: World) -> None:
    made = make(world._replace(capacities=(np.inf,) * COUNT)).map
    for serial, regions in SITES.items():
        for row, unit in enumerate(UNITS):
            scores = scores_ms(world, row, serial in DOWNLOADS)
            assert ranked(made, unit, serial) == (unit, tuple(sorted(regions, key=scores.__getitem__)))


@given(st.lists(worlds, min_size=1, max_size=4))
@settings(max_examples=100)
def test_views_that_are_kept_are_those_made_from_nothing_and_answers_live_and_have_room(
    world: list[World],
) -> None:
    kept, former = Pins(SITES, DOWNLOADS), None
    for one in world:
        made = make(one, kept, former)
        assert made.map == make(one, Pins(SITES, DOWNLOADS), former).map == decode(encode(made.map))
        former = made.allocation
        for serial, regions in SITES.items():
            for unit in UNITS:
                check(made, one, serial, regions, unit)


def check(made: Made, world: World, serial: int, regions: tuple[int, ...], unit: str) -> None:
    best, parts = ranked(made.map, unit, serial)[1], shares(made.map, serial).get(unit, (PARTS,))
    assert set(best) == set(regions) and sum(parts) == PARTS and len(parts) <= len(best)
    for region in best[: len(parts)]:
        if any(world.alive[each] for each in regions):
            assert world.alive[region]
        full = np.zeros(COUNT, dtype=bool) if made.allocation is None else made.allocation.full
        if full[region] and not all(full[each] for each in regions):
            assert made.allocation is not None
            row = UNITS.index(unit) + (len(UNITS) if serial in DOWNLOADS else 0)
            placed = dict(
                zip(
                    made.allocation.candidates.regions[row].tolist(),
                    made.allocation.placed[row].tolist(),
                    strict=True,
                )
            )
            assert placed[region] > 0, "only who has its place there comes to the full"
    if any(world.alive):
        assert choose(made.map, unit, serial, 1).servers


def first(made: Made, unit: str, serial: int = 1) -> int:
    return ranked(made.map, unit, serial)[1][0]


def test_a_full_region_keeps_its_own_units_and_others_go_to_the_next_of_the_set() -> None:
    def with_room(*capacities: float) -> World:
        return World(capacities=(*capacities, *(np.inf,) * (COUNT - len(capacities))))

    free, full = make(with_room(5)), make(with_room(1))
    assert [first(free, unit) for unit in ("C01", "C07", "C31")] == [0, 0, 3]
    assert [first(full, unit) for unit in ("C01", "C07", "C31")] == [0, 3, 3]
    assert full.map.views[full.map.pins[1]].fallback == (3, 0)
    for capacity, region in ((1.05, 3), (1.2, 0)):  # who was full has room again with a tenth of it
        assert first(make(with_room(capacity), None, full.allocation), "C07") == region
        assert first(make(with_room(capacity)), "C07") == 0
    assert first(make(with_room(1, np.inf, np.inf, 1)), "C07") == 0, "where nobody has room, the nearest"
    assert first(make(with_room(1)._replace(alive=(True, True, True, False, True))), "C07") == 0
    assert first(make(with_room(5)._replace(alive=(False, True, True, True, True))), "C01") == 3
    dead = make(World(alive=(False, True, True, False, True)))
    assert choose(dead.map, "C01", 1, 1).region == "r1", "others serve where none of the set lives"


@pytest.mark.parametrize(
    ("capacities", "site", "expected"),
    [
        ((4.0, 6.0, np.inf, np.inf, np.inf), (0, 1), {0: 6, 1: 10}),
        ((4.0, 6.0, np.inf, np.inf, np.inf), (0, 3), {0: 6, 3: 10}),  # the rest goes to who has room
        ((4.0, 6.0, np.inf, np.inf, np.inf), (2, 3), {2: 16}),
        ((4.0, 6.0, np.inf, 0.0, np.inf), (0, 3), {0: 16}),  # or, where nobody has, where they are
        ((4.0, 4.0, 2.0, np.inf, np.inf), (0, 1), {0: 7, 1: 9}),
    ],
)
def test_units_that_are_split_are_split_for_pinned_sites(
    capacities: tuple[float, ...], site: tuple[int, ...], expected: dict[int, int]
) -> None:
    world = World(capacities=capacities, demand=(10.0, *(0.0,) * (len(UNITS) - 1)))
    made = make(world, Pins({1: site})).map
    regions = [choose(made, "C01", 1, 1, part=part).region for part in range(PARTS)]
    assert {region: regions.count(f"r{region}") for region in expected} == expected


def test_sites_of_the_same_regions_and_class_share_a_view() -> None:
    made = make(World()).map
    assert made.pins == {1: 0, 2: 1, 3: 2, 4: 0, 5: 3, 9: 4}
    assert [(view.partial, view.downloads) for view in made.views] == [(False, False)] * 3 + [
        (False, True),
        (True, True),
    ]


def test_nothing_new_keeps_the_very_view() -> None:
    pins, told = Pins(SITES, DOWNLOADS), {1: {0: 50.0}}
    before, after = (make(World(pages=told), pins).map for _ in range(2))
    assert all(one is other for one, other in zip(before.views[:4], after.views[:4], strict=True))
    moved = make(World(pages={**told, 2: {3: -20.0}}), pins).map
    changed = [one != other for one, other in zip(before.views[:4], moved.views[:4], strict=True)]
    assert changed == [True, False, False, True] and isinstance(moved, Map)
