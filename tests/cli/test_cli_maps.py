"""What the arguments of `nearmile map` mean."""

import pytest

from nearmile.base.errors import WrongInput
from nearmile.cli.maps import serial_of
from small_network import shop_and_blog

CONFIG = shop_and_blog(("shop.example", "*.shop.example"), ("blog.shop.example",))


@pytest.mark.parametrize(
    ("site", "serial"),
    [("shop", 7), ("blog", 8), ("shop.example", 7), ("blog.shop.example", 8), ("any.shop.example", 7)],
)
def test_a_site_is_told_by_its_name_or_any_of_its_hosts(site: str, serial: int) -> None:
    assert serial_of(CONFIG, site) == serial


def test_who_is_no_site_is_told_which_there_are() -> None:
    with pytest.raises(WrongInput, match=r"'other'; there are: blog\.shop\.example, shop\.example, \*\.shop"):
        serial_of(CONFIG, "other")
