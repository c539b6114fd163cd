"""Demand as edges tell it: steady rates are found, what is old fades, strangers do not fill the memory."""

import pytest

from nearmile.mapping.demand import MEMORY_S, Demand


def test_a_steady_rate_is_found_soon_and_fades() -> None:
    demand = Demand(("US", "FR", "JP"))
    assert list(demand.rates(0.0)) == [0, 0, 0]
    for second in range(1, 20):
        demand.add({"US": 30, "FR": 10}, second)
        demand.add({"US": 10}, second)
    assert list(demand.rates(19.0)) == pytest.approx([40, 10, 0], rel=0.1)
    for second in range(20, 1600):
        demand.add({"US": 40}, second)
    assert list(demand.rates(1599.0)) == pytest.approx([40, 0, 0], rel=0.02, abs=0.01)
    assert demand.rates(1599.0 + 5 * MEMORY_S)[0] < 1
    assert demand.rates(1e9)[0] == 0


def test_rates_do_not_swing_with_reports() -> None:
    demand = Demand(("US", "FR"))
    for second in range(600):
        demand.add({"US": 100} if second % 10 else {"US": 100, "FR": 1000}, second)
    found = [demand.rates(599.0 + tenth / 10) for tenth in range(10)]
    assert [rates[0] for rates in found] == pytest.approx([100] * 10, rel=0.001)
    assert [rates[1] for rates in found] == pytest.approx([100] * 10, rel=0.02)  # told in bursts, after a fault


def test_a_rate_is_true_from_the_first_report_on() -> None:
    demand = Demand(("US",))
    for second in range(100):
        demand.add({"US": 40}, second)
        assert demand.rates(second)[0] == pytest.approx(40, rel=0.01)


def test_it_is_bounded_and_survives_nonsense() -> None:
    demand = Demand(("US", "FR"))
    demand.add({f"X{n}": 1 for n in range(1000)}, 0.0)
    demand.add({"US": 5, "FR": -9, "": 3}, 1.0)
    assert demand.rates(1.0)[0] > 0
    assert demand.rates(1.0)[1] == 0


def test_a_clock_that_steps_either_way_gives_rates_all_the_same() -> None:
    demand = Demand(("US",))
    for now_s in (1e9, 0.0, 5.0, 1e6, 1e6 - 30 * MEMORY_S):
        demand.add({"US": 60}, now_s)
        assert demand.rates(now_s)[0] > 0
        assert demand.rates(now_s - 1e6)[0] < 1e9
