"""Stable allocation: everybody is served, no region above its capacity without need."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from allocations import blocking_pairs, rank, uncontracted
from nearmile.mapping.allocate import (
    FULL,
    STAY_MS,
    STRETCHED,
    Allocation,
    Capacities,
    Floats,
    allocate,
    loads,
    usable,
)


class Case:
    """A seeded world of users and regions in a square."""

    def __init__(self, seed: int, rows: int, regions: int, load: float, contracts: int = 1) -> None:
        chance = np.random.default_rng(seed)
        users, homes = chance.uniform(0, 1, (rows, 1, 2)), chance.uniform(0, 1, (1, regions, 2))
        self.scores = (5 + 200 * np.sqrt(((users - homes) ** 2).sum(axis=2))).astype(np.float32)
        self.demand = np.minimum(chance.pareto(1.5, rows) + 0.1, 20.0)
        own = chance.uniform(0.5, 1.5, regions)
        own *= self.demand.sum() / own.sum() / load
        contract_of = chance.integers(0, contracts, regions)
        bound = np.bincount(contract_of, weights=own, minlength=contracts) * chance.uniform(0.7, 1.3, contracts)
        self.capacities = Capacities(own, contract_of, bound) if contracts > 1 else uncontracted(own)


def dense(allocation: Allocation, regions: int) -> Floats:
    """Demand by row and region."""
    found = np.zeros((len(allocation.placed), regions))
    np.put_along_axis(found, allocation.candidates.regions.astype(np.intp), allocation.placed, axis=1)
    return found


def moved(before: Allocation, after: Allocation, regions: int) -> float:
    """The share of all demand that another region serves."""
    old, new = dense(before, regions), dense(after, regions)
    change = np.abs(new / new.sum(axis=1, keepdims=True) - old / old.sum(axis=1, keepdims=True)).sum(axis=1) / 2
    return float((change * new.sum(axis=1)).sum() / new.sum())


CASES = {
    "seed": st.integers(0, 10_000),
    "rows": st.integers(1, 60),
    "regions": st.integers(1, 9),
    "load": st.floats(0.2, 1.4),
    "contracts": st.integers(1, 3),
    "ranks": st.integers(1, 9),
}


@settings(max_examples=150)
@given(**CASES)
def test_all_is_placed_and_the_overloaded_have_nowhere_to_go(
    seed: int, rows: int, regions: int, load: float, contracts: int, ranks: int
) -> None:
    case = Case(seed, rows, regions, load, contracts)
    found = allocate(case.demand, rank(case.scores, ranks), case.capacities)
    assert (found.placed >= 0).all()
    assert found.placed.sum(axis=1) == pytest.approx(case.demand, rel=1e-4)
    of_region = loads(found, regions)
    over, full = (of_region > case.capacities.regions * bound for bound in (1.0001, FULL - 1e-5))
    contract_of = case.capacities.contract_of
    of_contract = np.bincount(contract_of, weights=of_region, minlength=contracts)
    over |= (of_contract > case.capacities.contracts * 1.0001)[contract_of]
    full |= (of_contract > case.capacities.contracts * (FULL - 1e-5))[contract_of]
    if case.demand.sum() > usable(case.capacities):
        return  # all are stretched
    # Whoever is served by a region above its capacity finds no room on its list.
    row, place = np.nonzero(found.placed > 0)
    served_by = found.candidates.regions[row, place]
    assert full[found.candidates.regions[row[over[served_by]]]].all()


@settings(max_examples=150)
@given(**CASES)
def test_no_pair_blocks(seed: int, rows: int, regions: int, load: float, contracts: int, ranks: int) -> None:
    case = Case(seed, rows, regions, load, contracts)
    candidates, capacities = rank(case.scores, ranks), case.capacities
    found = allocate(case.demand, candidates, capacities)
    if (loads(found, regions) <= capacities.regions * 1.0001).all() and not found.raised.any():
        assert blocking_pairs(found, candidates, capacities) == []
        again = allocate(case.demand * 1.001, candidates, capacities, found)
        if not again.raised.any():
            assert blocking_pairs(again, candidates, capacities, found) == []


def test_the_checker_sees_what_blocks() -> None:
    scores = np.array([[10, 20, 90], [10, 60, 90]], dtype=np.float32)
    candidates, capacities = rank(scores), uncontracted([1.0, 1.0, 1.0])
    found = allocate(np.ones(2), candidates, capacities)
    # Both like the first region best; the second row would lose more.
    assert dense(found, 3) == pytest.approx(np.array([[0, 1, 0], [1, 0, 0]]), abs=0.002)
    assert blocking_pairs(found, candidates, capacities) == []
    swapped = structs.replace(found, placed=found.placed[::-1].copy())
    assert (1, 0) in blocking_pairs(swapped, candidates, capacities)
    idle = structs.replace(found, placed=np.roll(found.placed, 1, axis=1))
    assert (1, 0) in blocking_pairs(idle, candidates, capacities)


def test_the_contract_bounds_its_regions_together() -> None:
    scores = np.array([[10, 12, 50]] * 4, dtype=np.float32)
    capacities = Capacities(np.full(3, 4.0), np.array([1, 1, 0]), np.array([np.inf, 2.0]))
    found = allocate(np.ones(4), rank(scores), capacities)
    assert loads(found, 3) == pytest.approx([2, 0, 2], rel=0.01)
    assert blocking_pairs(found, rank(scores), capacities) == []


@pytest.mark.parametrize("load", [0.5, 0.8, 0.95])
def test_the_order_of_the_rows_does_not_matter(load: float) -> None:
    case = Case(5, 400, 12, load)
    order = np.random.default_rng(1).permutation(400)
    found = dense(allocate(case.demand, rank(case.scores), case.capacities), 12)
    shuffled = dense(allocate(case.demand[order], rank(case.scores[order]), case.capacities), 12)
    # The marginal pieces of regions may differ by what FULL leaves open.
    assert np.abs(shuffled - found[order]).sum() < 2 * (1 - FULL) * case.capacities.regions.sum()
    again = dense(allocate(case.demand, rank(case.scores), case.capacities), 12)
    assert (again == found).all()


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_a_small_change_moves_little(load: float) -> None:
    case = Case(7, 2000, 30, load)
    candidates = rank(case.scores)
    found = allocate(case.demand, candidates, case.capacities)
    assert moved(found, allocate(case.demand, candidates, case.capacities, found), 30) < 0.002
    chance = np.random.default_rng(2)
    changed = case.demand.copy()
    changed[chance.choice(2000, 20, replace=False)] *= 1.5
    assert moved(found, allocate(changed, candidates, case.capacities, found), 30) < 0.03
    noise = chance.uniform(-STAY_MS / 2, STAY_MS / 2, case.scores.shape).astype(np.float32)
    noisy = rank(case.scores + noise)
    stays = moved(found, allocate(case.demand, noisy, case.capacities, found), 30)
    assert stays < moved(found, allocate(case.demand, noisy, case.capacities), 30) / 2


def test_who_loses_its_region_goes_to_the_next_and_the_others_stay() -> None:
    case = Case(3, 500, 10, 0.3)
    found = allocate(case.demand, rank(case.scores), case.capacities)
    served = dense(found, 10)
    gone = int(served.sum(axis=0).argmin())
    own = case.capacities.regions.copy()
    own[gone] = 0
    after = dense(allocate(case.demand, rank(case.scores), uncontracted(own), found), 10)
    assert after[:, gone].sum() == 0
    elsewhere = served[:, gone] == 0
    assert np.abs(after - served)[elsewhere].sum() < 0.05 * case.demand.sum()


def test_who_loses_its_region_displaces_nobody_for_a_small_gain() -> None:
    # Regions along a street, nearly full with users of their own, and one user who has a single region only.
    regions, users = 20, 50
    homes = 20.0 * np.arange(regions)
    at = homes.repeat(users) + np.tile(np.linspace(-9, 9, users), regions)
    scores = np.vstack((np.abs(at[:, np.newaxis] - homes), np.where(homes == 20, 1.0, 900.0))).astype(np.float32)
    candidates, demand, own = rank(scores), np.append(np.ones(len(at)), 0.0), np.full(regions, users / 0.94)
    found = allocate(demand, candidates, uncontracted(own))
    own[0] = 0
    after = allocate(demand, candidates, uncontracted(own), found)
    served = dense(found, regions)[:-1]
    assert np.abs(dense(after, regions)[:-1] - served).sum() / 2 < 1.2 * served[:, 0].sum()
    demand[-1] = 1.0
    last = allocate(demand, candidates, uncontracted(own), after)
    assert dense(last, regions)[-1, 1] == pytest.approx(1), "but for a large one"


def test_where_all_are_full_all_are_overloaded_alike() -> None:
    case = Case(11, 500, 8, 1.6)
    fill = loads(allocate(case.demand, rank(case.scores), case.capacities), 8) / case.capacities.regions
    assert np.median(fill) > 1.6
    assert fill.max() <= 1.6 / STRETCHED * 1.0001
    # Nearby regions that are full, and one far away that nobody may use.
    near = allocate(np.ones(10), rank(np.array([[1, 2, 900]] * 10, dtype=np.float32), 2), uncontracted([3, 1, 99]))
    assert loads(near, 3)[:2] / [3, 1] == pytest.approx([2.5, 2.5], rel=0.06)


def test_who_has_no_other_place_goes_first() -> None:
    # The second row may only use the first region, which the first row would lose more by leaving.
    scores = np.array([[1, 100, 101], [1, 2, 3]], dtype=np.float32)
    capacities = uncontracted([1.0, 1.0, 0.0])
    found = allocate(np.ones(2), rank(scores, 1), uncontracted([1.0, 1.0, 1.0]))
    assert loads(found, 3)[0] == pytest.approx(2)
    assert loads(allocate(np.ones(2), rank(scores), capacities), 3) == pytest.approx([1, 1, 0], abs=0.01)


def test_nothing_to_carry_anything_is_served_by_the_best() -> None:
    scores = np.array([[30, 10], [10, 20]], dtype=np.float32)
    found = allocate(np.array([1.0, 2.0]), rank(scores), uncontracted([0.0, 0.0]))
    assert dense(found, 2).tolist() == [[0, 1], [2, 0]]
    assert allocate(np.zeros(2), rank(scores), uncontracted([1.0, 1.0])).placed.sum() == 0
