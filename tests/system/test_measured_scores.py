"""A measured change moves a unit within seconds: whom Tokyo's servers hear late is answered from Paris."""

import asyncio
import threading
from pathlib import Path
from typing import cast

from live_network import eventually
from two_regions import MOVES_S, served, two_regions

TARGET, PORT = "127.20.250.53", 5399
PROBES = f"""
[probes]
every_s = 0.5
targets = [{{ address = "{TARGET}", port = {PORT} }}]
"""


class Resolver(asyncio.DatagramProtocol):
    """Answers after a while that depends on who asks."""

    def __init__(self) -> None:
        self.delays_s: dict[str, float] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        delay_s = self.delays_s.get(address[0], 0.005)
        asyncio.get_running_loop().call_later(delay_s, self.transport.sendto, data, address)


def test_who_is_measured_to_be_nearer_serves(tmp_path: Path) -> None:
    loop, resolver = asyncio.new_event_loop(), Resolver()
    loop.run_until_complete(loop.create_datagram_endpoint(lambda: resolver, local_addr=(TARGET, PORT)))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    places, cities = {"127.20.250.0/24": "Tokyo"}, ("Tokyo", "Paris")
    try:
        with two_regions(tmp_path, places, cities, more=PROBES) as network:
            tokyo = {p.address for p in network.config.of_role("edge") if p.region == "tokyo"}
            eventually(lambda: served(network, subnet=TARGET) == "tokyo", MOVES_S, "served from Tokyo")
            resolver.delays_s = dict.fromkeys(tokyo, 0.5)
            took_s = eventually(lambda: served(network, subnet=TARGET) == "paris", MOVES_S, "moved to Paris", 0.1)
            found = network.json("map", "explain", TARGET)
            measured = {one["region"]: one for one in found["candidates"]}
            assert (found["unit"], found["region"]) == ("JP/Tokyo", "paris")
            assert measured["tokyo"]["voices"] == measured["paris"]["voices"] == 1
            assert measured["tokyo"]["rtt_ms"] > measured["paris"]["rtt_ms"]
            resolver.delays_s = {}
            back_s = eventually(lambda: served(network, subnet=TARGET) == "tokyo", MOVES_S, "back in Tokyo", 0.1)
            print(f"moved after {took_s:.1f} s, back after {back_s:.1f} s")
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        resolver.transport.close()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
