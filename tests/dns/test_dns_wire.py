"""Queries and responses byte by byte, with dnspython as the independent reader and writer."""

from struct import pack

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rdatatype
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearmile.dns import wire
from nearmile.dns.wire import Body, Edns, Query, Subnet

NAME = b"\x03WwW\x07eXample\x04test\x00"
QUESTION = NAME + b"\x00\x01\x00\x01"
OPT = b"\x00\x00\x29\x04\xd0\x00\x00\x80\x00"  # 1232 bytes, version 0, DO


def header(
    flags: int = 0x0100, questions: int = 1, answers: int = 0, authority: int = 0, additional: int = 0
) -> bytes:
    return pack("!HHHHHH", 0x1234, flags, questions, answers, authority, additional)


def opt(options: bytes = b"", ttl: bytes = b"\x00\x00\x80\x00") -> bytes:
    return OPT[:5] + ttl + pack("!H", len(options)) + options


def subnet(family: int, source: int, scope: int, address: bytes) -> bytes:
    return pack("!HHHBB", 8, 4 + len(address), family, source, scope) + address


def with_subnet(family: int, source: int, scope: int, address: bytes) -> bytes:
    return header(additional=1) + QUESTION + opt(subnet(family, source, scope, address))


def test_a_plain_query() -> None:
    query = wire.parse(header() + QUESTION)
    assert query == Query(0x1234, 0x0100, 0, QUESTION, b"\x03www\x07example\x04test\x00", wire.A, wire.IN, None)


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        (subnet(1, 24, 0, b"\xc0\x00\x02"), Subnet(1, 24, b"\xc0\x00\x02")),
        (subnet(1, 20, 0, b"\xc0\x00\x10"), Subnet(1, 20, b"\xc0\x00\x10")),
        (subnet(1, 0, 0, b""), Subnet(1, 0, b"")),
        (subnet(0, 0, 0, b""), Subnet(0, 0, b"")),
        (subnet(2, 56, 0, b"\x20\x01\x0d\xb8\x00\x00\x01"), Subnet(2, 56, b"\x20\x01\x0d\xb8\x00\x00\x01")),
        (b"\xfd\xe9\x00\x02ab" + subnet(1, 8, 0, b"\x0a"), Subnet(1, 8, b"\x0a")),
        (b"\xfd\xe9\x00\x02ab", None),
        (b"", None),
    ],
)
def test_edns_and_client_subnet(option: bytes, expected: Subnet | None) -> None:
    query = wire.parse(header(additional=1) + QUESTION + opt(option))
    assert query is not None and query.error == 0
    assert query.edns == Edns(1232, True, 0, expected)


@pytest.mark.parametrize(
    ("packet", "error"),
    [
        (header(questions=0), wire.FORMERR),
        (header(questions=2) + QUESTION * 2, wire.FORMERR),
        (header(), wire.FORMERR),
        (header() + QUESTION[:-1], wire.FORMERR),
        (header() + QUESTION + b"\x00", wire.FORMERR),
        (header() + b"\xc0\x0c\x00\x01\x00\x01", wire.FORMERR),
        (header() + b"\x40" + b"a" * 64 + b"\x00\x00\x01\x00\x01", wire.FORMERR),
        (header() + b"\x01a" * 127 + b"\x01a\x00\x00\x01\x00\x01", wire.FORMERR),
        (header() + b"\x01a" * 30_000, wire.FORMERR),
        (header(additional=2) + QUESTION + opt() + opt(), wire.FORMERR),
        (header(answers=1) + QUESTION + opt(), wire.FORMERR),
        (header(additional=65535) + QUESTION + opt(), wire.FORMERR),
        (header(additional=1) + QUESTION + b"\x01a" + opt(), wire.FORMERR),
        (header(additional=1) + QUESTION + opt()[:-1] + b"\x01", wire.FORMERR),
        (header(additional=1) + QUESTION + opt(b"\x00\x08\x00"), wire.FORMERR),
        (header(additional=1) + QUESTION + opt(b"\x00\x08\x00\x09\x00"), wire.FORMERR),
        (header(additional=1) + QUESTION + b"\x80" + opt(), wire.FORMERR),
        (with_subnet(1, 24, 24, b"\xc0\x00\x02"), wire.FORMERR),
        (with_subnet(1, 24, 0, b"\xc0\x00"), wire.FORMERR),
        (with_subnet(1, 24, 0, b"\xc0\x00\x02\x01"), wire.FORMERR),
        (with_subnet(1, 20, 0, b"\xc0\x00\x11"), wire.FORMERR),
        (with_subnet(1, 33, 0, b"\xc0\x00\x02\x01\x00"), wire.FORMERR),
        (with_subnet(2, 129, 0, b"\x20" * 17), wire.FORMERR),
        (with_subnet(3, 8, 0, b"\xc0"), wire.FORMERR),
        (header(additional=1) + QUESTION + opt(ttl=b"\x00\x01\x00\x00"), wire.BADVERS),
        (header(flags=0x2000) + QUESTION, wire.NOTIMP),
        (header(flags=0x7800), wire.NOTIMP),
    ],
)
def test_what_is_wrong_is_an_error(packet: bytes, error: int) -> None:
    query = wire.parse(packet)
    assert query is not None and query.error == error


@pytest.mark.parametrize(
    "options",
    [
        b"\x00\x08\x00\x07\x00\x01\x18\x18\xc0\x00\x02",  # a subnet with a scope
        b"\x00\x08\x00\x01\x00",
        b"\x00\x0a\x00\x07abcdefg",  # half a cookie
        b"\x00\x03\x00\x09",  # longer than the record
        b"\x00\x03\x00",
    ],
)
@pytest.mark.parametrize("questions", [0, 1])
def test_who_sends_malformed_options_learns_that_edns_is_understood(options: bytes, questions: int) -> None:
    packet = header(questions=questions, additional=1) + QUESTION * questions + opt(options)
    response = respond(packet, Body(wire.FORMERR))  # RFC 6891, section 7
    assert (response.rcode(), response.edns, response.options) == (dns.rcode.FORMERR, 0, ())
    query = wire.parse(packet)
    assert query is not None and query.error == wire.FORMERR


@pytest.mark.parametrize("packet", [b"", header()[:-1], header(flags=0x8000) + QUESTION, header(flags=0x8400)])
def test_what_deserves_no_answer(packet: bytes) -> None:
    assert wire.parse(packet) is None
    assert wire.failure(packet) is None


def test_a_record_that_is_not_ours_to_read_is_passed_over() -> None:
    record = b"\xc0\x0c\x00\xfa\x00\xff\x00\x00\x00\x00\x00\x02ab"
    query = wire.parse(header(additional=2) + QUESTION + opt() + record)
    assert query is not None and query.error == 0 and query.edns is not None


def respond(packet: bytes, body: Body, scope: int = 0, over_tcp: bool = False) -> dns.message.Message:
    query = wire.parse(packet)
    assert query is not None
    return dns.message.from_wire(wire.respond(query, body, scope, over_tcp))


def test_the_question_comes_back_as_it_came() -> None:
    records = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x14\x00\x04\x7f\x00\x00\x01"
    response = respond(with_subnet(1, 24, 0, b"\xc0\x00\x02"), Body(wire.AA, 1, sections=records), scope=24)
    assert response.answer[0].to_text() == "WwW.eXample.test. 20 IN A 127.0.0.1"
    assert response.flags == dns.flags.QR | dns.flags.AA | dns.flags.RD
    assert (response.edns, response.payload, response.ednsflags) == (0, 1232, dns.flags.DO)
    option = response.options[0]
    assert isinstance(option, dns.edns.ECSOption)
    assert (option.address, option.srclen, option.scopelen) == ("192.0.2.0", 24, 24)


@pytest.mark.parametrize(
    ("udp_bytes", "sections_bytes", "over_tcp", "is_cut"),
    [
        (None, 512 - 12 - len(QUESTION), False, False),
        (None, 512 - 12 - len(QUESTION) + 1, False, True),
        (None, 600, True, False),
        (0, 512 - 12 - len(QUESTION) - 11, False, False),
        (0, 512 - 12 - len(QUESTION) - 10, False, True),
        (4096, 1232 - 12 - len(QUESTION) - 11, False, False),
        (4096, 1232 - 12 - len(QUESTION) - 10, False, True),
        (900, 1000, False, True),
        (900, 1000, True, False),
    ],
)
def test_what_does_not_fit_is_cut(
    udp_bytes: int | None, sections_bytes: int, over_tcp: bool, is_cut: bool
) -> None:
    record_bytes = 12
    data_bytes = sections_bytes - record_bytes
    records = b"\xc0\x0c\x00\x63\x00\x01\x00\x00\x00\x14" + pack("!H", data_bytes) + bytes(data_bytes)
    packet = header() + QUESTION
    if udp_bytes is not None:
        packet = header(additional=1) + QUESTION + b"\x00\x00\x29" + pack("!HIH", udp_bytes, 0, 0)
    response = respond(packet, Body(wire.AA, 1, sections=records), over_tcp=over_tcp)
    assert bool(response.flags & dns.flags.TC) == is_cut
    assert len(response.answer) == (0 if is_cut else 1)
    assert response.question and (response.edns == 0) == (udp_bytes is not None)


def test_badvers_says_so_in_both_halves() -> None:
    packet = header(additional=1) + QUESTION + opt(ttl=b"\x00\x01\x00\x00")
    assert respond(packet, Body(wire.BADVERS & 0xF, extended=wire.BADVERS >> 4)).rcode() == wire.BADVERS


def test_failure_needs_only_the_header() -> None:
    response = wire.failure(header(flags=0x0110) + b"\xff" * 9)
    assert response == pack("!HHHHHH", 0x1234, 0x8112, 0, 0, 0, 0)


labels = st.lists(st.binary(min_size=1, max_size=20), max_size=8)


@settings(max_examples=150, deadline=None)
@given(labels, st.integers(0, 65535), st.integers(0, 32), st.ip_addresses(v=4))
def test_what_dnspython_writes_is_read(parts: list[bytes], qtype: int, source: int, address: object) -> None:
    name = dns.name.Name((*parts, b""))
    option = dns.edns.ECSOption(str(address), source)
    message = dns.message.make_query(name, dns.rdatatype.RdataType.make(qtype), use_edns=0, options=[option])
    query = wire.parse(message.to_wire())
    assert query is not None and query.error == 0 and query.qtype == qtype
    assert query.name == name.canonicalize().to_wire()
    assert query.edns is not None and query.edns.subnet is not None
    assert query.edns.subnet.address.ljust(4, b"\0") == option.to_wire()[4:].ljust(4, b"\0")  # type: ignore[index]
    assert dns.message.from_wire(wire.respond(query, Body(wire.AA), 0, False)).question == message.question
