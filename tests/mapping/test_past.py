"""Which map of the past is the one to answer by."""

from hypothesis import given
from hypothesis import strategies as st

from nearmile.mapping.map import Map, Units
from nearmile.mapping.past import PARTS, Past


def map_of(version: int) -> Map:
    return Map(version=version, term=1, made_at_s=0, regions=(), units=Units(), fallback=())


def test_the_first_map_serves_until_another_is_old_enough() -> None:
    past = Past(1200)
    assert past.current(0) is None
    assert past.take(map_of(1), 0)
    assert not past.take(map_of(2), 99)
    assert past.take(map_of(3), 100)
    assert past.current(1299) == map_of(1)
    assert past.current(1300) == map_of(3)
    assert Past(1200, reversed(past.kept)).current(1300) == map_of(3)


@given(st.lists(st.floats(0.01, 500), min_size=1, max_size=200))
def test_as_old_as_it_must_be_and_bounded(pauses_s: list[float]) -> None:
    delay_s, now_s, came_s = 600.0, 0.0, list[float]()
    past = Past(delay_s)
    for pause_s in pauses_s:
        now_s += pause_s
        past.take(map_of(len(came_s)), now_s)
        came_s.append(now_s)
        current = past.current(now_s)
        assert current is not None and len(past.kept) <= PARTS + 2
        age_s = now_s - came_s[current.version]
        assert age_s >= delay_s or current.version == 0
        # No older than the pauses between maps and between those that are kept make it.
        assert age_s < delay_s + delay_s / PARTS + max(pauses_s) * 2 or current.version == 0
