"""Who is answered alike: as the map says, and as far as all neighbours have the same."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nearmile.base.geography import Point
from nearmile.mapping.alike import Alike
from nearmile.mapping.atlas import BITS, Atlas, made
from nearmile.mapping.choose import ranked
from nearmile.mapping.map import Map, Units

NAMES = ("DE", "FR", "US", "US/Ohio", "US/Ohio/Dayton")


def atlas_of(units: list[int]) -> Atlas:
    """Each /8 from 0 on is of one of those; of IPv6 nothing is known."""
    starts = (np.arange(len(units), dtype=np.uint64) << np.uint64(24), np.array(units, np.uint32))
    return made("", NAMES, [Point(0, 0)] * 5, [1.0] * 5, starts, (np.zeros(1, np.uint64), np.zeros(1, np.uint32)))


def test_neighbours_with_the_same_regions_share_an_answer() -> None:
    lists = {"DE": (0, 1), "FR": (0, 1), "US": (1, 0), "US/Ohio": (1, 0)}
    alike = Alike(atlas_of([1, 2, 1, 2, 3, 4, 5, 0]), Units.of(lists), {})
    assert alike.find(4, 2 << 24) == ("DE", 6)  # 0.0.0.0/6 is all of Germany and France
    assert alike.find(4, 6 << 24) == ("US", 8)  # behind it is who is unknown
    assert alike.find(4, 4 << 24) == ("US", 7)
    assert alike.find(4, 7 << 24)[0] == "" and alike.find(6, 1 << 61) == ("", 0)


def test_a_split_unit_is_alike_to_nobody() -> None:
    units = Units.of(dict.fromkeys(NAMES[:3], (0, 1)))
    alike = Alike(atlas_of([1, 2, 3, 0]), units, {"FR": (9, 7)})
    assert [alike.find(4, n << 24)[0] for n in range(3)] == ["DE", "FR", "DE"]
    assert Alike(atlas_of([1, 2]), Units(), {}).find(4, 5) == ("", 0)


def test_what_names_have_in_common_is_used_again_and_answers_are_its_own() -> None:
    atlas = atlas_of([1, 2, 3, 0])
    first = Alike(atlas, Units.of({"DE": (0, 1), "FR": (0, 1)}), {})
    for lists, found in (({"DE": (0,), "FR": (1,)}, "DE FR  "), ({"DE": (0,), "US": (1,)}, "DE  US ")):
        again = Alike(atlas, Units.of(lists), {}, first)
        assert [again.find(4, n << 24)[0] for n in range(4)] == found.split(" ")


@given(st.lists(st.integers(0, 5), min_size=1, max_size=32), st.data())
def test_the_answer_is_the_maps_own_everywhere_in_the_prefix(units: list[int], data: st.DataObject) -> None:
    orders = st.sampled_from([(0,), (0, 1), (1, 0)])
    lists = data.draw(st.dictionaries(st.sampled_from(NAMES), orders, max_size=5))
    whole = Map(version=1, term=1, made_at_s=0, regions=(), units=Units.of(lists), fallback=(7,))
    alike, names = Alike(atlas_of(units), whole.units, {}), ("", *NAMES)
    number = data.draw(st.integers(0, len(units) - 1)) << 24
    name, bits = alike.find(4, number)
    own = ranked(whole, names[units[number >> 24]])
    assert ranked(whole, name)[1] == own[1]
    first = number >> BITS[4] - bits << BITS[4] - bits
    for block in range(first >> 24, (first + (1 << BITS[4] - bits) - 1 >> 24) + 1):
        assert ranked(whole, names[units[min(block, len(units) - 1)]])[1] == own[1]
