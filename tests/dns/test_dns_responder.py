"""Who is limited, who is known by a cookie, and what is told besides."""

from ipaddress import ip_address
from itertools import count

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import msgspec
import pytest

from nearmile.config.layout import Config
from nearmile.dns import responder as module
from nearmile.dns.answer import LowWorld, TopWorld, answer
from nearmile.dns.locate import SHOW_EVERY, Locator
from nearmile.dns.responder import Responder
from nearmile.mapping.map import Map

NOW_S = 1_800_000_000.0
CLIENT, NEIGHBOUR, OTHER = "192.0.2.53", "192.0.2.54", "203.0.113.53"
RATE_PER_S = 50
COOKIE = b"12345678"


class Asking:
    """Asks one world by one responder and keeps the time."""

    def __init__(self, world: TopWorld | LowWorld) -> None:
        self.world, self.now_s, self.prepared = world, NOW_S, 0
        self.responder = Responder("low-1", b"secret", RATE_PER_S)

    def __call__(
        self, name: str, *options: dns.edns.Option, client: str = CLIENT, over_tcp: bool = False, edns: int = 0
    ) -> dns.message.Message | None:
        query = dns.message.make_query(name, "A", use_edns=edns, options=list(options))
        packet = self.whole(query.to_wire(), client, over_tcp)
        return None if packet is None else dns.message.from_wire(packet)

    def whole(self, packet: bytes, client: str, over_tcp: bool = False) -> bytes | None:
        """As name servers do: what is ready becomes the response, and the rest is made."""
        (ready,) = [None] if over_tcp else self.responder.ready([packet[2:]], [client], self.world, self.now_s)
        if ready is None:
            return self.responder.answer(packet, client, self.world, self.now_s, over_tcp)
        self.prepared += 1
        return packet[:2] + ready

    def kinds(self, names: list[str], *options: dns.edns.Option, client: str = CLIENT) -> tuple[int, int, int]:
        """How many were answered, cut, dropped."""
        found = [self(name, *options, client=client) for name in names]
        cut = sum(one is not None and bool(one.flags & dns.flags.TC) for one in found)
        dropped = sum(one is None for one in found)
        return len(found) - cut - dropped, cut, dropped


@pytest.fixture
def low(config: Config, current_map: Map, locator: Locator) -> Asking:
    return Asking(LowWorld(config, current_map, locator))


@pytest.fixture
def top(config: Config, current_map: Map, locator: Locator) -> Asking:
    return Asking(TopWorld(config, current_map, locator))


def generic(response: dns.message.Message | None, code: int) -> bytes | None:
    assert response is not None
    for option in response.options:
        if option.otype == code:
            return bytes(option.to_wire() or b"")
    return None


def test_a_client_block_gets_so_much_of_a_name(low: Asking) -> None:
    answered, cut, dropped = low.kinds(["a7.g.cdn.test"] * 300, dns.edns.ECSOption("203.0.113.0", 24))
    assert answered in range(45, 53) and abs(cut - dropped) <= 1 + 300 // SHOW_EVERY
    assert low.kinds(["a7.g.cdn.test"] * 10, client=NEIGHBOUR)[0] == 0
    assert low.kinds(["g.cdn.test", "A7.G.cdn.test"] * 10, client=OTHER) == (20, 0, 0)
    low.now_s += 1
    assert low.kinds(["a7.g.cdn.test"] * 10) == (10, 0, 0)


def test_who_is_real_is_not_limited(low: Asking) -> None:
    first = low("a7.g.cdn.test", dns.edns.GenericOption(dns.edns.OptionType.COOKIE, COOKIE))
    cookie = generic(first, 10)
    assert cookie is not None and cookie[:8] == COOKIE and len(cookie) == 24
    known = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, cookie)
    assert low.kinds(["a7.g.cdn.test"] * 300, known) == (300, 0, 0)
    assert low.kinds(["a7.g.cdn.test"] * 300, known, client=NEIGHBOUR)[0] < 60
    assert all(low("a7.g.cdn.test", over_tcp=True) for _ in range(300))


def test_a_cookie_alone_is_answered(low: Asking) -> None:
    header, opt = b"\x12\x34" + bytes(9) + b"\x01", b"\x00\x00\x29\x04\xd0" + bytes(5) + b"\x0c\x00\x0a\x00\x08"
    response = low.responder.answer(header + opt + COOKIE, CLIENT, low.world, NOW_S, False)
    assert response is not None
    decoded = dns.message.from_wire(response)
    assert decoded.rcode() == dns.rcode.NOERROR and generic(decoded, 10)


def test_names_that_do_not_exist_share_the_time_by_zone(low: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = count()
    for minute in range(3):
        low.now_s = NOW_S + 60 * minute
        clients = (f"10.{number // 256}.{number % 256}.1" for number in count())
        found = [low(f"x{next(numbers)}.g.cdn.test", client=next(clients)) for _ in range(3000)]
        missing = sum(one is not None and one.rcode() == dns.rcode.NXDOMAIN for one in found)
        assert module.MISSING_PER_S <= missing <= module.MISSING_PER_S + 2
        assert low.kinds(["a7.g.cdn.test", "g.cdn.test"], client=OTHER) == (2, 0, 0)
        real = low("y.g.cdn.test", over_tcp=True)
        assert real is not None and real.rcode() == dns.rcode.NXDOMAIN


def test_what_is_prepared_is_the_same_as_what_is_made(low: Asking, top: Asking) -> None:
    for asking, name in (
        (low, "a7.g.cdn.test"),
        (low, "A7.g.cdn.test"),
        (top, "www.example.test"),
        (top, "x.g.cdn.test"),
    ):
        for client in (CLIENT, OTHER):
            for subnet in ("203.0.113.0/24", "192.0.2.0/24", "10.0.0.0/24", ""):
                address, _, bits = subnet.partition("/")
                options: list[dns.edns.Option] = [dns.edns.ECSOption(address, int(bits))] if subnet else []
                packet = dns.message.make_query(name, "A", use_edns=0, options=options).to_wire()
                for number in (b"\0\1", b"\0\2"):
                    asked = number + packet[2:]
                    made = answer(asked, client, asking.world)
                    assert asking.whole(asked, client) == made


def test_capitals_come_back_though_the_answer_is_prepared(low: Asking) -> None:
    # Bytes of subnets are letters too (100 is d, 68 is D), but not of the name.
    for subnet in ("198.51.100.0", "198.51.68.0"):
        for name in ("a7.g.cdn.test", "A7.g.CDN.test", "a7.G.cdn.tesT"):
            options: list[dns.edns.Option] = [dns.edns.ECSOption(subnet, 24)]
            packet = dns.message.make_query(name, "A", use_edns=0, options=options).to_wire()
            for _ in range(2):
                made = answer(packet, CLIENT, low.world)
                assert low.whole(packet, CLIENT) == made
        assert len(low.world.prepared) == 1
    assert low.prepared == 5  # an unknown subnet is answered by the resolver


def test_what_takes_turns_is_not_prepared(config: Config, current_map: Map, locator: Locator) -> None:
    """A resolver that tells one client subnet of all its users must not have one server for all of a crowd."""
    regions = tuple(
        msgspec.structs.replace(region, hot={7: {server.name: 1 for server in region.servers}})
        for region in current_map.regions
    )
    asking = Asking(LowWorld(config, msgspec.structs.replace(current_map, regions=regions), locator))
    subnet = dns.edns.ECSOption("203.0.113.0", 24)
    found = [asking("a7.g.cdn.test", subnet) for _ in range(8)]
    firsts = [one.answer[0][0].to_text() for one in found if one is not None]
    assert sorted(firsts.count(address) for address in set(firsts)) == [4, 4]


def test_what_is_told_besides(low: Asking) -> None:
    nsid = dns.edns.GenericOption(dns.edns.OptionType.NSID, b"")
    keepalive = dns.edns.GenericOption("KEEPALIVE", b"")
    assert generic(low("a7.g.cdn.test", nsid), 3) == b"low-1"
    assert generic(low("a7.g.cdn.test", keepalive), 11) is None
    assert generic(low("a7.g.cdn.test", keepalive, over_tcp=True), 11) == (100).to_bytes(2, "big")
    refused = low("example.test")
    assert refused is not None and refused.rcode() == dns.rcode.REFUSED
    assert generic(refused, 15) == (20).to_bytes(2, "big")
    newer = low("a7.g.cdn.test", edns=1)
    assert newer is not None and newer.rcode() == dns.rcode.BADVERS and newer.edns == 0
    for wrong in (b"1234567", b"123456789", b"1" * 41):
        formerr = low("a7.g.cdn.test", dns.edns.GenericOption(dns.edns.OptionType.COOKIE, wrong))
        assert formerr is not None and formerr.rcode() == dns.rcode.FORMERR


def test_ipv6_clients_have_a_block(low: Asking) -> None:
    assert low.kinds(["a7.g.cdn.test"] * 60, client="2001:db8::1")[0] < 60
    assert low.kinds(["a7.g.cdn.test"] * 5, client="2001:db8:0:0:ff::1")[0] == 0
    assert low.kinds(["a7.g.cdn.test"] * 5, client="2001:db8:1::1")[0] == 5
    assert low.kinds(["a7.g.cdn.test"] * 60, client="::ffff:192.0.2.1")[0] < 60  # IPv4, on a socket of IPv6
    assert low.kinds(["a7.g.cdn.test"] * 5, client="192.0.2.9")[0] == 0
    assert low.kinds(["a7.g.cdn.test"] * 5, client="::ffff:198.51.100.1")[0] == 5


@pytest.mark.parametrize("client", ["192.0.2.1", "2001:db8::1"])
def test_a_block_is_one_as_text_and_packed(low: Asking, client: str) -> None:
    subnet = dns.edns.ECSOption("203.0.113.0", 24)
    query = dns.message.make_query("a7.g.cdn.test", "A", use_edns=0, options=[subnet]).to_wire()
    packed = ip_address(client).packed
    sender = int.from_bytes(packed, "big") if len(packed) == 4 else packed
    assert low.whole(query, client) and low.responder.ready([query[2:]], [sender], low.world, low.now_s) != [None]
    while low.responder.ready([query[2:]], [client], low.world, low.now_s) != [None]:
        pass
    assert low.responder.ready([query[2:]], [sender], low.world, low.now_s) == [None]


def test_made_up_names_of_beacons_have_a_budget(low: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MISSING_PER_S", 50)
    asking = Asking(low.world)
    found = [asking(f"{n:020d}.who.g.cdn.test", over_tcp=True) for n in range(300)]
    answered = sum(one is not None and one.rcode() == dns.rcode.NOERROR for one in found)
    assert answered in range(50, 53)
    assert asking("a7.g.cdn.test") is not None
    assert len(low.world.prepared) == 0


def test_who_asks_for_a_beacon_must_have_the_address_it_claims(low: Asking, locator: Locator) -> None:
    name = "0123456789abcdef.who.g.cdn.test"
    assert low.kinds([name, name]) == (0, 2, 0)
    assert locator.beacons.take() == () and len(low.world.prepared) == 0
    answered = low(name, over_tcp=True)
    assert answered is not None and answered.answer
    assert len(locator.beacons.take()) == 1


def test_who_tells_of_clients_must_have_shown_that_it_does(low: Asking, locator: Locator) -> None:
    def subnets(first: int, client: str) -> tuple[int, int, int]:
        low.now_s += 10
        asked = [low("a7.g.cdn.test", told(n), client=client) for n in range(first, first + 40)]
        cut = sum(one is not None and bool(one.flags & dns.flags.TC) for one in asked)
        return len(asked), cut, len(locator.take_seen())

    def told(number: int) -> dns.edns.Option:
        return dns.edns.ECSOption(f"203.0.{number % 256}.0", 24)

    low("a7.g.cdn.test", over_tcp=True, client=CLIENT)  # who tells none has not shown that it tells some
    assert [subnets(first, CLIENT) for first in (0, 40, 80, 120)] == [(40, cut, 0) for cut in (0, 1, 0, 1)]
    low("a7.g.cdn.test", told(1), over_tcp=True, client=NEIGHBOUR)
    assert subnets(160, CLIENT) == (40, 0, 41), "its site has shown it"
    cookie = generic(
        low("a7.g.cdn.test", dns.edns.GenericOption(dns.edns.OptionType.COOKIE, COOKIE), client=OTHER), 10
    )
    assert cookie is not None
    low("a7.g.cdn.test", dns.edns.GenericOption(dns.edns.OptionType.COOKIE, cookie), told(1), client=OTHER)
    assert subnets(200, OTHER) == (40, 0, 41)
