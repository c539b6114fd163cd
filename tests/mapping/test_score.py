"""Scores: distances as the plain formula says, load and death as penalties."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearmile.base.gazetteer import Area
from nearmile.base.geography import Point, distance_km, expected_rtt_ms
from nearmile.mapping.score import RANKED_MAX, Distances, penalty_ms

PARIS = Area("FR", "Ile-de-France", Point(48.86, 2.35), 12_000_000)
FRANCE = Area("FR", "", Point(46.6, 2.5), 68_000_000)
ILLINOIS = Area("US", "Illinois", Point(41.8, -87.9), 12_500_000)
JAPAN = Area("JP", "", Point(35.9, 138.3), 124_000_000)
AREAS = (PARIS, FRANCE, ILLINOIS, JAPAN)
# Frankfurt, London, Ashburn, San Jose, Sao Paulo, Tokyo
REGIONS = (
    Point(50.11, 8.68),
    Point(51.51, -0.13),
    Point(39.04, -77.49),
    Point(37.34, -121.89),
    Point(-23.55, -46.63),
    Point(35.68, 139.69),
)
points = st.builds(Point, st.floats(-90, 90), st.floats(-180, 180))


def test_near_regions_first() -> None:
    distances = Distances(AREAS, REGIONS)
    units = distances.ranked([0.0] * 6)
    assert units["FR/Ile-de-France"][:2] == (1, 0)
    assert units["US/Illinois"][:2] == (2, 3)
    assert units["JP"][0] == 5
    assert sorted(units["FR"]) == list(range(6))
    assert distances.ranked_for_anybody([0.0] * 6)[0] == 5  # most of these people are Japanese


def test_load_moves_to_neighbours_and_death_to_anybody_alive() -> None:
    distances = Distances(AREAS, REGIONS)
    full = distances.ranked([0.0, penalty_ms(True, 1.0), 0.0, 0.0, 0.0, penalty_ms(True, 1.0)])
    assert full["FR/Ile-de-France"][0] == 0
    assert full["JP"][0] == 5  # nobody else is as near, even so
    dead = distances.ranked([0.0, 0.0, 0.0, 0.0, 0.0, penalty_ms(False, 0.0)])
    assert dead["JP"][0] == 3
    assert dead["JP"][-1] == 5


@pytest.mark.parametrize(
    ("alive", "load", "expected_ms"),
    [(True, 0.0, 0), (True, 0.8, 0), (True, 0.9, 25), (True, 1.0, 50), (True, 7.0, 50), (False, 0.0, 10_000)],
)
def test_penalty(alive: bool, load: float, expected_ms: float) -> None:
    assert penalty_ms(alive, load) == pytest.approx(expected_ms)


@given(st.lists(points, min_size=1, max_size=5), st.lists(points, min_size=1, max_size=12))
def test_agrees_with_base_geography(places: list[Point], regions: list[Point]) -> None:
    areas = [Area("X", str(n), point, 1) for n, point in enumerate(places)]
    distances = Distances(areas, regions)
    for row, place in enumerate(places):
        expected = [expected_rtt_ms(distance_km(place, region)) for region in regions]
        assert list(distances.rtt_ms[row]) == pytest.approx(expected, abs=1e-6)
        ranked = distances.ranked([0.0] * len(regions))[f"X/{row}"]
        assert len(set(ranked)) == min(RANKED_MAX, len(regions))


def test_nobody_known() -> None:
    distances = Distances((), REGIONS)
    assert distances.ranked([0.0] * 6) == {}
    assert distances.ranked_for_anybody([0.0, 0.0, 0.0, 0.0, 0.0, 1.0]) == (0, 1, 2, 3, 4, 5)
