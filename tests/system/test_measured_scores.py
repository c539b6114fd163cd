"""A measured change moves a unit within seconds: whom Tokyo's servers hear late is answered from Paris."""

import asyncio
import threading
from pathlib import Path
from typing import cast

import dns.edns
import dns.message
import dns.query

from live_network import LiveNetwork, eventually
from nearmile.config.layout import edge_hostname

TARGET, PORT = "127.20.250.53", 5399
NETWORK = f"""
name = "measured"
zone = "measured.test"
places = [{{ block = "127.20.250.0/24", city = "Tokyo" }}]

[regions]
tokyo = {{ city = "Tokyo", servers = 1 }}
paris = {{ city = "Paris", servers = 1 }}

[[nameservers]]
tier = "top"
city = "Tokyo"

[[nameservers]]
tier = "low"
city = "Tokyo"

[probes]
every_s = 0.5
targets = [{{ address = "{TARGET}", port = {PORT} }}]
"""
# Several reports, each of which counts half, and a map.
MOVES_S = 20.0


class Resolver(asyncio.DatagramProtocol):
    """Answers after a while that depends on who asks."""

    def __init__(self) -> None:
        self.delays_s: dict[str, float] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        delay_s = self.delays_s.get(address[0], 0.005)
        asyncio.get_running_loop().call_later(delay_s, self.transport.sendto, data, address)


def answered(network: LiveNetwork) -> set[str]:
    """Addresses of edges for a client beside the resolver."""
    config = network.config
    server = next(p for p in config.of_role("nameserver") if p.tier == "low")
    query = dns.message.make_query(edge_hostname(config.sites[0].serial, config.network.zone), "A")
    query.use_edns(options=[dns.edns.ECSOption(TARGET, 24)])
    reply = dns.query.udp(query, server.address, timeout=2, port=server.port)
    return {str(record.address) for rrset in reply.answer for record in list(rrset)[:1]}


def test_who_is_measured_to_be_nearer_serves(tmp_path: Path) -> None:
    documents = tmp_path / "documents"
    (documents / "sites").mkdir(parents=True)
    (documents / "network.toml").write_text(NETWORK)
    site = 'hostnames = ["www.measured.example"]\norigin = "http://127.20.250.1:9"\n'
    (documents / "sites" / "www.toml").write_text(site)
    loop, resolver = asyncio.new_event_loop(), Resolver()
    loop.run_until_complete(loop.create_datagram_endpoint(lambda: resolver, local_addr=(TARGET, PORT)))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    root = tmp_path / "state"
    root.mkdir()
    try:
        with LiveNetwork(documents, root) as network:
            tokyo, paris = (
                {p.address for p in network.config.of_role("edge") if p.region == name}
                for name in ("tokyo", "paris")
            )
            eventually(lambda: answered(network) == tokyo, MOVES_S, "served from Tokyo")
            resolver.delays_s = dict.fromkeys(tokyo, 0.5)
            took_s = eventually(lambda: answered(network) == paris, MOVES_S, "moved to Paris", poll_s=0.1)
            found = network.json("map", "explain", TARGET)
            measured = {one["region"]: one for one in found["candidates"]}
            assert (found["unit"], found["region"]) == ("JP/Tokyo", "paris")
            assert measured["tokyo"]["voices"] == measured["paris"]["voices"] == 1
            assert measured["tokyo"]["rtt_ms"] > measured["paris"]["rtt_ms"]
            resolver.delays_s = {}
            back_s = eventually(lambda: answered(network) == tokyo, MOVES_S, "back in Tokyo", poll_s=0.1)
            print(f"moved after {took_s:.1f} s, back after {back_s:.1f} s")
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        resolver.transport.close()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
