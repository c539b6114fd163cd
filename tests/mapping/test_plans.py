"""Plans for resolvers: prefixes are split where that pays, hold no overlaps, and reach as far as they may."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearmile.mapping import plans
from nearmile.mapping.plans import Answers, Behind, Prefixes, Seen, plan, resolver_block, split

NEAR, FAR = [5.0, 100.0], [100.0, 5.0]


def test_one_prefix_where_all_agree_and_more_where_it_pays() -> None:
    blocks, weights = np.array([4, 5, 250]), np.array([1.0, 1.0, 1.0])
    agree = split(blocks, weights, np.array([NEAR, NEAR, NEAR]), 8, 1.0)
    assert [each.tolist() for each in agree] == [[0], [0], [0]]
    apart = split(blocks, weights, np.array([NEAR, FAR, FAR]), 8, 1.0)
    assert [each.tolist() for each in apart] == [[4, 5, 128], [8, 8, 1], [0, 1, 1]]
    dear = split(blocks, weights, np.array([NEAR, FAR, FAR]), 8, 100.0)
    assert [each.tolist() for each in dear] == [[0], [0], [1]]


@given(
    st.dictionaries(st.integers(0, 255), st.tuples(st.floats(0.1, 9), st.booleans()), min_size=1), st.floats(0, 50)
)
@settings(max_examples=60)
def test_prefixes_cover_all_without_overlaps_and_cost_no_more(
    clients: dict[int, tuple[float, bool]], price: float
) -> None:
    blocks = np.array(sorted(clients))
    weights = np.array([clients[block][0] for block in blocks.tolist()])
    scores = np.array([NEAR if clients[block][1] else FAR for block in blocks.tolist()])
    firsts, lengths, chosen = split(blocks, weights, scores, 8, price)
    ends = firsts + (1 << 8 - lengths)
    assert (firsts[1:] >= ends[:-1]).all() and (firsts % (1 << 8 - lengths) == 0).all()
    at = np.searchsorted(firsts, blocks, side="right") - 1
    assert (at >= 0).all() and (blocks < ends[at]).all()
    cost = float((scores[np.arange(len(blocks)), chosen[at]] * weights).sum()) + price * len(firsts)
    together = float((scores * weights[:, np.newaxis]).sum(axis=0).min()) + price
    alone = float((scores.min(axis=1) * weights).sum()) + price * len(blocks)
    assert cost <= min(together, alone) * (1 + 1e-6)


@given(st.sets(st.integers(0, 15), max_size=6), st.integers(0, 255))
def test_whom_a_plan_does_not_know_has_a_prefix_without_it(sixteenths: set[int], low: int) -> None:
    firsts = sorted(sixteenths)
    found = Prefixes(tuple(n << 20 for n in firsts), (4,) * len(firsts), tuple(map(str, firsts)))
    block = low << 16 | 5
    unit, bits = found.find(4, block)
    if low >> 4 in sixteenths:
        assert (unit, bits) == (str(low >> 4), 4)
    else:
        inside = {n for n in firsts if n >> max(4 - bits, 0) == low >> 4 >> max(4 - bits, 0)}
        wider = {n for n in firsts if bits and n >> 5 - bits == low >> 4 >> 5 - bits}
        assert unit == "" and not inside and bits <= 4 and (wider or not bits)


def test_a_plan_has_both_families_and_an_answer_for_all() -> None:
    four = Answers(np.array([NEAR, FAR]), ("DE", "JP"))
    six = Answers(np.array([[5.0]]), ("DE",))
    made = plan(
        {4: np.array([1, 2**23]), 6: np.array([7])},
        {4: np.array([1.0, 3.0]), 6: np.array([9.0])},
        {4: four, 6: six},
    )
    assert made.whole == "DE"
    assert made.v4 == Prefixes((0, 2**23), (1, 1), ("DE", "JP")) and made.v6 == Prefixes((0,), (0,), ("DE",))


def test_a_plan_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "PREFIXES_MAX", 9)
    blocks, scores = np.arange(400), np.array([NEAR, FAR] * 200)
    made = plan({4: blocks}, {4: np.ones(400)}, {4: Answers(scores, ("DE", "JP"))})
    assert len(made.v4.firsts) <= 9


def test_counts_are_kept_fade_and_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "BLOCKS_MAX", 4)
    monkeypatch.setattr(plans, "RESOLVERS_MAX", 2)
    behind = Behind()
    behind.add([Seen("4/1", 4, block, 10.0 * (block + 1)) for block in range(5)], 0.0)
    assert [each.tolist() for each in behind.of("4/1", 4)] == [[3, 4], [40.0, 50.0]]
    behind.add([Seen("4/2", 4, 1, 3.0), Seen("4/3", 4, 1, 99.0)], 1.0)
    assert behind.resolvers() == ["4/1"]
    behind.add([Seen("4/1", 5, 1, 1.0), Seen("4/1", 4, 1 << 24, 1.0), Seen("4/1", 6, -1, 1.0)], 2.0)
    behind.add([Seen("4/1", 4, 7, float("nan")), Seen("4/1", 4, 7, -1.0)], 3.0)
    for n in range(1, 12):
        behind.add([], n * plans.HALF_LIFE_S)
    assert behind._counts == {} and behind.resolvers() == []


def test_strangers_who_came_once_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "RESOLVERS_MAX", 10)
    behind = Behind()
    behind.add([Seen("4/0", 4, 1, 60.0)], 0.0)
    for second in range(20):  # each brings a new one, and more than there is room for
        behind.add(
            [Seen("4/1", 4, 7, 3.0), *(Seen(f"4/{second}{n}0", 4, 1, 1.0) for n in range(12))], float(second)
        )
    assert sorted(behind.resolvers()) == ["4/0", "4/1"]
    assert len(behind._counts) == 10


def test_a_resolvers_block_has_a_name() -> None:
    assert resolver_block(4, 0xC0000235) == f"4/{0xC00002}" and resolver_block(6, 1 << 61) == f"6/{1 << 45}"
