"""A network of two regions, two top and three low name servers, and where its few clients are."""

from collections.abc import Callable

import pytest

from nearmile.base.geography import NOWHERE, Place, Point
from nearmile.config.layout import Config, lay_out
from nearmile.config.network import Nameserver, Network, Region, Site
from nearmile.dns.locate import Locator
from nearmile.mapping.map import Map, MapRegion, Server, Units

FRANKFURT, TOKYO, ASHBURN = Point(50.1, 8.7), Point(35.7, 139.7), Point(39.0, -77.5)
POINTS = {"Frankfurt": FRANKFURT, "Tokyo": TOKYO, "Ashburn": ASHBURN}
PLACES = {
    "192.0.2.": Place("DE", "Hesse", "Frankfurt", FRANKFURT),
    "203.0.113.": Place("JP", "Tokyo", "Tokyo", TOKYO),
    "198.51.100.": Place("US", "Virginia", "Ashburn", ASHBURN),
    "2001:db8:": Place("JP", "Tokyo", "Tokyo", TOKYO),
}


@pytest.fixture
def place_of() -> Callable[[str], Place]:
    return lambda address: next((place for start, place in PLACES.items() if address.startswith(start)), NOWHERE)


@pytest.fixture
def config() -> Config:
    network = Network(
        name="world",
        zone="cdn.test",
        loopback="127.33.0.0/16",
        trusted=("198.51.100.9/32",),
        regions={"fra": Region(city="Frankfurt"), "tyo": Region(city="Tokyo")},
        nameservers=(
            Nameserver(tier="top", city="Frankfurt"),
            Nameserver(tier="top", city="Ashburn"),
            Nameserver(tier="low", city="Ashburn"),
            Nameserver(tier="low", city="Frankfurt"),
            Nameserver(tier="low", city="Tokyo"),
        ),
    )
    site = Site(hostnames=("www.example.test", "a.b.cdn.test"), origin="http://127.33.0.9:80", serial=7)
    return lay_out(network, {"site": site}, POINTS, version=3)


@pytest.fixture
def current_map(config: Config) -> Map:
    regions = tuple(
        MapRegion(
            name,
            POINTS[region.city],
            tuple(Server(p.name, p.address, p.port) for p in config.of_role("edge") if p.region == name),
        )
        for name, region in config.network.regions.items()
    )
    units: dict[str, tuple[int, ...]] = {"JP": (1, 0), "DE": (0, 1), "US": (0, 1)}
    return Map(version=1, term=1, made_at_s=0.0, regions=regions, units=Units.of(units), fallback=(0, 1))


@pytest.fixture
def locator(config: Config, place_of: Callable[[str], Place]) -> Locator:
    return Locator(place_of, config.network.trusted)
