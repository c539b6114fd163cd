"""Downloads leave a region whose paths lose much, while pages stay: told on the bus, as an edge would tell."""

import asyncio
import threading
from functools import partial
from pathlib import Path

import msgspec

from live_network import LiveNetwork, eventually
from nearmile.mapping.measured import SUBJECT, Report
from nearmile.services.bus import Bus
from two_regions import MOVES_S, served, two_regions

CLIENT = "127.20.250.53"
SITES = {
    "pages": "",
    "films": 'traffic = "downloads"\n',
    "pinned": 'traffic = "downloads"\nregions = ["tokyo", "osaka"]\n',
}


async def tell(network: LiveNetwork, stop: threading.Event, longer_ms: float) -> None:
    """Tokyo's server says so, of three clients, until it is told to stop."""
    told = Report("tokyo", downloads={"JP/Tokyo": dict.fromkeys(range(3), longer_ms)})
    bus = Bus.of(network.root, network.config, "edge")
    async with bus.opened(MOVES_S):
        while not stop.is_set():
            bus.publish(f"{SUBJECT}.tokyo-1", msgspec.msgpack.encode(told))
            await asyncio.sleep(0.5)


def served_by(network: LiveNetwork, site: str, region: str) -> bool:
    """Whether that is where the client is sent to."""
    return served(network, site, CLIENT) == region


def test_downloads_leave_a_lossy_region_and_pages_stay(tmp_path: Path) -> None:
    with two_regions(tmp_path, {"127.20.250.0/24": "Tokyo"}, ("Tokyo", "Osaka"), SITES) as network:
        for name in SITES:
            eventually(partial(served_by, network, name, "tokyo"), MOVES_S, f"{name} from Tokyo")
        stop = threading.Event()
        teller = threading.Thread(target=lambda: asyncio.run(tell(network, stop, 4000.0)))
        teller.start()
        try:
            took_s = eventually(partial(served_by, network, "films", "osaka"), MOVES_S, "moved", 0.1)
            eventually(partial(served_by, network, "pinned", "osaka"), MOVES_S, "moved among its regions", 0.1)
        finally:
            stop.set()
            teller.join()
        assert served_by(network, "pages", "tokyo")
        films = network.json("map", "explain", CLIENT, "films")
        pages = network.json("map", "explain", CLIENT, "pages")
        assert (films["downloads"], films["region"], films["candidates"][0]["region"]) == (True, "osaka", "osaka")
        assert (pages["downloads"], pages["region"]) == (False, "tokyo")
        tokyo = next(one for one in films["candidates"] if one["region"] == "tokyo")
        assert tokyo["voices"] == 3 and tokyo["fetch_ms"] > 2000 > tokyo["rtt_ms"]
        assert "class downloads" in network.run("map", "explain", CLIENT, "films").stdout
        words = network.run("map", "explain", CLIENT, "pinned").stdout
        assert "class downloads" in words and "the site is pinned to its regions\n" in words
        print(f"moved after {took_s:.1f} s")
