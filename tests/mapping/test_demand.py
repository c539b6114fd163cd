"""Demand as edges tell it: steady rates are found, what is old fades, strangers do not fill the memory."""

import pytest

from nearmile.mapping.demand import MEMORY_S, UNITS_MAX, Demand


def test_a_steady_rate_is_found_soon_and_fades() -> None:
    demand = Demand()
    assert demand.rates(("US",), 0.0) == [0.0]
    for second in range(1, 20):
        demand.add({"US": 30, "FR": 10}, second)
        demand.add({"US": 10}, second)
    assert demand.rates(("US", "FR", "JP"), 19.0) == pytest.approx([40, 10, 0], rel=0.1)
    for second in range(20, 600):
        demand.add({"US": 40}, second)
    assert demand.rates(("US", "FR"), 599.0) == pytest.approx([40, 0], rel=0.02, abs=0.01)
    assert demand.rates(("US",), 599.0 + 5 * MEMORY_S)[0] < 1


def test_it_is_bounded_and_survives_nonsense() -> None:
    demand = Demand()
    demand.add({f"X{n}": 1 for n in range(UNITS_MAX)}, 0.0)
    demand.add({"late": 5, "X0": -9}, 1.0)
    assert demand.rates(("late",), 1.0) == [0.0]
    assert demand.rates(("X0",), 1.0)[0] > 0
