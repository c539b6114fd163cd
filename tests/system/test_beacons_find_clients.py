"""A resolver far from its clients, whose subnets it tells nobody, is answered for them once they made beacons."""

import http.client
import secrets
from functools import partial
from pathlib import Path

import dns.message
import dns.query

from live_network import LiveNetwork, eventually
from nearmile.config.layout import beacon_zone, edge_hostname

RESOLVER, OTHER = "127.20.240.53", "127.20.241.53"
CLIENTS = ("127.20.250.9", "127.20.251.9", "127.20.252.9")
NETWORK = """
name = "beacons"
zone = "beacons.test"
places = [
    { block = "127.20.240.0/23", city = "Paris" },
    { block = "127.20.250.0/23", city = "Tokyo" },
    { block = "127.20.252.0/24", city = "Tokyo" },
]

[regions]
tokyo = { city = "Tokyo", servers = 1 }
paris = { city = "Paris", servers = 1 }

[[nameservers]]
tier = "top"
city = "Tokyo"

[[nameservers]]
tier = "low"
city = "Tokyo"
"""
# Two reports, the time in which others may contradict them, and a map.
MOVES_S = 20.0


def answered(network: LiveNetwork, resolver: str, name: str) -> str:
    """The address of the edge that the resolver, without client subnet, gets for a name."""
    server = next(p for p in network.config.of_role("nameserver") if p.tier == "low")
    query = dns.message.make_query(name, "A", use_edns=0)
    reply = dns.query.udp(query, server.address, timeout=2, port=server.port, source=resolver)
    return str(reply.answer[0][0]) if reply.answer else ""


def served_by(network: LiveNetwork, resolver: str, name: str, address: str) -> bool:
    """Whether that is whom the resolver is answered."""
    return answered(network, resolver, name) == address


def view(network: LiveNetwork, resolver: str, client: str) -> None:
    """What a page's script does, through the client's resolver."""
    name = f"{secrets.token_hex(10)}.{beacon_zone(network.config.network.zone)}"
    edge = next(p for p in network.config.of_role("edge") if p.address == answered(network, resolver, name))
    connection = http.client.HTTPConnection(edge.address, edge.port, timeout=5, source_address=(client, 0))
    connection.request("GET", "/", headers={"Host": name})
    response = connection.getresponse()
    assert (response.status, response.read()) == (204, b"")
    connection.close()


def test_beacons_move_a_resolver_to_its_clients(tmp_path: Path) -> None:
    documents, root = tmp_path / "documents", tmp_path / "state"
    (documents / "sites").mkdir(parents=True)
    root.mkdir()
    (documents / "network.toml").write_text(NETWORK)
    site = 'hostnames = ["www.beacons.example"]\norigin = "http://127.20.250.1:9"\n'
    (documents / "sites" / "www.toml").write_text(site)
    with LiveNetwork(documents, root) as network:
        config = network.config
        tokyo, paris = (
            next(p.address for p in config.of_role("edge") if p.region == name) for name in ("tokyo", "paris")
        )
        name = edge_hostname(config.sites[0].serial, config.network.zone)
        for resolver in (RESOLVER, OTHER):
            eventually(partial(served_by, network, resolver, name, paris), MOVES_S, "served from Paris")
        for _ in range(4):
            for client in CLIENTS:
                view(network, RESOLVER, client)
                view(network, OTHER, CLIENTS[0])
        took_s = eventually(partial(served_by, network, RESOLVER, name, tokyo), MOVES_S, "moved to Tokyo", 0.1)
        assert served_by(network, OTHER, name, paris)  # one client block moves nobody
        view(network, RESOLVER, CLIENTS[0])  # and beacons' names follow
        print(f"moved after {took_s:.1f} s")
