"""A checked network laid out: which processes there are and which address each one has."""

from collections.abc import Collection, Iterator
from ipaddress import IPv4Address, IPv4Network
from itertools import chain, count
from typing import Literal
from zlib import crc32

import msgspec
from msgspec import Struct, structs

from nearmile.base import packing
from nearmile.base.geography import Point
from nearmile.config.network import REGIONS_MAX, Nameserver, Network, Site
from nearmile.config.upstream import is_folder

Role = Literal["nats", "controller", "collector", "origin", "nameserver", "edge"]
# In a network's loopback block x.y.0.0/16, shared services live in x.y.0.z and region r's servers in x.y.r.z.
NATS_HOST, NAMESERVER_HOST, ORIGIN_HOST = 2, 53, 128
NATS_PORT, ORIGIN_PORT = 4222, 8000
SERIAL_MAX = 0xFF_FF_FF
LEVEL = 3


class Process(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One process of the network. ``address`` and ``port`` are empty and 0 where it listens to nobody."""

    name: str
    role: Role
    region: str = ""
    city: str = ""
    address: str = ""
    port: int = 0
    tier: Literal["top", "low", ""] = ""
    point: Point | None = None
    delayed_s: int = 0
    folder: str = ""


class NamedSite(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A site with its name and serial settled and its origins as URLs (`http://host:port`)."""

    name: str
    serial: int
    origins: tuple[str, ...]
    document: Site
    files: str = ""
    """Differs where a file that the document names has changed: then it is read again."""


class Config(Struct, frozen=True, kw_only=True):
    """Everything a process needs to know; published whole, with a version, and kept on every process's disk."""

    version: int
    network: Network
    sites: tuple[NamedSite, ...]
    processes: tuple[Process, ...]
    loopback: str
    """The block that the addresses come from."""

    def process(self, name: str) -> Process:
        """The process of that name; KeyError where there is none."""
        for process in self.processes:
            if process.name == name:
                return process
        raise KeyError(name)

    def of_role(self, role: Role) -> tuple[Process, ...]:
        """All processes of a role, in the document's order."""
        return tuple(p for p in self.processes if p.role == role)


def serial_of(name: str, site: Site) -> int:
    """The site's serial: as written, else made from its name (so that it stays when other sites come)."""
    return site.serial or serial_of_name(name)


def serial_of_name(name: str) -> int:
    """The serial of a site that writes none."""
    return crc32(name.encode()) % SERIAL_MAX + 1


def edge_hostname(serial: int, zone: str) -> str:
    """The name a site's hostnames are an alias of: answered by the low level."""
    return f"a{serial}.g.{zone}"


def beacon_zone(zone: str) -> str:
    """Below it any label is a beacon's name (see ``mapping.beacons``): answered by the low level too."""
    return f"who.g.{zone}"


def lay_out(
    network: Network,
    sites: dict[str, Site],
    points: dict[str, Point],
    version: int,
    loopback: str = "",
    former: Config | None = None,
) -> Config:
    """Gives every process its name and address: that of the ``former`` layout, where it was in that.

    ``points`` has the coordinates of each city named by the document; ``loopback`` stands in for the
    document's own block where that is taken.
    """
    block = IPv4Network(loopback or network.loopback)
    if former is not None and former.loopback != str(block):
        former = None
    processes = []
    if network.nats is None:
        processes.append(Process(name="nats", role="nats", address=_address(block, 0, NATS_HOST), port=NATS_PORT))
    processes += [Process(name=f"controller-{n}", role="controller") for n in range(1, network.controllers + 1)]
    processes.append(Process(name="collector", role="collector"))
    named, hosts = [], _origin_hosts(sites, block, former)
    for name, site in sorted(sites.items()):
        host = _address(block, 0, hosts[name])
        folders = [origin for origin in site.all_origins if is_folder(origin)]
        processes += [
            Process(name=f"origin-{name}", role="origin", address=host, port=ORIGIN_PORT, folder=folder)
            for folder in folders
        ]
        urls = (f"http://{host}:{ORIGIN_PORT}" if origin in folders else origin for origin in site.all_origins)
        origins = tuple(url.rstrip("/") for url in urls)
        named.append(NamedSite(name=name, serial=serial_of(name, site), origins=origins, document=site))
    processes += _nameservers(network, points, block, former)
    processes += _edges(network, points, block, former)
    return Config(
        version=version, network=network, sites=tuple(named), processes=tuple(processes), loopback=str(block)
    )


def number_of(process: Process) -> int:
    """The number at the end of its name."""
    return int(process.name.rpartition("-")[2])


def _address(block: IPv4Network, net: int, host: int) -> str:
    return str(block[net * 256 + host])


def _place(block: IPv4Network, address: str) -> int:
    """The reverse, as one number; -1 for an address that is not the block's."""
    if ":" in address or (found := IPv4Address(address)) not in block:
        return -1
    return int(found) - int(block.network_address)


def _free(wanted: int, first: int, taken: Collection[int]) -> int:
    """That number, or else the lowest from ``first`` on, that nobody has."""
    return next(number for number in chain((wanted,), count(first)) if number not in taken)


def _origin_hosts(sites: dict[str, Site], block: IPv4Network, former: Config | None) -> dict[str, int]:
    """By site, where its origin process is, or would be."""
    had = {p.name: _place(block, p.address) for p in former.of_role("origin")} if former is not None else {}
    taken, hosts = set(had.values()), dict[str, int]()
    for index, name in enumerate(sorted(sites)):
        host = had.get(f"origin-{name}")
        hosts[name] = _free(ORIGIN_HOST + index, ORIGIN_HOST, taken) if host is None else host
        taken.add(hosts[name])
    return hosts


def _nameservers(
    network: Network, points: dict[str, Point], block: IPv4Network, former: Config | None
) -> Iterator[Process]:
    """Who is of the same tier and address, or city where the layout gives addresses, is the same server."""
    had: list[tuple[object, Process]] = []
    if former is not None:
        had = [
            (_sort(server), process)
            for server, process in zip(former.network.nameservers, former.of_role("nameserver"), strict=True)
        ]
    numbers = {tier: {number_of(p) for _, p in had if p.tier == tier} for tier in ("top", "low")}
    counts, hosts = {"top": 0, "low": 0}, {_place(block, p.address) for _, p in had}
    for index, server in enumerate(network.nameservers):
        counts[server.tier] += 1
        same = next((one for one in had if one[0] == _sort(server)), None)
        if same is None:
            number = _free(counts[server.tier], 1, numbers[server.tier])
            host = _free(NAMESERVER_HOST + index, NAMESERVER_HOST, hosts)
            address = server.address or _address(block, 0, host)
        else:
            had.remove(same)
            number, address = number_of(same[1]), same[1].address
        numbers[server.tier].add(number)
        hosts.add(_place(block, address))
        yield Process(
            name=f"{server.tier}-{number}",
            role="nameserver",
            tier=server.tier,
            city=server.city,
            point=server.point or points[server.city],
            address=address,
            port=network.dns.port,
            delayed_s=server.delayed_s,
        )


def _sort(server: Nameserver) -> tuple[str, str]:
    return server.tier, server.address or f"in {server.city}"


def _edges(
    network: Network, points: dict[str, Point], block: IPv4Network, former: Config | None
) -> Iterator[Process]:
    """Who has the same address in the same region is the same server."""
    had: dict[str, dict[str, int]] = {}
    for process in former.of_role("edge") if former is not None else ():
        had.setdefault(process.region, {})[process.address] = number_of(process)
    nets = _nets(network, had, block)
    for region_name, region in network.regions.items():
        hosts = region.servers
        if isinstance(hosts, int):
            hosts = tuple(_address(block, nets[region_name], host) for host in range(1, hosts + 1))
        known = had.get(region_name, {})
        taken = set(known.values())
        for index, host in enumerate(hosts, start=1):
            number = known[host] if host in known else _free(index, 1, taken)
            taken.add(number)
            yield Process(
                name=f"{region_name}-{number}",
                role="edge",
                region=region_name,
                city=region.city,
                point=region.point or points[region.city],
                address=host,
                port=network.edge.http_port,
            )


def _nets(network: Network, had: dict[str, dict[str, int]], block: IPv4Network) -> dict[str, int]:
    """By region the last but one byte of the addresses that it gets."""
    former = {name: max(_place(block, address) for address in servers) // 256 for name, servers in had.items()}
    nets = {name: former[name] for name in network.regions if former.get(name, -1) > 0}
    for index, name in enumerate(network.regions, start=1):
        if name not in nets:
            net = _free(index, 1, {*nets.values(), *former.values()})
            # Who goes may be there for a while; where there is no other number, who comes waits for that.
            nets[name] = net if net <= REGIONS_MAX else _free(index, 1, nets.values())
    return nets


def encode(config: Config) -> bytes:
    """For the bus, which carries 3 MB: as plain text a configuration of 2,000 sites is more, packed a fiftieth."""
    return packing.pack(msgspec.json.encode(config), LEVEL)


def decode(data: bytes) -> Config:
    """The configuration of those bytes, packed or plain; DecodeError of msgspec where they are none."""
    return Decoder().decode(data)


class _Carried(Struct):
    """A configuration whose sites are not decoded yet."""

    version: int
    network: Network
    sites: tuple[msgspec.Raw, ...]
    processes: tuple[Process, ...]
    loopback: str


class Decoder:
    """Decodes one configuration after the other, and of each only the sites that the last one did not have.

    So the others stay the same values, which also tells at once that they are equal.
    """

    def __init__(self) -> None:
        self._sites: dict[bytes, NamedSite] = {}

    def decode(self, data: bytes) -> Config:
        """As ``decode``."""
        carried = _CARRIED.decode(packing.plain(data))
        sites = {text: self._sites.get(text) or _SITE.decode(text) for text in map(bytes, carried.sites)}
        self._sites = sites
        return Config(
            version=carried.version,
            network=carried.network,
            sites=tuple(sites.values()),
            processes=carried.processes,
            loopback=carried.loopback,
        )


_CARRIED, _SITE = msgspec.json.Decoder(_Carried), msgspec.json.Decoder(NamedSite)


def at_version(config: Config, version: int) -> Config:
    """The same configuration under another version."""
    return structs.replace(config, version=version)
