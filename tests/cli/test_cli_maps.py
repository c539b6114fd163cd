"""What the arguments of `nearmile map` mean."""

import pytest

from nearmile.base.errors import WrongInput
from nearmile.base.geography import Point
from nearmile.cli.maps import serial_of
from nearmile.config.layout import lay_out
from nearmile.config.network import Nameserver, Network, Region, Site

NETWORK = Network(
    name="test",
    zone="test.example",
    regions={"a": Region(city="A")},
    nameservers=tuple(Nameserver(tier=tier, city="A") for tier in ("top", "low")),
)
SITES = {
    "shop": Site(hostnames=("shop.example", "*.shop.example"), origin="http://127.0.0.1:1", serial=7),
    "blog": Site(hostnames=("blog.shop.example",), origin="http://127.0.0.1:1", serial=8),
}
CONFIG = lay_out(NETWORK, SITES, {"A": Point(0, 0)}, 1)


@pytest.mark.parametrize(
    ("site", "serial"),
    [("shop", 7), ("blog", 8), ("shop.example", 7), ("blog.shop.example", 8), ("any.shop.example", 7)],
)
def test_a_site_is_told_by_its_name_or_any_of_its_hosts(site: str, serial: int) -> None:
    assert serial_of(CONFIG, site) == serial


def test_who_is_no_site_is_told_which_there_are() -> None:
    with pytest.raises(WrongInput, match=r"'other'; there are: blog\.shop\.example, shop\.example, \*\.shop"):
        serial_of(CONFIG, "other")
