"""Measured scores: one client moves nobody, lies are bounded, what is old is forgotten, noise changes nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allocations import rank
from nearmile.base.geography import Point, distance_km, expected_rtt_ms
from nearmile.mapping.measured import (
    ACCESS_MS_MAX,
    CLIENTS_MAX,
    FORGET_S,
    HALF_LIFE_S,
    LIGHT_MS_PER_KM,
    NEAR_KM,
    RTT_MS_MAX,
    Measured,
    Report,
)

PARIS, TOKYO, LYON = Point(48.9, 2.3), Point(35.7, 139.7), Point(45.8, 4.8)
UNITS, REGIONS = {"FR": LYON, "JP": TOKYO}, {"paris": PARIS, "tokyo": TOKYO}
PRIOR = expected_rtt_ms(distance_km(LYON, PARIS))


def known() -> Measured:
    measured = Measured()
    measured.know(UNITS, REGIONS)
    return measured


def clients(region: str, unit: str, *rtts_ms: float) -> Report:
    return Report(region, {unit: dict(enumerate(rtts_ms))})


def delta(measured: Measured, now_s: float = 0.0) -> float:
    return measured.deltas_ms("FR", now_s)[0].get("paris", 0.0)


def test_three_clients_have_a_median_and_two_have_nothing() -> None:
    measured = known()
    assert not measured.add(clients("paris", "FR", 40, 45), 0.0) and delta(measured) == 0
    assert measured.add(clients("paris", "FR", 40, 45, 1900), 0.0)
    assert delta(measured) == pytest.approx(45 - PRIOR)
    assert not measured.add(clients("paris", "XX", 40, 45, 50), 0.0)
    assert not measured.add(clients("rome", "FR", 40, 45, 50), 0.0)
    assert not measured.add(Report("paris", {"FR": {}}), 0.0)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=50), st.floats(30, 60))
@settings(max_examples=50)
def test_one_client_moves_nobody_whatever_it_says(lies: list[float], truth: float) -> None:
    measured = known()
    measured.add(Report("paris", {"FR": dict.fromkeys(range(1, 4), truth)}), 0.0)
    for lie in lies:
        measured.add(Report("paris", {"FR": {9: lie}}), 0.0)
    assert delta(measured) == pytest.approx(truth - PRIOR, abs=3.0)


def test_what_cannot_be_is_held_between_light_and_patience() -> None:
    far = known()
    far.add(clients("tokyo", "FR", 0.1, 0.1, 0.1), 0.0)
    light_ms = (distance_km(LYON, TOKYO) - NEAR_KM) * LIGHT_MS_PER_KM
    assert far.scores["FR"]["tokyo"].ms == pytest.approx(light_ms)
    far.add(clients("paris", "FR", 1e9, 1e9, 1e9), 0.0)
    assert far.scores["FR"]["paris"].ms == RTT_MS_MAX


def test_it_is_smoothed_ages_and_is_forgotten() -> None:
    measured = known()
    measured.add(clients("paris", "FR", 30, 30, 30), 0.0)
    measured.add(clients("paris", "FR", 50, 50, 50), 2.0)
    assert measured.scores["FR"]["paris"].ms == 40
    assert delta(measured, 2.0 + HALF_LIFE_S) == pytest.approx((40 - PRIOR) / 2, rel=0.01)
    measured.forget(3.0 + FORGET_S)
    assert measured.scores == {} and delta(measured, 3.0 + FORGET_S) == 0


def test_targets_count_alone_and_before_clients() -> None:
    measured = known()
    assert measured.add(Report("paris", {}, {"FR": {"192.0.2.1": 33.0}}), 0.0)
    assert not measured.add(clients("paris", "FR", 90, 90, 90), 1.0)
    assert delta(measured, 1.0) == pytest.approx(33 - PRIOR, rel=0.01)
    assert measured.add(clients("paris", "FR", 90, 90, 90), 1.0 + 2 * HALF_LIFE_S)


def test_the_last_mile_is_everybodys_and_a_bad_path_its_own() -> None:
    measured = known()
    measured.add(clients("paris", "FR", *[PRIOR + 20] * 3), 0.0)
    own_ms, others_ms = measured.deltas_ms("FR", 0.0)
    assert own_ms["paris"] == others_ms == pytest.approx(20)
    measured = known()
    measured.add(clients("paris", "FR", *[PRIOR + 400] * 3), 0.0)
    assert measured.deltas_ms("FR", 0.0)[1] == ACCESS_MS_MAX
    measured.add(Report("tokyo", {}, {"FR": {"x": 100.0}}), 0.0)
    assert measured.deltas_ms("FR", 0.0)[1] == 0.0  # Tokyo is nearer than was thought


def test_noise_changes_nothing() -> None:
    measured = known()
    measured.add(clients("paris", "FR", 40, 40, 40), 0.0)
    first = delta(measured)
    for n in range(20):
        assert not measured.add(clients("paris", "FR", *[40 + n % 3] * 3), 0.1 * n)
    assert delta(measured) == first


def test_a_measured_region_moves_up_or_down_the_list() -> None:
    measured = known()
    scores = np.array([[20.0, 30.0], [20.0, 30.0]], dtype=np.float32)
    rows, columns = {"FR": 0, "JP": 1}, {"paris": 0, "tokyo": 1}
    measured.add(clients("paris", "FR", *[PRIOR + 70] * 3), 0.0)
    found = measured.corrections(rows, columns, 0.0).applied(rank(scores), np.zeros(2))
    assert found.regions.tolist() == [[1, 0], [0, 1]]
    assert found.scores[0].tolist() == pytest.approx([80.0, 90.0])  # what is common is at most 50
    assert found.scores[1].tolist() == [20.0, 30.0]


def test_a_far_region_that_was_measured_to_be_near_becomes_a_candidate() -> None:
    measured = known()
    measured.add(Report("tokyo", {}, {"FR": {"x": 100.0}}), 0.0)  # by satellites, perhaps
    scores, columns = np.array([[150.0, 140.0, 160.0]], dtype=np.float32), {"rome": 0, "lima": 1, "tokyo": 2}
    near = rank(scores, 2)
    assert near.regions.tolist() == [[1, 0]]
    corrections = measured.corrections({"FR": 0}, columns, 0.0)
    found = corrections.applied(near, np.zeros(3))
    assert found.regions.tolist() == [[2, 1]]
    penalty = np.array([0.0, 0.0, 90.0])
    assert corrections.applied(near, penalty).regions.tolist() == [[1, 0]]


def test_memory_is_bounded_and_a_region_that_moves_is_measured_anew() -> None:
    measured = known()
    for n in range(500):
        measured.add(Report("paris", {"FR": {n: 40.0}}), n / 100)
    assert len(measured._votes["FR", "paris", False]) == CLIENTS_MAX
    measured.know(UNITS, REGIONS)
    assert "FR" in measured.scores
    measured.know(UNITS, {**REGIONS, "paris": LYON})
    assert measured.scores == {} and measured._pairs == 0


@given(
    st.lists(
        st.tuples(
            st.sampled_from(("FR", "JP")),
            st.sampled_from(("paris", "tokyo")),
            st.floats(5, 400),
            st.floats(0, 900),
        ),
        max_size=12,
    )
)
@settings(max_examples=60)
def test_what_is_held_is_what_would_be_worked_out_anew(told: list[tuple[str, str, float, float]]) -> None:
    holding, anew, now_s = known(), known(), 0.0
    for unit, region, rtt_ms, passed_s in told:
        now_s += passed_s
        for measured in (holding, anew):
            measured.add(clients(region, unit, *[rtt_ms] * 3), now_s)
            measured.forget(now_s)
        anew._held.clear()
        for each in UNITS:
            assert holding.deltas_ms(each, now_s) == anew.deltas_ms(each, now_s)
