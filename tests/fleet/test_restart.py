"""Restarts: the pauses as a table, the limit, and what no sequence of deaths can do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearmile.fleet.restart import EARLY_DEATHS_MAX, FIRST_PAUSE_S, LONG_SLEEP_S, STEADY_S, RestartPolicy


def pauses(lives_s: list[float]) -> list[float]:
    """The pause after each life, every process being started when the policy says so."""
    policy, now_s, result = RestartPolicy(), 1000.0, []
    for lived_s in lives_s:
        policy.started(now_s)
        start_s = policy.exited(now_s + lived_s)
        result.append(start_s - now_s - lived_s)
        now_s = start_s
    return result


@pytest.mark.parametrize(
    ("lives_s", "expected_s"),
    [
        ([0.1, 0.1, 0.1, 0.1], [0.2, 0.4, 0.8, 1.6]),
        ([0.0] * 9, [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0]),
        ([0.1, 0.1, STEADY_S, 0.1], [0.2, 0.4, 0.2, 0.4]),  # a long life is forgiven
        ([60.0] * 30, [0.2] * 30),  # deaths after long lives never lead to sleep
        ([0.0] * 11, [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, LONG_SLEEP_S, 0.2]),
    ],
)
def test_pauses(lives_s: list[float], expected_s: list[float]) -> None:
    assert pauses(lives_s) == pytest.approx(expected_s)


def test_a_process_that_cannot_be_started_is_slowed_down_too() -> None:
    policy = RestartPolicy()
    assert policy.exited(5.0) == pytest.approx(5.2)
    assert policy.exited(5.2) == pytest.approx(5.6)


@given(st.lists(st.floats(0, 100), max_size=60))
def test_never_at_once_never_never_and_bounded_in_number(lives_s: list[float]) -> None:
    result = pauses(lives_s)
    assert all(FIRST_PAUSE_S - 1e-6 <= pause_s <= LONG_SLEEP_S + 1e-6 for pause_s in result)
    short = 0
    for lived_s, pause_s in zip(lives_s, result, strict=True):
        short = 0 if lived_s >= STEADY_S or pause_s > LONG_SLEEP_S - 1 else short + 1
        assert short < EARLY_DEATHS_MAX
