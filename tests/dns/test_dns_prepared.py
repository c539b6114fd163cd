"""Which queries are taken for one another, and which are not."""

import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from nearmile.dns.prepared import Prepared

NAME_AT, NAME_END = 10, 23  # without the number
NAME = b"\1a\4Edge\4test\0"
QUESTION = NAME + b"\0\1\0\1"


def query(
    name: bytes = NAME, options: bytes = b"", counts: tuple[int, ...] = (1, 0, 0, 1), flags: int = 0
) -> bytes:
    opt = b"\0\0\x29\4\xd0\0\0\0\0" + struct.pack("!H", len(options)) + options
    return struct.pack("!5H", flags, *counts) + name + b"\0\1\0\1" + opt


def subnet(third: int) -> bytes:
    return b"\0\x08\0\x07\0\1\x18\0\xc6\x33" + bytes([third])


def found(prepared: Prepared, asked: bytes) -> bool:
    (ready,) = prepared.find([asked])
    return ready is not None


def fold(asked: bytes) -> bytes:
    header, end = asked[:1] + bytes([asked[1] & ~0x20]) + asked[2:NAME_AT], asked[NAME_END:]
    return header + asked[NAME_AT:NAME_END].lower() + end


def kept(asked: bytes) -> Prepared:
    prepared = Prepared()
    prepared.keep(asked, b"0123456789" + QUESTION + b"records", 7)
    return prepared


def test_only_capitals_of_the_name_do_not_matter() -> None:
    asked, capitals = query(options=subnet(ord("D"))), query(NAME.upper(), subnet(ord("D")))
    prepared = kept(asked)
    small, large = (b"0123456789" + name + b"\0\1\0\1records" for name in (NAME, NAME.upper()))
    assert prepared.find([asked, capitals, asked.lower(), b""]) == [(7, small), (7, large), None, None]
    assert prepared.find([asked.replace(b"Edge", b"edge")] * 2) == [(7, small.replace(b"Edge", b"edge"))] * 2
    assert not found(prepared, query(b"\1b\4Edge\4test\0", subnet(ord("D"))))
    assert not found(prepared, query())


def test_subnets_that_look_alike_do_not_push_each_other_out() -> None:
    prepared = kept(query(options=subnet(ord("D"))))
    prepared.keep(query(options=subnet(ord("d"))), bytes(10) + QUESTION, 8)
    assert len(prepared) == 2 and found(prepared, query(options=subnet(ord("D"))))


def test_what_is_long_is_not_kept() -> None:
    assert len(kept(query(options=b"\0\x0c\1\x2c" + bytes(300)))) == 0


@settings(max_examples=60)
@given(st.integers(0, len(query(options=subnet(68))) - 1), st.integers(0, 255))
def test_no_other_byte_may_differ(at: int, value: int) -> None:
    """But for AD (RFC 6840, section 5.7), which no response here depends on."""
    asked = query(options=subnet(68))
    other = asked[:at] + bytes([value]) + asked[at + 1 :]
    same = fold(asked) == fold(other)
    assert found(kept(asked), other) == same
