"""What each site may have of what all share."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from nearmile.edge.quota import Quota


@settings(max_examples=100)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 4)), max_size=100))
def test_no_site_has_more_than_its_share(steps: list[tuple[bool, int]]) -> None:
    quota, have = Quota(site_max=3, total_max=7), Counter[int]()
    for takes, serial in steps:
        if takes:
            sites = len(+have) + (not have[serial])
            may = have[serial] < 3 and (have.total() < 7 or (have[serial] + 1) * sites <= 3.5)
            assert quota.take(serial) is may
            have[serial] += may
        elif have[serial]:
            quota.give(serial)
            have[serial] -= 1
        assert quota[serial] == have[serial] and quota.total == have.total()


def test_sites_that_take_what_they_can_leave_something_to_others() -> None:
    quota = Quota(site_max=50, total_max=100)
    assert [sum(quota.take(greedy) for _ in range(99)) for greedy in (1, 2)] == [50, 50]
    assert [sum(quota.take(late) for _ in range(99)) for late in (3, 4, 5)] == [16, 12, 10]
    assert quota.total <= 150
    quota.give(1)
    assert not quota.take(1)
