"""Units as the map packs them."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearmile.mapping.map import NO_REGION, Units

lists = st.dictionaries(st.text(max_size=5), st.lists(st.integers(0, NO_REGION - 1), max_size=4).map(tuple))


@given(lists, st.text(max_size=5))
def test_what_is_packed_is_found(by_name: dict[str, tuple[int, ...]], other: str) -> None:
    units = Units.of(by_name)
    assert dict(units.items()) == by_name
    assert len(units) == len(by_name)
    assert units.get(other) == by_name.get(other)
    assert (other in units) == (other in by_name)
    assert units.firsts() == {regions[0] for regions in by_name.values() if regions}
    assert msgspec.json.decode(msgspec.json.encode(units), type=Units) == units


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(KeyError):
        Units.of({"FR": (1,)})["JP"]


@pytest.mark.parametrize("text", ['{"names":["A"],"width":1}', '{"names":["A"],"width":-1,"ranked":"/v8="}'])
def test_lengths_that_do_not_fit_are_refused(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=Units)
