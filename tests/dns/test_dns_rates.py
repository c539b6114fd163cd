"""Rates, in virtual time."""

from nearmile.dns.rates import Rates


def taken(rates: Rates, key: str, now_s: float, tries: int) -> int:
    return sum(rates.take(key, now_s) for _ in range(tries))


def test_a_burst_and_then_the_rate() -> None:
    rates = Rates(100)
    assert 100 <= taken(rates, "a", 1000.0, 1000) <= 102
    assert 100 <= taken(rates, "b", 1000.0, 1000) <= 102
    assert 9 <= taken(rates, "a", 1000.1, 1000) <= 11
    assert sum(taken(rates, "a", 1000.1 + tick / 10, 100) for tick in range(1, 51)) in range(495, 505)


def test_a_clock_that_was_set_back_does_not_shut_anybody_out() -> None:
    rates = Rates(10)
    taken(rates, "a", 1_000_000.0, 100)
    assert not rates.take("a", 5.0)
    assert rates.take("a", 5.2)
