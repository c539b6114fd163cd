"""Downloads leave a region whose paths lose much, while pages stay: told on the bus, as an edge would tell."""

import asyncio
import threading
from pathlib import Path

import dns.edns
import dns.message
import dns.query
import msgspec

from live_network import LiveNetwork, eventually
from nearmile.config.layout import edge_hostname
from nearmile.mapping.measured import SUBJECT, Report
from nearmile.services import state
from nearmile.services.bus import Bus

CLIENT = "127.20.250.53"
NETWORK = """
name = "classes"
zone = "classes.test"
places = [{ block = "127.20.250.0/24", city = "Tokyo" }]

[regions]
tokyo = { city = "Tokyo", servers = 1 }
osaka = { city = "Osaka", servers = 1 }

[[nameservers]]
tier = "top"
city = "Tokyo"

[[nameservers]]
tier = "low"
city = "Tokyo"
"""
MOVES_S = 20.0


def answered(network: LiveNetwork, name: str) -> str:
    """The region that the client is sent to for that site."""
    config = network.config
    server = next(p for p in config.of_role("nameserver") if p.tier == "low")
    site = next(site for site in config.sites if site.name == name)
    query = dns.message.make_query(edge_hostname(site.serial, config.network.zone), "A")
    query.use_edns(options=[dns.edns.ECSOption(CLIENT, 24)])
    reply = dns.query.udp(query, server.address, timeout=2, port=server.port)
    first = next((str(next(iter(rrset)).address) for rrset in reply.answer), "")
    return next((p.region for p in config.of_role("edge") if p.address == first), "")


async def tell(network: LiveNetwork, stop: threading.Event, longer_ms: float) -> None:
    """Tokyo's server says so, of three clients, until it is told to stop."""
    told = Report("tokyo", downloads={"JP/Tokyo": dict.fromkeys(range(3), longer_ms)})
    bus = Bus(state.bus_url(network.config), state.read_token(network.root), "edge")
    async with bus.opened(5.0):
        while not stop.is_set():
            bus.publish(f"{SUBJECT}.tokyo-1", msgspec.msgpack.encode(told))
            await asyncio.sleep(0.5)


def test_downloads_leave_a_lossy_region_and_pages_stay(tmp_path: Path) -> None:
    documents, root = tmp_path / "documents", tmp_path / "state"
    (documents / "sites").mkdir(parents=True)
    root.mkdir()
    (documents / "network.toml").write_text(NETWORK)
    for name, rest in (("pages", ""), ("films", 'traffic = "downloads"\n')):
        text = f'hostnames = ["{name}.classes.example"]\norigin = "http://127.20.250.1:9"\n{rest}'
        (documents / "sites" / f"{name}.toml").write_text(text)
    with LiveNetwork(documents, root) as network:
        for name in ("pages", "films"):
            eventually(lambda name=name: answered(network, name) == "tokyo", MOVES_S, f"{name} from Tokyo")  # type: ignore[misc]
        stop = threading.Event()
        teller = threading.Thread(target=lambda: asyncio.run(tell(network, stop, 4000.0)))
        teller.start()
        try:
            took_s = eventually(lambda: answered(network, "films") == "osaka", MOVES_S, "moved", poll_s=0.1)
        finally:
            stop.set()
            teller.join()
        assert answered(network, "pages") == "tokyo"
        films = network.json("map", "explain", CLIENT, "films")
        pages = network.json("map", "explain", CLIENT, "pages")
        assert (films["downloads"], films["region"], films["candidates"][0]["region"]) == (True, "osaka", "osaka")
        assert (pages["downloads"], pages["region"]) == (False, "tokyo")
        tokyo = next(one for one in films["candidates"] if one["region"] == "tokyo")
        assert tokyo["voices"] == 3 and tokyo["fetch_ms"] > 2000 > tokyo["rtt_ms"]
        assert "class downloads" in network.run("map", "explain", CLIENT, "films").stdout
        print(f"moved after {took_s:.1f} s")
