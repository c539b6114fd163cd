"""Plans are made of who asked, in turns, by what was measured, and go when nobody asks any more."""

import numpy as np
import pytest

from nearmile.base.geography import Point
from nearmile.mapping import planner as planning
from nearmile.mapping.atlas import Atlas, made
from nearmile.mapping.map import Map, MapRegion, Server, Units
from nearmile.mapping.measured import Measured, Report
from nearmile.mapping.planner import Planner
from nearmile.mapping.plans import HALF_LIFE_S, Plan, Prefixes, Seen
from nearmile.mapping.score import Distances

PARIS, TOKYO = Point(48.9, 2.3), Point(35.7, 139.7)
REGIONS = tuple(
    MapRegion(name, point, (Server(f"{name}-1", "10.0.0.1", 80),)) for name, point in (("p", PARIS), ("t", TOKYO))
)
WHOLE = Map(
    version=1, term=1, made_at_s=0, regions=REGIONS, units=Units.of({"FR": (0, 1), "JP": (1, 0)}), fallback=(0, 1)
)


def atlas() -> Atlas:
    """0.0.0.0/1 is French and 128.0.0.0/2 Japanese; of the rest and of IPv6 nothing is known."""
    starts = np.array([0, 1 << 31, 3 << 30], np.uint64), np.array([1, 2, 0], np.uint32)
    return made(
        "", ("FR", "JP"), (PARIS, TOKYO), (1.0, 1.0), starts, (np.zeros(1, np.uint64), np.zeros(1, np.uint32))
    )


def planner(*seen: Seen) -> tuple[Planner, Distances]:
    found = Planner()
    found.know(atlas())
    found.behind.add(seen, 0.0)
    return found, Distances(atlas().areas(), [PARIS, TOKYO])


def test_clients_behind_a_resolver_are_answered_as_the_units_they_are() -> None:
    found, distances = planner(
        Seen("4/9", 4, 5, 60.0),
        Seen("4/9", 4, 1 << 23, 30.0),
        Seen("4/9", 4, 0xC00000, 500.0),
        Seen("4/8", 4, 5, 1.0),
    )
    assert found.work(WHOLE, distances, Measured(), 0.0)
    assert set(found.plans) == {"4/9"}  # of the other too little is known
    assert found.plans["4/9"].whole == "FR"
    assert found.plans["4/9"].v4 == Prefixes((0, 1 << 23), (1, 1), ("FR", "JP"))
    assert not found.work(WHOLE, distances, Measured(), 1.0)  # nothing is new
    found.behind.add([], 20 * HALF_LIFE_S)
    for n in range(21, 30):
        found.behind.add([], n * HALF_LIFE_S)
    assert found.work(WHOLE, distances, Measured(), 2.0) and found.plans == {}


def test_what_was_measured_decides() -> None:
    found, distances = planner(Seen("4/9", 4, 5, 60.0), Seen("4/9", 4, 1 << 23, 60.0))
    measured = Measured()
    measured.know({"FR": PARIS, "JP": TOKYO}, {"p": PARIS, "t": TOKYO})
    measured.add(Report("t", {}, {"JP": {"x": 900.0}}), 0.0)
    assert found.work(WHOLE, distances, measured, 0.0)
    assert found.plans["4/9"].v4 == Prefixes((0,), (0,), ("FR",))


def test_plans_are_made_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "ROUND", 2)
    found, distances = planner(*(Seen(f"4/{n}", 4, n, 60.0) for n in range(5)))
    for known in (2, 4, 5):
        assert found.work(WHOLE, distances, Measured(), 0.0)
        assert len(found.plans) == known
    assert not Planner().work(WHOLE, distances, Measured(), 0.0)


def test_a_resolver_that_tells_no_subnet_is_answered_as_its_beacons_say() -> None:
    found, distances = planner()
    clients = [Seen("4/9", 4, (1 << 23) + n, 1.0) for n in range(3)]
    found.beacons.add([Seen("4/9", 4, 5, 1.0)] * 40 + clients[:1], 0.0)
    assert not found.work(WHOLE, distances, Measured(), 0.0)  # two blocks prove nothing, however much they say
    found.beacons.add(clients[1:], 0.0)
    assert found.work(WHOLE, distances, Measured(), 0.0)
    assert found.plans == {"4/9": Plan("JP")}  # the one is heard as the others are
    found.behind.add([Seen("4/9", 4, 5, 60.0)], 0.0)
    found.work(WHOLE, distances, Measured(), 0.0)
    assert found.plans["4/9"].whole == "FR" and found.plans["4/9"].v4.units  # subnets that it tells say more


def test_who_is_forgotten_before_its_turn_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "ROUND", 1)
    found, distances = planner(*(Seen(f"4/{n}", 4, n, 60.0) for n in range(2)))
    assert found.work(WHOLE, distances, Measured(), 0.0)
    for n in range(1, 12):
        found.behind.add([], n * HALF_LIFE_S)
    assert found.work(WHOLE, distances, Measured(), 0.0) and found.plans == {}


def test_plans_of_the_map_hold_until_enough_is_known_or_for_an_hour() -> None:
    found, distances = planner()
    theirs = {"4/8": Plan("JP"), "4/9": Plan("JP")}
    found.adopt(theirs, 0.0)
    assert not found.work(WHOLE, distances, Measured(), 1.0) and found.plans == theirs
    found.behind.add([Seen("4/9", 4, 5, 60.0)], 1.0)
    found.adopt({}, 1.0)
    assert found.work(WHOLE, distances, Measured(), 2.0)
    assert found.plans["4/8"] == Plan("JP") and found.plans["4/9"].whole == "FR"
    assert found.work(WHOLE, distances, Measured(), planning.ADOPTED_S) and set(found.plans) == {"4/9"}
