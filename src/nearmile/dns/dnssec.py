"""DNSSEC's records (RFC 4034): keys, what parents say of them, signatures, and proofs that something is not there.

One key a zone signs everything (a combined signing key) by ECDSA P-256 with SHA-256 (RFC 6605). All of a network's
keys are derived from secrets that its name servers share, and signatures have no chance in them (RFC 6979), so any
of the servers gives the same ones, also for a zone that came a moment ago, without a word between them.
"""

from collections.abc import Iterable
from hashlib import sha256
from struct import Struct as Format

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from nearmile.dns import wire
from nearmile.dns.records import WILDCARD, Record, suffixes

# A zone's key that is also what parents point to; algorithm and digest are those that RFC 8624 recommends.
FLAGS, PROTOCOL, ECDSA_P256, SHA_256 = 257, 3, 13, 2
NUMBER_BYTES = 32
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256
# 16 bytes above the order make the remainder even to 2^-128 (FIPS 186-5, A.2.1).
DERIVED_BYTES = 48
PURPOSE = b"nearmile DNSSEC "
# Signatures are made for a day, begin before it, as clocks of resolvers may be behind, and hold two days longer
# than that: no answer may be kept for more than one (``top_ttl_s``).
WINDOW_S, BEFORE_S, AFTER_S = 86_400, 3600, 2 * 86_400

_KEY = Format("!HBB")
_SIGNED = Format("!HBBIIIH")
_RECORD = Format("!HHIH")
_ECDSA = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)


class Key:
    """A zone's key, made of a secret of the network and the zone's name."""

    def __init__(self, secret: bytes, apex: bytes) -> None:
        derived = HKDF(hashes.SHA256(), DERIVED_BYTES, salt=None, info=PURPOSE + apex).derive(secret)
        self._private = ec.derive_private_key(int.from_bytes(derived, "big") % (ORDER - 1) + 1, ec.SECP256R1())
        point = self._private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        self.apex = apex
        self.data = _KEY.pack(FLAGS, PROTOCOL, ECDSA_P256) + point[1:]
        """The data of its DNSKEY record."""
        self.tag = key_tag(self.data)

    def ds_data(self) -> bytes:
        """The data of the DS record that the parent needs (RFC 4034, section 5.1)."""
        return _KEY.pack(self.tag, ECDSA_P256, SHA_256) + sha256(self.apex + self.data).digest()

    def signature(self, rrset: tuple[Record, ...], inception: int, expiration: int) -> Record:
        """The RRSIG record of a whole set of records; times are Unix times (RFC 4034, section 3.1)."""
        first = rrset[0]
        labels = sum(1 for _ in suffixes(first.owner)) - first.owner.startswith(WILDCARD)
        times = expiration & 0xFFFF_FFFF, inception & 0xFFFF_FFFF
        terms = _SIGNED.pack(first.rtype, ECDSA_P256, labels, first.ttl_s, *times, self.tag) + self.apex
        r, s = decode_dss_signature(self._private.sign(terms + canonical(rrset), _ECDSA))
        signed = r.to_bytes(NUMBER_BYTES, "big") + s.to_bytes(NUMBER_BYTES, "big")
        return Record(first.owner, wire.RRSIG, first.ttl_s, data=terms + signed)


def key_tag(data: bytes) -> int:
    """RFC 4034, appendix B, of the data of a DNSKEY record."""
    total = (sum(data[::2]) << 8) + sum(data[1::2])
    return (total + (total >> 16)) & 0xFFFF


def canonical(rrset: tuple[Record, ...]) -> bytes:
    """The bytes that a signature covers (RFC 4034, section 6); our names are lower-case already."""
    first = rrset[0]
    values = sorted(b"".join(record.names) + record.data for record in rrset)
    head = first.owner + _RECORD.pack(first.rtype, wire.IN, first.ttl_s, 0)[:-2]
    return b"".join(head + len(value).to_bytes(2, "big") + value for value in values)


def nsec_record(name: bytes, types: Iterable[int], ttl_s: int) -> Record:
    """That the name has these types and no others, and that nothing is between it and the very next name (RFC
    9824, section 3). The types of the proof itself are added."""
    return Record(name, wire.NSEC, ttl_s, data=successor(name) + type_bitmap({*types, wire.RRSIG, wire.NSEC}))


def type_bitmap(types: Iterable[int]) -> bytes:
    """RFC 4034, section 4.1.2."""
    blocks: dict[int, bytearray] = {}
    for rtype in sorted(types):
        block = blocks.setdefault(rtype >> 8, bytearray())
        at, bit = (rtype & 0xFF) >> 3, 0x80 >> (rtype & 7)
        block.extend(bytes(at + 1 - len(block)))
        block[at] |= bit
    return b"".join(bytes((number, len(block))) + block for number, block in blocks.items())


def successor(name: bytes) -> bytes:
    """The very next name in DNSSEC's order (RFC 4471, section 3.1)."""
    return b"\1\0" + name if len(name) + 2 <= wire.NAME_BYTES_MAX else _after(name)


def _after(name: bytes) -> bytes:
    """The next name that is not below this one."""
    label, parent = name[1 : name[0] + 1], name[name[0] + 1 :]
    if len(label) < wire.LABEL_BYTES_MAX and len(name) < wire.NAME_BYTES_MAX:
        label += b"\0"
    elif label := label.rstrip(b"\xff"):
        # Capitals count as small letters, so they are never next.
        label = label[:-1] + bytes((ord("[") if label[-1] == ord("@") else label[-1] + 1,))
    else:
        return _after(parent)
    return bytes((len(label),)) + label + parent
