"""The names that stay the same from answer to answer: each tier's zone, made from the configuration.

The top tier answers for the network's zone and, by CNAME, for the sites' host names; it delegates `g.ZONE` to the
low tier, whose zone that is.
"""

from nearmile.config.layout import Config, Process, edge_hostname
from nearmile.dns import wire
from nearmile.dns.records import Record, address_record, encode, is_under, soa_record, suffixes, to_wire
from nearmile.dns.wire import AA, Body

NOT_OURS = Body(wire.REFUSED)
Node = dict[int, tuple[Record, ...]]


class Zone:
    """One apex, its SOA, its nodes by name, and beside them names elsewhere that are aliases into it.

    ``servers`` are the name servers' addresses, added where NS is asked for.
    """

    def __init__(self, apex: bytes, soa: Record, nodes: dict[bytes, Node], servers: tuple[Record, ...]) -> None:
        self.apex = apex
        self._soa = soa
        self._nodes = nodes
        self._servers = servers
        # Bounded by what exists: each node's types, and each length that a name of the zone can have.
        self._positive: dict[tuple[bytes, int], Body] = {}
        self._negative: dict[tuple[int, int], Body] = {}

    def answer(self, name: bytes, qtype: int) -> Body:
        """The whole answer to a question for that (lower-case) name."""
        node = self._nodes.get(name)
        if node is None:
            return self.negative(name, wire.NXDOMAIN) if is_under(name, self.apex) else NOT_OURS
        found = wire.CNAME if wire.CNAME in node else qtype
        if qtype == wire.ANY and node:
            found = next(iter(node))  # one set of records is enough for ANY (RFC 8482)
        if found not in node:
            return self.negative(name, wire.NOERROR)
        body = self._positive.get((name, found))
        if body is None:
            extra = self._servers if found == wire.NS else ()
            sections = encode(name, node[found] + extra)
            body = Body(AA, len(node[found]), additional=len(extra), sections=sections)
            self._positive[name, found] = body
        return body

    def negative(self, name: bytes, rcode: int) -> Body:
        """No such name, or none of that type, with the SOA that says for how long (RFC 2308)."""
        key = (len(name), rcode)
        body = self._negative.get(key)
        if body is None:
            body = self._negative[key] = Body(AA | rcode, authority=1, sections=encode(name, (self._soa,)))
        return body


def low_apex(config: Config) -> bytes:
    """The zone of the low tier."""
    return to_wire(f"g.{config.network.zone}")


def low_servers(config: Config) -> tuple[tuple[Process, bytes], ...]:
    """The low-level name servers and their names, in the document's order."""
    servers = (p for p in config.of_role("nameserver") if p.tier == "low")
    return tuple((p, to_wire(f"n{n}.g.{config.network.zone}")) for n, p in enumerate(servers, start=1))


def top_zone(config: Config) -> Zone:
    """The network's zone, and the sites' host names."""
    network = config.network
    tops = [p for p in config.of_role("nameserver") if p.tier == "top"]
    servers = [(p.address, to_wire(f"ns{n}.{network.zone}")) for n, p in enumerate(tops, start=1)]
    nodes: dict[bytes, Node] = {low_apex(config): {}}
    for site in config.sites:
        target = to_wire(edge_hostname(site.serial, network.zone))
        for hostname in site.document.hostnames:
            name = to_wire(hostname)
            nodes[name] = {wire.CNAME: (Record(name, wire.CNAME, network.dns.top_ttl_s, (target,)),)}
    return _zone(config, to_wire(network.zone), servers, nodes)


def low_zone(config: Config) -> Zone:
    """The low tier's zone, without the names whose addresses depend on who asks."""
    servers = [(process.address, name) for process, name in low_servers(config)]
    return _zone(config, low_apex(config), servers, {})


def _zone(config: Config, apex: bytes, servers: list[tuple[str, bytes]], nodes: dict[bytes, Node]) -> Zone:
    dns = config.network.dns
    addresses = tuple(address_record(name, address, dns.top_ttl_s) for address, name in servers)
    primary, mailbox = servers[0][1] if servers else apex, to_wire(f"hostmaster.{config.network.zone}")
    # What does not exist may exist as soon as the next configuration comes, so that is believed only briefly.
    soa = soa_record(apex, primary, mailbox, config.version, dns.low_ttl_s)
    for record in addresses:
        nodes[record.owner] = {record.rtype: (record,)}
    for name in tuple(nodes):
        _add_parents(nodes, name, apex)
    delegation = tuple(Record(apex, wire.NS, dns.top_ttl_s, (name,)) for _, name in servers)
    nodes[apex] = {wire.SOA: (soa,), wire.NS: delegation}
    return Zone(apex, soa, nodes, addresses)


def _add_parents(nodes: dict[bytes, Node], name: bytes, apex: bytes) -> None:
    """A name between the apex and a node exists, though it has no records (RFC 8020)."""
    if is_under(name, apex):
        for offset in suffixes(name):
            if len(name) - offset > len(apex):
                nodes.setdefault(name[offset:], {})
