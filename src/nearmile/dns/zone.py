"""The names that stay the same from answer to answer: each tier's zones, made from the configuration.

The top tier answers for the network's zone, for the zones of sites (delegated to it by their parents), and, by
CNAME, for the sites' host names; it delegates `g.ZONE` to the low tier, whose zone that is.
"""

from collections.abc import Iterable, Mapping

from msgspec import structs

from nearmile.config.layout import Config, NamedSite, Process, edge_hostname
from nearmile.dns import wire
from nearmile.dns.records import (
    Record,
    address_record,
    caa_record,
    is_under,
    service_alias,
    soa_record,
    suffixes,
    text_record,
    to_wire,
)
from nearmile.dns.reply import Reply, body_of
from nearmile.dns.wire import AA, Body

NOT_OURS = Body(wire.REFUSED, reason=wire.NOT_AUTHORITATIVE)
WILDCARD = b"\1*"
Node = dict[int, tuple[Record, ...]]


class Zone:
    """One apex, its SOA, its nodes by name, and beside them names elsewhere that are aliases into it.

    ``servers`` are the addresses of name servers within the zone, added where NS is asked for.
    """

    def __init__(self, apex: bytes, soa: Record, nodes: dict[bytes, Node], servers: tuple[Record, ...]) -> None:
        self.apex = apex
        self._soa = soa
        self._nodes = nodes
        self._servers = servers
        # Bounded by what exists: each node's types (a wildcard's with each length that a label can have), and each
        # length that a name of the zone can have.
        self._positive: dict[tuple[bytes, int, int], Body] = {}
        self._negative: dict[tuple[int, int], Body] = {}

    def has(self, name: bytes) -> bool:
        """Whether the name exists, be it by a wildcard."""
        return name in self._nodes or WILDCARD + name[name[0] + 1 :] in self._nodes

    def answer(self, name: bytes, qtype: int) -> Body:
        """The whole answer to a question for that (lower-case) name, of this zone or one of its aliases."""
        owner, node = name, self._nodes.get(name)
        if node is None:
            # A wildcard stands for one label, as in certificates.
            owner = WILDCARD + name[name[0] + 1 :]
            node = self._nodes.get(owner)
            if node is None:
                return self.negative(name, wire.NXDOMAIN)
        found = wire.CNAME if wire.CNAME in node else qtype
        if qtype == wire.ANY and node:
            found = next(iter(node))  # one set of records is enough for ANY (RFC 8482)
        if found not in node:
            return self.negative(name, wire.NOERROR)
        key = (owner, len(name), found)
        body = self._positive.get(key)
        if body is None:
            records = tuple(structs.replace(record, owner=name) for record in node[found])
            extra = self._servers if found == wire.NS else ()
            body = self._positive[key] = body_of(name, Reply(AA, records, additional=extra))
        return body

    def negative(self, name: bytes, rcode: int) -> Body:
        """No such name, or none of that type, with the SOA that says for how long (RFC 2308)."""
        key = (len(name), rcode)
        body = self._negative.get(key)
        if body is None:
            body = self._negative[key] = body_of(name, Reply(AA | rcode, authority=(self._soa,)))
        return body


class Zones:
    """Several zones, and names outside of them all that one of them answers for."""

    def __init__(self, zones: Iterable[Zone], aliases: Mapping[bytes, Zone] | None = None) -> None:
        self._by_apex = {zone.apex: zone for zone in zones}
        self._aliases = aliases or {}

    def answer(self, name: bytes, qtype: int) -> Body:
        """The answer of the nearest zone that the name is in; the parent's for DS of an apex, if it is here."""
        zone = self.find(name)
        if zone is None:
            return NOT_OURS
        if qtype == wire.DS and zone.apex == name and len(name) > 1:
            zone = self.find(name[name[0] + 1 :]) or zone
        return zone.answer(name, qtype)

    def missing(self, name: bytes) -> bytes:
        """The apex of the zone that the name would be in; empty where it exists, or no zone is here."""
        zone = self.find(name)
        return b"" if zone is None or zone.has(name) else zone.apex

    def find(self, name: bytes) -> Zone | None:
        """The zone that answers for the name."""
        for offset in suffixes(name):
            zone = self._by_apex.get(name[offset:])
            if zone is not None:
                return zone
        return self._aliases.get(name) or self._aliases.get(WILDCARD + name[name[0] + 1 :])


def wants_https(site: NamedSite) -> bool:
    """Whether browsers may be told to use https at once: not where they would not know the certificate."""
    return site.document.tls is not None or site.document.https == "redirect"


def low_apex(config: Config) -> bytes:
    """The zone of the low tier."""
    return to_wire(f"g.{config.network.zone}")


def low_servers(config: Config) -> tuple[tuple[Process, bytes], ...]:
    """The low-level name servers and their names, in the document's order."""
    servers = (p for p in config.of_role("nameserver") if p.tier == "low")
    return tuple((p, to_wire(f"n{n}.g.{config.network.zone}")) for n, p in enumerate(servers, start=1))


def low_zone(config: Config) -> Zone:
    """The low tier's zone; the types that depend on who asks are not in it, though their names are."""
    servers = tuple((name, process.address) for process, name in low_servers(config))
    nodes: dict[bytes, Node] = {}
    for site in config.sites:
        name = to_wire(edge_hostname(site.serial, config.network.zone))
        nodes[name] = _authorities(config, site, name)
    return _zone(config, low_apex(config), servers, nodes)


def top_zones(config: Config) -> Zones:
    """The network's zone and those of its sites."""
    network = config.network
    tops = [p for p in config.of_role("nameserver") if p.tier == "top"]
    servers = tuple((to_wire(f"ns{n}.{network.zone}"), p.address) for n, p in enumerate(tops, start=1))
    own = to_wire(network.zone)
    apexes = dict.fromkeys([own, *(to_wire(zone) for site in config.sites for zone in site.document.dns.zones)])
    names = _site_names(config, apexes)
    names[low_apex(config)] = {}
    zones, rest = {}, names
    # The deeper first, each with the names that no deeper one has.
    for apex in sorted(apexes, key=len, reverse=True):
        nodes = {name: node for name, node in rest.items() if is_under(name, apex)}
        rest = {name: node for name, node in rest.items() if name not in nodes}
        zones[apex] = nodes
    aliases = dict(rest)
    zones[own].update(aliases)
    made = {apex: _zone(config, apex, servers, nodes) for apex, nodes in zones.items()}
    return Zones(made.values(), dict.fromkeys(aliases, made[own]))


def direct_hosts(config: Config, zones: Zones) -> dict[bytes, tuple[Zone, NamedSite]]:
    """The host names that can be no alias, as they are the apex of a zone."""
    found = {}
    for site in config.sites:
        for hostname in site.document.hostnames:
            name = to_wire(hostname)
            zone = zones.find(name)
            if zone is not None and zone.apex == name:
                found[name] = (zone, site)
    return found


def _site_names(config: Config, apexes: Iterable[bytes]) -> dict[bytes, Node]:
    """What sites' documents say of names: aliases, or at an apex what may stand beside its SOA."""
    ttl_s, nodes = config.network.dns.top_ttl_s, dict[bytes, Node]()
    for site in config.sites:
        target = to_wire(edge_hostname(site.serial, config.network.zone))
        for hostname in site.document.hostnames:
            name = to_wire(hostname)
            if name not in apexes:
                nodes[name] = {wire.CNAME: (Record(name, wire.CNAME, ttl_s, (target,)),)}
                continue
            nodes[name] = _authorities(config, site, name)
            if wants_https(site):
                nodes[name][wire.HTTPS] = (service_alias(name, ttl_s, target),)
        for hostname, texts in site.document.dns.txt.items():
            name = to_wire(hostname)
            node = nodes.setdefault(name, {})
            node[wire.TXT] = node.get(wire.TXT, ()) + tuple(text_record(name, ttl_s, text) for text in texts)
    return nodes


def _authorities(config: Config, site: NamedSite, name: bytes) -> Node:
    """CAA, which authorities look for at the end of aliases (RFC 8659, section 3)."""
    records = tuple(caa_record(name, config.network.dns.top_ttl_s, text) for text in site.document.dns.caa)
    return {wire.CAA: records} if records else {}


def _zone(config: Config, apex: bytes, servers: tuple[tuple[bytes, str], ...], nodes: dict[bytes, Node]) -> Zone:
    dns = config.network.dns
    addresses = tuple(address_record(name, address, dns.top_ttl_s) for name, address in servers)
    addresses = tuple(record for record in addresses if is_under(record.owner, apex))
    primary, mailbox = servers[0][0] if servers else apex, to_wire(f"hostmaster.{config.network.zone}")
    # What does not exist may exist as soon as the next configuration comes, so that is believed only briefly.
    soa = soa_record(apex, primary, mailbox, config.version, dns.low_ttl_s)
    for record in addresses:
        nodes[record.owner] = {record.rtype: (record,)}
    for name in tuple(nodes):
        _add_parents(nodes, name, apex)
    delegation = tuple(Record(apex, wire.NS, dns.top_ttl_s, (name,)) for name, _ in servers)
    nodes[apex] = {wire.SOA: (soa,), wire.NS: delegation} | nodes.get(apex, {})
    return Zone(apex, soa, nodes, addresses)


def _add_parents(nodes: dict[bytes, Node], name: bytes, apex: bytes) -> None:
    """A name between the apex and a node exists, though it has no records (RFC 8020)."""
    if is_under(name, apex):
        for offset in suffixes(name):
            if len(name) - offset > len(apex):
                nodes.setdefault(name[offset:], {})
