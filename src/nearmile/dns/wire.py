"""DNS messages as bytes: a query is parsed, a response is written (RFC 1035, 6891, 7871).

A name stays what it is on the wire: labels with their lengths, ending in a zero byte. Lower-cased it is the key
of every table (a length, at most 63, is never a letter); as it came it is echoed, so the asker's capitals survive.
"""

import struct
from functools import lru_cache
from struct import Struct as Format

from msgspec import Struct, structs

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16
A, NS, CNAME, SOA, TXT, AAAA, OPT, HTTPS, CAA = 1, 2, 5, 6, 16, 28, 41, 65, 257
DS, RRSIG, NSEC, DNSKEY, CDS, CDNSKEY, NXNAME = 43, 46, 47, 48, 59, 60, 128
IXFR, AXFR, MAILB, MAILA, ANY = 251, 252, 253, 254, 255
IN = 1
QR, OPCODE, AA, TC, RD, CD = 0x8000, 0x7800, 0x0400, 0x0200, 0x0100, 0x0010
DNSSEC_OK, COMPACT_OK = 0x8000, 0x4000  # RFC 3225, RFC 9824
# Which proofs a query asks for: none, DNSSEC's, or those with the response code NXDOMAIN where they say so.
PLAIN, SIGNED, COMPACT = 0, 1, 2
# Options of EDNS: RFC 5001, 7871, 7873, 7828, 8914.
NSID, CLIENT_SUBNET, COOKIE, KEEPALIVE, EXTENDED_ERROR = 3, 8, 10, 11, 15
# Why there is no answer (RFC 8914, section 4).
NO_REASON, NOT_READY, PROHIBITED, NOT_AUTHORITATIVE, NOT_SUPPORTED, NOT_A_TYPE = -1, 14, 18, 20, 21, 30

HEADER_BYTES = 12
NAME_BYTES_MAX, LABEL_BYTES_MAX = 255, 63  # RFC 1035, section 2.3.4
# A datagram of this size crosses every path unfragmented (DNS flag day 2020); without EDNS it is RFC 1035's.
UDP_BYTES_MAX, UDP_BYTES_PLAIN = 1232, 512
TCP_BYTES_MAX = 65535
# A client's half of a cookie, and both halves (RFC 7873, section 4).
COOKIE_CLIENT_BYTES, COOKIE_BYTES_MIN, COOKIE_BYTES_MAX = 8, 16, 40
# One question and EDNS with padding need far less; a longer message only keeps the parser busy.
QUERY_BYTES_MAX = 1232
# OPT records as they were read and written last, up to 2 KB each: the same come from the same subnets.
OPTS_MAX = 4096

_HEADER = Format("!HHHHHH")
_QUESTION_TAIL = Format("!HH")
_RECORD_TAIL = Format("!HHIH")
_OPTION = Format("!HH")
_SUBNET = Format("!HBB")
_OPT_RECORD = Format("!BHHBBHH")
_REASON = Format("!HHH")
_OPT_FLAGS = {PLAIN: 0, SIGNED: DNSSEC_OK, COMPACT: DNSSEC_OK | COMPACT_OK}
_ADDRESS_BITS = {0: 0, 1: 32, 2: 128}  # by address family; 0 comes with a source prefix of 0 only


class Subnet(Struct, frozen=True):
    """A client subnet (RFC 7871): address family (1 or 2; 0 for none), prefix length, and the bytes that needs."""

    family: int
    source: int
    address: bytes


class Edns(Struct, frozen=True):
    """What the query's OPT record said."""

    udp_bytes: int
    proof: int
    """PLAIN, SIGNED or COMPACT."""
    version: int
    subnet: Subnet | None = None
    cookie: bytes = b""
    """The client's half of a cookie, and the server's if it has one."""
    nsid: bool = False
    """Whether it asks who answers."""
    keepalive: bool = False
    """Whether it asks how long a connection may stay."""
    malformed: bool = False
    """Whether its options are not what they should be."""

    @property
    def special(self) -> bool:
        """Whether the response has options that depend on more than the question and the client's subnet."""
        return bool(self.cookie) or self.nsid or self.keepalive

    @property
    def error(self) -> int:
        """The response code for what is wrong with it, if anything is."""
        return BADVERS if self.version else FORMERR if self.malformed else NOERROR


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

    @property
    def proof(self) -> int:
        """Which proofs it asks for."""
        return PLAIN if self.edns is None else self.edns.proof


class Body(Struct, frozen=True):
    """What a response says besides its question: the same bytes for all who ask the same.

    ``flags`` are AA and the response code's lower four bits, ``extended`` its upper bits (RFC 6891, 6.1.3);
    ``reason`` is an extended error or NO_REASON.
    """

    flags: int
    answers: int = 0
    authority: int = 0
    additional: int = 0
    sections: bytes = b""
    extended: int = 0
    reason: int = NO_REASON


# Who gets this comes again over TCP.
CUT = Body(TC)


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
    if questions > 1 or len(packet) > QUERY_BYTES_MAX:
        return Query(qid, flags, FORMERR)
    try:
        if not questions:
            return _cookie_alone(qid, flags, _records(packet, HEADER_BYTES, answers + authority, additional))
        end = _name_end(packet, HEADER_BYTES)
        qtype, qclass = _QUESTION_TAIL.unpack_from(packet, end)
        if additional == 1 and not answers + authority:
            edns = _lone_record(packet[end + 4 :])
        else:
            edns = _records(packet, end + 4, answers + authority, additional)
    except (Malformed, IndexError, struct.error):
        return Query(qid, flags, FORMERR)
    error = NOERROR if edns is None else edns.error
    name = packet[HEADER_BYTES:end].lower()
    return Query(qid, flags, error, packet[HEADER_BYTES : end + 4], name, qtype, qclass, edns)


def _cookie_alone(qid: int, flags: int, edns: Edns | None) -> Query:
    """A client may ask for a cookie without any question (RFC 7873, section 5.4)."""
    if edns is None or not (edns.cookie or edns.malformed):
        raise Malformed
    return Query(qid, flags, edns.error, edns=edns)


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
            edns = _edns(rclass, ttl, packet, offset, end)
        offset = end
    if offset != len(packet):
        raise Malformed
    return edns


@lru_cache(OPTS_MAX)
def _lone_record(rest: bytes) -> Edns | None:
    """What follows most questions: the OPT record alone."""
    return _records(rest, 0, 0, 1)


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


def _edns(udp_bytes: int, ttl: int, packet: bytes, offset: int, end: int) -> Edns:
    """The OPT record. Another version's may mean something else.

    Malformed options are remembered, not raised: the response to them must have an OPT record too, by which the
    client knows that EDNS as such is understood (RFC 6891, section 7).
    """
    version = ttl >> 16 & 0xFF
    proof = PLAIN if not ttl & DNSSEC_OK else COMPACT if ttl & COMPACT_OK else SIGNED
    plain = Edns(udp_bytes, proof, version)
    if version:
        return plain
    try:
        return _options(plain, packet, offset, end)
    except (Malformed, IndexError, struct.error):
        return structs.replace(plain, malformed=True)


def _options(plain: Edns, packet: bytes, offset: int, end: int) -> Edns:
    """With its options; of those that come twice the first counts."""
    subnet, cookie, nsid, keepalive = None, b"", False, False
    while offset < end:
        code, data_bytes = _OPTION.unpack_from(packet, offset)
        offset += _OPTION.size
        if offset + data_bytes > end:
            raise Malformed
        data = packet[offset : offset + data_bytes]
        offset += data_bytes
        if code == CLIENT_SUBNET:
            subnet = subnet or _subnet(data)
        elif code == COOKIE:
            cookie = cookie or _cookie(data)
        elif code == NSID:
            nsid = True
        elif code == KEEPALIVE:
            keepalive = True
    return Edns(plain.udp_bytes, plain.proof, plain.version, subnet, cookie, nsid, keepalive)


def _cookie(option: bytes) -> bytes:
    if len(option) != COOKIE_CLIENT_BYTES and not COOKIE_BYTES_MIN <= len(option) <= COOKIE_BYTES_MAX:
        raise Malformed
    return option


def _subnet(option: bytes) -> Subnet:
    """As RFC 7871, sections 6 and 7.2.1, ask: no scope in a query, no byte too many or few, no bit beyond."""
    family, source, scope = _SUBNET.unpack_from(option)
    address = option[_SUBNET.size :]
    if scope or source > _ADDRESS_BITS.get(family, -1) or len(address) != (source + 7) // 8:
        raise Malformed
    if source % 8 and address[-1] & (0xFF >> source % 8):
        raise Malformed
    return Subnet(family, source, address)


def respond(query: Query, body: Body, scope: int, over_tcp: bool, options: bytes = b"") -> bytes:
    """The response's bytes; without its records and with TC where they do not fit.

    ``scope`` is the prefix length that the answer holds for, where the query had a client subnet; ``options`` are
    more of EDNS, written by ``option``, for a query that has it.
    """
    edns, limit_bytes, opt = query.edns, UDP_BYTES_PLAIN, b""
    if edns is not None:
        opt = _write_opt(edns, body.extended, body.reason, scope, options)
        limit_bytes = min(max(edns.udp_bytes, UDP_BYTES_PLAIN), UDP_BYTES_MAX)
    if over_tcp:
        limit_bytes = TCP_BYTES_MAX
    question, sections = query.question, body.sections
    flags = QR | query.flags & (OPCODE | RD | CD) | body.flags
    questions, extras = (1 if question else 0), (1 if opt else 0)
    if HEADER_BYTES + len(question) + len(sections) + len(opt) > limit_bytes:
        return _HEADER.pack(query.qid, flags | TC, questions, 0, 0, extras) + question + opt
    head = _HEADER.pack(query.qid, flags, questions, body.answers, body.authority, body.additional + extras)
    return head + question + sections + opt


def option(code: int, data: bytes) -> bytes:
    """One option of EDNS; parameters of SVCB records look the same."""
    return _OPTION.pack(code, len(data)) + data


@lru_cache(OPTS_MAX)
def _write_opt(edns: Edns, extended: int, reason: int, scope: int, options: bytes) -> bytes:
    flags = _OPT_FLAGS[edns.proof]
    subnet = edns.subnet
    if subnet is not None:
        told = _SUBNET.pack(subnet.family, subnet.source, scope) + subnet.address
        options = _OPTION.pack(CLIENT_SUBNET, len(told)) + told + options
    if reason != NO_REASON:
        options += _REASON.pack(EXTENDED_ERROR, 2, reason)
    return _OPT_RECORD.pack(0, OPT, UDP_BYTES_MAX, extended, 0, flags, len(options)) + options


def failure(packet: bytes) -> bytes | None:
    """SERVFAIL for a query whose answer could not be made; only its header is looked at."""
    if len(packet) < HEADER_BYTES or packet[2] & 0x80:
        return None
    qid, flags = _QUESTION_TAIL.unpack_from(packet)
    return _HEADER.pack(qid, QR | flags & (OPCODE | RD | CD) | SERVFAIL, 0, 0, 0, 0)
