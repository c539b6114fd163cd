"""DNS messages as bytes: a query is parsed, a response is written (RFC 1035, 6891, 7871).

A name stays what it is on the wire: labels with their lengths, ending in a zero byte. Lower-cased it is the key
of every table (a length, at most 63, is never a letter); as it came it is echoed, so the asker's capitals survive.
"""

import struct
from struct import Struct as Format

from msgspec import Struct

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16
A, NS, CNAME, SOA, AAAA, OPT, DS, IXFR, AXFR, ANY = 1, 2, 5, 6, 28, 41, 43, 251, 252, 255
IN = 1
QR, OPCODE, AA, TC, RD, CD = 0x8000, 0x7800, 0x0400, 0x0200, 0x0100, 0x0010
DNSSEC_OK = 0x8000
CLIENT_SUBNET = 8

HEADER_BYTES = 12
NAME_BYTES_MAX, LABEL_BYTES_MAX = 255, 63  # RFC 1035, section 2.3.4
# A datagram of this size crosses every path unfragmented (DNS flag day 2020); without EDNS it is RFC 1035's.
UDP_BYTES_MAX, UDP_BYTES_PLAIN = 1232, 512
TCP_BYTES_MAX = 65535
# One question and EDNS with padding need far less; a longer message only keeps the parser busy.
QUERY_BYTES_MAX = 1232

_HEADER = Format("!HHHHHH")
_QUESTION_TAIL = Format("!HH")
_RECORD_TAIL = Format("!HHIH")
_OPTION = Format("!HH")
_SUBNET = Format("!HBB")
_OPT_RECORD = Format("!BHHBBHH")
_ADDRESS_BITS = {0: 0, 1: 32, 2: 128}  # by address family; 0 comes with a source prefix of 0 only


class Subnet(Struct, frozen=True):
    """A client subnet (RFC 7871): address family (1 or 2; 0 for none), prefix length, and the bytes that needs."""

    family: int
    source: int
    address: bytes


class Edns(Struct, frozen=True):
    """What the query's OPT record said."""

    udp_bytes: int
    dnssec_ok: bool
    version: int
    subnet: Subnet | None


class Query(Struct, frozen=True):
    """One question. Where ``error`` is not 0 it is all there is to answer, and the question may be missing."""

    qid: int
    flags: int
    error: int = NOERROR
    question: bytes = b""
    """Name, type and class as they came."""
    name: bytes = b""
    """The name in lower case."""
    qtype: int = 0
    qclass: int = 0
    edns: Edns | None = None


class Body(Struct, frozen=True):
    """What a response says besides its question: the same bytes for all who ask the same.

    ``flags`` are AA and the response code's lower four bits, ``extended`` its upper bits (RFC 6891, 6.1.3).
    """

    flags: int
    answers: int = 0
    authority: int = 0
    additional: int = 0
    sections: bytes = b""
    extended: int = 0


class Malformed(Exception):
    """The message is not what the RFCs allow."""


def parse(packet: bytes) -> Query | None:
    """The query in a message; None for what deserves no answer (no header, or itself a response). Never raises."""
    if len(packet) < HEADER_BYTES:
        return None
    qid, flags, questions, answers, authority, additional = _HEADER.unpack_from(packet)
    if flags & QR:
        return None
    if flags & OPCODE:
        return Query(qid, flags, NOTIMP)
    if questions != 1 or len(packet) > QUERY_BYTES_MAX:
        return Query(qid, flags, FORMERR)
    try:
        end = _name_end(packet, HEADER_BYTES)
        qtype, qclass = _QUESTION_TAIL.unpack_from(packet, end)
        edns = _records(packet, end + 4, answers + authority, additional)
    except (Malformed, IndexError, struct.error):
        return Query(qid, flags, FORMERR)
    error = BADVERS if edns is not None and edns.version else NOERROR
    name = packet[HEADER_BYTES:end].lower()
    return Query(qid, flags, error, packet[HEADER_BYTES : end + 4], name, qtype, qclass, edns)


def _name_end(packet: bytes, start: int) -> int:
    """Where the uncompressed name ends: in a question there is nothing yet that a pointer could point to."""
    end = start
    while length := packet[end]:
        end += length + 1
        if length > LABEL_BYTES_MAX or end - start >= NAME_BYTES_MAX:
            raise Malformed
    return end + 1


def _records(packet: bytes, offset: int, before: int, additional: int) -> Edns | None:
    """Passes over the records after the question, to exactly the packet's end; the OPT record among them."""
    edns = None
    for index in range(before + additional):
        is_root = packet[offset] == 0
        offset = offset + 1 if is_root else _skip_name(packet, offset)
        rtype, rclass, ttl, data_bytes = _RECORD_TAIL.unpack_from(packet, offset)
        offset += _RECORD_TAIL.size
        end = offset + data_bytes
        if end > len(packet):
            raise Malformed
        if rtype == OPT:
            if edns is not None or not is_root or index < before:
                raise Malformed
            edns = Edns(rclass, bool(ttl & DNSSEC_OK), ttl >> 16 & 0xFF, _find_subnet(packet, offset, end))
        offset = end
    if offset != len(packet):
        raise Malformed
    return edns


def _skip_name(packet: bytes, start: int) -> int:
    """Where a possibly compressed name ends; pointers are not followed, so nothing can loop."""
    end = start
    while (length := packet[end]) and length <= LABEL_BYTES_MAX:
        end += length + 1
    if not length:
        return end + 1
    if length < 0xC0:
        raise Malformed
    return end + 2


def _find_subnet(packet: bytes, offset: int, end: int) -> Subnet | None:
    subnet = None
    while offset < end:
        code, data_bytes = _OPTION.unpack_from(packet, offset)
        offset += _OPTION.size
        if offset + data_bytes > end:
            raise Malformed
        if code == CLIENT_SUBNET and subnet is None:
            subnet = _subnet(packet[offset : offset + data_bytes])
        offset += data_bytes
    return subnet


def _subnet(option: bytes) -> Subnet:
    """As RFC 7871, sections 6 and 7.2.1, ask: no scope in a query, no byte too many or few, no bit beyond."""
    family, source, scope = _SUBNET.unpack_from(option)
    address = option[_SUBNET.size :]
    if scope or source > _ADDRESS_BITS.get(family, -1) or len(address) != (source + 7) // 8:
        raise Malformed
    if source % 8 and address[-1] & (0xFF >> source % 8):
        raise Malformed
    return Subnet(family, source, address)


def respond(query: Query, body: Body, scope: int, over_tcp: bool) -> bytes:
    """The response's bytes; without its records and with TC where they do not fit.

    ``scope`` is the prefix length that the answer holds for, where the query had a client subnet.
    """
    edns, limit_bytes, option = query.edns, UDP_BYTES_PLAIN, b""
    if edns is not None:
        option = _write_opt(edns, body.extended, scope)
        limit_bytes = min(max(edns.udp_bytes, UDP_BYTES_PLAIN), UDP_BYTES_MAX)
    if over_tcp:
        limit_bytes = TCP_BYTES_MAX
    question, sections = query.question, body.sections
    flags = QR | query.flags & (OPCODE | RD | CD) | body.flags
    questions, extras = (1 if question else 0), (1 if option else 0)
    if HEADER_BYTES + len(question) + len(sections) + len(option) > limit_bytes:
        return _HEADER.pack(query.qid, flags | TC, questions, 0, 0, extras) + question + option
    head = _HEADER.pack(query.qid, flags, questions, body.answers, body.authority, body.additional + extras)
    return head + question + sections + option


def _write_opt(edns: Edns, extended: int, scope: int) -> bytes:
    flags = DNSSEC_OK if edns.dnssec_ok else 0
    subnet = edns.subnet
    if subnet is None:
        return _OPT_RECORD.pack(0, OPT, UDP_BYTES_MAX, extended, 0, flags, 0)
    data_bytes = _SUBNET.size + len(subnet.address)
    return (
        _OPT_RECORD.pack(0, OPT, UDP_BYTES_MAX, extended, 0, flags, _OPTION.size + data_bytes)
        + _OPTION.pack(CLIENT_SUBNET, data_bytes)
        + _SUBNET.pack(subnet.family, subnet.source, scope)
        + subnet.address
    )


def failure(packet: bytes) -> bytes | None:
    """SERVFAIL for a query whose answer could not be made; only its header is looked at."""
    if len(packet) < HEADER_BYTES or packet[2] & 0x80:
        return None
    qid, flags = _QUESTION_TAIL.unpack_from(packet)
    return _HEADER.pack(qid, QR | flags & (OPCODE | RD | CD) | SERVFAIL, 0, 0, 0, 0)
