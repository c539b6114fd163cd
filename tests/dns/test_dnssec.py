"""Keys, signatures and proofs, checked by dnspython, which shares no code with them."""

import dns.dnssec
import dns.dnssectypes
import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearmile.dns import dnssec, wire
from nearmile.dns.dnssec import Key
from nearmile.dns.records import Record, address_record, soa_record, text_record, to_wire
from nearmile.dns.signer import Signer

SECRET, OTHER_SECRET = bytes(range(32)), bytes(32)
APEX, NOW_S = to_wire("example.test"), 1_800_000_123.0
labels = st.binary(min_size=1, max_size=63).map(bytes.lower)


def to_rrset(records: tuple[Record, ...]) -> dns.rrset.RRset:
    first = records[0]
    rdatas = [
        dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.RdataType(first.rtype), data, 0, len(data))
        for data in (b"".join(record.names) + record.data for record in records)
    ]
    return dns.rrset.from_rdata_list(dns.name.from_wire(first.owner, 0)[0], first.ttl_s, rdatas)


def validate(records: tuple[Record, ...], signature: Record, key: Key, now_s: float = NOW_S) -> None:
    apex = dns.name.from_wire(key.apex, 0)[0]
    dnskeys = to_rrset((Record(key.apex, wire.DNSKEY, 60, data=key.data),))
    dns.dnssec.validate(to_rrset(records), to_rrset((signature,)), {apex: dnskeys}, now=now_s)


SETS: dict[str, tuple[Record, ...]] = {
    "A": tuple(address_record(APEX, f"192.0.2.{n}", 20) for n in (9, 1, 5)),
    "AAAA": (address_record(to_wire("a.example.test"), "2001:db8::1", 20),),
    "SOA": (soa_record(APEX, to_wire("ns1.cdn.test"), to_wire("hostmaster.cdn.test"), 7, 20),),
    "NS": tuple(Record(APEX, wire.NS, 1800, (to_wire(name),)) for name in ("ns2.cdn.test", "ns1.cdn.test")),
    "CNAME": (Record(to_wire("www.example.test"), wire.CNAME, 1800, (to_wire("a7.g.cdn.test"),)),),
    "TXT": (text_record(APEX, 60, "x" * 600), text_record(APEX, 60, "")),
    "wildcard": (text_record(to_wire("*.example.test"), 60, "any"),),
    "NSEC": (dnssec.nsec_record(to_wire("nothing.example.test"), {wire.NXNAME}, 20),),
}


@pytest.mark.parametrize("name", SETS)
def test_signatures_hold_in_their_time(name: str) -> None:
    records, key = SETS[name], Key(SECRET, APEX)
    *found, signature = Signer((SECRET,), NOW_S).zone(APEX, 1).signed(records)
    assert tuple(found) == records and signature.owner == records[0].owner
    for now_s in (NOW_S - NOW_S % 86_400 - 3599, NOW_S, NOW_S - NOW_S % 86_400 + 3 * 86_400 - 1):
        validate(records, signature, key, now_s)
    for now_s in (NOW_S - 2 * 86_400, NOW_S + 4 * 86_400):
        with pytest.raises(dns.exception.ValidationFailure):
            validate(records, signature, key, now_s)
    with pytest.raises(dns.exception.ValidationFailure):
        validate(records, signature, Key(OTHER_SECRET, APEX))


def test_all_servers_have_the_same_keys_and_signatures() -> None:
    first, second = (Signer((SECRET,), NOW_S).zone(APEX, 1).signed(SETS["A"]) for _ in range(2))
    assert first == second
    data = {Key(secret, apex).data for secret in (SECRET, OTHER_SECRET) for apex in (APEX, to_wire("cdn.test"))}
    assert len(data) == 4


def test_what_the_parent_is_told() -> None:
    for number in range(50):
        key = Key(number.to_bytes(32, "big"), APEX)
        (dnskey,) = to_rrset((Record(APEX, wire.DNSKEY, 60, data=key.data),))
        assert dns.dnssec.key_id(dnskey) == key.tag
        expected = dns.dnssec.make_ds("example.test.", dnskey, dns.dnssectypes.DSDigest.SHA256)
        assert key.ds_data() == expected.to_wire()


def test_a_coming_key_signs_the_keys_alone() -> None:
    zone = Signer((SECRET, OTHER_SECRET), NOW_S).zone(APEX, 1)
    dnskeys = tuple(Record(APEX, wire.DNSKEY, 60, data=key.data) for key in zone.keys)
    *found, one, other = zone.signed(dnskeys)
    assert tuple(found) == dnskeys
    validate(dnskeys, one, zone.keys[0])
    validate(dnskeys, other, zone.keys[1])
    assert len(zone.signed(SETS["A"])) == len(SETS["A"]) + 1


def longest(parts: list[bytes]) -> dns.name.Name:
    """As much of these labels as a name has room for, the first of them the last of the name."""
    name = dns.name.root
    for label in parts:
        room = wire.NAME_BYTES_MAX - len(name.to_wire() or b"") - 1
        if room > 0:
            name = dns.name.Name((label[:room], *name.labels))
    return name


FULL, LAST = b"a" * 63, b"\xff" * 63


@given(
    st.one_of(
        st.lists(labels, min_size=1, max_size=8),
        st.lists(st.sampled_from((FULL, LAST)), min_size=4),
        st.lists(st.sampled_from((FULL, LAST, b"@" * 61, b"a\xff" * 31)), min_size=4, max_size=6),
    )
)
@settings(max_examples=300, deadline=None)
def test_the_next_name_is_the_very_next(parts: list[bytes]) -> None:
    name = longest([b"test", *parts])
    own = name.to_wire()
    assert own is not None
    following = dnssec.successor(own)
    found, used = dns.name.from_wire(following, 0)
    assert used == len(following) <= wire.NAME_BYTES_MAX
    assert found > name and found == name.successor(dns.name.root)


@given(st.sets(st.integers(1, 65535), min_size=1, max_size=40))
@settings(max_examples=100, deadline=None)
def test_the_types_of_a_proof_read_back(types: set[int]) -> None:
    record = dnssec.nsec_record(to_wire("a.test"), types, 20)
    (rdata,) = to_rrset((record,))
    found = {
        window * 256 + byte * 8 + bit
        for window, bitmap in rdata.windows
        for byte, value in enumerate(bitmap)
        for bit in range(8)
        if value & (0x80 >> bit)
    }
    assert found == types | {wire.RRSIG, wire.NSEC}
