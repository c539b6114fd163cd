"""Token buckets, in virtual time."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from nearmile.edge.rules.rates import Limiter, Rate


def test_a_burst_and_then_a_steady_flow() -> None:
    limiter, rate = Limiter(), Rate(2.0, 3)
    assert [limiter.take(1, b"a", rate, None, 10.0) for _ in range(5)] == [0, 0, 0, 1, 1]
    assert [limiter.take(1, b"a", rate, None, at) for at in (10.4, 10.5, 10.6, 11.0)] == [1, 0, 1, 0]
    assert [limiter.take(1, b"a", rate, None, 100.0) for _ in range(4)] == [0, 0, 0, 1]


def test_the_wait_that_is_told_is_enough() -> None:
    limiter, rate = Limiter(), Rate(0.1, 1)
    assert limiter.take(1, b"a", rate, None, 0.0) == 0
    assert (wait_s := limiter.take(1, b"a", rate, None, 0.0)) == 10
    assert limiter.take(1, b"a", rate, None, 0.0 + wait_s) == 0


def test_clients_and_sites_have_buckets_of_their_own() -> None:
    limiter, rate = Limiter(), Rate(1.0, 1)
    assert [limiter.take(s, c, rate, None, 0.0) for s, c in ((1, b"a"), (1, b"b"), (2, b"a"))] == [0, 0, 0]
    assert [limiter.take(s, c, None, rate, 0.0) for s, c in ((1, b"a"), (1, b"b"), (2, b"a"))] == [0, 1, 0]


def test_who_is_refused_uses_up_nothing_of_the_others() -> None:
    limiter, client, site = Limiter(), Rate(1.0, 1), Rate(1.0, 2)
    assert limiter.take(1, b"a", client, site, 0.0) == 0
    assert all(limiter.take(1, b"a", client, site, 0.0) for _ in range(9))
    assert limiter.take(1, b"b", client, site, 0.0) == 0
    assert limiter.take(1, b"c", client, site, 0.0) == 1  # the site's
    assert limiter.take(1, b"c", client, site, 1.0) == 0  # which cost that client nothing


def test_memory_is_bounded_and_the_busy_are_remembered() -> None:
    limiter, rate = Limiter(clients_max=10), Rate(0.1, 2)
    passed = 0
    for number in range(1000):
        passed += limiter.take(1, b"busy", rate, None, float(number)) == 0
        limiter.take(1, b"%d" % number, rate, None, float(number))
        assert len(limiter) <= 10
    assert 100 <= passed <= 102


def test_sites_that_are_gone_are_forgotten() -> None:
    limiter, rate = Limiter(), Rate(0.01, 1)
    limiter.take(1, b"", None, rate, 0.0)
    limiter.keep_sites({1})
    assert limiter.take(1, b"", None, rate, 0.0)
    limiter.keep_sites(set())
    assert not limiter.take(1, b"", None, rate, 0.0)


def test_a_clock_set_back_shuts_nobody_out_for_longer_than_a_burst() -> None:
    limiter, rate = Limiter(), Rate(1.0, 5)
    assert limiter.take(1, b"a", rate, None, 1_000_000.0) == 0
    assert limiter.take(1, b"a", rate, None, 0.0) == 1
    assert limiter.take(1, b"a", rate, None, 1.0) == 0


@given(st.integers(0, 1000), st.floats(0.1, 50), st.integers(1, 20))
def test_never_more_than_the_burst_and_the_rate(seed: int, per_s: float, burst: int) -> None:
    random, limiter, now_s, taken = Random(seed), Limiter(), 0.0, list[float]()
    for _ in range(200):
        now_s += random.expovariate(per_s * 2)
        if limiter.take(1, b"a", Rate(per_s, burst), None, now_s) == 0:
            taken.append(now_s)
    for first, since_s in enumerate(taken):
        for last, until_s in enumerate(taken[first:], first):
            assert last - first + 1 <= burst + per_s * (until_s - since_s) + 0.001
