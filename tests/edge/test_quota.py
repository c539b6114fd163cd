"""What each site may have of what all share."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from nearmile.edge.quota import Quota


@settings(max_examples=100)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 4)), max_size=100))
def test_no_site_has_more_than_its_share_and_all_no_more_than_there_is(steps: list[tuple[bool, int]]) -> None:
    quota, have = Quota(site_max=3, total_max=7), Counter[int]()
    for takes, serial in steps:
        if takes:
            may = have[serial] < 3 and have.total() < 7
            assert quota.take(serial) is may
            have[serial] += may
        elif have[serial]:
            quota.give(serial)
            have[serial] -= 1
        assert quota[serial] == have[serial] and quota.total == have.total()
