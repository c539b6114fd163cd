"""Blocks of HPACK, said by another library and by ours, and blocks that are none."""

import contextlib

import hpack as other
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearmile.http import hpack
from nearmile.http.fields import Pairs
from nearmile.http.hpack import AGE, NO_TABLE, STATIC, Reader, TooMuch, lines
from nearmile.http.limits import HEAD_BYTES_MAX
from nearmile.http.prefixed import Strings

NAMES = st.sampled_from([b":path", b":method", b"accept", b"cookie", b"x-a", b"x-b", b"user-agent"])
VALUES = st.one_of(st.sampled_from([b"GET", b"/", b"", b"gzip, deflate"]), st.binary(max_size=300))
HEADS = st.lists(st.tuples(NAMES, VALUES), max_size=12).map(tuple)


def test_the_static_table_is_that_of_the_rfc() -> None:
    assert STATIC == other.table.HeaderTable.STATIC_TABLE


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(HEADS, st.booleans(), st.none() | st.integers(0, 4_096)), max_size=8))
def test_what_another_says_is_understood_and_said_again(
    blocks: list[tuple[Pairs, bool, int | None]],
) -> None:
    encoder, reader, decoder = other.Encoder(), Reader(Strings()), other.Decoder()
    for number, (headers, coded, table_bytes) in enumerate(blocks):
        if table_bytes is not None:
            encoder.header_table_size = table_bytes
        assert reader.read(encoder.encode(headers, huffman=coded)) == headers
        said = (NO_TABLE if not number else b"") + lines(headers)
        assert tuple(decoder.decode(said, raw=True)) == headers


def test_a_block_means_the_same_until_the_table_changes() -> None:
    encoder, reader = other.Encoder(), Reader(Strings())
    first = encoder.encode([(b"x", b"1"), (b"y", b"2")])
    assert reader.read(first) and reader.changed
    again = encoder.encode([(b"x", b"1"), (b"y", b"2")])
    for _ in range(2):
        assert reader.read(again) == ((b"x", b"1"), (b"y", b"2")) and not reader.changed
    reader.read(encoder.encode([(b"z", b"3")]))
    assert reader.changed and reader.read(again) != ((b"x", b"1"), (b"y", b"2"))
    reader.read(b"\x20")
    assert reader.changed
    with pytest.raises(ValueError, match="too early"):
        reader.read(again)


def test_age_is_a_field_of_the_static_table() -> None:
    assert (
        Reader(Strings()).read(AGE + b"\x0212")
        == ((b"age", b"12"),)
        == Reader(Strings()).read(lines(((b"age", b"12"),)))
    )


NONE = {
    "2.3.3 entry 0": b"\x80",
    "2.3.3 the name of no entry": b"\x7f\x80\x01\x01a",
    "2.3.3 beyond the table": b"\xbe",
    "4.2 an update behind a field": b"\x82\x20",
    "6.3 an update beyond the limit": b"\x3f\xe2\x1f",
    "5.1 a number without an end": b"\xff\x80",
    "5.1 a number that never ends": b"\xff" + b"\x80" * 10 + b"\x01",
    "5.2 a string without an end": b"\x00\x05a",
    "5.2 more than 7 bits of padding": b"\x00\x01x\x82\x1f\xff",
    "5.2 padding of zeros": b"\x00\x01x\x81\x18",
    "5.2 the end of a string within it": b"\x00\x01x\x84\xff\xff\xff\xff",
}


@pytest.mark.parametrize("name", NONE)
def test_what_is_no_block(name: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Reader(Strings()).read(NONE[name])


def test_a_small_block_cannot_say_much() -> None:
    reader = Reader(Strings())
    reader.read(lines(()) + b"\x40\x01x" + b"\x7f\xa1\x1e" + b"y" * 4_000)
    with pytest.raises(TooMuch):
        reader.read(b"\xbe" * (HEAD_BYTES_MAX // 4_000 + 1))


def test_an_entry_larger_than_the_table_empties_it() -> None:
    reader = Reader(Strings())
    reader.read(b"\x40\x01x\x01y")
    assert reader.read(b"\xbe") == ((b"x", b"y"),)
    reader.read(b"\x40\x01x" + b"\x7f\xa1\x20" + b"y" * 4_256)
    assert not reader._table and reader._table_bytes == 0
    assert hpack.TABLE_BYTES_MAX == 4_096


@settings(max_examples=300)
@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(block: bytes) -> None:
    reader = Reader(Strings())
    with contextlib.suppress(ValueError, TooMuch):
        reader.read(block)
    assert sum(len(n) + len(v) + 32 for n, v in reader._table) == reader._table_bytes <= reader._limit_bytes
