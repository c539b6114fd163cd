"""A running network of two regions with an edge server each, and whom its name servers send to which."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import dns.edns
import dns.message
import dns.query

from live_network import LiveNetwork
from nearmile.config.layout import edge_hostname

# Until a change is in the answers: reports, their ages, and a map.
MOVES_S = 60.0
NETWORK = """
name = "two"
zone = "two.test"
places = [{places}]

[regions]
{regions}

[[nameservers]]
tier = "top"
city = "Tokyo"

[[nameservers]]
tier = "low"
city = "Tokyo"

{more}
"""
SITE = 'hostnames = ["{name}.two.example"]\norigin = "http://127.20.250.1:9"\n{rest}'
WWW = {"www": ""}


@contextlib.contextmanager
def two_regions(
    folder: Path,
    places: Mapping[str, str],
    cities: tuple[str, str],
    sites: Mapping[str, str] = WWW,
    more: str = "",
) -> Iterator[LiveNetwork]:
    """``places`` are cities by block; the regions are called as their cities, in small letters.

    ``sites`` and ``more`` are what documents say beyond the usual: of each site, and of the network.
    """
    documents, root = folder / "documents", folder / "state"
    (documents / "sites").mkdir(parents=True)
    root.mkdir()
    text = NETWORK.format(
        places=", ".join(f'{{ block = "{block}", city = "{city}" }}' for block, city in places.items()),
        regions="\n".join(f'{city.lower()} = {{ city = "{city}", servers = 1 }}' for city in cities),
        more=more,
    )
    (documents / "network.toml").write_text(text)
    for name, rest in sites.items():
        (documents / "sites" / f"{name}.toml").write_text(SITE.format(name=name, rest=rest))
    with LiveNetwork(documents, root) as network:
        yield network


def served(network: LiveNetwork, site: str = "www", subnet: str = "", resolver: str = "") -> str:
    """The region that clients of that /24, or of that resolver, which tells none, are sent to."""
    serial = next(one.serial for one in network.config.sites if one.name == site)
    address = answered(network, edge_hostname(serial, network.config.network.zone), subnet, resolver)
    return next((p.region for p in network.config.of_role("edge") if p.address == address), "")


def answered(network: LiveNetwork, name: str, subnet: str = "", resolver: str = "") -> str:
    """The first address of that name; empty where there is none."""
    server = next(p for p in network.config.of_role("nameserver") if p.tier == "low")
    query = dns.message.make_query(name, "A", use_edns=0)
    if subnet:
        query.use_edns(options=[dns.edns.ECSOption(subnet, 24)])
    reply, _ = dns.query.udp_with_fallback(
        query, server.address, timeout=10, port=server.port, source=resolver or None
    )
    return next((str(next(iter(rrset)).address) for rrset in reply.answer), "")
