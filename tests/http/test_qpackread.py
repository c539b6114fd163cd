"""Sections without a dynamic table, said by another library, and sections that are none."""

import pylsqpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearmile.http.fields import BadMessage
from nearmile.http.h3frames import QPACK_FAILED, Fault
from nearmile.http.limits import HEAD_BYTES_MAX
from nearmile.http.qpackread import STATIC, Reader

START = b"\x00\x00"
NAMES = st.sampled_from([b"x", b"x-long-name-of-no-entry", *(name for name, _ in STATIC)])
VALUES = st.one_of(st.binary(max_size=300), st.sampled_from([value for _, value in STATIC]))


@settings(max_examples=200)
@given(st.lists(st.tuples(NAMES, VALUES), max_size=12))
def test_what_another_says_is_understood(pairs: list[tuple[bytes, bytes]]) -> None:
    _, section = pylsqpack.Encoder().encode(0, pairs)
    reader = Reader()
    assert reader.read(section) == tuple(pairs)
    assert reader.read(section) == tuple(pairs), "what it remembers is the same"


def test_the_static_table_is_that_of_another() -> None:
    assert len(STATIC) == 99
    other = pylsqpack.Decoder(0, 0)
    for number, pair in enumerate(STATIC):
        section = START + (bytes((0xC0 | number,)) if number < 63 else bytes((0xFF, number - 63)))
        assert Reader().read(section) == (pair,) == tuple(other.feed_header(0, section)[1])


def test_numbers_may_be_longer_than_need_be() -> None:
    assert Reader().read(START + b"\x21x\x7f\x80\x00" + b"y" * 127) == ((b"x", b"y" * 127),)
    assert Reader().read(b"\x00\x7f\x05\xd1") == ((b":method", b"GET"),), "what is counted from is of no use"


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"\x00",
        b"\x02\x00\x80",  # needs an entry of the dynamic table
        b"\x00\x80\xd1",  # counts from before its start
        START + b"\x80",  # one of its entries
        START + b"\x10",  # the same, counted from the base
        START + b"\x40\x01a",  # its name
        START + b"\x00\x01a",
        START + b"\xff\x24",  # entry 99 of the static table
        START + b"\xff" + b"\x80" * 9 + b"\x00",  # a number of too many bytes
        START + b"\xff\xff\xff",
        START + b"\x23ab",  # ends within a name
        START + b"\x21x",  # without a value
        START + b"\x21x\x05abc",
        START + b"\x21x\x81\xff",  # padding that is none
    ],
)
def test_what_is_no_section(wrong: bytes) -> None:
    with pytest.raises(Fault) as told:
        Reader().read(wrong)
    assert told.value.code == QPACK_FAILED


def test_what_says_too_much() -> None:
    for much in (b"\xfa" * HEAD_BYTES_MAX, b"\x21x\x7f\xd1\x7f" + b"y" * 16_336):
        with pytest.raises(BadMessage) as told:
            Reader().read(START + much * 3)
        assert told.value.status == 431


@settings(max_examples=300)
@given(st.binary(min_size=1, max_size=100))
def test_any_section_is_taken_or_refused(data: bytes) -> None:
    try:
        taken = Reader().read(START + data)
    except (Fault, BadMessage):
        return
    if all(name for name, _ in taken):  # without one it is the parser's of heads to refuse
        assert tuple(pylsqpack.Decoder(0, 0).feed_header(0, START + data)[1]) == taken
