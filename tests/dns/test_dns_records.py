"""Names and records, read back by dnspython."""

import dns.message
import dns.name
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearmile.base.errors import NearmileError
from nearmile.dns import wire
from nearmile.dns.records import Record, address_record, encode, is_under, soa_record, suffixes, to_wire


@pytest.mark.parametrize(
    ("text", "expected"),
    [("cdn.test", b"\x03cdn\x04test\x00"), ("CDN.test.", b"\x03cdn\x04test\x00"), ("", b"\x00")],
)
def test_names_to_wire(text: str, expected: bytes) -> None:
    assert to_wire(text) == expected


@pytest.mark.parametrize("text", ["a" * 64 + ".test", ".".join(["a" * 50] * 5)])
def test_a_name_too_long_is_told(text: str) -> None:
    with pytest.raises(NearmileError, match="too long for DNS"):
        to_wire(text)


@pytest.mark.parametrize(
    ("name", "apex", "expected"),
    [
        (b"\x01a\x04test\x00", b"\x04test\x00", True),
        (b"\x04test\x00", b"\x04test\x00", True),
        (b"\x05atest\x00", b"\x04test\x00", False),
        (b"\x06a\x04test\x00", b"\x04test\x00", False),  # the label's own bytes look like the apex
        (b"\x03net\x00", b"\x04test\x00", False),
    ],
)
def test_being_under_an_apex(name: bytes, apex: bytes, expected: bool) -> None:
    assert is_under(name, apex) is expected


names = st.lists(st.sampled_from(["a", "bb", "x7", "g", "cdn", "test"]), min_size=1, max_size=6).map(".".join)


@settings(max_examples=150, deadline=None)
@given(names, st.lists(st.tuples(names, names, names), max_size=6))
def test_compressed_records_read_back_the_same(asked: str, rows: list[tuple[str, str, str]]) -> None:
    records = [Record(to_wire(owner), wire.NS, 60, (to_wire(target),)) for owner, target, _ in rows]
    records += [soa_record(to_wire(owner), to_wire(one), to_wire(two), 2**32 + 5, 20) for owner, one, two in rows]
    records += [address_record(to_wire(owner), "192.0.2.1", 20) for owner, _, _ in rows]
    name = to_wire(asked)
    sections = encode(name, records)
    packet = b"\0\1\x80\0\0\1" + len(records).to_bytes(2, "big") + bytes(4) + name + b"\0\1\0\1" + sections
    found = dns.message.from_wire(packet, one_rr_per_rrset=True).answer
    assert [each.to_text().removesuffix(".") for each in found] == [
        *(f"{owner}. 60 IN NS {target}" for owner, target, _ in rows),
        *(f"{owner}. 20 IN SOA {one}. {two}. 5 3600 600 604800 20" for owner, one, two in rows),
        *(f"{owner}. 20 IN A 192.0.2.1" for owner, _, _ in rows),
    ]


def test_every_name_is_written_once() -> None:
    question, server = to_wire("a7.g.cdn.test"), to_wire("n1.g.cdn.test")
    sections = encode(question, [Record(to_wire("g.cdn.test"), wire.NS, 9, (server,))])
    assert sections == b"\xc0\x0f\0\x02\0\x01\0\0\0\x09\0\x05\x02n1\xc0\x0f"


def test_ipv6_addresses_are_aaaa() -> None:
    record = address_record(b"\x00", "2001:db8::1", 20)
    assert (record.rtype, len(record.data)) == (wire.AAAA, 16)


@given(names)
def test_suffixes_are_the_parents(name: str) -> None:
    labels = to_wire(name)
    assert [labels[offset:] for offset in suffixes(labels)] == [
        to_wire(".".join(name.split(".")[start:])) for start in range(len(name.split(".")))
    ]
