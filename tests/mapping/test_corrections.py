"""What was measured, added to what is expected: as one pair after the other by hand."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from allocations import rank
from nearmile.mapping.allocate import Candidates
from nearmile.mapping.corrections import NOTHING_MEASURED, of_pairs

REGIONS = 6
Pairs = dict[int, dict[int, tuple[float, float]]]
# By unit and region what is added, and the whole; in numbers that 32 bits hold exactly.
measured = st.dictionaries(
    st.integers(0, 4),
    st.dictionaries(st.integers(0, REGIONS - 1), st.tuples(*[st.integers(-40, 40).map(float)] * 2), min_size=1),
)


def by_hand(candidates: Candidates, penalties_ms: list[float], pairs: Pairs) -> list[list[int]]:
    found: list[list[int]] = candidates.regions.tolist()
    for unit, own in pairs.items():
        scores = [
            (score + (own[region][0] if region in own else 5.0), place, region)
            for place, (region, score) in enumerate(
                zip(found[unit], candidates.scores[unit].tolist(), strict=True)
            )
        ]
        others = own.keys() - set(found[unit])
        scores += [(own[region][1] + penalties_ms[region], REGIONS + region, region) for region in others]
        found[unit] = [region for *_, region in sorted(scores)[: len(scores) - len(others)]]
    return found


@given(
    st.lists(st.lists(st.integers(0, 99).map(float), min_size=REGIONS, max_size=REGIONS), min_size=5, max_size=5),
    st.integers(1, REGIONS),
    st.lists(st.integers(0, 20).map(float), min_size=REGIONS, max_size=REGIONS),
    measured,
)
@settings(max_examples=200)
def test_lists_are_those_made_by_hand(
    scores: list[list[float]], width: int, penalties_ms: list[float], pairs: Pairs
) -> None:
    units, candidates = sorted(pairs), rank(np.array(scores, dtype=np.float32), width)
    told = [(at, region, *ms) for at, unit in enumerate(units) for region, ms in pairs[unit].items()]
    corrections = of_pairs(units, np.full(len(units), 5.0, dtype=np.float32), told[::-1])
    found = corrections.applied(candidates, np.array(penalties_ms))
    assert found.regions.tolist() == by_hand(candidates, penalties_ms, pairs)
    assert (np.diff(found.scores, axis=1) >= 0).all()
    assert candidates.regions.tolist() == rank(np.array(scores, dtype=np.float32), width).regions.tolist()


def test_where_nothing_was_measured_all_stays() -> None:
    candidates = rank(np.array([[2.0, 1.0]], dtype=np.float32))
    assert NOTHING_MEASURED.applied(candidates, np.zeros(2)) is candidates
