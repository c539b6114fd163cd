"""A resolver far from its clients, whose subnets it tells nobody, is answered for them once they made beacons."""

import http.client
import secrets
from functools import partial
from pathlib import Path

from live_network import LiveNetwork, eventually
from nearmile.config.layout import beacon_zone
from two_regions import MOVES_S, answered, served, two_regions

RESOLVER, OTHER = "127.20.240.53", "127.20.241.53"
CLIENTS = ("127.20.250.9", "127.20.251.9", "127.20.252.9")
PLACES = {"127.20.240.0/23": "Paris", "127.20.250.0/23": "Tokyo", "127.20.252.0/24": "Tokyo"}


def served_by(network: LiveNetwork, resolver: str, region: str) -> bool:
    """Whether that is where the resolver's clients are sent to."""
    return served(network, resolver=resolver) == region


def view(network: LiveNetwork, resolver: str, client: str) -> None:
    """What a page's script does, through the client's resolver."""
    name = f"{secrets.token_hex(10)}.{beacon_zone(network.config.network.zone)}"
    edge = next(
        p for p in network.config.of_role("edge") if p.address == answered(network, name, resolver=resolver)
    )
    connection = http.client.HTTPConnection(edge.address, edge.port, timeout=MOVES_S, source_address=(client, 0))
    connection.request("GET", "/", headers={"Host": name})
    response = connection.getresponse()
    assert (response.status, response.read()) == (204, b"")
    connection.close()


def test_beacons_move_a_resolver_to_its_clients(tmp_path: Path) -> None:
    with two_regions(tmp_path, PLACES, ("Tokyo", "Paris")) as network:
        for resolver in (RESOLVER, OTHER):
            eventually(partial(served_by, network, resolver, "paris"), MOVES_S, "served from Paris")
        for _ in range(4):
            for client in CLIENTS:
                view(network, RESOLVER, client)
                view(network, OTHER, CLIENTS[0])
        took_s = eventually(partial(served_by, network, RESOLVER, "tokyo"), MOVES_S, "moved to Tokyo", 0.1)
        assert served_by(network, OTHER, "paris")  # one client block moves nobody
        view(network, RESOLVER, CLIENTS[0])  # and beacons' names follow
        print(f"moved after {took_s:.1f} s")
