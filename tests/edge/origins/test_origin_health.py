"""Which origin to ask."""

from hypothesis import given, settings
from hypothesis import strategies as st

from nearmile.edge.origins.health import ASIDE_S, ASIDE_S_MAX, FAILURES_MAX, Health, State, turns


def down(now_s: float = 0.0, probed: bool = False) -> Health:
    health = Health(probed)
    for _ in range(FAILURES_MAX):
        health.failed(now_s)
    return health


def test_failures_in_a_row_put_it_aside() -> None:
    health = Health()
    assert [health.failed(0) for _ in range(FAILURES_MAX - 1)] == [False] * (FAILURES_MAX - 1)
    assert not health.answered() and health.admits(0)
    assert [health.failed(0) for _ in range(FAILURES_MAX)] == [False] * (FAILURES_MAX - 1) + [True]
    assert not health.admits(ASIDE_S / 2)


def test_one_request_tries_it_again() -> None:
    health = down()
    assert [health.admits(ASIDE_S) for _ in range(3)] == [True, False, False]
    assert health.state is State.TRYING
    assert health.answered() and health.admits(ASIDE_S)


def test_a_try_that_is_never_heard_of_again_is_not_the_last() -> None:
    health = down()
    assert health.admits(ASIDE_S) and not health.admits(1.5 * ASIDE_S) and health.admits(2 * ASIDE_S)


def test_it_is_put_aside_for_longer_each_time_but_not_for_ever() -> None:
    health, now_s, pauses = down(), 0.0, []
    for _ in range(10):
        pauses.append(health.until_s - now_s)
        now_s = health.until_s
        assert health.admits(now_s)
        health.failed(now_s)
    assert pauses[:3] == [ASIDE_S, 2 * ASIDE_S, 4 * ASIDE_S] and pauses[-1] == ASIDE_S_MAX


def test_requests_from_before_say_nothing_new() -> None:
    health = down()
    for _ in range(100):
        assert not health.failed(0)
    assert health.until_s == ASIDE_S


def test_a_probed_one_comes_back_by_its_probe_alone() -> None:
    health = down(probed=True)
    assert not health.admits(1000) and health.failed(1000)
    assert health.answered() and health.admits(1000)


def test_turns_go_by_preference_and_past_who_is_aside() -> None:
    assert list(turns([("a", Health()), ("b", Health())], 0)) == ["a", "b"]
    assert list(turns([("a", down()), ("b", Health())], 0)) == ["b"]
    assert list(turns([("a", down()), ("b", down())], 0)) == ["a", "b"], "better than nobody"


def test_a_try_is_not_spent_on_who_is_not_asked() -> None:
    spare = down()
    assert next(turns([("a", Health()), ("b", spare)], ASIDE_S)) == "a"
    assert spare.admits(ASIDE_S)


@settings(max_examples=200)
@given(st.lists(st.tuples(st.sampled_from(["ask", "ok", "fail"]), st.floats(0, 100)), max_size=60), st.booleans())
def test_whatever_happens(steps: list[tuple[str, float]], probed: bool) -> None:
    health, now_s = Health(probed), 0.0
    for what, pause_s in steps:
        now_s += pause_s
        if what == "ask":
            health.admits(now_s)
        elif what == "ok":
            health.answered()
            assert health.admits(now_s)
        else:
            health.failed(now_s)
        assert health.until_s <= now_s + ASIDE_S_MAX
        assert (health.state is State.UP) == (health.failures < FAILURES_MAX)
        assert list(turns([(1, health)], now_s)) == [1], "somebody is always asked"
    if not probed:
        assert health.admits(now_s + 2 * ASIDE_S_MAX), "it always gets another chance"
