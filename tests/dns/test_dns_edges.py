"""Names whose records depend on who asks, and a zone of a site's own, read by dnspython."""

from collections.abc import Callable

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import msgspec
import numpy as np
import pytest

from nearmile.base.geography import Place, Point
from nearmile.config.layout import Config
from nearmile.config.names import SiteDns
from nearmile.config.network import Edge, Site, Tls
from nearmile.dns import wire
from nearmile.dns.answer import LowWorld, TopWorld, World, answer
from nearmile.dns.locate import Locator
from nearmile.mapping.atlas import made
from nearmile.mapping.beacons import Sighting
from nearmile.mapping.map import Map, Server, Units, View
from nearmile.mapping.plans import Plan, Prefixes, resolver_block

SOA = "shop.test. 20 IN SOA ns1.cdn.test. hostmaster.cdn.test. 3 3600 600 604800 20"
OWN_SOA = "cdn.test. 20 IN SOA ns1.cdn.test. hostmaster.cdn.test. 3 3600 600 604800 20"
LOW_SOA = "g.cdn.test. 20 IN SOA n1.g.cdn.test. hostmaster.cdn.test. 3 3600 600 604800 20"
CAA = '1800 IN CAA 0 issue "ca.test"'
JAPAN, GERMANY = "203.0.113.0", "192.0.2.0"
NONCE = "0123456789abcdef"
NOT_FAR = Point(0, 0)
Ask = Callable[..., dns.message.Message]


@pytest.fixture
def shop(config: Config) -> Config:
    site = Site(
        hostnames=("shop.test", "www.shop.test", "*.shop.test", "*.other.test"),
        origin="http://127.33.0.9:80",
        tls=Tls(acme=True),
        dns=SiteDns(
            zones=("shop.test",),
            caa=('0 issue "ca.test"',),
            txt={"shop.test": ("v=spf1 -all", "x" * 300), "a._tcp.shop.test": ("here",)},
        ),
    )
    return msgspec.structs.replace(config, sites=(msgspec.structs.replace(config.sites[0], document=site),))


def asker(world: World) -> Ask:
    def ask(name: str, qtype: str, client: str = "") -> dns.message.Message:
        options: list[dns.edns.Option] = [dns.edns.ECSOption(client, 24)] if client else []
        query = dns.message.make_query(name, qtype, use_edns=0, options=options)
        packet = answer(query.to_wire(), "192.168.0.1", world)
        assert packet is not None
        response = dns.message.from_wire(packet)
        assert query.is_response(response)
        return response

    return ask


def lines(response: dns.message.Message) -> list[str]:
    return [line for part in response.sections[1:3] for rrset in part for line in rrset.to_text().splitlines()]


@pytest.mark.parametrize(
    ("name", "qtype", "rcode", "expected"),
    [
        ("shop.test", "SOA", "NOERROR", [SOA]),
        (
            "shop.test",
            "NS",
            "NOERROR",
            [f"shop.test. 1800 IN NS ns{n}.cdn.test." for n in (1, 2)],
        ),
        ("shop.test", "CAA", "NOERROR", [f"shop.test. {CAA}"]),
        ("shop.test", "MX", "NOERROR", [SOA]),
        ("shop.test", "DS", "NOERROR", [SOA]),
        ("shop.test", "AAAA", "NOERROR", [SOA]),
        ("shop.test", "HTTPS", "NOERROR", ["shop.test. 1800 IN HTTPS 0 a7.g.cdn.test."]),
        ("shop.test", "ANY", "NOERROR", [SOA]),
        ("shop.test", "TYPE65280", "NOERROR", [SOA]),
        ("www.shop.test", "AAAA", "NOERROR", ["www.shop.test. 1800 IN CNAME a7.g.cdn.test."]),
        ("Any.shop.test", "A", "NOERROR", ["Any.shop.test. 1800 IN CNAME a7.g.cdn.test."]),
        ("b.any.shop.test", "A", "NXDOMAIN", [SOA]),
        ("*.shop.test", "A", "NOERROR", ["*.shop.test. 1800 IN CNAME a7.g.cdn.test."]),
        ("_tcp.shop.test", "A", "NOERROR", [SOA]),
        ("a._tcp.shop.test", "TXT", "NOERROR", ['a._tcp.shop.test. 1800 IN TXT "here"']),
        ("x.other.test", "A", "NOERROR", ["x.other.test. 1800 IN CNAME a7.g.cdn.test."]),
        ("a.x.other.test", "A", "REFUSED", []),
        ("other.test", "A", "REFUSED", []),
        ("x.cdn.test", "A", "NXDOMAIN", [OWN_SOA]),
    ],
)
def test_names_of_a_site_with_its_own_zone(
    shop: Config, current_map: Map, locator: Locator, name: str, qtype: str, rcode: str, expected: list[str]
) -> None:
    response = asker(TopWorld(shop, current_map, locator))(name, qtype)
    assert (dns.rcode.to_text(response.rcode()), lines(response)) == (rcode, expected)
    assert bool(response.flags & dns.flags.AA) == (rcode != "REFUSED")


def test_text_is_cut_into_strings(shop: Config, current_map: Map, locator: Locator) -> None:
    (rrset,) = asker(TopWorld(shop, current_map, locator))("shop.test", "TXT").answer
    assert {rdata.strings for rdata in rrset} == {(b"v=spf1 -all",), (b"x" * 255, b"x" * 45)}


def test_an_apex_is_answered_as_edges_are(shop: Config, current_map: Map, locator: Locator) -> None:
    top, low = asker(TopWorld(shop, current_map, locator)), asker(LowWorld(shop, current_map, locator))
    for client, net in ((JAPAN, 2), (GERMANY, 1)):
        for ask, name in ((top, "shop.test"), (low, "a7.g.cdn.test")):
            response = ask(name, "A", client)
            assert set(lines(response)) == {f"{name}. 20 IN A 127.33.{net}.{n}" for n in (1, 2)}
            assert response.options[0].scopelen == 24
    assert asker(TopWorld(shop, None, locator))("shop.test", "A").rcode() == dns.rcode.SERVFAIL


@pytest.mark.parametrize(
    ("edge", "expected"),
    [
        (Edge(), '1 . alpn="h3,h2" port="8443" ipv4hint="127.33.2.1,127.33.2.2"'),
        (Edge(http3=False, https_port=443), '1 . alpn="h2" ipv4hint="127.33.2.1,127.33.2.2"'),
    ],
)
def test_https_says_what_edges_speak(
    shop: Config, current_map: Map, locator: Locator, edge: Edge, expected: str
) -> None:
    config = msgspec.structs.replace(shop, network=msgspec.structs.replace(shop.network, edge=edge))
    ask = asker(LowWorld(config, current_map, locator))
    response = ask("a7.g.cdn.test", "HTTPS", JAPAN)
    text = response.answer[0][0].to_text()
    assert text in (expected, expected.replace("127.33.2.1,127.33.2.2", "127.33.2.2,127.33.2.1"))
    assert response.options[0].scopelen == 24
    assert lines(ask("a7.g.cdn.test", "CAA")) == [f"a7.g.cdn.test. {CAA}"]


def test_https_is_for_sites_that_browsers_can_trust(config: Config, current_map: Map, locator: Locator) -> None:
    response = asker(LowWorld(config, current_map, locator))("a7.g.cdn.test", "HTTPS", JAPAN)
    assert lines(response) == [LOW_SOA] and response.options[0].scopelen == 0


def test_ipv6_is_offered_where_the_near_region_has_it(config: Config, current_map: Map, locator: Locator) -> None:
    fra, tyo = current_map.regions
    both = (*tyo.servers, Server("six", "2001:db8::6", 80))
    regions = (fra, msgspec.structs.replace(tyo, servers=both))
    ask = asker(LowWorld(config, msgspec.structs.replace(current_map, regions=regions), locator))
    near, far = ask("a7.g.cdn.test", "AAAA", JAPAN), ask("a7.g.cdn.test", "AAAA", GERMANY)
    assert lines(near) == ["a7.g.cdn.test. 20 IN AAAA 2001:db8::6"]
    assert lines(far) == [LOW_SOA]
    # Neither is for everybody: elsewhere the answer is another.
    assert [one.options[0].scopelen for one in (near, far)] == [24, 24]
    assert all(":" not in line for line in lines(ask("a7.g.cdn.test", "A", JAPAN)))


def test_a_near_region_that_has_ipv6_alone_serves_who_can_reach_it(
    config: Config, current_map: Map, locator: Locator
) -> None:
    fra, tyo = current_map.regions
    regions = (fra, msgspec.structs.replace(tyo, servers=(Server("six", "2001:db8::6", 80),)))
    ask = asker(LowWorld(config, msgspec.structs.replace(current_map, regions=regions), locator))
    assert lines(ask("a7.g.cdn.test", "AAAA", JAPAN)) == ["a7.g.cdn.test. 20 IN AAAA 2001:db8::6"]
    assert lines(ask("a7.g.cdn.test", "AAAA", GERMANY)) == [LOW_SOA]
    assert len(lines(ask("a7.g.cdn.test", "A", JAPAN))) == 2


@pytest.mark.parametrize("name", ["a7.g.cdn.test", f"{NONCE}.who.g.cdn.test"])
def test_any_is_answered_by_what_there_is(config: Config, current_map: Map, locator: Locator, name: str) -> None:
    assert [one.rdtype for one in asker(LowWorld(config, current_map, locator))(name, "ANY").answer] == [wire.A]
    six = tuple(
        msgspec.structs.replace(region, servers=(Server("six", "2001:db8::6", 80),))
        for region in current_map.regions
    )
    ask = asker(LowWorld(config, msgspec.structs.replace(current_map, regions=six), locator))
    assert lines(ask(name, "ANY")) == [f"{name}. 20 IN AAAA 2001:db8::6"]


def test_answers_for_a_hot_site_go_through_its_parts(config: Config, current_map: Map, locator: Locator) -> None:
    regions = tuple(
        msgspec.structs.replace(region, hot={7: {region.servers[0].name: 1, region.servers[1].name: 3}})
        for region in current_map.regions
    )
    ask = asker(LowWorld(config, msgspec.structs.replace(current_map, regions=regions), locator))
    answered = [lines(ask("a7.g.cdn.test", "A", JAPAN))[0] for _ in range(8)]
    assert sorted(answered.count(line) for line in set(answered)) == [2, 6]


def test_an_answer_holds_for_all_neighbours_that_have_the_same(
    config: Config, current_map: Map, place_of: Callable[[str], Place]
) -> None:
    """203.0.112.0/23 is Japan's, all around it is Germany's up to 204.0.0.0, where nothing is known."""
    starts = np.array([0, 0xCB007000, 0xCB007200, 0xCC000000], np.uint64)
    four = starts, np.array([1, 2, 1, 0], np.uint32)
    six = np.zeros(1, np.uint64), np.array([2], np.uint32)
    atlas = made("", ("DE", "JP"), (NOT_FAR, NOT_FAR), (1.0, 1.0), four, six)
    located = Locator(place_of, (), atlas)
    ask = asker(LowWorld(config, current_map, located))
    for client, scope, net in (
        ("203.0.113.0", 23, 2),
        ("203.0.111.0", 20, 1),
        ("9.9.9.0", 1, 1),
        ("203.0.116.0", 22, 1),
        ("205.0.0.0", 6, 1),
    ):
        response = ask("a7.g.cdn.test", "A", client)
        assert response.options[0].scopelen == scope
        assert {line.split()[-1].split(".")[2] for line in lines(response)} == {str(net)}
    split = msgspec.structs.replace(current_map, shares={"DE": (8, 8)})
    assert asker(LowWorld(config, split, located))("a7.g.cdn.test", "A", "9.9.9.0").options[0].scopelen == 24


def test_a_resolver_with_a_plan_is_answered_by_its_clients(
    config: Config, current_map: Map, place_of: Callable[[str], Place]
) -> None:
    """Of 192.168.0.1's clients 203.0.0.0/8 are answered as Japan's; without a subnet all are."""
    six = np.zeros(1, np.uint64), np.array([1], np.uint32)
    four = np.array([0, 0xCB007000], np.uint64), np.array([1, 2], np.uint32)
    located = Locator(place_of, (), made("", ("DE", "JP"), (NOT_FAR, NOT_FAR), (1.0, 1.0), four, six))
    plan = Plan("JP", Prefixes((0xCB0000,), (8,), ("JP",)))
    planned = msgspec.structs.replace(current_map, plans={resolver_block(4, 0xC0A80001): plan})
    ask = asker(LowWorld(config, planned, located))
    for client, scope, net in (("203.0.9.0", 8, 2), ("9.0.0.0", 1, 1), ("202.9.9.0", 8, 1), ("", None, 2)):
        response = ask("a7.g.cdn.test", "A", client)
        assert {line.split()[-1].split(".")[2] for line in lines(response)} == {str(net)}
        assert [option.scopelen for option in response.options] == ([] if scope is None else [scope])
    seen = located.take_seen()
    assert {(one.resolver, one.block, one.queries) for one in seen} == {
        ("4/12625920", 0xCB0009, 1),
        ("4/12625920", 0x090000, 1),
        ("4/12625920", 0xCA0909, 1),
    }
    assert located.take_seen() == ()
    # Of a pinned site clients are told apart by its own regions: 203.0.0.0/17 is Germany's but for its end.
    units, serial = current_map.units, config.sites[0].serial
    own = View(Units.of({"DE": units["JP"], "JP": units["DE"]}), current_map.fallback)
    ask = asker(LowWorld(config, msgspec.structs.replace(planned, pins={serial: 0}, views=(own,)), located))
    for client, net in (("203.0.9.0", 2), ("203.0.113.0", 1), ("9.0.0.0", 2), ("", 1)):
        assert {line.split()[-1].split(".")[2] for line in lines(ask("a7.g.cdn.test", "A", client))} == {str(net)}


NONCE = "0123456789abcdef"


@pytest.mark.parametrize(
    ("name", "qtype", "rcode", "expected"),
    [
        (f"{NONCE}.who.g.cdn.test", "A", "NOERROR", None),
        (f"{NONCE.upper()}.Who.g.cdn.test", "A", "NOERROR", None),
        ("any.who.g.cdn.test", "A", "NOERROR", None),
        (f"{NONCE}.who.g.cdn.test", "AAAA", "NOERROR", [LOW_SOA]),
        (f"{NONCE}.who.g.cdn.test", "HTTPS", "NOERROR", [LOW_SOA]),
        (f"{NONCE}.who.g.cdn.test", "TXT", "NOERROR", [LOW_SOA]),
        ("who.g.cdn.test", "A", "NOERROR", [LOW_SOA]),
        (f"a.{NONCE}.who.g.cdn.test", "A", "NXDOMAIN", [LOW_SOA]),
        (f"{NONCE}.g.cdn.test", "A", "NXDOMAIN", [LOW_SOA]),
    ],
)
def test_names_of_beacons(
    config: Config,
    current_map: Map,
    locator: Locator,
    name: str,
    qtype: str,
    rcode: str,
    expected: list[str] | None,
) -> None:
    response = asker(LowWorld(config, current_map, locator))(name, qtype, JAPAN)
    assert dns.rcode.to_text(response.rcode()) == rcode
    if expected is None:
        # What the resolver gets is what is to be found out: the subnet does not count.
        assert set(lines(response)) == {f"{name}. 20 IN A 127.33.1.{n}" for n in (1, 2)}
        assert response.options[0].scopelen == 0
    else:
        assert lines(response) == expected


def test_who_asks_for_beacons_is_noted_and_gets_what_its_clients_get(
    config: Config, current_map: Map, locator: Locator
) -> None:
    block = 0xC0A800
    planned = msgspec.structs.replace(current_map, plans={resolver_block(4, 0xC0A80001): Plan("JP")})
    ask = asker(LowWorld(config, planned, locator))
    response = ask(f"{NONCE.upper()}.who.g.cdn.test", "A")
    assert {str(rdata) for rdata in response.answer[0]} == {f"127.33.2.{n}" for n in (1, 2)}
    ask("short.who.g.cdn.test", "A")
    ask(f"{NONCE}.who.g.cdn.test", "AAAA")
    assert locator.beacons.take() == (Sighting(NONCE, 4, block),)
    assert asker(LowWorld(config, None, locator))(f"{NONCE}.who.g.cdn.test", "A").rcode() == dns.rcode.SERVFAIL
    referral = asker(TopWorld(config, current_map, locator))(f"{NONCE}.who.g.cdn.test", "A")
    assert {str(rrset.name) for rrset in referral.authority} == {"g.cdn.test."}


def test_a_site_of_downloads_is_answered_by_its_own_regions_where_they_differ(
    config: Config, current_map: Map, place_of: Callable[[str], Place]
) -> None:
    """Germany's downloads come from Japan's region; Japan's, which the view does not have, from there as well."""
    six = np.zeros(1, np.uint64), np.array([1], np.uint32)
    four = np.array([0, 0xCB007100], np.uint64), np.array([1, 2], np.uint32)
    located = Locator(place_of, (), made("", ("DE", "JP"), (NOT_FAR, NOT_FAR), (1.0, 1.0), four, six))
    view = View(Units.of({"DE": current_map.units["JP"]}), current_map.fallback, partial=True)
    serial = config.sites[0].serial
    for pins, nets, scopes in (({}, "12", (5, 24)), ({serial: 0}, "22", (1, 1))):
        mapped = msgspec.structs.replace(current_map, pins=pins, views=(view,))
        ask = asker(LowWorld(config, mapped, located))
        for client, net, scope in zip((GERMANY, JAPAN), nets, scopes, strict=True):
            response = ask("a7.g.cdn.test", "A", client)
            assert {line.split()[-1].split(".")[2] for line in lines(response)} == {net}
            assert [option.scopelen for option in response.options] == [scope]
