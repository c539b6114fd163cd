"""Both tiers' answers as transcripts, read by dnspython; and what no packet whatever may do."""

from collections import Counter
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nearmile.base.geography import Point
from nearmile.config.layout import Config, lay_out
from nearmile.config.network import Nameserver
from nearmile.dns.answer import LowWorld, TopWorld, World, answer
from nearmile.dns.locate import Locator
from nearmile.mapping.map import Map, MapRegion, Server, Units

NOWHERE, GERMANY, VIRGINIA, TRUSTED = "192.168.0.1", "192.0.2.53", "198.51.100.53", "198.51.100.9"
JAPAN, JAPAN_V6 = "203.0.113.77/24", "2001:db8::/56"
SOA = "cdn.test. 20 IN SOA ns1.cdn.test. hostmaster.cdn.test. 3 3600 600 604800 20"
LOW_SOA = "g.cdn.test. 20 IN SOA n1.g.cdn.test. hostmaster.cdn.test. 3 3600 600 604800 20"
ALIAS = "1800 IN CNAME a7.g.cdn.test."
HOSTS = {"n1": "127.33.0.55", "n2": "127.33.0.56", "n3": "127.33.0.57"}


@pytest.fixture
def worlds(config: Config, current_map: Map, locator: Locator) -> dict[str, World]:
    return {"top": TopWorld(config, current_map, locator), "low": LowWorld(config, current_map, locator)}


def ask(
    world: World, name: str, qtype: str = "A", resolver: str = NOWHERE, subnet: str = "", qclass: str = "IN"
) -> dns.message.Message:
    address, _, bits = subnet.partition("/")
    options: list[dns.edns.Option] = [dns.edns.ECSOption(address, int(bits))] if subnet else []
    query = dns.message.make_query(name, qtype, qclass, use_edns=0, options=options)
    packet = answer(query.to_wire(), resolver, world)
    assert packet is not None
    response = dns.message.from_wire(packet)
    assert query.is_response(response)
    return response


def section(rrsets: list[Any]) -> list[str]:
    return [line for rrset in rrsets for line in rrset.to_text().splitlines()]


def scope(response: dns.message.Message) -> int:
    (option,) = (option for option in response.options if isinstance(option, dns.edns.ECSOption))
    return option.scopelen


@pytest.mark.parametrize(
    ("tier", "name", "qtype", "rcode", "answers", "authority"),
    [
        ("top", "www.example.test", "A", "NOERROR", [f"www.example.test. {ALIAS}"], []),
        ("top", "WWW.Example.test", "A", "NOERROR", [f"WWW.Example.test. {ALIAS}"], []),
        ("top", "www.example.test", "AAAA", "NOERROR", [f"www.example.test. {ALIAS}"], []),
        ("top", "www.example.test", "HTTPS", "NOERROR", [f"www.example.test. {ALIAS}"], []),
        ("top", "www.example.test", "ANY", "NOERROR", [f"www.example.test. {ALIAS}"], []),
        ("top", "a.b.cdn.test", "A", "NOERROR", [f"a.b.cdn.test. {ALIAS}"], []),
        ("top", "b.cdn.test", "A", "NOERROR", [], [SOA]),
        ("top", "cdn.test", "SOA", "NOERROR", [SOA], []),
        ("top", "cdn.test", "A", "NOERROR", [], [SOA]),
        ("top", "ns2.cdn.test", "A", "NOERROR", ["ns2.cdn.test. 1800 IN A 127.33.0.54"], []),
        ("top", "ns2.cdn.test", "AAAA", "NOERROR", [], [SOA]),
        ("top", "nothing.cdn.test", "A", "NXDOMAIN", [], [SOA]),
        ("top", "g.cdn.test", "DS", "NOERROR", [], [SOA]),
        ("top", "example.test", "A", "REFUSED", [], []),
        ("top", "mail.www.example.test", "A", "REFUSED", [], []),
        ("top", ".", "NS", "REFUSED", [], []),
        ("low", "a7.g.cdn.test", "AAAA", "NOERROR", [], [LOW_SOA]),
        ("low", "a7.g.cdn.test", "HTTPS", "NOERROR", [], [LOW_SOA]),
        ("low", "a8.g.cdn.test", "A", "NXDOMAIN", [], [LOW_SOA]),
        ("low", "a07.g.cdn.test", "A", "NXDOMAIN", [], [LOW_SOA]),
        ("low", "g.cdn.test", "SOA", "NOERROR", [LOW_SOA], []),
        ("low", "g.cdn.test", "ANY", "NOERROR", [LOW_SOA], []),
        ("low", "g.cdn.test", "TXT", "NOERROR", [], [LOW_SOA]),
        ("low", "n3.g.cdn.test", "A", "NOERROR", ["n3.g.cdn.test. 1800 IN A 127.33.0.57"], []),
        ("low", "cdn.test", "SOA", "REFUSED", [], []),
        ("low", "www.example.test", "A", "REFUSED", [], []),
        ("low", "a7.g.cdn.test", "AXFR", "REFUSED", [], []),
    ],
)
def test_what_stands_fast(
    worlds: dict[str, World],
    tier: str,
    name: str,
    qtype: str,
    rcode: str,
    answers: list[str],
    authority: list[str],
) -> None:
    response = ask(worlds[tier], name, qtype, subnet=JAPAN)
    assert dns.rcode.to_text(response.rcode()) == rcode
    assert (section(response.answer), section(response.authority)) == (answers, authority)
    assert bool(response.flags & dns.flags.AA) == (rcode != "REFUSED")
    assert scope(response) == 0


def test_another_class_is_refused(worlds: dict[str, World]) -> None:
    for world in worlds.values():
        assert ask(world, "cdn.test", "SOA", qclass="CH").rcode() == dns.rcode.REFUSED


def test_name_servers_come_with_addresses(worlds: dict[str, World]) -> None:
    response = ask(worlds["low"], "g.cdn.test", "NS")
    assert section(response.answer) == [f"g.cdn.test. 1800 IN NS {host}.g.cdn.test." for host in HOSTS]
    assert section(response.additional) == [f"{n}.g.cdn.test. 1800 IN A {address}" for n, address in HOSTS.items()]


def test_a_referral_has_both_kinds_of_address_where_there_are_both(
    config: Config, current_map: Map, locator: Locator
) -> None:
    near = [Nameserver(tier="low", city="Frankfurt", address=f"2001:db8::{n}") for n in range(1, 6)]
    far = Nameserver(tier="low", city="Tokyo", address="127.33.0.99")
    for servers, wanted in (
        ((*near, far), {"n1", "n2", "n3", "n6"}),
        (near, {"n1", "n2", "n3", "n4"}),
        ((far, *near), {"n1", "n2", "n3", "n4"}),
    ):
        top = config.network.nameservers[0]
        network = msgspec.structs.replace(config.network, nameservers=(top, *servers))
        points = {"Frankfurt": Point(50.1, 8.7), "Tokyo": Point(35.7, 139.7)}
        world = TopWorld(lay_out(network, {}, points, 1), current_map, locator)
        found = section(ask(world, "g.cdn.test", "NS", resolver=GERMANY).authority)
        assert {line.split()[-1].split(".")[0] for line in found} == wanted


@pytest.mark.parametrize(
    ("resolver", "subnet", "order"),
    [
        (GERMANY, "", ["n2", "n1", "n3"]),
        (VIRGINIA, "", ["n1", "n2", "n3"]),
        (NOWHERE, "", ["n1", "n2", "n3"]),
        (GERMANY, JAPAN, ["n2", "n1", "n3"]),  # a client far away does not move its resolver
        (TRUSTED, JAPAN, ["n3", "n2", "n1"]),  # but this one says with it where it is itself
        (TRUSTED, "10.0.0.0/24", ["n1", "n2", "n3"]),
        (TRUSTED, "0.0.0.0/0", ["n1", "n2", "n3"]),
    ],
)
@pytest.mark.parametrize("name", ["a7.g.cdn.test", "g.cdn.test", "any.thing.g.cdn.test"])
def test_referrals_name_the_nearest_first(
    worlds: dict[str, World], name: str, resolver: str, subnet: str, order: list[str]
) -> None:
    response = ask(worlds["top"], name, resolver=resolver, subnet=subnet)
    assert not response.answer and not response.flags & dns.flags.AA
    # dnspython keeps the order of glue, though not of a set's records.
    assert section(response.additional) == [f"{n}.g.cdn.test. 1800 IN A {HOSTS[n]}" for n in order]
    assert set(section(response.authority)) == {f"g.cdn.test. 1800 IN NS {n}.g.cdn.test." for n in order}
    assert not subnet or scope(response) == 0


@pytest.mark.parametrize(
    ("resolver", "subnet", "region", "expected_scope"),
    [
        (GERMANY, "", 1, 0),
        (NOWHERE, "", 1, 0),
        (GERMANY, JAPAN, 2, 24),
        (GERMANY, "203.0.113.77/32", 2, 24),
        (GERMANY, "203.0.113.0/25", 2, 24),
        (GERMANY, "203.0.0.0/16", 1, 16),  # its first address is nowhere; the answer is meant for it all the same
        (GERMANY, JAPAN_V6, 2, 48),
        (GERMANY, "2001:db8::/32", 2, 32),
        (GERMANY, "0.0.0.0/0", 1, 0),
        (NOWHERE, "10.1.2.0/24", 1, 24),
    ],
)
def test_edges_are_near_the_client(
    worlds: dict[str, World], resolver: str, subnet: str, region: int, expected_scope: int
) -> None:
    response = ask(worlds["low"], "A7.g.cdn.test", resolver=resolver, subnet=subnet)
    assert sorted(section(response.answer)) == [f"A7.g.cdn.test. 20 IN A 127.33.{region}.{n}" for n in (1, 2)]
    assert response.flags & dns.flags.AA
    assert not subnet or scope(response) == expected_scope


def test_a_region_without_servers_is_passed_over(config: Config, current_map: Map, locator: Locator) -> None:
    fra, tyo = current_map.regions
    without = msgspec.structs.replace(current_map, regions=(fra, MapRegion("tyo", tyo.point, ())))
    response = ask(LowWorld(config, without, locator), "a7.g.cdn.test", subnet=JAPAN)
    assert {rdata.to_text() for rdata in response.answer[0]} == {"127.33.1.1", "127.33.1.2"}


def test_nothing_alive_or_no_map_is_servfail(config: Config, current_map: Map, locator: Locator) -> None:
    dead = tuple(MapRegion(region.name, region.point, ()) for region in current_map.regions)
    for known in (None, msgspec.structs.replace(current_map, regions=dead)):
        world = LowWorld(config, known, locator)
        assert ask(world, "a7.g.cdn.test").rcode() == dns.rcode.SERVFAIL
        assert ask(world, "g.cdn.test", "SOA").rcode() == dns.rcode.NOERROR


def test_servers_with_ipv6_are_named_by_aaaa(config: Config, current_map: Map, locator: Locator) -> None:
    fra = current_map.regions[0]
    servers = (Server("one", "2001:db8::1", 80), Server("two", "2001:db8::2", 80))
    regions = (MapRegion("fra", fra.point, servers),)
    world = LowWorld(
        config, msgspec.structs.replace(current_map, regions=regions, units=Units(), fallback=(0,)), locator
    )
    assert len(ask(world, "a7.g.cdn.test", "AAAA").answer[0]) == 2
    assert section(ask(world, "a7.g.cdn.test", "A").authority) == [LOW_SOA]


any_packet = st.binary(max_size=80)
after_header = st.builds(
    lambda flags, counts, rest: b"\x12\x34" + flags + bytes([0, 1, 0, 0, 0, 0, 0, counts]) + rest,
    st.sampled_from([b"\x01\x00", b"\x00\x10", b"\x20\x00", b"\x80\x00"]),
    st.integers(0, 3),
    st.binary(max_size=120),
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good query of which a few bytes changed, or the end is missing."""
    name = draw(st.sampled_from(["a7.g.cdn.test", "www.example.test", "cdn.test", "a8.g.cdn.test"]))
    option = dns.edns.ECSOption("203.0.113.0", draw(st.integers(0, 32)))
    packet = bytearray(dns.message.make_query(name, "A", use_edns=0, options=[option]).to_wire())
    for _ in range(draw(st.integers(0, 4))):
        packet[draw(st.integers(0, len(packet) - 1))] = draw(st.integers(0, 255))
    return bytes(packet[: draw(st.integers(0, len(packet)))]) if draw(st.booleans()) else bytes(packet)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(any_packet | after_header | damaged(), st.booleans())
def test_no_packet_harms(worlds: dict[str, World], packet: bytes, over_tcp: bool) -> None:
    for world in worlds.values():
        response = answer(packet, GERMANY, world, over_tcp)
        if len(packet) < 12 or packet[2] & 0x80:
            assert response is None
            continue
        assert response is not None and len(response) <= 1232
        decoded = dns.message.from_wire(response)
        assert decoded.id == int.from_bytes(packet[:2], "big") and decoded.flags & dns.flags.QR
        for option in decoded.options:
            assert not isinstance(option, dns.edns.ECSOption) or option.scopelen <= option.srclen
        if decoded.rcode() in (dns.rcode.FORMERR, dns.rcode.NOTIMP, dns.rcode.REFUSED):
            assert not (decoded.answer or decoded.authority or decoded.additional)


def test_the_clients_of_a_split_unit_are_told_apart_by_their_block(
    config: Config, locator: Locator, current_map: Map
) -> None:
    world = LowWorld(config, msgspec.structs.replace(current_map, shares={"JP": (8, 8)}), locator)
    first = {}
    for block in range(64):
        subnet = f"2001:db8:{block:x}::/48"
        answers = {section(ask(world, "a7.g.cdn.test", subnet=subnet).answer)[0] for _ in range(2)}
        (first[block],) = answers
    # 127.33.1.x is in one region, 127.33.2.x in the other.
    regions = Counter(line.split()[-1].split(".")[2] for line in first.values())
    assert len(regions) == 2
    assert min(regions.values()) > 12
