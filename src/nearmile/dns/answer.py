"""The answer to a packet, in each of the two tiers: a function of the bytes, of who asks, and of the world.

The top tier sends a resolver to the low-level servers near it, for long; the low tier names edge servers near the
client, for a short while. Where a name can be no alias (a zone's apex), the top tier names edge servers itself.
"""

from math import inf
from typing import NamedTuple

from nearmile.base.geography import Point, distance_km
from nearmile.config.layout import Config, Process, beacon_zone, edge_hostname
from nearmile.dns import wire
from nearmile.dns.edges import Edges
from nearmile.dns.locate import Locator
from nearmile.dns.memo import Memo
from nearmile.dns.prepared import Prepared
from nearmile.dns.records import WILDCARD, Record, address_record, is_under, to_wire
from nearmile.dns.reply import Reply, body_of
from nearmile.dns.signer import Signer
from nearmile.dns.wire import Body, Query
from nearmile.dns.zone import NOT_OURS, Zone, Zones, direct_hosts, low_apex, low_servers, low_zone, top_zones
from nearmile.mapping.map import Map

# So many that one dead server does not matter, so few that a referral always fits the smallest datagram.
REFERRAL_SERVERS_MAX = 4
# Points times lengths of names are rarely more; 500 bytes each.
REFERRALS_MAX = 65_536
# What edge servers are found for at the low tier's names, and at those that the top tier answers directly.
LOW_TYPES = {wire.A, wire.AAAA, wire.HTTPS, wire.ANY}
DIRECT_TYPES = {wire.A, wire.AAAA}
BEACON_TYPES = {wire.A, wire.AAAA, wire.ANY}
# What is never data of a name: some are other requests, and we do none of those (RFC 6895, section 3.1).
REFUSALS = {
    wire.AXFR: Body(wire.REFUSED, reason=wire.PROHIBITED),
    wire.IXFR: Body(wire.REFUSED, reason=wire.PROHIBITED),
    wire.MAILA: Body(wire.NOTIMP, reason=wire.NOT_SUPPORTED),
    wire.MAILB: Body(wire.NOTIMP, reason=wire.NOT_SUPPORTED),
    wire.OPT: Body(wire.FORMERR),
    wire.NXNAME: Body(wire.FORMERR, reason=wire.NOT_A_TYPE),  # RFC 9824, section 3.5
    0: Body(wire.FORMERR),
}


class Answer(NamedTuple):
    """A response's body, the length of the prefix it holds for, and whether who asks next may get another."""

    body: Body
    scope: int = 0
    varies: bool = False


class LowWorld:
    """All that a low-level server knows: the configuration and one map. It stays as it is; only prepared bytes are
    remembered.

    Names do not depend on the map, and to make those of 10,000 sites takes 0.1 s: the ``former`` world's are used
    again where it was made of the same configuration and signer.
    """

    zones: Zones
    edges: Edges
    _zone: Zone

    def __init__(
        self,
        config: Config,
        current: Map | None,
        locator: Locator,
        signer: Signer | None = None,
        former: "World | None" = None,
    ) -> None:
        self.made_of = config, signer
        if isinstance(former, LowWorld) and _is_same(former.made_of, self.made_of):
            zone, hosts, self.zones = former._zone, former.edges.hosts, former.zones
        else:
            zone = low_zone(config, signer)
            sites = {to_wire(edge_hostname(site.serial, config.network.zone)): site for site in config.sites}
            hosts, self.zones = {name: (zone, site) for name, site in sites.items()}, Zones((zone,))
        self.prepared = Prepared()
        self.edges = Edges(config, current, locator, hosts)
        self._beacons = to_wire(beacon_zone(config.network.zone))
        zone.varying[WILDCARD + self._beacons] = self.edges.address_types
        self._zone = zone

    def reply(self, query: Query, resolver: str, real: bool) -> Answer:
        """What the question is answered; ``real`` is whether the resolver has the address it claims.

        For beacons' names it must: who can forge a resolver's address must not say who is behind it.
        """
        if query.qtype in LOW_TYPES and query.name in self.edges.hosts:
            return Answer(*self.edges.answer(query, resolver, real))
        if query.qtype in BEACON_TYPES and self._is_beacon(query.name):
            return Answer(self.edges.beacon(self._zone, query, resolver) if real else wire.CUT, varies=True)
        return Answer(self.zones.answer(query.name, query.qtype, query.proof))

    def missing(self, query: Query) -> bytes:
        """The zone in which there is no such name; empty where there is, or no such zone here.

        Beacons' names are each new as well, and as dear, so they are counted among these.
        """
        if query.name in self.edges.hosts:
            return b""
        return self._zone.apex if self._is_beacon(query.name) else self.zones.missing(query.name, query.proof)

    def _is_beacon(self, name: bytes) -> bool:
        return name.endswith(self._beacons) and name[name[0] + 1 :] == self._beacons


class TopWorld:
    """All that a top-level server knows; the map is for the names that it answers directly."""

    zones: Zones
    edges: Edges

    def __init__(
        self,
        config: Config,
        current: Map | None,
        locator: Locator,
        signer: Signer | None = None,
        former: "World | None" = None,
    ) -> None:
        self.made_of = config, signer
        if isinstance(former, TopWorld) and _is_same(former.made_of, self.made_of):
            self.zones, hosts = former.zones, former.edges.hosts
        else:
            self.zones = top_zones(config, signer)
            hosts = direct_hosts(config, self.zones)
        self.prepared = Prepared()
        self.edges = Edges(config, current, locator, hosts)
        self._delegated = low_apex(config)
        self._ttl_s = config.network.dns.top_ttl_s
        self._servers = low_servers(config)
        self._locator = locator
        self._referrals: Memo[tuple[int, Point | None, bool], Body] = Memo(REFERRALS_MAX)

    def reply(self, query: Query, resolver: str, real: bool) -> Answer:
        """As above; a referral has prefix length 0, as it is not tailored to the client."""
        name = query.name
        # The parent answers for the delegation's DS (RFC 4035, section 3.1.4.1).
        if is_under(name, self._delegated) and not (query.qtype == wire.DS and name == self._delegated):
            return Answer(self._referral(name, self._near(query, resolver), bool(query.proof)), varies=True)
        if query.qtype in DIRECT_TYPES and name in self.edges.hosts:
            return Answer(*self.edges.answer(query, resolver, real))
        return Answer(self.zones.answer(name, query.qtype, query.proof))

    def missing(self, query: Query) -> bytes:
        """As above; what is delegated is not ours to know."""
        return b"" if is_under(query.name, self._delegated) else self.zones.missing(query.name, query.proof)

    def _near(self, query: Query, resolver: str) -> Point | None:
        spot = self._locator.resolver(resolver)
        if spot.trusted and query.edns is not None and query.edns.subnet is not None and query.edns.subnet.source:
            return self._locator.subnet(query.edns.subnet).point or spot.point
        return spot.point

    def _referral(self, name: bytes, point: Point | None, signed: bool) -> Body:
        key = (len(name), point, signed)
        body = self._referrals.get(key)
        if body is None:
            body = body_of(name, self._refer(point, signed))
            self._referrals.put(key, body)
        return body

    def _refer(self, point: Point | None, signed: bool) -> Reply:
        servers = list(self._servers)
        if point is not None:
            servers.sort(key=lambda server: distance_km(point, server[0].point) if server[0].point else inf)
        # A delayed one is in every delegation, as the last: a bad map breaks the others first.
        late = [server for server in servers if server[0].delayed_s][:1]
        prompt = [server for server in servers if not server[0].delayed_s]
        count = REFERRAL_SERVERS_MAX - len(late)
        servers = prompt[:count]
        # A resolver may have but one kind of address, and not that of all those near it.
        kinds = {_is_v6(server) for server in servers + late}
        other = next((server for server in prompt[count:] if _is_v6(server) not in kinds), None)
        servers = (servers if other is None else [*servers[:-1], other]) + late
        names = tuple(Record(self._delegated, wire.NS, self._ttl_s, (server,)) for _, server in servers)
        glue = tuple(address_record(server, process.address, self._ttl_s) for process, server in servers)
        above = self.zones.find(self._delegated)
        proof = above.delegation(self._delegated) if signed and above else ()
        return Reply(0, authority=names + proof, additional=glue)


def _is_v6(server: tuple[Process, bytes]) -> bool:
    return ":" in server[0].address


World = TopWorld | LowWorld


def _is_same(one: tuple[Config, Signer | None], other: tuple[Config, Signer | None]) -> bool:
    return one[0] is other[0] and one[1] is other[1]


def answer(packet: bytes, resolver: str, world: World, over_tcp: bool = False) -> bytes | None:
    """The response to a packet from the address ``resolver``, which is its own, or None where it deserves none."""
    query = wire.parse(packet)
    if query is None:
        return None
    body, scope, _ = body_for(query, resolver, world, real=True)
    return wire.respond(query, body, scope, over_tcp)


def body_for(query: Query, resolver: str, world: World, real: bool) -> Answer:
    """What a query is answered, be it well or not."""
    if query.error or not query.question:
        reason = wire.NOT_SUPPORTED if query.error == wire.NOTIMP else wire.NO_REASON
        return Answer(Body(query.error & 0xF, extended=query.error >> 4, reason=reason))
    if query.qclass != wire.IN:
        return Answer(NOT_OURS)
    refusal = REFUSALS.get(query.qtype)
    return world.reply(query, resolver, real) if refusal is None else Answer(refusal)
