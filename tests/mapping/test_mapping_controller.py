"""The controller's machine, as transcripts: what it is told, and what it then wants written."""

from random import Random
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from nearmile.base.gazetteer import Area
from nearmile.base.geography import Point
from nearmile.config.layout import lay_out
from nearmile.config.names import Dns
from nearmile.config.network import Nameserver, Network, Region, Site
from nearmile.config.regions import Contract
from nearmile.fleet.beat import Beat
from nearmile.fleet.health import HELD_BACK_S, BeatArrived, BusBack, BusLost, Change, ExitReported
from nearmile.fleet.lease import Lease, LeaseAnswer, LeaseSeen, Outcome, PutLease
from nearmile.mapping.atlas import made
from nearmile.mapping.beacons import SETTLE_S, Report, Side, Sighting
from nearmile.mapping.choose import choose
from nearmile.mapping.controller import (
    COALESCE_S,
    MAP_GAP_S,
    MEASURED_GAP_S,
    REFRESH_S,
    AtlasMade,
    BeaconsArrived,
    Controller,
    DrainSeen,
    MapAnswer,
    MapSeen,
    MeasuresArrived,
    PutMap,
    RegionsChanged,
    changed_by,
    regions_of,
)
from nearmile.mapping.demand import DemandArrived
from nearmile.mapping.downloads import ROUNDS_ALL
from nearmile.mapping.explain import explain
from nearmile.mapping.make import Terms
from nearmile.mapping.map import Map, MapRegion, Server, Units
from nearmile.mapping.measured import BODY_MS_MAX
from nearmile.mapping.measured import Report as Measures
from nearmile.mapping.plans import Plan

AREAS = (Area("FR", "", Point(47, 2), 60), Area("JP", "", Point(36, 138), 120))
PARIS = MapRegion("paris", Point(49, 2), (Server("paris-1", "10.0.1.1", 80), Server("paris-2", "10.0.1.2", 80)))
TOKYO = MapRegion("tokyo", Point(36, 140), (Server("tokyo-1", "10.0.2.1", 80), Server("tokyo-2", "10.0.2.2", 80)))
NAMES = ("paris-1", "paris-2", "tokyo-1", "tokyo-2")


class Script:
    """One controller and a KV that answers at once, unless told otherwise."""

    def __init__(self, last_good: Map | None = None, kept: Map | None = None) -> None:
        self.now_s = 50.0
        self.machine = Controller("me", AREAS, Random(1), last_good)
        self.maps: list[Map] = []
        self.revision = {"lease": 0, "map": 0}
        self.answers = True
        self.open: list[PutLease | PutMap] = []
        self.seq = 0
        self.epoch = dict.fromkeys(NAMES, 1)
        self.silent: set[str] = set()
        self.unready: set[str] = set()
        self.full: set[str] = set()
        self.serials: dict[str, dict[int, float]] = {}
        self.cpu: dict[str, float] = {}
        self.happens(RegionsChanged((PARIS, TOKYO), 1.25))
        self.connects(kept)

    def connects(self, kept: Map | None) -> None:
        self.happens(BusBack())
        self.happens(LeaseSeen(self.revision["lease"], None))
        self.happens(MapSeen(self.revision["map"], kept))

    def happens(self, event: Any) -> None:
        self._execute(self.machine.handle(event, self.now_s))

    def beats(self, *names: str) -> None:
        for name in names or self.epoch:
            if name not in self.silent:
                self.seq += 1
                beat = Beat(
                    name=name,
                    role="edge",
                    epoch=self.epoch[name],
                    seq=self.seq,
                    ready=name not in self.unready,
                    full=name in self.full,
                    cpu=self.cpu.get(name, 0),
                    requests_per_s=sum(self.serials.get(name, {}).values()),
                    serials=self.serials.get(name, {}),
                )
                self.happens(BeatArrived(beat))

    def passes(self, for_s: float) -> list[str]:
        """Time passes with beats; returns who lived by each new map."""
        seen, end_s, beats_s = len(self.maps), self.now_s + for_s, self.now_s
        while self.now_s < end_s:
            deadline_s = self.machine.next_deadline()
            self.now_s = min(beats_s, end_s, max(self.now_s, deadline_s or end_s))
            if self.now_s >= beats_s:
                self.beats()
                beats_s += 0.25
            self._execute(self.machine.wake(self.now_s))
        return [living(map_) for map_ in self.maps[seen:]]

    def answer(self, put: PutLease | PutMap, outcome: Outcome) -> None:
        if isinstance(put, PutMap):
            if outcome is Outcome.WON:
                self.revision["map"] += 1
                self.maps.append(put.map)
            self.happens(MapAnswer(put, outcome, self.revision["map"]))
        else:
            self.revision["lease"] += outcome is Outcome.WON
            self.happens(LeaseAnswer(put, outcome, self.revision["lease"]))

    def _execute(self, commands: list[Any]) -> None:
        for command in commands:
            if isinstance(command, Change):
                continue
            if self.answers:
                self.answer(command, Outcome.WON)
            else:
                self.open.append(command)


def living(map_: Map) -> str:
    return " ".join(server.name for region in map_.regions for server in region.servers)


def a_map(version: int, term: int) -> Map:
    return Map(version=version, term=term, made_at_s=0, regions=(PARIS, TOKYO), units=Units(), fallback=(0, 1))


ALL = "paris-1 paris-2 tokyo-1 tokyo-2"


def test_the_first_map_waits_until_everybody_had_time_to_be_heard() -> None:
    script = Script()
    script.silent = {"tokyo-2"}
    assert script.passes(1.2) == []
    assert script.passes(0.2) == ["paris-1 paris-2 tokyo-1"]
    assert script.maps[0].units == Units.of({"FR": (0, 1), "JP": (1, 0)})
    assert (script.maps[0].version, script.maps[0].term) == (1, 1)
    script.silent.clear()
    assert script.passes(0.5) == [ALL]


def test_no_map_without_any_server() -> None:
    script = Script()
    script.silent = set(NAMES)
    assert script.passes(30) == []


def test_an_exit_makes_a_map_within_milliseconds_and_silence_in_time() -> None:
    script = Script()
    script.passes(2)
    script.happens(ExitReported("paris-1"))
    script.silent.add("paris-1")
    assert script.passes(COALESCE_S + 0.001) == ["paris-2 tokyo-1 tokyo-2"]
    script.silent.add("tokyo-1")
    assert script.passes(1.0) == []
    assert script.passes(0.3) == ["paris-2 tokyo-2"]


def test_deaths_that_come_together_make_one_map_and_maps_keep_their_distance() -> None:
    script = Script()
    script.passes(2)
    for name in ("paris-1", "paris-2"):
        script.happens(ExitReported(name))
        script.silent.add(name)
    assert script.passes(COALESCE_S + 0.001) == ["tokyo-1 tokyo-2"]
    assert script.maps[-1].units["FR"] == (1, 0)
    script.happens(ExitReported("tokyo-1"))
    script.silent.add("tokyo-1")
    assert script.passes(MAP_GAP_S / 2) == []
    assert script.passes(MAP_GAP_S) == ["tokyo-2"]


def test_the_last_server_stays_in_the_map() -> None:
    script = Script()
    script.passes(2)
    for name in NAMES:
        script.happens(ExitReported(name))
        script.silent.add(name)
    assert script.passes(30) == []


def test_nothing_new_writes_nothing() -> None:
    script = Script()
    script.passes(2)
    assert script.passes(60) == []


def test_most_that_say_they_are_not_ready_are_kept_for_a_bounded_time() -> None:
    script = Script()
    script.passes(2)
    script.unready = {"paris-1", "paris-2", "tokyo-1"}
    assert script.passes(HELD_BACK_S - 1) == []
    assert script.machine.guard.why == "1 of 4 servers would be left"
    script.happens(ExitReported("paris-1"))
    script.silent.add("paris-1")
    assert script.passes(0.3) == ["paris-2 tokyo-1 tokyo-2"]
    assert script.passes(1.0) == ["tokyo-2"]
    assert script.machine.guard.why == ""


def test_a_crowd_makes_a_map_within_the_second_and_a_constant_one_no_more() -> None:
    script = Script()
    script.passes(2)
    script.serials = {name: {7: 10.0, 8: 2.0} for name in NAMES}
    assert script.passes(30) == []
    script.serials = {"paris-1": {7: 10_000.0}, "paris-2": {7: 2000.0}}
    script.passes(1.0)
    (parts,) = [region.hot for region in script.maps[-1].regions if region.name == "paris"]
    assert parts.keys() == {7} and abs(parts[7]["paris-1"] - parts[7]["paris-2"]) <= 1
    assert script.passes(30) == []


@pytest.mark.parametrize("answers", [2, 5])
def test_a_hot_site_is_on_no_fewer_servers_than_answers_name(answers: int) -> None:
    script = Script()
    names = [f"rome-{n}" for n in range(6)]
    rome = MapRegion("rome", Point(41.9, 12.5), tuple(Server(name, f"10.0.3.{name[-1]}", 80) for name in names))
    script.epoch |= dict.fromkeys(names, 1)
    script.happens(RegionsChanged((PARIS, TOKYO, rome), 1.25, answers=answers))
    script.passes(2)
    # Seven tenths of a mean server's load: by that alone two are enough, or three.
    script.serials = {
        name: {7: 120.0, **{100 * n + k: 90.0 for k in range(10)}} for n, name in enumerate(names, 1)
    }
    script.passes(2)
    (hot,) = [region.hot for region in script.maps[-1].regions if region.name == "rome"]
    assert hot.keys() == {7} and len(hot[7]) >= answers


def test_load_alone_is_looked_at_now_and_then() -> None:
    script = Script()
    script.passes(2)
    london = MapRegion("london", Point(51.5, 0), (Server("london-1", "10.0.3.1", 80),))
    script.epoch["london-1"] = 1
    script.happens(RegionsChanged((PARIS, TOKYO, london), 1.25))
    script.passes(1)
    assert script.maps[-1].units["FR"] == (0, 2, 1)
    made = len(script.maps)
    script.cpu = dict.fromkeys(("paris-1", "paris-2"), 0.7)  # there is room
    assert len(script.passes(6 * REFRESH_S)) == 0
    script.cpu = dict.fromkeys(("paris-1", "paris-2"), 1.0)
    script.passes(6 * REFRESH_S)
    assert script.maps[-1].units["FR"] == (2, 0, 1)
    assert len(script.maps) == made + 1


def test_versions_go_on_from_the_kv_or_from_the_own_disk() -> None:
    for script in (Script(kept=a_map(41, 7)), Script(last_good=a_map(41, 7)), Script(a_map(41, 7), a_map(12, 3))):
        script.passes(2)
        assert (script.maps[0].version, script.maps[0].term) == (42, 8)


def test_a_write_that_failed_is_tried_again_and_one_that_lost_starts_from_what_is_there() -> None:
    script = Script()
    script.passes(2)
    script.answers = False
    script.happens(ExitReported("paris-1"))
    script.silent.add("paris-1")
    script.passes(0.2)
    first = next(put for put in script.open if isinstance(put, PutMap))
    script.open.clear()
    script.answer(first, Outcome.FAILED)
    script.passes(0.3)
    second = next(put for put in script.open if isinstance(put, PutMap))
    assert second.expected_revision == first.expected_revision
    script.revision["map"] = 9
    script.happens(MapSeen(9, first.map))  # it had been done after all
    script.answer(second, Outcome.LOST)
    script.open.clear()
    script.passes(1)
    assert not [put for put in script.open if isinstance(put, PutMap)]


def test_a_higher_term_ends_our_leadership() -> None:
    script = Script()
    script.passes(2)
    assert script.machine.term(script.now_s) == 1
    script.happens(LeaseSeen(99, Lease("other", 2, 1)))
    assert script.machine.term(script.now_s) == 0
    script.happens(ExitReported("paris-1"))
    script.silent.add("paris-1")
    assert script.passes(1.5) == []


def test_a_new_leader_publishes_under_its_own_term_even_if_nothing_changed() -> None:
    script = Script()
    script.passes(2)
    script.revision["lease"] = 99
    script.happens(LeaseSeen(99, Lease("other", 2, 1)))
    script.revision["map"] += 1
    script.happens(MapSeen(script.revision["map"], structs.replace(script.maps[-1], term=2, version=2)))
    assert script.passes(5) == [ALL]
    assert (script.maps[-1].term, script.maps[-1].version) == (3, 3)


def test_while_the_bus_is_away_nobody_dies_and_what_it_forgot_is_written_anew() -> None:
    script = Script()
    script.passes(2)
    script.happens(BusLost())
    script.silent = set(NAMES)
    assert script.passes(30) == []
    script.silent.clear()
    script.revision = {"lease": 0, "map": 0}
    script.connects(None)
    script.passes(2)
    assert [living(map_) for map_ in script.maps] == [ALL, ALL]
    assert (script.maps[-1].version, script.maps[-1].term) == (2, 2)


def test_an_answer_of_before_the_bus_went_away_is_ignored() -> None:
    script = Script()
    script.passes(2)
    script.answers = False
    script.happens(ExitReported("paris-1"))
    script.passes(COALESCE_S + 0.001)
    put = next(put for put in script.open if isinstance(put, PutMap))
    script.happens(BusLost())
    script.answer(put, Outcome.WON)
    assert script.machine.next_deadline() is None


def test_new_regions_make_a_new_map() -> None:
    script = Script()
    script.passes(2)
    berlin = MapRegion("berlin", Point(52, 13), (Server("berlin-1", "10.0.3.1", 80),))
    script.epoch["berlin-1"] = 1
    script.happens(RegionsChanged((PARIS, TOKYO, berlin), 1.25))
    script.beats("berlin-1")
    assert script.passes(0.5) == [f"{ALL} berlin-1"]
    assert script.maps[-1].units["FR"] == (0, 2, 1)


def test_regions_of_a_configuration() -> None:
    network = Network(
        name="n",
        zone="n.test",
        regions={"tokyo": Region(city="Tokyo", servers=1), "paris": Region(city="Paris", point=Point(1, 2))},
        nameservers=(Nameserver(tier="top", city="Tokyo"), Nameserver(tier="low", city="Tokyo")),
    )
    regions = regions_of(lay_out(network, {}, {"Tokyo": Point(36, 140)}, 1))
    assert [(region.name, region.point, len(region.servers)) for region in regions] == [
        ("tokyo", Point(36, 140), 1),
        ("paris", Point(1, 2), 2),
    ]
    assert regions[0].servers == (Server("tokyo-1", "127.20.1.1", 8080),)


def test_a_drained_region_leaves_the_answers_at_once_and_nobody_is_said_to_have_died() -> None:
    script = Script()
    script.passes(2)
    script.happens(RegionsChanged((PARIS, TOKYO), 1.25, terms=(Terms(drain=True), Terms())))
    script.passes(MAP_GAP_S)
    assert living(script.maps[-1]) == "tokyo-1 tokyo-2"
    assert script.machine.health.in_map("paris-1")
    script.happens(RegionsChanged((PARIS, TOKYO), 1.25))
    script.passes(2 * MAP_GAP_S)
    assert living(script.maps[-1]) == ALL


def test_whom_an_administrator_drains_leaves_the_answers_at_once_and_returns() -> None:
    script = Script()
    script.passes(2)
    for drained, left in (
        ({"tokyo-1"}, "paris-1 paris-2 tokyo-2"),
        ({"tokyo", "paris-1"}, "paris-2"),  # most of all, and at once: it was said
        (set[str](), ALL),
    ):
        script.happens(DrainSeen(frozenset(drained)))
        script.passes(2 * MAP_GAP_S)
        assert living(script.maps[-1]) == left
    maps = len(script.maps)
    script.happens(DrainSeen(frozenset({"tokyo", "paris"})))
    script.passes(1)
    assert len(script.maps) == maps, "somebody must answer"


def test_who_is_drained_answers_where_nobody_else_lives_and_the_dead_never() -> None:
    script = Script()
    script.passes(2)
    script.happens(DrainSeen(frozenset({"paris"})))
    script.passes(2 * MAP_GAP_S)
    for name, left in (("tokyo-1", "tokyo-2"), ("tokyo-2", "paris-1 paris-2")):
        script.silent.add(name)
        script.happens(ExitReported(name))
        assert script.passes(2 * MAP_GAP_S)[-1:] == [left]
    script.happens(DrainSeen(frozenset({"paris", "tokyo"})))
    script.silent.add("paris-1")
    script.happens(ExitReported("paris-1"))
    assert script.passes(2 * MAP_GAP_S)[-1:] == ["paris-2"]
    script.silent.discard("tokyo-1")
    script.happens(DrainSeen(frozenset({"paris"})))
    assert script.passes(20)[-1:] == ["tokyo-1"]


def test_most_regions_drained_by_the_configuration_leave_the_answers_at_once() -> None:
    script = Script()
    rome = MapRegion(
        "rome", Point(41.9, 12.5), (Server("rome-1", "127.0.3.1", 80), Server("rome-2", "127.0.3.2", 80))
    )
    script.epoch |= {"rome-1": 1, "rome-2": 1}
    script.happens(RegionsChanged((PARIS, TOKYO, rome), 1.25))
    script.passes(3)
    script.happens(
        RegionsChanged((PARIS, TOKYO, rome), 1.25, terms=(Terms(drain=True), Terms(drain=True), Terms()))
    )
    script.passes(2 * MAP_GAP_S)
    assert living(script.maps[-1]) == "rome-1 rome-2"


def test_the_full_leave_the_answers_until_most_are() -> None:
    script = Script()
    script.passes(2)
    for name, left in (
        ("tokyo-1", "paris-1 paris-2 tokyo-2"),
        ("tokyo-2", "paris-1 paris-2"),
        ("paris-1", ALL),  # the last one would be full in a moment
        ("paris-2", ALL),
    ):
        script.full.add(name)
        script.passes(0.5)
        assert living(script.maps[-1]) == left
    script.happens(ExitReported("tokyo-1"))
    script.silent.add("tokyo-1")
    assert script.passes(0.2) == ["paris-1 paris-2 tokyo-2"]
    script.full.discard("paris-2")
    script.full.discard("tokyo-2")
    assert script.passes(0.5) == ["paris-2 tokyo-2"]


def test_demand_above_a_region_s_capacity_goes_to_the_next() -> None:
    script = Script()
    script.happens(RegionsChanged((PARIS, TOKYO), 1.25, terms=(Terms(capacity_rps=50), Terms())))
    script.passes(2)
    assert script.maps[-1].shares == {}
    script.happens(DemandArrived({"FR": 200, "JP": 10}))
    script.passes(REFRESH_S + 1)
    assert script.maps[-1].shares == {}  # 200 hits within a while are few a second
    for _ in range(60):
        script.happens(DemandArrived({"FR": 100, "JP": 10}))
        script.passes(1)
    parts = script.maps[-1].shares["FR"]
    assert 6 <= parts[1] <= 10
    made = len(script.maps)
    for _ in range(60):
        script.happens(DemandArrived({"FR": 100, "JP": 10}))
        script.passes(1)
    assert len(script.maps) <= made + 3


def test_who_starts_again_goes_on_from_what_was_placed() -> None:
    terms = RegionsChanged((PARIS, TOKYO), 1.25, terms=(Terms(capacity_rps=50), Terms()))
    asked = DemandArrived({"FR": 100, "JP": 10})
    former = Script()
    former.happens(terms)
    for _ in range(30):
        former.happens(asked)
        former.passes(1)
    kept = former.maps[-1]
    script = Script()
    script.happens(BusLost())
    script.happens(terms)
    script.revision["map"] = 9
    script.connects(kept)
    script.silent.add("tokyo-2")
    script.passes(2)
    assert living(script.maps[-1]) == "paris-1 paris-2 tokyo-1"
    for _ in range(30):
        assert script.maps[-1].version > kept.version
        assert script.maps[-1].shares["FR"] == pytest.approx(kept.shares["FR"], abs=2)
        script.happens(asked)
        script.passes(1)


def test_other_units_do_not_make_a_full_region_forget_it() -> None:
    script = Script()
    script.happens(RegionsChanged((PARIS, TOKYO), 1.25, terms=(Terms(capacity_rps=50), Terms())))
    for _ in range(30):
        script.happens(DemandArrived({"FR": 100, "JP": 10}))
        script.passes(1)
    starts, nothing = (
        (np.zeros(1, np.uint64), np.ones(1, np.uint32)),
        (np.zeros(1, np.uint64), np.zeros(1, np.uint32)),
    )
    points = (*(area.point for area in AREAS), Point(45.8, 4.8))
    script.happens(AtlasMade(made("", ("FR", "JP", "FR/Lyon"), points, (9.0, 9.0, 1.0), starts, nothing)))
    script.passes(2 * MAP_GAP_S)
    assert "FR/Lyon" in script.maps[-1].units
    assert script.maps[-1].shares["FR"][1] >= 5


def test_a_pinned_site_goes_by_what_was_measured_and_by_room() -> None:
    script = Script()
    terms = (Terms(capacity_rps=50), Terms())
    script.happens(RegionsChanged((PARIS, TOKYO), 1.25, terms=terms, pins={7: (0, 1), 8: (0,)}))
    script.passes(2)
    for _ in range(3):  # by cables that nobody knows of, Paris is nearer to Japan
        script.happens(MeasuresArrived(Measures("paris", {"JP": dict.fromkeys(range(3), 100.0)})))
        script.happens(MeasuresArrived(Measures("tokyo", {"JP": dict.fromkeys(range(3), 200.0)})))
        script.passes(1)
    assert [choose(script.maps[-1], "JP", serial, 1).region for serial in (7, 8)] == ["paris", "paris"]
    for _ in range(40):
        script.happens(DemandArrived({"FR": 60, "JP": 1}))
        script.passes(1)
    full = script.maps[-1]
    told = script.machine.told("JP", script.now_s)
    assert told.full == ("paris",) and full.shares["FR"] == full.views[0].shares["FR"]
    assert [choose(full, "JP", serial, 1).region for serial in (7, 8)] == ["tokyo", "paris"]
    found = explain(full, "JP", {"paris": 150.0, "tokyo": 8.0}, {}, 7, 1, told)
    assert [one.why[:6] for one in found.candidates] == ["wins: ", "full, "]


def test_downloads_leave_a_lossy_region_and_pages_stay() -> None:
    script = Script()
    script.happens(RegionsChanged((PARIS, TOKYO), 1.25, downloads=(7,)))
    script.passes(2)
    assert script.maps[-1].views[0].units.names == ()  # nothing is known: as pages
    for _ in range(5):
        script.happens(MeasuresArrived(Measures("paris", downloads={"FR": dict.fromkeys(range(3), 4000.0)})))
        script.passes(1)
    lossy = script.maps[-1]
    assert [choose(lossy, "FR", serial, 1).region for serial in (7, 8)] == ["tokyo", "paris"]
    assert [choose(lossy, "JP", serial, 1).region for serial in (7, 8)] == ["tokyo", "tokyo"]
    told = script.machine.told("FR", script.now_s)
    found = explain(lossy, "FR", {"paris": 8.0, "tokyo": 150.0}, {}, 7, 1, told)
    assert found.downloads and not found.pinned and found.region == "tokyo"
    tokyo, paris = found.candidates
    assert (paris.voices, tokyo.voices) == (3, 0)
    assert paris.score_ms == pytest.approx(8 * ROUNDS_ALL + 4000)
    assert tokyo.score_ms == pytest.approx(150 * ROUNDS_ALL + BODY_MS_MAX)  # perhaps it is the clients' own lines
    maps = len(script.maps)
    script.happens(MeasuresArrived(Measures("tokyo", downloads={"FR": dict.fromkeys(range(3), 20.0)})))
    script.passes(5)
    assert [choose(one, "FR", 7, 1).region for one in script.maps[maps:]] in ([], ["tokyo"])
    script.happens(RegionsChanged((PARIS, TOKYO), 1.25))
    script.passes(1)
    assert script.maps[-1].views == () and choose(script.maps[-1], "FR", 7, 1).region == "paris"


def test_downloads_and_pages_share_what_a_region_can_carry() -> None:
    script = Script()
    terms = (Terms(capacity_rps=50), Terms())
    script.happens(RegionsChanged((PARIS, TOKYO), 1.25, terms=terms, downloads=(7,)))
    script.passes(2)
    for _ in range(40):
        script.happens(DemandArrived({"FR": 50}, {"FR": 50}))
        script.passes(1)
    view = script.maps[-1].views[0]
    # Downloads lose more by being elsewhere, and have all of the near region.
    assert script.maps[-1].units["FR"][0] == 1 and view.units["FR"][0] == 0 and not view.shares


def test_what_the_configuration_says_of_regions() -> None:
    network = Network(
        name="n",
        zone="n.test",
        regions={
            "osaka": Region(city="Tokyo", capacity_rps=100, contract="uplink", cost_ms=5, drain=True),
            "tokyo": Region(city="Tokyo"),
        },
        contracts={"uplink": Contract(capacity_rps=70)},
        nameservers=(Nameserver(tier="top", city="Tokyo"), Nameserver(tier="low", city="Tokyo")),
        dns=Dns(answers=3),
    )
    site = Site(hostnames=("www.n.test",), origin="http://10.0.0.1", serial=7, regions=("tokyo",))
    changed = changed_by(lay_out(network, {"www": site}, {"Tokyo": Point(36, 140)}, 1))
    assert [region.name for region in changed.regions] == ["osaka", "tokyo"]
    assert changed.terms[0] == Terms(capacity_rps=100, contract="uplink", contract_rps=70, cost_ms=5, drain=True)
    assert changed.terms[1] == Terms()
    assert changed.pins == {7: (1,)}
    assert changed.answers == 3


def test_beacons_make_a_map_with_a_plan_soon() -> None:
    script = Script()
    script.passes(3)
    starts = np.array([0, 1 << 31], np.uint64), np.array([1, 2], np.uint32)
    nothing = np.zeros(1, np.uint64), np.zeros(1, np.uint32)
    points = tuple(area.point for area in AREAS)
    script.happens(AtlasMade(made("", ("FR", "JP"), points, (1.0, 1.0), starts, nothing)))
    script.passes(1)
    nonces = [f"{n:016d}" for n in range(12)]
    clients = tuple(Sighting(nonce, 4, (1 << 23) + n % 3) for n, nonce in enumerate(nonces))
    script.happens(BeaconsArrived(Report(Side.CLIENT, clients)))
    script.happens(BeaconsArrived(Report(Side.RESOLVER, tuple(Sighting(nonce, 4, 9) for nonce in nonces))))
    assert script.maps[-1].plans == {}
    script.passes(SETTLE_S + MEASURED_GAP_S)
    assert script.maps[-1].plans == {"4/9": Plan("JP")}
