"""What signed worlds answer, every signature and every denial checked by dnspython."""

from itertools import count

import dns.dnssec
import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nearmile.config.layout import Config
from nearmile.config.names import SiteDns
from nearmile.config.network import Site, Tls
from nearmile.dns import responder as module
from nearmile.dns.answer import LowWorld, TopWorld, answer
from nearmile.dns.dnssec import Key
from nearmile.dns.locate import Locator
from nearmile.dns.records import address_record, to_wire
from nearmile.dns.responder import Responder
from nearmile.dns.signer import Signer
from nearmile.mapping.map import Map, Server

SECRET, NOW_S = bytes(range(32)), 1_800_000_123.0
COMPACT_OK = 0x4000
NXNAME = "NXNAME"
CLIENT = "192.0.2.53"
DOCUMENT = Site(
    hostnames=("example.test", "www.example.test", "*.wild.example.test", "far.elsewhere.test"),
    origin="http://127.33.0.9:80",
    serial=7,
    tls=Tls(certificate="a", key="b"),
    dns=SiteDns(
        zones=("example.test", "deep.below.example.test"),
        caa=('0 issue "authority.test"',),
        txt={"example.test": ("one", "two"), "_a.deep.below.example.test": ("x" * 900,)},
    ),
)
World = LowWorld | TopWorld
# One question, for A, with an OPT record that asks for DNSSEC.
QUERY_HEAD, QUERY_TAIL = (
    bytes.fromhex("123400000001000000000001"),
    bytes.fromhex("00010001 0000291000000080000000"),
)


@pytest.fixture
def signed_config(config: Config) -> Config:
    site = msgspec.structs.replace(config.sites[0], document=DOCUMENT)
    return msgspec.structs.replace(config, sites=(site,))


@pytest.fixture
def signer() -> Signer:
    return Signer((SECRET,), NOW_S)


@pytest.fixture
def worlds(signed_config: Config, current_map: Map, locator: Locator, signer: Signer) -> dict[str, World]:
    top = TopWorld(signed_config, current_map, locator, signer)
    return {"top": top, "low": LowWorld(signed_config, current_map, locator, signer)}


def ask(
    world: World, name: str | dns.name.Name, qtype: str = "A", flags: int = dns.flags.DO, subnet: str = ""
) -> dns.message.Message:
    options: list[dns.edns.Option] = [dns.edns.ECSOption(subnet, 24)] if subnet else []
    query = dns.message.make_query(name, qtype, use_edns=0, ednsflags=flags, options=options, payload=4096)
    packet = answer(query.to_wire(), CLIENT, world, over_tcp=True)
    assert packet is not None
    response = dns.message.from_wire(packet)
    assert query.is_response(response)
    return response


def check(response: dns.message.Message) -> None:
    """Each set of records has a signature that holds, save for delegations and their glue."""
    is_referral = not response.flags & dns.flags.AA
    for section in response.answer, response.authority, response.additional:
        found = [rrset for rrset in section if rrset.rdtype != dns.rdatatype.RRSIG]
        for rrset in found:
            if is_referral and rrset.rdtype != dns.rdatatype.DS:
                continue
            signatures = response.find_rrset(section, rrset.name, rrset.rdclass, dns.rdatatype.RRSIG, rrset.rdtype)
            apex = signatures[0].signer
            key = Key(SECRET, apex.to_wire()).data
            dnskey = dns.rrset.from_text(apex, 60, "IN", "DNSKEY", f"\\# {len(key)} {key.hex()}")
            dns.dnssec.validate(rrset, signatures, {apex: dnskey}, now=NOW_S)
            assert signatures[0].labels == len(rrset.name.labels) - 1 - rrset.name.is_wild(), "as if it existed"
            assert rrset.name.is_subdomain(apex)


def types_of(response: dns.message.Message, name: str) -> set[str]:
    """What the only NSEC record says that the name has; that it says nothing of other names."""
    (rrset,) = (rrset for rrset in response.authority if rrset.rdtype == dns.rdatatype.NSEC)
    assert rrset.name == dns.name.from_text(name)
    assert rrset[0].next == rrset.name.successor(dns.name.root)
    return set(rrset[0].to_text().split()[1:]) - {"RRSIG", "NSEC"}


HAS_EDGES = {"A", "HTTPS", "CAA"}
APEX = {"SOA", "NS", "DNSKEY", "CDS", "CDNSKEY"}
ANSWERS = [
    ("top", "example.test", "A"),
    ("top", "example.test", "HTTPS"),
    ("top", "example.test", "TXT"),
    ("top", "example.test", "CAA"),
    ("top", "example.test", "SOA"),
    ("top", "example.test", "NS"),
    ("top", "example.test", "DNSKEY"),
    ("top", "example.test", "CDS"),
    ("top", "example.test", "CDNSKEY"),
    ("top", "example.test", "ANY"),
    ("top", "example.test", "NSEC"),
    ("top", "www.example.test", "A"),
    ("top", "www.example.test", "NSEC"),
    ("top", "any.wild.example.test", "AAAA"),
    ("top", "*.wild.example.test", "CNAME"),
    ("top", "_a.deep.below.example.test", "TXT"),
    ("top", "deep.below.example.test", "DS"),
    ("top", "g.cdn.test", "DS"),
    ("top", "ns1.cdn.test", "A"),
    ("top", "cdn.test", "NS"),
    ("low", "a7.g.cdn.test", "A"),
    ("low", "A7.G.cdn.TEST", "HTTPS"),
    ("low", "a7.g.cdn.test", "CAA"),
    ("low", "g.cdn.test", "DNSKEY"),
    ("low", "n1.g.cdn.test", "A"),
    ("low", "0123456789abcdef.who.g.cdn.test", "A"),
]


@pytest.mark.parametrize(("tier", "name", "qtype"), ANSWERS)
def test_answers_are_signed(worlds: dict[str, World], tier: str, name: str, qtype: str) -> None:
    for flags in (dns.flags.DO, dns.flags.DO | COMPACT_OK):
        response = ask(worlds[tier], name, qtype, flags)
        assert response.rcode() == dns.rcode.NOERROR and response.answer
        assert response.ednsflags == flags
        check(response)
    plain = ask(worlds[tier], name, qtype, 0)
    proofs = dns.rdatatype.RRSIG, dns.rdatatype.NSEC
    assert not [rrset for part in (plain.answer, plain.authority) for rrset in part if rrset.rdtype in proofs]


@pytest.mark.parametrize(
    ("tier", "name", "qtype", "types"),
    [
        ("top", "nothing.example.test", "A", {NXNAME}),
        ("top", "a.b.wild.example.test", "A", {NXNAME}),
        ("top", "wild.example.test", "A", set()),
        ("top", "below.example.test", "A", set()),
        ("top", "example.test", "AAAA", APEX | HAS_EDGES | {"TXT"}),
        ("top", "_a.deep.below.example.test", "A", {"TXT"}),
        ("top", "nothing.deep.below.example.test", "A", {NXNAME}),
        ("top", "example.test", "DS", APEX | HAS_EDGES | {"TXT"}),
        ("top", "ns1.cdn.test", "AAAA", {"A"}),
        ("low", "a7.g.cdn.test", "AAAA", HAS_EDGES),
        ("low", "a7.g.cdn.test", "TXT", HAS_EDGES),
        ("low", "a8.g.cdn.test", "A", {NXNAME}),
        ("low", "g.cdn.test", "A", APEX),
        ("low", "0123456789abcdef.who.g.cdn.test", "HTTPS", {"A"}),
        ("low", "0123456789abcdef.who.g.cdn.test", "AAAA", {"A"}),
        ("low", "who.g.cdn.test", "A", set()),
    ],
)
def test_denials_say_what_there_is(
    worlds: dict[str, World], tier: str, name: str, qtype: str, types: set[str]
) -> None:
    response = ask(worlds[tier], name, qtype)
    assert (response.rcode(), response.answer) == (dns.rcode.NOERROR, [])
    assert types_of(response, name) == types
    check(response)
    told = ask(worlds[tier], name, qtype, dns.flags.DO | COMPACT_OK)
    assert told.rcode() == (dns.rcode.NXDOMAIN if types == {NXNAME} else dns.rcode.NOERROR)
    assert told.authority == response.authority
    plain = ask(worlds[tier], name, qtype, 0)
    assert plain.rcode() == told.rcode() and [rrset.rdtype for rrset in plain.authority] == [dns.rdatatype.SOA]


def test_before_there_is_a_map_nobody_is_told_that_a_name_has_no_address(
    signed_config: Config, locator: Locator, signer: Signer
) -> None:
    for world, name in (
        (LowWorld(signed_config, None, locator, signer), "a7.g.cdn.test"),
        (TopWorld(signed_config, None, locator, signer), "example.test"),
    ):
        assert ask(world, name, "A").rcode() == dns.rcode.SERVFAIL
        assert types_of(ask(world, name, "MX"), name) >= {"A", "AAAA"}


@pytest.mark.parametrize(("kind", "name"), [(LowWorld, "a7.g.cdn.test"), (TopWorld, "example.test")])
def test_names_stay_from_map_to_map_and_proofs_follow_the_map(
    signed_config: Config, current_map: Map, locator: Locator, signer: Signer, kind: type[World], name: str
) -> None:
    regions = tuple(
        msgspec.structs.replace(region, servers=(Server(region.name, f"2001:db8::{number}", 80),))
        for number, region in enumerate(current_map.regions)
    )
    world = kind(signed_config, current_map, locator, signer)
    assert "AAAA" not in types_of(ask(world, name, "MX"), name)
    later = kind(signed_config, msgspec.structs.replace(current_map, regions=regions), locator, signer, world)
    assert later.zones is world.zones
    assert {"A", "AAAA"} & types_of(ask(later, name, "MX"), name) == {"AAAA"}
    check(ask(later, name, "AAAA"))
    empty = msgspec.structs.replace(signed_config, sites=())
    assert kind(empty, current_map, locator, signer, later).edges.hosts == {}
    assert kind(signed_config, current_map, locator, None, later).zones is not world.zones


def test_a_delegation_says_which_keys_are_below(worlds: dict[str, World]) -> None:
    response = ask(worlds["top"], "a7.g.cdn.test")
    (ds,) = (rrset for rrset in response.authority if rrset.rdtype == dns.rdatatype.DS)
    assert ds[0].to_wire() == Key(SECRET, to_wire("g.cdn.test")).ds_data()
    assert [rrset.rdtype for rrset in response.authority if rrset.rdtype == dns.rdatatype.NS]
    assert response.additional
    check(response)


def test_each_subnet_has_its_own_signature(worlds: dict[str, World]) -> None:
    found = [ask(worlds["low"], "a7.g.cdn.test", subnet=f"{net}.0") for net in ("192.0.2", "203.0.113")]
    assert found[0].answer[0] != found[1].answer[0]
    for response in found:
        check(response)


def test_an_alias_from_elsewhere_is_not_signed(worlds: dict[str, World]) -> None:
    response = ask(worlds["top"], "far.elsewhere.test")
    assert [rrset.rdtype for rrset in response.answer] == [dns.rdatatype.CNAME]
    assert ask(worlds["top"], "far.elsewhere.test", "NSEC").answer == response.answer


def test_the_type_that_only_proofs_have_cannot_be_asked_for(worlds: dict[str, World]) -> None:
    for flags in (0, dns.flags.DO):
        assert ask(worlds["top"], "example.test", "TYPE128", flags).rcode() == dns.rcode.FORMERR


def test_signatures_alone_are_few(worlds: dict[str, World]) -> None:
    (rrset,) = ask(worlds["top"], "example.test", "RRSIG").answer
    assert (rrset.rdtype, rrset.covers) == (dns.rdatatype.RRSIG, dns.rdatatype.NSEC)


labels = st.binary(min_size=1, max_size=63)


@given(parts=st.lists(labels, min_size=1, max_size=6), qtype=st.sampled_from(["A", "TXT", "NSEC", "DS"]))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_asked_is_proved(worlds: dict[str, World], parts: list[bytes], qtype: str) -> None:
    for tier, apex in (("top", "example.test"), ("top", "wild.example.test"), ("low", "g.cdn.test")):
        try:
            name = dns.name.Name(parts).concatenate(dns.name.from_text(apex))
        except dns.name.NameTooLong:
            continue
        check(ask(worlds[tier], name, qtype))


def test_a_flood_of_names_leaves_others_their_signatures(
    worlds: dict[str, World], signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = count()
    original = Key.signature

    def counted(self: Key, *arguments: object) -> object:
        next(made)
        return original(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Key, "signature", counted)
    top = worlds["top"]
    responder, kept = Responder("top-1", b"secret", 1_000_000), ("example.test", "www.example.test")

    def one(name: str, client: str, now_s: float) -> bytes:
        query = QUERY_HEAD + to_wire(name) + QUERY_TAIL
        return responder.answer(query, client, top, now_s, False) or b""

    before = [one(name, CLIENT, NOW_S) for name in kept]
    for start in ("x{}.example.test", "x{}.wild.example.test"):
        now_s, signed_before = NOW_S + len(start), next(made)
        found = [one(start.format(n), f"10.{n // 250}.{n % 250}.1", now_s) for n in range(3000)]
        whole = sum(bool(response) and not response[2] & 0x02 for response in found)
        assert module.MISSING_PER_S <= whole <= module.MISSING_PER_S + 2
        assert next(made) - signed_before <= module.MISSING_PER_S + 5
        signed_before = next(made)
        assert [one(name, CLIENT, now_s) for name in kept] == before
        assert next(made) - signed_before == 1, "none was made again"


def test_memory_of_signatures_is_bounded_for_each_zone(signer: Signer) -> None:
    zone = signer.zone(to_wire("example.test"), zones=100_000)
    for number in range(300):
        zone.signed((address_record(to_wire(f"x{number}.example.test"), "192.0.2.1", 20),), made_up=True)
    assert (len(zone._lasting), len(zone._passing)) == (0, 300 % 32 + 32)
