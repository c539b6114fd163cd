"""The atlas: found in logarithmic time, packed small, and prefixes that are as short as they can honestly be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearmile.base.geography import Point
from nearmile.mapping.atlas import Atlas, Finder, Table, made, pack, unpack


def small(starts: list[int], units: list[int]) -> Atlas:
    names = [f"U{n}" for n in range(1, max(units, default=0) + 1)]
    columns = np.array(starts, np.uint64), np.array(units, np.uint32)
    six = np.array([0, 0x2001 << 48], np.uint64), np.array([0, len(names)], np.uint32)
    return made("basis", names, [Point(n, -n) for n in range(len(names))], [1.5] * len(names), columns, six)


@given(
    st.sets(st.integers(1, 255), max_size=12),
    st.lists(st.integers(0, 2), min_size=13, max_size=13),
    st.integers(0, 255),
)
def test_a_prefix_is_the_shortest_with_one_value(more: set[int], values: list[int], number: int) -> None:
    starts = [0, *sorted(more)]
    values = values[: len(starts)]
    table = Table(np.array(starts, np.uint64), np.array(values, np.uint32), 8)
    whole = [values[max(i for i, start in enumerate(starts) if start <= n)] for n in range(256)]

    def alike(bits: int) -> bool:
        first = number >> 8 - bits << 8 - bits
        return len(set(whole[first : first + (1 << 8 - bits)])) == 1

    found = table.find(number)
    assert found.value == whole[number]
    assert found.bits == min(bits for bits in range(9) if alike(bits))


def test_addresses_of_both_families_and_none() -> None:
    finder = Finder(small([0, 10 << 24, 11 << 24], [1, 2, 0]))
    found = {
        address: finder.unit(address) for address in ("9.9.9.9", "10.1.2.3", "11.0.0.0", "2001::1", "::1", "x")
    }
    assert found == {"9.9.9.9": 1, "10.1.2.3": 2, "11.0.0.0": 0, "2001::1": 2, "::1": 0, "x": 0}
    assert finder.unit("::ffff:10.1.2.3") == 2 and finder.unit("2001::1%eth0") == 2


def test_what_is_packed_is_unpacked_and_small() -> None:
    chance = np.random.default_rng(1)
    starts = np.unique(np.append(0, chance.integers(0, 1 << 24, 20_000) << 8)).tolist()
    atlas = small(starts, chance.integers(0, 900, len(starts)).tolist())
    packed = pack(atlas)
    assert unpack(packed) == atlas
    assert len(packed) < 5 * len(starts)
    assert [area.country for area in atlas.areas()[:2]] == ["U1", "U2"]


@pytest.mark.parametrize("data", [b"", b"x" * 50, pack(small([0], [0]))[:-4]])
def test_what_is_no_atlas_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="no atlas"):
        unpack(data)


@pytest.mark.parametrize(("starts", "units"), [([5], [0]), ([0, 9, 9], [0, 1, 0]), ([0, 9], [0, 7])])
def test_ranges_that_are_not_whole_are_refused(starts: list[int], units: list[int]) -> None:
    columns = np.array(starts, np.uint64), np.array(units, np.uint32)
    other = np.zeros(1, np.uint64), np.zeros(1, np.uint32)
    with pytest.raises(ValueError, match="ranges"):
        unpack(pack(made("", ["U1"], [Point(0, 0)], [1.0], columns, other)))
