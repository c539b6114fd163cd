"""Units as the map packs them, and views as the bus carries them."""

from random import Random

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from nearmile.base import packing
from nearmile.mapping.map import NO_REGION, Map, Units, View, decode, encode

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


def test_views_are_sent_without_the_names_that_the_map_has() -> None:
    units, others = Units.of({"FR": (0, 1), "JP": (1, 0)}), Units.of({"FR": (1,), "JP": (0,)})
    views = (
        View(others, (0,)),
        View(Units.of({"JP": (0,)}), (0,), partial=True),
        View(Units(), (0,), partial=True),
    )
    sent = Map(version=1, term=1, made_at_s=0, regions=(), units=units, fallback=(), views=views)
    bare = zstandard.ZstdDecompressor().decompress(encode(sent))
    assert bare.count(b"JP") == 2
    found = decode(encode(sent))
    assert found == sent and found.views[0].units.names is found.units.names
    short = msgspec.structs.replace(sent, views=(View(Units((), 2, b"abc"), (0,)),))
    with pytest.raises(msgspec.DecodeError):
        decode(encode(short))


def test_views_lose_their_last_regions_where_the_bus_could_not_carry_them(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = Random(1)
    lists = {f"US/{number:03}": chance.sample(range(200), 8) for number in range(500)}
    units = Units.of(dict.fromkeys(lists, (0,)))
    partial = View(Units.of({name: lists[name] for name in sorted(lists)[:100]}), (1, 2), partial=True)
    split = View(Units.of(lists), (3, 4), {"US/007": (6, 5, 5)})
    sent = Map(version=1, term=1, made_at_s=0, regions=(), units=units, fallback=(), views=(split, partial))
    data = encode(sent)
    assert decode(data) == sent
    for widths in ((4, 4), (3, 2), (3, 1), (3, 1)):
        monkeypatch.setattr(packing, "MESSAGE_BYTES_MAX", len(data) - 1)
        found = decode(data := encode(sent))
        assert tuple(view.units.width for view in found.views) == widths
        for view, whole in zip(found.views, sent.views, strict=True):
            assert {name: list(kept) for name, kept in view.units.items()} == {
                name: lists[name][: view.units.width] for name in whole.units.names
            }
            assert (view.fallback, view.shares, view.partial) == (whole.fallback, whole.shares, whole.partial)
