"""How long downloads take: by the kernel's figures, by the round trip where nothing is known, and in maps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearmile.base.geography import Point, distance_km, expected_rtt_ms
from nearmile.mapping.allocate import Candidates
from nearmile.mapping.choose import choose, ranked, split
from nearmile.mapping.downloads import (
    BODY_BYTES,
    BODY_ROUNDS,
    MSS_BYTES,
    ROUNDS,
    ROUNDS_ALL,
    C,
    Delivery,
    beyond_ms,
    of_downloads,
)
from nearmile.mapping.map import Map, MapRegion, Server, Units, View, decode, encode
from nearmile.mapping.measured import (
    BEYOND_MS_MAX,
    BODY_MS_MAX,
    DOWNLOADS,
    LIGHT_MS_PER_KM,
    NEAR_KM,
    Measured,
    Report,
)

PARIS, TOKYO = Point(48.9, 2.3), Point(35.7, 139.7)
KM = distance_km(PARIS, TOKYO)


@pytest.mark.parametrize(
    ("seen", "rate"),
    [
        (Delivery(20, 1e6, False, 700, 0.0), 1e6),
        (Delivery(20, 1e6, False, 700, 0.01), 1e6),  # the path has shown what it can do
        (Delivery(20, 1e5, True, 700, 0.01), C * MSS_BYTES / (0.020 * 0.1)),
        (Delivery(20, 5e6, True, 700, 0.01), 5e6),
        (Delivery(20, 1e5, True, 700, 0.0001), None),  # somebody else was the limit, and the path is good
        (Delivery(20, 1e5, True, 50, 0.02), None),
        (Delivery(0, 1e6, False, 700, 0.0), None),
        (Delivery(20, 0, False, 700, 0.0), None),
    ],
)
def test_what_the_kernel_says_of_a_path(seen: Delivery, rate: float | None) -> None:
    expected = None if rate is None else pytest.approx(1000 * BODY_BYTES / rate - BODY_ROUNDS * seen.rtt_ms)
    assert beyond_ms(seen) == expected


def test_where_nothing_is_known_the_order_is_that_of_round_trips_and_costs_stay_what_they_are() -> None:
    pages = Candidates(np.array([[2, 0, 1]], np.int32), np.array([[20, 30, 40]], np.float32))
    found = of_downloads(pages, np.array([0.0, 0.0, 15.0]) * 0)
    assert found.regions.tolist() == [[2, 0, 1]]
    assert found.scores[0] == pytest.approx(np.array([20, 30, 40]) * ROUNDS_ALL, rel=1e-5)
    dear = of_downloads(pages, np.array([0.0, 35.0, 0.0]))  # the last is near and costs 35 ms
    assert dear.regions.tolist() == [[1, 2, 0]]
    assert dear.scores[0] == pytest.approx([5 * ROUNDS_ALL + 35, 20 * ROUNDS_ALL, 30 * ROUNDS_ALL], rel=1e-5)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=3, max_size=20))
@settings(max_examples=100)
def test_no_path_is_believed_to_be_faster_than_light_or_worse_than_a_dead_one(told: list[float]) -> None:
    measured = Measured(DOWNLOADS)
    measured.know({"FR": PARIS}, {"tokyo": TOKYO})
    measured.add(Report("tokyo", downloads={"FR": dict(enumerate(told))}), 0.0)
    light_ms = (KM - NEAR_KM) * LIGHT_MS_PER_KM
    for score in measured.scores.get("FR", {}).values():
        assert ROUNDS * light_ms <= score.ms <= ROUNDS_ALL * expected_rtt_ms(KM) + BEYOND_MS_MAX
    assert 0 <= measured.deltas_ms("FR", 0.0)[1] <= BODY_MS_MAX


def map_of(view: View) -> Map:
    regions = tuple(
        MapRegion(name, PARIS, (Server(f"{name}-1", "10.0.0.1", 80), Server(f"{name}-2", "10.0.0.2", 80)))
        for name in "abc"
    )
    units = Units.of({"FR": (0, 1, 2), "FR/Corse": (1, 0, 2), "JP": (2, 1, 0)})
    return Map(
        version=1,
        term=1,
        made_at_s=0,
        regions=regions,
        units=units,
        fallback=(1,),
        shares={"JP": (8, 8)},
        pins={7: 0},
        views=(view,),
    )


def test_a_partial_view_answers_for_its_own_units_alone() -> None:
    view = View(Units.of({"FR": (2, 1, 0), "JP": (1, 0, 2)}), (1,), {"FR": (4, 12)}, partial=True)
    map_ = decode(encode(map_of(view)))
    assert ranked(map_, "FR/Normandie", 7) == ("FR", (2, 1, 0))
    assert ranked(map_, "FR/Corse/Bastia", 7) == ("FR/Corse", (1, 0, 2))
    assert ranked(map_, "XX", 7) == ("", (1,))
    assert [split(map_, unit, 7) for unit in ("FR", "JP")] == [True, False]
    assert [split(map_, unit, 8) for unit in ("FR", "JP")] == [False, True]
    assert [choose(map_, "FR", 7, 1, part=part).region for part in (3, 4)] == ["c", "b"]
    assert [choose(map_, "JP", 8, 1, part=part).region for part in (7, 8)] == ["c", "b"]
    assert [choose(map_, "JP", 7, 1, part=part).region for part in (7, 8)] == ["b", "b"]


@given(st.dictionaries(st.sampled_from("ABCDE"), st.permutations(range(4)), max_size=5))
@settings(max_examples=50)
def test_units_with_others_in_their_place(others: dict[str, list[int]]) -> None:
    own = {name: [0, 1, 2, 3] for name in "ACE"}
    found = Units.of(own).with_(Units.of(others))
    assert dict(found.items()) == {name: tuple(others.get(name, own[name])) for name in own}
