"""The answer to a packet, in each of the two tiers: a function of the bytes, of who asks, and of the world.

The top tier sends a resolver to the low-level servers near it, for long; the low tier names edge servers near the
client, for a short while.
"""

from math import inf
from typing import Any

from nearmile.base.geography import Point, distance_km
from nearmile.config.layout import Config, edge_hostname
from nearmile.dns import wire
from nearmile.dns.locate import SCOPE_MAX, Locator
from nearmile.dns.records import Record, address_record, encode, is_under, to_wire
from nearmile.dns.wire import AA, Body, Query
from nearmile.dns.zone import NOT_OURS, low_apex, low_servers, low_zone, top_zone
from nearmile.mapping.choose import choose
from nearmile.mapping.map import Map

# So many that one dead server does not matter, so few that a referral always fits the smallest datagram.
REFERRAL_SERVERS_MAX = 4
# Bodies kept ready, about 300 bytes each: units times sites, or points times lengths of names, are rarely more.
BODIES_MAX = 65_536
TRANSFERS = {wire.AXFR, wire.IXFR}
NOTHING_LIVES = Body(wire.SERVFAIL)


class TopWorld:
    """All that a top-level server knows. It stays as it is; only prepared bytes are remembered."""

    def __init__(self, config: Config, locator: Locator) -> None:
        self._zone = top_zone(config)
        self._delegated = low_apex(config)
        self._ttl_s = config.network.dns.top_ttl_s
        self._servers = low_servers(config)
        self._locator = locator
        self._referrals: dict[tuple[int, Point | None], Body] = {}

    def reply(self, query: Query, resolver: str) -> tuple[Body, int]:
        """The answer's body and the prefix length it holds for: 0, as nothing here is tailored to the client."""
        name = query.name
        # The parent answers for the delegation's DS (RFC 4035, section 3.1.4.1): there is none.
        if is_under(name, self._delegated) and not (query.qtype == wire.DS and name == self._delegated):
            return self._referral(name, self._near(query, resolver)), 0
        return self._zone.answer(name, query.qtype), 0

    def _near(self, query: Query, resolver: str) -> Point | None:
        spot = self._locator.resolver(resolver)
        if spot.trusted and query.edns is not None and query.edns.subnet is not None and query.edns.subnet.source:
            return self._locator.subnet(query.edns.subnet).point or spot.point
        return spot.point

    def _referral(self, name: bytes, point: Point | None) -> Body:
        key = (len(name), point)
        body = self._referrals.get(key)
        if body is None:
            _make_room(self._referrals)
            body = self._referrals[key] = self._refer(name, point)
        return body

    def _refer(self, name: bytes, point: Point | None) -> Body:
        servers = list(self._servers)
        if point is not None:
            servers.sort(key=lambda server: distance_km(point, server[0].point) if server[0].point else inf)
        # A delayed one is in every delegation, as the last: a bad map breaks the others first.
        late = [server for server in servers if server[0].delayed_s][:1]
        prompt = [server for server in servers if not server[0].delayed_s]
        servers = prompt[: REFERRAL_SERVERS_MAX - len(late)] + late
        names = [Record(self._delegated, wire.NS, self._ttl_s, (server,)) for _, server in servers]
        glue = [address_record(server, process.address, self._ttl_s) for process, server in servers]
        return Body(0, 0, len(names), len(glue), encode(name, names + glue))


class LowWorld:
    """All that a low-level server knows: the configuration and one map. It stays as it is, as above."""

    def __init__(self, config: Config, current: Map | None, locator: Locator) -> None:
        zone, dns = config.network.zone, config.network.dns
        self._zone = low_zone(config)
        self._serials = {to_wire(edge_hostname(site.serial, zone)): site.serial for site in config.sites}
        self._ttl_s, self._count = dns.low_ttl_s, dns.answers
        self._map = current
        self._locator = locator
        self._bodies: dict[tuple[str, int, int], Body] = {}

    def reply(self, query: Query, resolver: str) -> tuple[Body, int]:
        """The answer's body and the prefix length it holds for."""
        serial = self._serials.get(query.name)
        if serial is None:
            return self._zone.answer(query.name, query.qtype), 0
        qtype = wire.A if query.qtype == wire.ANY else query.qtype
        if qtype not in (wire.A, wire.AAAA):
            return self._zone.negative(query.name, wire.NOERROR), 0
        unit, scope = "", 0
        subnet = query.edns.subnet if query.edns is not None else None
        if subnet is not None and subnet.source:
            # A subnet of which nothing is known has a scope as well: with 0, its answer would be taken for
            # everybody's (scopes must not overlap: RFC 7871, section 7.2.1).
            unit, scope = self._locator.subnet(subnet).unit, min(subnet.source, SCOPE_MAX[subnet.family])
        if not unit:
            unit = self._locator.resolver(resolver).unit
        body = self._edges_for(query.name, unit, serial, qtype)
        return body, scope if body.answers else 0  # a negative answer is for everybody (RFC 7871, section 7.4)

    def _edges_for(self, name: bytes, unit: str, serial: int, qtype: int) -> Body:
        key = (unit, serial, qtype)
        body = self._bodies.get(key)
        if body is None:
            _make_room(self._bodies)
            body = self._bodies[key] = self._choose(name, unit, serial, qtype)
        return body

    def _choose(self, name: bytes, unit: str, serial: int, qtype: int) -> Body:
        servers = choose(self._map, unit, serial, self._count).servers if self._map is not None else ()
        if not servers:
            return NOTHING_LIVES
        records = [address_record(name, server.address, self._ttl_s) for server in servers]
        records = [record for record in records if record.rtype == qtype]
        if not records:
            return self._zone.negative(name, wire.NOERROR)
        return Body(AA, len(records), sections=encode(name, records))


World = TopWorld | LowWorld


def answer(packet: bytes, resolver: str, world: World, over_tcp: bool = False) -> bytes | None:
    """The response to a packet from the address ``resolver``, or None where it deserves none."""
    query = wire.parse(packet)
    if query is None:
        return None
    if query.error:
        return wire.respond(query, Body(query.error & 0xF, extended=query.error >> 4), 0, over_tcp)
    if query.qclass != wire.IN or query.qtype in TRANSFERS:
        return wire.respond(query, NOT_OURS, 0, over_tcp)
    body, scope = world.reply(query, resolver)
    return wire.respond(query, body, scope, over_tcp)


def _make_room(bodies: dict[Any, Body]) -> None:
    if len(bodies) >= BODIES_MAX:
        bodies.clear()
