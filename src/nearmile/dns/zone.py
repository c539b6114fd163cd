"""The names that stay the same from answer to answer: each tier's zones, made from the configuration.

The top tier answers for the network's zone, for the zones of sites (delegated to it by their parents), and, by
CNAME, for the sites' host names; it delegates `g.ZONE` to the low tier, whose zone that is.
"""

from collections.abc import Container, Iterable, Mapping

from msgspec import structs

from nearmile.config.layout import Config, NamedSite, Process, beacon_zone, edge_hostname, number_of
from nearmile.dns import wire
from nearmile.dns.dnssec import nsec_record
from nearmile.dns.records import (
    WILDCARD,
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
from nearmile.dns.signer import Signer, ZoneSigner
from nearmile.dns.wire import AA, COMPACT, PLAIN, Body

NOT_OURS = Body(wire.REFUSED, reason=wire.NOT_AUTHORITATIVE)
PROOFS = {wire.NSEC, wire.RRSIG}
Node = dict[int, tuple[Record, ...]]


class Zone:
    """One apex, its SOA, its nodes by name, and beside them names elsewhere that are aliases into it.

    ``servers`` are the addresses of name servers within the zone, added where NS is asked for.
    """

    def __init__(
        self,
        apex: bytes,
        soa: Record,
        nodes: dict[bytes, Node],
        servers: tuple[Record, ...],
        signer: ZoneSigner | None = None,
    ) -> None:
        self.apex = apex
        self.varying: dict[bytes, frozenset[int]] = {}
        """By name the types whose records depend on who asks, made elsewhere."""
        self._soa = soa
        self._nodes = nodes
        self._servers = servers
        self._signer = signer
        # Bounded by what exists: each node's types (a wildcard's with each length that a label can have), and each
        # length that a name of the zone can have.
        self._positive: dict[tuple[bytes, int, int, bool], Body] = {}
        self._negative: dict[tuple[int, int], Body] = {}

    def has(self, name: bytes, proof: int = PLAIN) -> bool:
        """Whether the name exists; by a wildcard too, unless each such name needs a signature of its own."""
        return name in self._nodes or (_wildcard(name) in self._nodes and not (self._signer and proof))

    def answer(self, name: bytes, qtype: int, proof: int = PLAIN) -> Body:
        """The whole answer to a question for that (lower-case) name, of this zone or one of its aliases."""
        signs = bool(proof) and self._signs(name)
        if signs and qtype in PROOFS:
            return self._proof_itself(name, qtype)
        owner, node = name, self._nodes.get(name)
        if node is None:
            # A wildcard stands for one label, as in certificates.
            owner = _wildcard(name)
            node = self._nodes.get(owner)
            if node is None:
                return self.negative(name, wire.NXDOMAIN, proof)
        found = wire.CNAME if wire.CNAME in node else qtype
        if qtype == wire.ANY and node:
            found = next(iter(node))  # one set of records is enough for ANY (RFC 8482)
        if found not in node:
            return self.negative(name, wire.NOERROR, proof, qtype)
        key = (owner, len(name), found, signs)
        body = self._positive.get(key)
        if body is None:
            records = tuple(structs.replace(record, owner=name) for record in node[found])
            extra = self._servers if found == wire.NS else ()
            body = self.body(name, records, proof, extra)
            if owner == name or not signs:
                self._positive[key] = body
        return body

    def body(self, name: bytes, records: tuple[Record, ...], proof: int, extra: tuple[Record, ...] = ()) -> Body:
        """The answer of these records."""
        if proof and self._signs(name):
            records, extra = (self.signed(part, name not in self._nodes) for part in (records, extra))
        return body_of(name, Reply(AA, records, additional=extra))

    def signed(self, records: tuple[Record, ...], made_up: bool = False) -> tuple[Record, ...]:
        """The records with their signatures, if the zone is signed."""
        return records if self._signer is None else self._signer.signed(records, made_up)

    def delegation(self, child: bytes) -> tuple[Record, ...]:
        """What is signed of a delegation: the keys of a zone below this one."""
        return self.signed(self._nodes[child].get(wire.DS, ()))

    def negative(self, name: bytes, rcode: int, proof: int = PLAIN, qtype: int = 0) -> Body:
        """No such name, or none of that type, with the SOA that says for how long (RFC 2308).

        Signed, a name that is not there is one that has no types, since that needs no proof about others; only who
        knows this form of proof is told NXDOMAIN as well (RFC 9824).
        """
        if proof and self._signs(name):
            records = self.signed((self._soa,)) + self._proof(name, qtype)
            return body_of(name, Reply(AA | (rcode if proof == COMPACT else 0), authority=records))
        key = (len(name), rcode)
        body = self._negative.get(key)
        if body is None:
            body = self._negative[key] = body_of(name, Reply(AA | rcode, authority=(self._soa,)))
        return body

    def _signs(self, name: bytes) -> bool:
        """Whether the zone is signed, and the name is no alias from elsewhere."""
        return self._signer is not None and is_under(name, self.apex)

    def _proof(self, name: bytes, qtype: int) -> tuple[Record, ...]:
        """What the name has, without that type."""
        made_up = name not in self._nodes
        owner = _wildcard(name) if made_up else name
        node = self._nodes.get(owner)
        types = {wire.NXNAME} if node is None else {*node, *self.varying.get(owner, ())} - {qtype}
        return self.signed((nsec_record(name, types, self._soa.ttl_s),), made_up)

    def _proof_itself(self, name: bytes, qtype: int) -> Body:
        """The NSEC record, or its signature, which is one of the name's (all would be too much, RFC 8482)."""
        return body_of(name, Reply(AA, self._proof(name, 0)[0 if qtype == wire.NSEC else 1 :]))


class Zones:
    """Several zones, and names outside of them all that one of them answers for."""

    def __init__(self, zones: Iterable[Zone], aliases: Mapping[bytes, Zone] | None = None) -> None:
        self._by_apex = {zone.apex: zone for zone in zones}
        self._aliases = aliases or {}

    def answer(self, name: bytes, qtype: int, proof: int = PLAIN) -> Body:
        """The answer of the nearest zone that the name is in; the parent's for DS of an apex, if it is here."""
        zone = self.find(name)
        if zone is None:
            return NOT_OURS
        if qtype == wire.DS and zone.apex == name and len(name) > 1:
            zone = self.find(name[name[0] + 1 :]) or zone
        return zone.answer(name, qtype, proof)

    def missing(self, name: bytes, proof: int = PLAIN) -> bytes:
        """The apex of the zone that the name would be in; empty where it exists, or no zone is here."""
        zone = self.find(name)
        return b"" if zone is None or zone.has(name, proof) else zone.apex

    def find(self, name: bytes) -> Zone | None:
        """The zone that answers for the name."""
        for offset in suffixes(name):
            zone = self._by_apex.get(name[offset:])
            if zone is not None:
                return zone
        return self._aliases.get(name) or self._aliases.get(_wildcard(name))


def _wildcard(name: bytes) -> bytes:
    """The wildcard that would stand for the name."""
    return WILDCARD + name[name[0] + 1 :]


def wants_https(site: NamedSite) -> bool:
    """Whether browsers may be told to use https at once: not where they would not know the certificate."""
    return site.document.tls is not None or site.document.https == "redirect"


def low_apex(config: Config) -> bytes:
    """The zone of the low tier."""
    return to_wire(f"g.{config.network.zone}")


def low_servers(config: Config) -> tuple[tuple[Process, bytes], ...]:
    """The low-level name servers and their names, in the document's order."""
    servers = (p for p in config.of_role("nameserver") if p.tier == "low")
    return tuple((p, to_wire(f"n{number_of(p)}.g.{config.network.zone}")) for p in servers)


def low_zone(config: Config, signer: Signer | None = None) -> Zone:
    """The low tier's zone; the types that depend on who asks are not in it, though their names are."""
    servers = tuple((name, process.address) for process, name in low_servers(config))
    nodes: dict[bytes, Node] = {}
    for site in config.sites:
        name = to_wire(edge_hostname(site.serial, config.network.zone))
        nodes[name] = _authorities(config, site, name)
    nodes[WILDCARD + to_wire(beacon_zone(config.network.zone))] = {}
    apex = low_apex(config)
    return _zone(config, apex, servers, nodes, signer.zone(apex, zones=1) if signer else None)


def top_zones(config: Config, signer: Signer | None = None) -> Zones:
    """The network's zone and those of its sites."""
    network = config.network
    tops = [p for p in config.of_role("nameserver") if p.tier == "top"]
    servers = tuple((to_wire(f"ns{number_of(p)}.{network.zone}"), p.address) for p in tops)
    own = to_wire(network.zone)
    apexes = dict.fromkeys([own, *(to_wire(zone) for site in config.sites for zone in site.document.dns.zones)])
    zones: dict[bytes, dict[bytes, Node]] = {apex: {} for apex in apexes}
    aliases = []
    for name, node in _site_names(config, apexes).items():
        apex = _nearest(name, apexes)
        if apex is None:
            aliases.append(name)
        zones[own if apex is None else apex][name] = node
    zones[own][low_apex(config)] = _delegation(low_apex(config), config, signer)
    for apex in apexes:
        above = _nearest(apex[apex[0] + 1 :], apexes)
        if above is not None:
            zones[above][apex] = _delegation(apex, config, signer)
    made = {
        apex: _zone(config, apex, servers, nodes, signer.zone(apex, len(zones)) if signer else None)
        for apex, nodes in zones.items()
    }
    return Zones(made.values(), dict.fromkeys(aliases, made[own]))


def _nearest(name: bytes, apexes: Container[bytes]) -> bytes | None:
    """The deepest of the zones that the name is in; None where it is in none."""
    return next((name[offset:] for offset in suffixes(name) if name[offset:] in apexes), None)


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
            node = nodes.setdefault(name, {})  # another site may have texts there
            node.update(_authorities(config, site, name))
            if wants_https(site):
                node[wire.HTTPS] = (service_alias(name, ttl_s, target),)
        for hostname, texts in site.document.dns.txt.items():
            name = to_wire(hostname)
            node = nodes.setdefault(name, {})
            node[wire.TXT] = node.get(wire.TXT, ()) + tuple(text_record(name, ttl_s, text) for text in texts)
    return nodes


def _delegation(apex: bytes, config: Config, signer: Signer | None) -> Node:
    """What the zone above says of the keys of one that is ours as well."""
    keys = signer.keys(apex) if signer else ()
    records = tuple(Record(apex, wire.DS, config.network.dns.top_ttl_s, data=key.ds_data()) for key in keys)
    return {wire.DS: records} if records else {}


def _authorities(config: Config, site: NamedSite, name: bytes) -> Node:
    """CAA, which authorities look for at the end of aliases (RFC 8659, section 3)."""
    records = tuple(caa_record(name, config.network.dns.top_ttl_s, text) for text in site.document.dns.caa)
    return {wire.CAA: records} if records else {}


def _keys(apex: bytes, ttl_s: int, signer: ZoneSigner) -> Node:
    """A signed zone's keys, and what it would have its parent say of them (RFC 7344)."""
    dnskeys = tuple(Record(apex, wire.DNSKEY, ttl_s, data=key.data) for key in signer.keys)
    digests = tuple(Record(apex, wire.CDS, ttl_s, data=key.ds_data()) for key in signer.keys)
    copies = tuple(structs.replace(record, rtype=wire.CDNSKEY) for record in dnskeys)
    return {wire.DNSKEY: dnskeys, wire.CDS: digests, wire.CDNSKEY: copies}


def _zone(
    config: Config,
    apex: bytes,
    servers: tuple[tuple[bytes, str], ...],
    nodes: dict[bytes, Node],
    signer: ZoneSigner | None,
) -> Zone:
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
    keys = _keys(apex, dns.top_ttl_s, signer) if signer else {}
    nodes[apex] = {wire.SOA: (soa,), wire.NS: delegation} | keys | nodes.get(apex, {})
    return Zone(apex, soa, nodes, addresses, signer)


def _add_parents(nodes: dict[bytes, Node], name: bytes, apex: bytes) -> None:
    """A name between the apex and a node exists, though it has no records (RFC 8020)."""
    if is_under(name, apex):
        for offset in suffixes(name):
            if len(name) - offset > len(apex):
                nodes.setdefault(name[offset:], {})
