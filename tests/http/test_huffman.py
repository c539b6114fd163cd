"""Huffman's code, beside another library's."""

import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hypothesis import given, settings
from hypothesis import strategies as st

from nearmile.http.huffman import Huffman

OTHER = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)


def test_every_byte() -> None:
    here = Huffman()
    for byte in range(256):
        assert here.decode(OTHER.encode(bytes((byte,)) * 3)) == bytes((byte,)) * 3


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_what_another_says_is_understood(said: bytes) -> None:
    assert Huffman().decode(OTHER.encode(said)) == said


@settings(max_examples=300)
@given(st.binary(max_size=60))
def test_there_is_one_way_to_say_a_string(data: bytes) -> None:
    try:
        said = Huffman().decode(data)
    except ValueError:
        return
    assert OTHER.encode(said) == data


@pytest.mark.parametrize(
    "wrong",
    [
        b"\xff",  # eight bits of padding
        b"\xff\xff\xff\xfc",  # the end of a string
        b"\xff\xff\xff\xff\xff",
        b"\x00\x00",  # padding with zeros
        OTHER.encode(b"a") + b"\xff",
    ],
)
def test_what_is_no_string(wrong: bytes) -> None:
    with pytest.raises(ValueError):
        Huffman().decode(wrong)


def test_what_it_remembers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearmile.http.huffman.HUFFMAN_STEPS_MAX", 2)
    here = Huffman()
    assert here.decode(OTHER.encode(b"some text")) == b"some text"
    assert len(here._steps) <= 2
