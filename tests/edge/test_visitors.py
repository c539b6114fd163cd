"""Who is believed, and how often a place is looked up."""

import pytest

from nearmile.edge.limits import PLACES_MAX
from nearmile.edge.visitors import Hop, Visitors


def visitors(asked: list[str]) -> Visitors:
    def place_id(address: str) -> int:
        asked.append(address)
        return 7

    made = Visitors(place_id)
    made.configure(("10.0.0.0/8", "fd00::/8"), ("10.1.1.1",))
    return made


@pytest.mark.parametrize(
    ("peer", "trusted"), [("10.9.9.9", True), ("11.0.0.1", False), ("fd00::1", True), ("::1", False)]
)
def test_trust(peer: str, trusted: bool) -> None:
    assert visitors([]).trusts(peer) is trusted


@pytest.mark.parametrize(
    ("trusted", "value", "client"),
    [
        (True, b"1.2.3.4", "1.2.3.4"),
        (True, b"9.9.9.9, 1.2.3.4", "1.2.3.4"),
        (True, b"2001:DB8::1", "2001:db8::1"),
        (True, b"nonsense", "10.9.9.9"),
        (True, b"1.2.3.4:80", "10.9.9.9"),
        (True, b"", "10.9.9.9"),
        (False, b"1.2.3.4", "10.9.9.9"),
    ],
)
def test_clients(trusted: bool, value: bytes, client: str) -> None:
    assert visitors([]).client(trusted, "10.9.9.9", ((b"x-forwarded-for", value),)) == client


def test_only_servers_are_internal() -> None:
    said = ((b"nearmile-hop", b"1"),)
    assert visitors([]).hop("10.1.1.1", said) is Hop.NEIGHBOUR
    assert visitors([]).hop("10.1.1.1", ()) is Hop.CLIENT
    assert visitors([]).hop("10.9.9.9", said) is Hop.CLIENT
    assert visitors([]).hop("10.1.1.1", ((b"nearmile-hop", b"of a later release"),)) is Hop.CHILD


def test_places_are_remembered_within_bounds() -> None:
    asked: list[str] = []
    made = visitors(asked)
    assert made.place_id("a") == made.place_id("a") == 7
    assert asked == ["a"]
    for number in range(PLACES_MAX):
        made.place_id(str(number))
    made.place_id("a")
    assert asked.count("a") == 2
