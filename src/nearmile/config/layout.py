"""A checked network laid out: which processes there are and which address each one has."""

from collections.abc import Iterator
from ipaddress import IPv4Network
from typing import Literal
from zlib import crc32

import msgspec
from msgspec import Struct, structs

from nearmile.base import packing
from nearmile.base.geography import Point
from nearmile.config.network import Network, Site
from nearmile.config.upstream import is_folder

Role = Literal["nats", "controller", "collector", "origin", "nameserver", "edge"]
# In a network's loopback block x.y.0.0/16, shared services live in x.y.0.z and region r's servers in x.y.r.z.
NATS_HOST, NAMESERVER_HOST, ORIGIN_HOST = 2, 53, 128
NATS_PORT, ORIGIN_PORT = 4222, 8000
SERIAL_MAX = 0xFF_FF_FF
LEVEL = 3


class Process(Struct, frozen=True, kw_only=True):
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


class NamedSite(Struct, frozen=True, kw_only=True):
    """A site with its name and serial settled and its origins as URLs (`http://host:port`)."""

    name: str
    serial: int
    origins: tuple[str, ...]
    document: Site


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
    network: Network, sites: dict[str, Site], points: dict[str, Point], version: int, loopback: str = ""
) -> Config:
    """Gives every process its name and address.

    ``points`` has the coordinates of each city named by the document; ``loopback`` stands in for the
    document's own block where that is taken.
    """
    block = IPv4Network(loopback or network.loopback)
    processes = []
    if network.nats is None:
        processes.append(Process(name="nats", role="nats", address=_address(block, 0, NATS_HOST), port=NATS_PORT))
    processes += [Process(name=f"controller-{n}", role="controller") for n in range(1, network.controllers + 1)]
    processes.append(Process(name="collector", role="collector"))
    named = []
    for index, (name, site) in enumerate(sorted(sites.items())):
        host = _address(block, 0, ORIGIN_HOST + index)
        folders = [origin for origin in site.all_origins if is_folder(origin)]
        processes += [
            Process(name=f"origin-{name}", role="origin", address=host, port=ORIGIN_PORT, folder=folder)
            for folder in folders
        ]
        urls = (f"http://{host}:{ORIGIN_PORT}" if origin in folders else origin for origin in site.all_origins)
        origins = tuple(url.rstrip("/") for url in urls)
        named.append(NamedSite(name=name, serial=serial_of(name, site), origins=origins, document=site))
    processes += _nameservers(network, points, block)
    processes += _edges(network, points, block)
    return Config(
        version=version, network=network, sites=tuple(named), processes=tuple(processes), loopback=str(block)
    )


def _address(block: IPv4Network, net: int, host: int) -> str:
    return str(block[net * 256 + host])


def _nameservers(network: Network, points: dict[str, Point], block: IPv4Network) -> Iterator[Process]:
    counts = {"top": 0, "low": 0}
    for index, server in enumerate(network.nameservers):
        counts[server.tier] += 1
        yield Process(
            name=f"{server.tier}-{counts[server.tier]}",
            role="nameserver",
            tier=server.tier,
            city=server.city,
            point=server.point or points[server.city],
            address=server.address or _address(block, 0, NAMESERVER_HOST + index),
            port=network.dns.port,
            delayed_s=server.delayed_s,
        )


def _edges(network: Network, points: dict[str, Point], block: IPv4Network) -> Iterator[Process]:
    for number, (region_name, region) in enumerate(network.regions.items(), start=1):
        hosts = region.servers
        if isinstance(hosts, int):
            hosts = tuple(_address(block, number, host) for host in range(1, hosts + 1))
        for index, host in enumerate(hosts, start=1):
            yield Process(
                name=f"{region_name}-{index}",
                role="edge",
                region=region_name,
                city=region.city,
                point=region.point or points[region.city],
                address=host,
                port=network.edge.http_port,
            )


def encode(config: Config) -> bytes:
    """For the bus, which carries 3 MB: as plain text a configuration of 2,000 sites is more, packed a fiftieth."""
    return packing.pack(msgspec.json.encode(config), LEVEL)


def decode(data: bytes) -> Config:
    """The configuration of those bytes, packed or plain; DecodeError of msgspec where they are none."""
    return msgspec.json.decode(packing.plain(data), type=Config)


def at_version(config: Config, version: int) -> Config:
    """The same configuration under another version."""
    return structs.replace(config, version=version)
