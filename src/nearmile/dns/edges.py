"""The names whose records depend on who asks: addresses of edge servers, chosen from a map, and what they speak.

A and AAAA name servers; HTTPS (RFC 9460) says the protocols and the port, with the same addresses as hints, for
sites that have a certificate of their own or want https alone. For other sites it is not there: it would send
browsers to https with a certificate that they do not know.
"""

from collections.abc import Mapping

import msgspec

from nearmile.config.layout import Config, NamedSite
from nearmile.dns import wire
from nearmile.dns.locate import SCOPE_MAX, Locator, Spot
from nearmile.dns.memo import Memo
from nearmile.dns.records import Record, address_record, service_record
from nearmile.dns.wire import Body, Query
from nearmile.dns.zone import Zone, wants_https
from nearmile.mapping.atlas import BITS
from nearmile.mapping.beacons import SERIAL
from nearmile.mapping.choose import Choice, choose, split, turns
from nearmile.mapping.map import Map
from nearmile.mapping.plans import Plan

# Bodies kept ready, about 400 bytes each: units times sites are rarely more.
BODIES_MAX = 65_536
# Askers whose units are remembered, 200 bytes each: a look-up in a large atlas takes several microseconds.
UNITS_MAX = 65_536
HTTPS_PORT = 443
NO_MAP = Body(wire.SERVFAIL, reason=wire.NOT_READY)
NOTHING = Choice("", ())


class Edges:
    """Answers for ``hosts``: by name the zone they are in and the site; from one map."""

    def __init__(
        self, config: Config, current: Map | None, locator: Locator, hosts: Mapping[bytes, tuple[Zone, NamedSite]]
    ) -> None:
        self.hosts = hosts
        dns, edge = config.network.dns, config.network.edge
        self._ttl_s, self._count = dns.low_ttl_s, dns.answers
        self._protocols = (b"h3", b"h2") if edge.http3 else (b"h2",)
        self._port = edge.https_port
        self._locator = locator
        self._known = current is not None
        self._map = current
        self._alike = locator.alike(current) if current is not None else ()
        self._map4, self._map6 = (_of_family(current, colon) for colon in (False, True))
        family_maps = {wire.A: self._map4, wire.AAAA: self._map6}
        # Without a map there may be addresses of both kinds: a proof that there is none would be believed.
        self.address_types = frozenset(
            rtype for rtype, map_ in family_maps.items() if map_ is not None or current is None
        )
        self._any = min(self.address_types, default=wire.A)
        types = self.address_types, self.address_types | {wire.HTTPS}
        for name, (zone, site) in hosts.items():
            zone.varying[name] = types[wants_https(site)]
        self._turns = {serial: 0 for region in current.regions for serial in region.hot} if current else {}
        self._units: Memo[tuple[int, int, int], tuple[str, int]] = Memo(UNITS_MAX)
        self._bodies: Memo[tuple[str, int, bytes, int, int, int], Body] = Memo(BODIES_MAX)

    def answer(self, query: Query, resolver: str, real: bool) -> tuple[Body, int, bool]:
        """The body of A, AAAA, HTTPS or ANY (RFC 8482: one kind of address is enough), the prefix length it holds
        for, and whether who asks next may get another: the resolver's place counted, or the site is hot."""
        qtype = self._any if query.qtype == wire.ANY else query.qtype
        zone, site = self.hosts[query.name]
        if (qtype == wire.AAAA and self._known and self._map6 is None) or (
            qtype == wire.HTTPS and not wants_https(site)
        ):
            return zone.negative(query.name, wire.NOERROR, query.proof, qtype), 0, False  # whoever asks
        spot, scope, longest, by_resolver = self._locator.resolver(resolver), 0, 0, True
        plan = self._plan(spot)
        unit = "" if plan is None else plan.whole
        subnet = query.edns.subnet if query.edns is not None else None
        if subnet is not None and subnet.source:
            # A subnet of which nothing is known has a scope as well: with 0, its answer would be taken for
            # everybody's (scopes must not overlap: RFC 7871, section 7.2.1).
            client, longest = self._locator.subnet(subnet), min(subnet.source, SCOPE_MAX[subnet.family])
            if not self._locator.note(spot, client, real):
                return wire.CUT, 0, True
            by_plan = plan is not None and not self._pinned(site.serial)
            known, bits = self._planned(plan if by_plan else None, client, site.serial)
            scope = min(max(bits, 1), longest)
            if known:
                spot, unit, by_resolver = client, known, by_plan
        if by_resolver and plan is None:
            unit = self._unit(spot, site.serial)[0]
        # Clients of a unit that is split between regions are told apart, so their answers hold for nobody else.
        part = 0
        if self._map is not None and split(self._map, unit, site.serial):
            part, scope = spot.part, scope if by_resolver else longest
        key = (unit, part, query.name, qtype, self._turn(unit, part, site.serial), query.proof)
        body = self._bodies.get(key)
        if body is None:
            body = self._choose(zone, site.serial, *key)
            self._bodies.put(key, body)
        return body, 0 if body is NO_MAP else scope, by_resolver or site.serial in self._turns

    def beacon(self, zone: Zone, query: Query, resolver: str) -> Body:
        """The body of A, AAAA or ANY of a beacon's name: a server for the resolver, which is noted.

        Nobody asks for such a name again, so it is not kept.
        """
        qtype = self._any if query.qtype == wire.ANY else query.qtype
        name, spot = query.name, self._locator.resolver(resolver)
        self._locator.beacons.note(name[1 : name[0] + 1], spot.family, spot.block_number)
        plan = self._plan(spot)
        unit = self._unit(spot, SERIAL)[0] if plan is None else plan.whole
        return self._choose(zone, SERIAL, unit, spot.part, name, qtype, 0, query.proof)

    def _plan(self, resolver: Spot) -> Plan | None:
        """For the resolver's clients, where they are known."""
        if self._map is None or not self._map.plans:
            return None
        return self._map.plans.get(resolver.block)

    def _pinned(self, serial: int) -> bool:
        """Whether the site has regions of its own: clients that others answer alike may have to be told apart."""
        current = self._map
        return current is not None and serial in current.pins and not current.views[current.pins[serial]].partial

    def _planned(self, plan: Plan | None, client: Spot, serial: int) -> tuple[str, int]:
        """As ``_unit``, but by the plan where it says something of the client."""
        if plan is None:
            return self._unit(client, serial)
        family = client.family
        unit, bits = (plan.v4 if family == 4 else plan.v6).find(family, client.block_number)
        if unit:
            return unit, bits
        unit, alike_bits = self._unit(client, serial)
        return unit, max(bits, alike_bits)  # whom the plan answers must not get what is for others

    def _unit(self, spot: Spot, serial: int) -> tuple[str, int]:
        """A unit that the map answers as the spot's own, and the shortest prefix in which everybody has that."""
        if not self._alike or self._map is None:
            return spot.unit, BITS[spot.family]
        view = self._map.pins.get(serial, -1)
        key = (view, spot.family, spot.number)
        found = self._units.get(key)
        if found is None:
            found = self._alike[view + 1].find(spot.family, spot.number)
            self._units.put(key, found)
        return found

    def _turn(self, unit: str, part: int, serial: int) -> int:
        """Which part of a hot serial's load this answer is; 0 for what is not hot, whose answers stay the same."""
        turn, map_ = self._turns.get(serial), self._map4 or self._map6
        if turn is None or map_ is None:
            return 0
        self._turns[serial] = turn + 1
        return turn % turns(map_, unit, serial, part)

    def _choose(
        self,
        zone: Zone,
        serial: int,
        unit: str,
        part: int,
        name: bytes,
        qtype: int,
        turn: int,
        proof: int,
    ) -> Body:
        four, six = (self._servers(map_, unit, serial, turn, part) for map_ in (self._map4, self._map6))
        # Who has both kinds of address would prefer far servers to near ones, if the far alone had IPv6.
        if four.servers and six.region not in (
            four.region,
            self._servers(self._map, unit, serial, turn, part).region,
        ):
            six = NOTHING
        chosen = four.servers + six.servers if qtype == wire.HTTPS else (four if qtype == wire.A else six).servers
        if not four.servers and not six.servers:
            return NO_MAP
        if not chosen:
            return zone.negative(name, wire.NOERROR, proof, qtype)
        addresses = tuple(address_record(name, server.address, self._ttl_s) for server in chosen)
        records = (self._service(name, addresses),) if qtype == wire.HTTPS else addresses
        return zone.body(name, records, proof)

    def _servers(self, map_: Map | None, unit: str, serial: int, turn: int, part: int) -> Choice:
        return NOTHING if map_ is None else choose(map_, unit, serial, self._count, turn, part)

    def _service(self, name: bytes, addresses: tuple[Record, ...]) -> Record:
        four, six = ([one.data for one in addresses if one.rtype == rtype] for rtype in (wire.A, wire.AAAA))
        port = None if self._port == HTTPS_PORT else self._port
        return service_record(name, self._ttl_s, self._protocols, port, four, six)


def _of_family(current: Map | None, colon: bool) -> Map | None:
    """The map with servers of IPv6 (or not) alone; None where there are none at all."""
    if current is None:
        return None
    regions = tuple(
        msgspec.structs.replace(region, servers=tuple(s for s in region.servers if (":" in s.address) == colon))
        for region in current.regions
    )
    return msgspec.structs.replace(current, regions=regions) if any(r.servers for r in regions) else None
