"""The smallest network that the documents allow: for tests that look at sites alone."""

from nearmile.base.geography import Point
from nearmile.config.layout import Config, lay_out
from nearmile.config.network import Nameserver, Network, Region, Site


def shop_and_blog(shop: tuple[str, ...], blog: tuple[str, ...]) -> Config:
    """A network of two sites with those hostnames, and 7 and 8 as serials."""
    network = Network(
        name="test",
        zone="test.example",
        regions={"a": Region(city="A")},
        nameservers=tuple(Nameserver(tier=tier, city="A") for tier in ("top", "low")),
    )
    sites = {
        "shop": Site(hostnames=shop, origin="http://127.0.0.1:1", serial=7),
        "blog": Site(hostnames=blog, origin="http://127.0.0.1:1", serial=8),
    }
    return lay_out(network, sites, {"A": Point(0, 0)}, 1)
