"""Where askers are, asked once."""

from collections.abc import Callable

import pytest

from nearmile.base.geography import NOWHERE, Place
from nearmile.dns import locate
from nearmile.dns.locate import Locator
from nearmile.dns.wire import Subnet


def test_one_question_for_all_of_a_subnet() -> None:
    asked: list[str] = []

    def place_of(address: str) -> Place:
        asked.append(address)
        return Place("JP", "Tokyo")

    locator = Locator(place_of)
    for last in range(4):
        assert locator.subnet(Subnet(1, 32, bytes((203, 0, 113, last)))).unit == "JP/Tokyo"
        assert locator.subnet(Subnet(2, 56, b"\x20\x01\x0d\xb8\0\0" + bytes((last,)))).unit == "JP/Tokyo"
        assert locator.resolver("192.0.2.1").unit == "JP/Tokyo"
    locator.subnet(Subnet(1, 8, b"\x0a"))
    assert asked == ["203.0.113.0", "2001:db8::", "192.0.2.1", "10.0.0.0"]


def test_a_short_prefix_is_not_taken_for_a_longer_one() -> None:
    locator = Locator(lambda address: Place(address))
    assert locator.subnet(Subnet(1, 24, b"\x20\x01\x0d")).unit == "32.1.13.0"
    assert locator.subnet(Subnet(2, 24, b"\x20\x01\x0d")).unit == "2001:d00::"


def test_trusted_resolvers_are_known(place_of: Callable[[str], Place]) -> None:
    locator = Locator(place_of, ("127.0.0.0/8", "2001:db8::/32"))
    addresses = ("127.9.9.9", "192.0.2.1", "2001:db8::1", "::1")
    assert [locator.resolver(address).trusted for address in addresses] == [True, False, True, False]


def test_memory_is_bounded_and_a_flood_does_not_push_out_who_asks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locate, "REMEMBERED_MAX", 4)
    asked: list[str] = []

    def place_of(address: str) -> Place:
        asked.append(address)
        return NOWHERE

    locator = Locator(place_of)
    for last in range(50):
        assert locator.resolver("198.51.100.1").unit == ""
        assert locator.resolver(f"192.0.2.{last}").unit == ""
        assert locator.subnet(Subnet(1, 24, bytes((10, 0, last)))).point is None
    assert asked.count("198.51.100.1") == 1
    assert len(locator._resolvers) <= 4 and len(locator._subnets[1]) <= 4
