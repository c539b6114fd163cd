"""Slices: the arithmetic, and that a body cut as it comes is put together again byte for byte."""

from hypothesis import given
from hypothesis import strategies as st

from nearmile.cache.key import object_key
from nearmile.cache.parts import Part
from nearmile.cache.slices import Slices, place_key, token_of

KEY = object_key(7, b"/a")


def test_parts() -> None:
    slices = Slices(10, 4, b"t")
    assert [slices.part(number) for number in range(3)] == [Part(0, 3, 10), Part(4, 7, 10), Part(8, 9, 10)]
    assert Slices(8, 4, b"t").part(1).reaches_end
    assert list(slices.numbers(3, 5)) == [0, 1] and list(slices.numbers(4, 8)) == [1]
    assert list(slices.numbers(0, 10)) == [0, 1, 2] and list(slices.numbers(9, 10)) == [2]


def test_keys() -> None:
    one, two = Slices(10, 4, b"t"), Slices(10, 4, b"u")
    names = {slices.key(KEY, number) for slices in (one, two) for number in (1, 11)}
    assert len(names) == 4 and all(name.startswith(KEY + b"\x00") for name in names)
    assert place_key(KEY, 1) != place_key(KEY, 2)
    assert (
        len({token_of(*of) for of in ((b'"a"', 1.0, 1), (b'"b"', 1.0, 1), (b'"a"', 1.5, 1), (b'"a"', 1.0, 2))})
        == 4
    )


@given(st.binary(max_size=60), st.integers(1, 9), st.data())
def test_what_is_split_fits_together(whole: bytes, slice_bytes: int, data: st.DataObject) -> None:
    """Any part of the object, in pieces of any size."""
    slices = Slices(len(whole), slice_bytes, b"")
    first = at = data.draw(st.integers(0, len(whole)))
    body = whole[first:]
    found = {number: bytearray() for number in slices.numbers(0, len(whole))}
    while body:
        size = data.draw(st.integers(1, len(body)))
        for number, offset, some in slices.split(at, body[:size]):
            part = slices.part(number)
            assert some and part.first + offset == at and at + len(some) - 1 <= part.last
            found[number] += some
            at += len(some)
        body = body[size:]
    assert b"".join(found.values()) == whole[first:]
    assert list(slices.split(3, b"")) == []
