"""Names and resource records: from the text of documents to compressed bytes (RFC 1035, section 4.1.4)."""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from ipaddress import ip_address
from struct import Struct as Format

from msgspec import Struct

from nearmile.base.errors import NearmileError
from nearmile.dns import wire

_TYPE_TO_TTL = Format("!HHI")
_LENGTH = Format("!H")
_SOA_NUMBERS = Format("!IIIII")
WILDCARD = b"\1*"
_POINTER = 0xC000
_POINTER_MAX = 0x3FFF
# Parameters of HTTPS records, in the order they must have, and the priority of the only record (RFC 9460).
SVC_ALPN, SVC_PORT, SVC_IPV4HINT, SVC_IPV6HINT, SVC_PRIORITY = 1, 3, 4, 6, 1
# Of documents, of which each version brings most of those of the last; 300 bytes each.
NAMES_MAX = 65_536
# Nobody transfers these zones, so refresh, retry and expire only have to look sane (RFC 1912, section 2.2).
SOA_REFRESH_S, SOA_RETRY_S, SOA_EXPIRE_S = 3600, 600, 604_800


class Record(Struct, frozen=True):
    """A record of class IN; its data are names (compressed as the others) and then plain bytes."""

    owner: bytes
    rtype: int
    ttl_s: int
    names: tuple[bytes, ...] = ()
    data: bytes = b""


@lru_cache(NAMES_MAX)
def to_wire(text: str) -> bytes:
    """A host name as lower-case wire bytes; NearmileError where it is longer than DNS allows."""
    labels = [label.encode() for label in text.lower().rstrip(".").split(".") if label]
    name = b"".join(bytes((len(label),)) + label for label in labels if len(label) <= wire.LABEL_BYTES_MAX) + b"\0"
    if len(name) > wire.NAME_BYTES_MAX or any(len(label) > wire.LABEL_BYTES_MAX for label in labels):
        raise NearmileError(f"{text!r} is too long for DNS (63 bytes a label, 253 in all); use a shorter name")
    return name


def suffixes(name: bytes) -> Iterator[int]:
    """The offsets at which the name's labels, and so its parents, begin; not the root's."""
    offset = 0
    while length := name[offset]:
        yield offset
        offset += length + 1


def is_under(name: bytes, apex: bytes) -> bool:
    """Whether the name is the apex or below it. The labels are walked, since a label may hold any bytes."""
    return name.endswith(apex) and len(name) - len(apex) in suffixes(name)


def address_record(owner: bytes, address: str, ttl_s: int) -> Record:
    """A or AAAA, as the address is."""
    packed = ip_address(address).packed
    return Record(owner, wire.A if len(packed) == 4 else wire.AAAA, ttl_s, data=packed)


def soa_record(apex: bytes, primary: bytes, mailbox: bytes, serial: int, ttl_s: int) -> Record:
    """SOA; ``ttl_s`` is also how long a negative answer may be kept (RFC 2308)."""
    numbers = _SOA_NUMBERS.pack(serial & 0xFFFF_FFFF, SOA_REFRESH_S, SOA_RETRY_S, SOA_EXPIRE_S, ttl_s)
    return Record(apex, wire.SOA, ttl_s, (primary, mailbox), numbers)


def service_record(
    owner: bytes, ttl_s: int, protocols: Iterable[bytes], port: int | None, four: list[bytes], six: list[bytes]
) -> Record:
    """HTTPS of the owner itself (RFC 9460): ALPN identifiers, the port if it is not 443, packed address hints."""
    values = {
        SVC_ALPN: b"".join(bytes((len(one),)) + one for one in protocols),
        SVC_PORT: b"" if port is None else _LENGTH.pack(port),
        SVC_IPV4HINT: b"".join(four),
        SVC_IPV6HINT: b"".join(six),
    }
    parameters = (wire.option(key, value) for key, value in values.items() if value)
    return Record(owner, wire.HTTPS, ttl_s, data=_LENGTH.pack(SVC_PRIORITY) + b"\0" + b"".join(parameters))


def service_alias(owner: bytes, ttl_s: int, target: bytes) -> Record:
    """HTTPS in AliasMode: the service is where the target's is; for an apex, which can have no CNAME."""
    return Record(owner, wire.HTTPS, ttl_s, data=_LENGTH.pack(0) + target)


def text_record(owner: bytes, ttl_s: int, text: str) -> Record:
    """TXT, in pieces of 255 bytes."""
    data = text.encode()
    pieces = [data[at : at + 255] for at in range(0, len(data), 255)] or [b""]
    return Record(owner, wire.TXT, ttl_s, data=b"".join(bytes((len(piece),)) + piece for piece in pieces))


def caa_record(owner: bytes, ttl_s: int, text: str) -> Record:
    """CAA (RFC 8659) from `FLAGS TAG VALUE`, the value in quotes or not."""
    flags, tag, value = text.split(maxsplit=2)
    data = bytes((int(flags), len(tag))) + tag.lower().encode() + value.strip('"').encode()
    return Record(owner, wire.CAA, ttl_s, data=data)


def encode(question_name: bytes, records: Iterable[Record]) -> bytes:
    """The records as they follow a question of that name, each name written once and then pointed to."""
    start = wire.HEADER_BYTES + len(question_name) + 4
    seen = {question_name[offset:]: wire.HEADER_BYTES + offset for offset in suffixes(question_name)}
    out = bytearray()
    for record in records:
        _write_name(out, record.owner, start, seen)
        out += _TYPE_TO_TTL.pack(record.rtype, wire.IN, record.ttl_s)
        length_at = len(out)
        out += b"\0\0"
        for name in record.names:
            _write_name(out, name, start, seen)
        out += record.data
        _LENGTH.pack_into(out, length_at, len(out) - length_at - 2)
    return bytes(out)


def _write_name(out: bytearray, name: bytes, start: int, seen: dict[bytes, int]) -> None:
    for offset in suffixes(name):
        parent = name[offset:]
        known = seen.get(parent)
        if known is not None:
            out += _LENGTH.pack(_POINTER | known)
            return
        position = start + len(out)
        if position <= _POINTER_MAX:
            seen[parent] = position
        out += parent[: parent[0] + 1]
    out += b"\0"
