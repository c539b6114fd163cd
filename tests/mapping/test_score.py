"""Scores: distances as the plain formula says, load and death as penalties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearmile.base.gazetteer import Area
from nearmile.base.geography import Point, distance_km, expected_rtt_ms
from nearmile.mapping.allocate import CANDIDATES_MAX, Candidates
from nearmile.mapping.score import Distances, penalty_ms

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


def found(
    distances: Distances, penalties_ms: list[float], room: list[float] | None = None, demand: float = 1.0
) -> Candidates:
    """The candidates; who has a penalty of death is dead."""
    penalties = np.array(penalties_ms)
    rooms = np.full(len(penalties), np.inf) if room is None else np.array(room)
    demands = np.full(len(distances.units), demand)
    return distances.candidates(penalties, penalties < penalty_ms(False, 0), lambda: rooms, demands)


def ranked(distances: Distances, penalties_ms: list[float]) -> dict[str, list[int]]:
    lists = found(distances, penalties_ms).regions.tolist()
    return dict(zip(distances.units, lists, strict=True))


def test_near_regions_first() -> None:
    distances = Distances(AREAS, REGIONS)
    units = ranked(distances, [0.0] * 6)
    assert list(units) == ["FR", "FR/Ile-de-France", "JP", "US/Illinois"]
    assert units["FR/Ile-de-France"][:2] == [1, 0]
    assert units["US/Illinois"][:2] == [2, 3]
    assert units["JP"][0] == 5
    assert sorted(units["FR"]) == list(range(6))
    assert distances.for_anybody(np.zeros(6))[0] == 5  # most of these people are Japanese
    assert distances.for_anybody(np.zeros(6), (4, 0)) == (0, 4)
    assert distances.expected_ms([2, 3], [5, 1]).argmin(axis=1).tolist() == [0, 1]


def test_load_moves_to_neighbours_and_death_to_anybody_alive() -> None:
    distances = Distances(AREAS, REGIONS)
    full = ranked(distances, [0.0, penalty_ms(True, 1.0), 0.0, 0.0, 0.0, penalty_ms(True, 1.0)])
    assert full["FR/Ile-de-France"][0] == 0
    assert full["JP"][0] == 5  # nobody else is as near, even so
    dead = ranked(distances, [0.0, 0.0, 0.0, 0.0, 0.0, penalty_ms(False, 0.0)])
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
    candidates = found(Distances(areas, regions), [0.0] * len(regions))
    for place, own, scores in zip(places, candidates.regions.tolist(), candidates.scores.tolist(), strict=True):
        expected = [expected_rtt_ms(distance_km(place, region)) for region in regions]
        assert sorted(own) == list(range(len(regions)))
        assert scores == pytest.approx([expected[index] for index in own], rel=1e-5, abs=1e-4)
        assert scores == sorted(scores)


def test_nobody_known() -> None:
    distances = Distances((), REGIONS)
    assert ranked(distances, [0.0] * 6) == {}
    assert distances.for_anybody(np.array([0.0, 0.0, 0.0, 0.0, 0.0, 1.0])) == (0, 1, 2, 3, 4, 5)


# Two continents of 300 regions each, a hundred places in each.
MANY = tuple(Point(n % 20, n // 20 + shift) for shift in (0, 150) for n in range(300))
PEOPLE = tuple(
    Area(f"C{shift}", f"{n:03}", Point(n % 10 * 2, n // 10), 1) for shift in (0, 150) for n in range(100)
)
PEOPLE = tuple(Area(a.country, a.state, Point(a.point.lat, a.point.lon + int(a.country[1:])), 1) for a in PEOPLE)


def test_of_many_regions_a_place_has_the_nearest_and_some_further_ones() -> None:
    distances = Distances(PEOPLE, MANY)
    candidates = found(distances, [0.0] * len(MANY))
    assert candidates.regions.shape == (len(PEOPLE), CANDIDATES_MAX)
    assert all(len(set(own)) == CANDIDATES_MAX for own in candidates.regions.tolist())
    for area, own in zip(PEOPLE, candidates.regions.tolist(), strict=True):
        order = sorted(range(len(MANY)), key=lambda index: distance_km(area.point, MANY[index]))
        assert sum(index in order[:CANDIDATES_MAX] for index in own) >= CANDIDATES_MAX * 3 // 4
        assert MANY[own[0]] == MANY[order[0]]
        assert any(index in order[100:] for index in own)


def test_a_continent_without_regions_goes_to_those_that_have_room_and_returns() -> None:
    distances = Distances(PEOPLE, MANY)
    before = found(distances, [0.0] * len(MANY))
    dead = [penalty_ms(False, 0)] * 300 + [0.0] * 300
    room = [1.0] * 450 + [0.0] * 150
    after = found(distances, dead, room)
    # 100 places with a demand of 1 each look for room for 200; there is 150, everywhere with the first half.
    substitutes = after.regions[:100]
    assert set(substitutes.ravel().tolist()) <= set(range(300, 451))
    assert len(set(substitutes.ravel().tolist())) > 100, "not all to the same"
    assert (after.regions[100:] == before.regions[100:]).all()
    one_back = [0.0, *dead[1:]]
    assert (found(distances, one_back, room).regions[:100] == substitutes).all(), "they stay with who has room"
    assert (found(distances, [0.0] * len(MANY), room).regions == before.regions).all()


def test_who_was_turned_down_by_all_gets_some_that_have_room_until_its_own_have() -> None:
    distances, alive, calm = Distances(PEOPLE, MANY), np.full(len(MANY), True), np.zeros(len(MANY))
    demand, down = np.ones(len(PEOPLE)), np.arange(len(PEOPLE)) < 3
    full, roomy = np.array([0.0] * 300 + [1.0] * 300), np.ones(len(MANY))
    before = distances.candidates(calm, alive, lambda: full, demand)
    after = distances.candidates(calm, alive, lambda: full, demand, down)
    assert (after.regions[3:] == before.regions[3:]).all()
    for old, new in zip(before.regions[:3].tolist(), after.regions[:3].tolist(), strict=True):
        assert set(old[: CANDIDATES_MAX // 2]) <= set(new), "the nearest stay"
        assert sum(index >= 300 for index in new) == CANDIDATES_MAX // 2
    nobody = np.zeros(len(PEOPLE), dtype=bool)
    assert (distances.candidates(calm, alive, lambda: full, demand, nobody).regions == after.regions).all()
    assert (distances.candidates(calm, alive, lambda: roomy, demand, nobody).regions == before.regions).all()


def test_a_substitute_has_the_region_that_the_unit_has_while_it_lives() -> None:
    distances, alive, calm = Distances(PEOPLE, MANY), np.full(len(MANY), True), np.zeros(len(MANY))
    demand, down = np.ones(len(PEOPLE)), np.arange(len(PEOPLE)) < 3
    room = np.array([0.0] * 300 + [1.0] * 300)
    without = distances.candidates(calm, alive, lambda: room, demand, down)
    others = (sorted(set(range(len(MANY))) - set(own)) for own in without.regions.tolist())
    homes = np.array([own[-1 - unit] for unit, own in enumerate(others)], dtype=np.int32)
    alive[homes[2]] = False
    kept = distances.candidates(calm, alive, lambda: room, demand, None, homes)
    for unit, (old, new) in enumerate(zip(without.regions.tolist(), kept.regions.tolist(), strict=True)):
        assert set(new) == set(old) - {old[-1]} | {homes[unit]} if unit < 2 else new == old
    assert (np.diff(kept.scores, axis=1) >= 0).all()
    assert kept.scores[0, kept.regions[0] == homes[0]] == pytest.approx(
        distances.expected_ms([0], homes[:1].tolist())[0, 0]
    )


def test_where_nothing_has_room_or_lives_there_are_candidates_all_the_same() -> None:
    dead = penalty_ms(False, 0)
    for penalties, room in ([dead] * 300 + [0.0] * 300, [0.0] * 600), ([dead] * 600, [0.0] * 600):
        candidates = found(Distances(PEOPLE, MANY), penalties, room)
        assert all(len(set(own)) == CANDIDATES_MAX for own in candidates.regions.tolist())
