"""The map as made: everybody is served by the nearest that lives, and small changes of load move nobody."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nearmile.base.gazetteer import Area
from nearmile.base.geography import Point
from nearmile.config.network import RANKED_MAX
from nearmile.mapping.allocate import loads
from nearmile.mapping.corrections import NOTHING_MEASURED
from nearmile.mapping.make import Downloads, Terms, make_map, same_answers, steady
from nearmile.mapping.map import PARTS, MapRegion, Server
from nearmile.mapping.pins import Pins
from nearmile.mapping.score import Distances


def regions_of(counts: list[int]) -> tuple[MapRegion, ...]:
    return tuple(
        MapRegion(f"r{i}", Point(0, 10.0 * i), tuple(Server(f"r{i}-{n}", "10.0.0.1", 80) for n in range(count)))
        for i, count in enumerate(counts)
    )


AREAS = tuple(Area(f"C{lon}", "", Point(0, lon), 1000) for lon in range(0, 180, 7))


@given(st.lists(st.integers(0, 2), min_size=1, max_size=15))
def test_every_unit_has_a_live_region_first(counts: list[int]) -> None:
    regions = regions_of(counts)
    distances = Distances(AREAS, [region.point for region in regions])
    made = make_map(distances, regions, [0.0] * len(regions)).map
    assert set(made.units.names) == {area.country for area in AREAS}
    living = sum(map(bool, counts))
    for ranked in [*(regions for _, regions in made.units.items()), made.fallback]:
        assert len(ranked) == len(set(ranked)) == min(RANKED_MAX, len(counts))
        alive = [bool(regions[index].servers) for index in ranked]
        assert alive == sorted(alive, reverse=True)
        assert sum(alive) == min(living, RANKED_MAX)


def test_only_neighbours_of_the_dead_move() -> None:
    before, after = regions_of([2] * 6), regions_of([2, 2, 0, 2, 2, 2])
    distances = Distances(AREAS, [region.point for region in before])
    old, new = (make_map(distances, regions, [0.0] * 6).map for regions in (before, after))
    for unit, ranked in old.units.items():
        assert new.units[unit][0] == (ranked[1] if ranked[0] == 2 else ranked[0])


def test_small_changes_of_load_are_not_reckoned_with() -> None:
    reckoned, seen = 0.0, []
    for measured in (0.1, 0.14, 0.5, 0.6, 0.4, 0.36, 0.34):
        reckoned = steady(reckoned, measured)
        seen.append(reckoned)
    assert seen == [0.0, 0.0, 0.5, 0.5, 0.5, 0.5, 0.34]


def test_stamps_do_not_change_answers() -> None:
    regions = regions_of([1, 1])
    distances = Distances(AREAS, [region.point for region in regions])
    made = make_map(distances, regions, [0.0, 0.0]).map
    later = make_map(distances, regions, [0.0, 0.0], version=7, term=3, made_at_s=12.5).map
    assert (later.version, later.term, later.made_at_s) == (7, 3, 12.5)
    assert same_answers(made, later)
    assert not same_answers(made, make_map(distances, regions_of([1, 0]), [0.0, 0.0]).map)


def test_who_finds_no_room_is_served_by_the_next_and_one_unit_is_split() -> None:
    regions = regions_of([1, 1, 1])
    distances = Distances(AREAS, [region.point for region in regions])
    nearest = make_map(distances, regions, [0.0] * 3).map
    demand = [10.0] * len(AREAS)
    terms = [Terms(), Terms(capacity_rps=1000), Terms(capacity_rps=105)]
    made = make_map(distances, regions, [0.0] * 3, terms=terms, demand_rps=demand)
    assert made.allocation is not None
    assert loads(made.allocation, 3)[2] <= 105
    full = [unit for unit, ranked in nearest.units.items() if ranked[0] == 2]
    moved = [unit for unit in full if made.map.units[unit][0] != 2]
    assert 0 < len(moved) < len(full)
    (split,) = [unit for unit, parts in made.map.shares.items() if len(parts) > 1 and min(parts) > 1]
    assert sum(made.map.shares[split]) == PARTS
    assert all(
        made.map.units[unit][0] == nearest.units[unit][0] for unit in nearest.units.names if unit not in moved
    )
    assert make_map(distances, regions, [0.0] * 3, terms=terms).map.units == nearest.units  # nobody asks
    dear = make_map(distances, regions, [0.0] * 3, terms=[Terms(cost_ms=900), Terms(), Terms()]).map
    assert all(ranked[0] != 0 for _, ranked in dear.units.items())


def test_a_contract_bounds_its_regions_together() -> None:
    regions = regions_of([1, 1, 1])
    distances = Distances(AREAS, [region.point for region in regions])
    both = Terms(contract="uplink", contract_rps=50)
    demand = [10.0] * len(AREAS)
    made = make_map(distances, regions, [0.0] * 3, terms=[both, both, Terms()], demand_rps=demand)
    assert made.allocation is not None
    assert loads(made.allocation, 3)[:2].sum() <= 50


def test_a_pinned_site_is_not_among_those_of_its_class() -> None:
    regions = regions_of([1] * 3)
    distances = Distances(AREAS, [region.point for region in regions])
    downloads = Downloads((7, 8), np.ones(len(AREAS)), NOTHING_MEASURED)
    made = make_map(distances, regions, [0.0] * 3, pins=Pins({7: (1, 2), 9: (0,)}, (7, 8)), downloads=downloads)
    assert made.map.pins == {7: 0, 8: 2, 9: 1}
    assert [(view.partial, view.downloads) for view in made.map.views] == [
        (False, True),
        (False, False),
        (True, True),
    ]
