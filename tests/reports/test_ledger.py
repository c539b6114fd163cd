"""The ledger of applied segments against a plain set."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from nearmile.reports.ledger import Ledger, Run


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 2), st.integers(0, 12)), max_size=60))
@settings(max_examples=150)
def test_each_identity_is_new_once(keys: list[tuple[str, int, int]]) -> None:
    ledger, seen = Ledger(), set[tuple[str, int, int]]()
    for server, epoch, seq in keys:
        assert ledger.add(server, epoch, seq, 1000) == ((server, epoch, seq) not in seen)
        seen.add((server, epoch, seq))
    runs = [run for key in sorted({key[:2] for key in keys}) for run in ledger.runs(*key)]
    assert {(run.server, run.epoch, seq) for run in runs for seq in range(run.first, run.last + 1)} == seen
    assert all(a[:2] != b[:2] or b.first > a.last + 1 for a, b in pairwise(runs))
    holes = {
        server: sum(
            max(s for *k, s in seen if k == [server, epoch]) + 1 - sum([server, epoch] == k for *k, _ in seen)
            for epoch in {k[1] for k in seen if k[0] == server}
        )
        for server in {k[0] for k in seen}
    }
    assert ledger.missing(0) == {server: count for server, count in holes.items() if count}
    assert Ledger(runs).missing(0) == ledger.missing(0)


def test_old_epochs_are_neither_missed_nor_kept() -> None:
    ledger = Ledger([Run("a", 1, 0, 3, 1000), Run("a", 1, 5, 9, 1000), Run("a", 2, 1, 1, 9000)])
    assert ledger.missing(0) == {"a": 2}
    assert ledger.missing(1001) == {"a": 1}
    ledger.forget(1001)
    assert list(ledger.runs("a", 1)) == []
    assert list(ledger.runs("a", 2)) == [Run("a", 2, 1, 1, 9000)]
