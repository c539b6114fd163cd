"""The controller's decisions: health and load in, leadership kept or sought, map versions out.

Every controller listens to all servers; only the one that leads publishes. A map is made at once when somebody
dies or returns (a few ms later, so that deaths that come together make one map), and now and then for load. It is
written by compare-and-swap under the leader's term, so a leader of the past overwrites nothing.

Pure: ``handle(event, now_s)`` and ``wake(now_s)`` return commands; the shell answers each write with its outcome.
"""

from collections.abc import Sequence
from itertools import compress
from math import inf

from msgspec import Struct, structs

from nearmile.base.gazetteer import Area
from nearmile.base.geography import Place, Point
from nearmile.config.layout import Config, Process
from nearmile.config.names import Dns
from nearmile.fleet.health import BeatArrived, BusBack, BusLost, Change, ExitReported, Health, MembersChanged
from nearmile.fleet.lease import Chance, Election, LeaseAnswer, LeaseForgotten, LeaseSeen, Outcome, PutLease
from nearmile.mapping import beacons
from nearmile.mapping.allocate import Allocation
from nearmile.mapping.atlas import Atlas
from nearmile.mapping.classes import DownloadClass, serials_of
from nearmile.mapping.demand import Demand, DemandArrived
from nearmile.mapping.explain import Told
from nearmile.mapping.make import Terms, left, make_map, same_answers, steady, terms_of
from nearmile.mapping.map import Map, MapRegion, Server, unit_of
from nearmile.mapping.measured import Measured, Report
from nearmile.mapping.pins import Pins
from nearmile.mapping.planner import Planner
from nearmile.mapping.plans import Seen
from nearmile.mapping.safety import Guard, named
from nearmile.mapping.score import Distances
from nearmile.mapping.spread import Spread

# Deaths that arrive within this time make one map.
COALESCE_S = 0.005
# At most ten maps a second: a map goes to every nameserver and edge. Fewer where there are very many servers.
MAP_GAP_S, MAP_GAP_S_PER_SERVER = 0.1, 1e-5
# Who lives is news at once, but to place all units anew takes about a quarter of this time; meanwhile the clients
# of the dead have the next server or region of what was placed last.
PLACING_S_PER_UNIT = 1e-5
# How often a crowd is looked for: a fraction of the time in which it must be spread.
CROWDS_S = 0.1
# How often load alone may change the map.
REFRESH_S = 10.0
# How soon after a map what is measured may make another: what it gains lasts for hours.
MEASURED_GAP_S = 1.0


class RegionsChanged(Struct, frozen=True):
    """The configuration's regions with all their servers, and the silence after which one is given up.

    ``terms`` are by region; ``pins`` has indexes of regions by serial, ``downloads`` the serials of that class;
    ``answers`` says how many servers an answer names.
    """

    regions: tuple[MapRegion, ...]
    dead_after_s: float
    terms: tuple[Terms, ...] = ()
    pins: dict[int, tuple[int, ...]] = {}
    downloads: tuple[int, ...] = ()
    answers: int = Dns().answers


class AtlasMade(Struct, frozen=True):
    """The mapping units are these from now on."""

    atlas: Atlas


class BehindArrived(Struct, frozen=True):
    """A name server tells for whom resolvers asked it."""

    seen: tuple[Seen, ...]


class BeaconsArrived(Struct, frozen=True):
    """A name server or an edge tells who made beacons."""

    report: beacons.Report


class MeasuresArrived(Struct, frozen=True):
    """An edge tells how far its clients and the network's targets are."""

    report: Report


class DrainSeen(Struct, frozen=True):
    """An administrator wants these regions and servers, all of them, out of the answers."""

    names: frozenset[str]


class MapSeen(Struct, frozen=True):
    """The KV holds this at that revision; revision 0 and no map where it holds nothing."""

    revision: int
    map: Map | None


class PutMap(Struct, frozen=True):
    """Write this if the KV is still at that revision."""

    map: Map
    expected_revision: int


class MapAnswer(Struct, frozen=True):
    """What became of our write, and the KV's new revision where it was won."""

    put: PutMap
    outcome: Outcome
    revision: int = 0


Event = (
    BeatArrived
    | ExitReported
    | BusLost
    | BusBack
    | RegionsChanged
    | AtlasMade
    | DrainSeen
    | DemandArrived
    | MeasuresArrived
    | BehindArrived
    | BeaconsArrived
    | LeaseSeen
    | LeaseAnswer
    | MapSeen
    | MapAnswer
)
# A Change is nothing to do, but to be told.
Command = PutLease | PutMap | Change


class Controller:
    """One controller. ``last_good`` is the last map its own disk holds: versions go on from there."""

    def __init__(self, me: str, areas: Sequence[Area], chance: Chance, last_good: Map | None = None) -> None:
        self.health = Health()
        self.guard = Guard()
        self.measured = Measured()
        self._planner = Planner()
        self._beacons = beacons.Join()
        self._election = Election(me, chance)
        self._areas = areas
        self._regions: tuple[MapRegion, ...] = ()
        self._distances = Distances(areas, ())
        self._loads: dict[str, float] = {}
        self._spread = Spread(Dns().answers)
        self._crowds_at_s = -inf
        self._demand = Demand(self._distances.units, self._distances.people)
        self._downloads = DownloadClass(self._distances, self.measured)
        self._columns: dict[str, int] = {}
        self._region_of: dict[str, str] = {}
        self._told: set[str] = set()  # the regions that told of serials since crowds were looked for
        self._terms: tuple[Terms, ...] = ()
        self._asked: frozenset[str] = frozenset()
        self._drained: frozenset[str] = frozenset()  # who was asked for, and the configuration's regions
        self._pins = Pins({})
        self._allocation: Allocation | None = None
        self._placed: Map | None = None  # the last whose units were placed, in this configuration
        self._placed_at_s = -inf
        self._gap_s = MAP_GAP_S
        self._latest_version = 0
        self._kept: Map | None = None  # what the KV holds
        self._revision: int | None = None
        self._pending: PutMap | None = None
        self._put_at_s = -inf
        self._look_at_s = 0.0
        if last_good is not None:
            self._learn(last_good)

    def term(self, now_s: float) -> int:
        """The term in which this controller leads at this moment; 0 where it does not."""
        return self._election.term(now_s)

    def next_deadline(self) -> float | None:
        """When to call ``wake``; None while only an event can change anything."""
        due_s = self._look_at_s if self._revision is not None and self._pending is None else inf
        for at_s in (self.health.next_deadline(), self._election.next_deadline(), self._beacons.next_deadline()):
            if at_s is not None and at_s < due_s:
                due_s = at_s
        return due_s if due_s < inf else None

    def handle(self, event: Event, now_s: float) -> list[Command]:
        """Takes what happened."""
        changes: tuple[Change, ...] = ()
        match event:
            case BeatArrived(beat):
                changes = self.health.handle(event, now_s)
                self._spread.heard(beat.name, beat.others_per_s, beat.serials)
                if beat.serials and beat.name in self._region_of:
                    self._told.add(self._region_of[beat.name])
                self._look_for_crowds(now_s)
            case ExitReported():
                changes = self.health.handle(event, now_s)
            case BusLost():
                self.health.handle(event, now_s)
                self._election.handle(LeaseForgotten(), now_s)
                self._revision = self._pending = None
            case BusBack():
                self.health.handle(event, now_s)
            case RegionsChanged():
                self._configure(event, now_s)
            case AtlasMade(atlas):
                self._planner.know(atlas)
                self._areas, self._allocation, self._placed = atlas.areas(), None, None
                self._measure()
                self._look_at_s = now_s
            case DrainSeen(names):
                self._asked, self._look_at_s = names, now_s
            case DemandArrived():
                self._downloads.ask(event, self._demand, now_s)
                return []
            case MeasuresArrived(report):
                if self.measured.add(report, now_s) | self._downloads.add(report, now_s):
                    self._look_at_s = min(self._look_at_s, max(now_s, self._put_at_s + MEASURED_GAP_S))
            case BehindArrived(seen):
                self._planner.behind.add(seen, now_s)
                self._plan(now_s)
            case BeaconsArrived(beacon_report):
                self._beacons.add(beacon_report, now_s)
            case LeaseSeen() | LeaseAnswer():
                led = self._election.term(now_s)
                self._election.handle(event, now_s)
                if self._election.term(now_s) != led:
                    self._look_at_s = now_s
            case MapSeen(revision, seen):
                self._see(revision, seen, now_s)
            case MapAnswer():
                self._answered(event, now_s)
        return self._step(changes, now_s)

    def wake(self, now_s: float) -> list[Command]:
        """Decides what is due."""
        return self._step((), now_s)

    def told(self, unit: str, now_s: float) -> Told:
        """What is known of a unit, for people."""
        return Told(
            pages=self.measured.learned(unit, now_s),
            downloads=self._downloads.learned(unit, now_s),
            costs_ms={one.name: terms.cost_ms for one, terms in zip(self._regions, self._terms, strict=True)},
            full=tuple(compress(self._columns, self._allocation.full)) if self._allocation is not None else (),
        )

    def _step(self, changes: tuple[Change, ...], now_s: float) -> list[Command]:
        deadline_s = self.health.next_deadline()
        if deadline_s is not None and deadline_s <= now_s:
            changes += self.health.wake(now_s)
        commands: list[Command] = [*changes]
        if self._beacons.next_deadline() <= now_s:
            self._planner.beacons.add(self._beacons.take(now_s), now_s)
            self._plan(now_s)
        if changes:
            self._look_at_s = min(self._look_at_s, now_s + COALESCE_S)
        put_lease = self._election.wake(now_s)
        if put_lease is not None:
            commands.append(put_lease)
        if self._revision is not None and self._pending is None and self._look_at_s <= now_s:
            put_map = self._look(now_s)
            if put_map is not None:
                commands.append(put_map)
        return commands

    def _look(self, now_s: float) -> PutMap | None:
        """Makes a map, and says to write it where it is due, ours to write, and says something new."""
        if now_s < self._put_at_s + self._gap_s:
            self._look_at_s = self._put_at_s + self._gap_s
            return None
        term = self._election.term(now_s)
        if not term or not self.health.settled:
            self._look_at_s = now_s + REFRESH_S
            return None
        made = self.guard.judge(self._kept, self._make(term, now_s), self._gone, now_s)
        again_s = REFRESH_S if self._placed_at_s == now_s else PLACING_S_PER_UNIT * len(self._distances.units)
        self._look_at_s = min(self._placed_at_s + again_s, self.guard.next_deadline())
        if not any(region.servers for region in made.regions):
            return None  # a map without any server helps nobody: the last one stays
        if self._kept is not None and self._kept.term == term and same_answers(self._kept, made):
            return None
        assert self._revision is not None
        self._put_at_s = now_s
        self._pending = PutMap(made, self._revision)
        return self._pending

    def _plan(self, now_s: float) -> None:
        """Makes plans for some resolvers, and a map soon where they have changed."""
        if self._kept is not None and self._planner.work(self._kept, self._distances, self.measured, now_s):
            self._look_at_s = min(self._look_at_s, max(now_s, self._put_at_s + MEASURED_GAP_S))

    def _look_for_crowds(self, now_s: float) -> None:
        """Makes a map soon where a serial has become hotter than the last map reckoned with."""
        if now_s >= self._crowds_at_s + CROWDS_S and self._election.term(now_s) and self._kept is not None:
            self._crowds_at_s = now_s
            told = [region for region in self._kept.regions if region.name in self._told]
            self._told.clear()
            if any(self._spread.urgent(region) for region in told):
                self._look_at_s = min(self._look_at_s, now_s)

    def _make(self, term: int, now_s: float) -> Map:
        """Who lives now; and the units placed anew, unless that was a moment ago."""
        regions, version = self._live(now_s), self._latest_version + 1
        placing_s = PLACING_S_PER_UNIT * len(self._distances.units)
        if self._placed is not None and now_s < self._placed_at_s + placing_s:
            return structs.replace(
                self._placed,
                regions=regions,
                plans=self._planner.plans,
                version=version,
                term=term,
                made_at_s=now_s,
            )
        loads, terms = [], []
        for region, all_, own in zip(regions, self._regions, self._terms, strict=True):
            live = len(region.servers)
            measured = sum(self.health.load(server.name) for server in region.servers) / max(live, 1)
            loads.append(steady(self._loads.get(region.name, 0.0), measured))
            self._loads[region.name] = loads[-1]
            terms.append(left(own, live, len(all_.servers)))
        self.measured.forget(now_s)
        made = make_map(
            self._distances,
            regions,
            loads,
            terms=terms,
            demand_rps=self._demand.rates(now_s),
            pins=self._pins,
            former=self._allocation,
            measured=self.measured.corrections(self._distances.rows, self._columns, now_s),
            downloads=self._downloads.wanted(self._columns, now_s),
            version=version,
            term=term,
            made_at_s=now_s,
        )
        self._allocation, self._placed, self._placed_at_s = made.allocation, made.map, now_s
        return structs.replace(made.map, plans=self._planner.plans)

    def _gone(self, name: str) -> bool:
        """Whether there is somebody's word for it that the server is not there."""
        return self.health.gone(name) or not self._drained.isdisjoint((name, self._region_of.get(name, "")))

    def _live(self, now_s: float) -> tuple[MapRegion, ...]:
        """The regions with those of their servers that may be named."""
        hot = {region.name: region.hot for region in self._kept.regions} if self._kept is not None else {}
        closed = [one.name for one, terms in zip(self._regions, self._terms, strict=True) if terms.drain]
        self._drained, regions = self._asked.union(closed), []
        for region, live in zip(self._regions, named(self._regions, self.health, self._drained), strict=True):
            now = MapRegion(region.name, region.point, live, hot.get(region.name, {}))
            placed = self._spread.place(now, now_s)
            regions.append(structs.replace(now, hot=placed) if placed or now.hot else now)
        return tuple(regions)

    def _configure(self, event: RegionsChanged, now_s: float) -> None:
        regions = event.regions
        self._terms = event.terms or tuple(Terms() for _ in regions)
        self._pins, self._allocation, self._placed = Pins(event.pins, event.downloads), None, None
        self._downloads.serve(event.downloads)
        self._spread.least = event.answers
        if _points(regions) != _points(self._regions):
            self._regions = regions
            self._measure()
        self._regions = regions
        self._region_of = {server.name: region.name for region in regions for server in region.servers}
        self._gap_s = MAP_GAP_S + MAP_GAP_S_PER_SERVER * len(self._region_of)
        names = tuple(self._region_of)
        self.health.handle(MembersChanged(names, event.dead_after_s), now_s)
        self._look_at_s = now_s

    def _measure(self) -> None:
        """The distances of the units that there are to the regions that there are."""
        units = self._distances.units
        self._distances = Distances(self._areas, [region.point for region in self._regions])
        self._columns = {region.name: column for column, region in enumerate(self._regions)}
        points = {unit_of(Place(area.country, area.state)): area.point for area in self._areas}
        self.measured.know(points, {region.name: region.point for region in self._regions})
        self._downloads.know(self._distances)
        if self._distances.units != units:
            self._demand = Demand(self._distances.units, self._distances.people).after(self._demand)

    def _see(self, revision: int, seen: Map | None, now_s: float) -> None:
        if self._revision is not None and revision <= self._revision:
            return
        is_first = self._kept is None and self._placed is None
        if is_first and seen is not None and _points(seen.regions) == _points(self._regions):
            # Who has just started knows nothing of demand and round trips: for a while units stay where they are.
            self._placed, self._placed_at_s = seen, now_s + REFRESH_S
        self._revision, self._kept = revision, seen
        if seen is not None:
            self._learn(seen)
            self._planner.adopt(seen.plans, now_s)
        ours = self._pending.map if self._pending is not None else None
        if ours is None or seen is None or (seen.term, seen.version) != (ours.term, ours.version):
            self._look_at_s = min(self._look_at_s, now_s + COALESCE_S)  # it is not what we wrote: is it right?

    def _answered(self, answer: MapAnswer, now_s: float) -> None:
        if answer.put != self._pending:
            return  # of before the KV went away
        if answer.outcome is Outcome.WON:
            self._see(answer.revision, answer.put.map, now_s)
        else:
            self._look_at_s = min(self._look_at_s, now_s + MAP_GAP_S)
        self._pending = None

    def _learn(self, map_: Map) -> None:
        self._latest_version = max(self._latest_version, map_.version)
        self._election.abdicate(map_.term)


def regions_of(config: Config) -> tuple[MapRegion, ...]:
    """The configuration's regions in the document's order, each with all its servers."""
    members: dict[str, list[Process]] = {name: [] for name in config.network.regions}
    for process in config.of_role("edge"):
        members[process.region].append(process)
    return tuple(
        MapRegion(name, processes[0].point, tuple(Server(p.name, p.address, p.port) for p in processes))
        for name, processes in members.items()
        if processes and processes[0].point is not None
    )


def changed_by(config: Config) -> RegionsChanged:
    """What the configuration says of regions."""
    regions, network = regions_of(config), config.network
    index_of = {region.name: index for index, region in enumerate(regions)}
    return RegionsChanged(
        regions,
        network.health.dead_after_ms / 1000,
        tuple(terms_of(network, region.name) for region in regions),
        {
            site.serial: tuple(index_of[name] for name in site.document.regions)
            for site in config.sites
            if site.document.regions
        },
        serials_of(config),
        network.dns.answers,
    )


def _points(regions: Sequence[MapRegion]) -> list[tuple[str, Point]]:
    return [(region.name, region.point) for region in regions]
