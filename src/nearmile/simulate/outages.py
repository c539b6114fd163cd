"""Scenario 1: a fleet under random crashes, hangs and partitions.

200 servers in 50 regions, three controllers and six nameservers on one bus. Faults come at random; then all are
mended and the network must be whole again. What happened is in ``history``, for ``checks``.
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import asin, degrees

from msgspec import Struct

from nearmile.base.gazetteer import Area
from nearmile.base.geography import Point
from nearmile.mapping.map import Map, MapRegion, Server
from nearmile.simulate import checks
from nearmile.simulate.bus import RECHECK_S, Bus
from nearmile.simulate.fleet import ControllerNode, EdgeNode, NameserverNode, note_maps
from nearmile.simulate.history import History, Publication, Spans
from nearmile.simulate.world import Node, World

# Time for the first map before the first fault.
QUIET_S = 30.0
FAULT_MAX_S = 60.0
# Regions that a cut continent has: far from half of all, whose silence would be doubted.
CONTINENT = 8

Mend = Callable[[], None]
Faults = list[tuple[float, Callable[[float], Mend]]]


class Scale(Struct, frozen=True, kw_only=True):
    """How large the scenario is and how rough: the mean time between faults, and their mean length."""

    regions: int = 50
    servers: int = 200
    controllers: int = 3
    nameservers: int = 6
    beat_s: float = 1.0
    dead_after_s: float = 5.0
    """Both four times the defaults of the network document, which makes an hour four times as fast."""
    ask_s: float = 1.0
    loss: float = 0.005
    fault_every_s: float = 4.0
    control_fault_every_s: float = 240.0
    """Of controllers and the bus: rarer, since the checks count only the time after the control plane settled."""
    fault_lasts_s: float = 20.0


class Outages:
    """One run of the scenario."""

    def __init__(self, seed: int, scale: Scale) -> None:
        self.scale = scale
        self.world = World(seed, scale.loss)
        self.history = History()
        self.faults = 0
        self._chance = self.world.chance("faults")
        self._mending: dict[int, Callable[[], None]] = {}
        self.bus = Bus(self.world)
        self.regions = self._make_regions()
        areas = self._make_areas()
        names = [server.name for region in self.regions for server in region.servers]
        self.edges = [EdgeNode(self.world, name, self.bus, scale.beat_s) for name in names]
        self.controllers = [
            ControllerNode(self.world, f"controller-{n}", self.bus, areas, self.regions, scale.dead_after_s)
            for n in range(1, scale.controllers + 1)
        ]
        units = [area.country for area in areas]
        self.nameservers = [
            NameserverNode(self.world, f"ns-{n}", self.bus, self.history, units, names, scale.ask_s)
            for n in range(1, scale.nameservers + 1)
        ]
        self.history.dead = {name: Spans() for name in names}
        self.history.able = {name: Spans() for name in names}
        self.history.deaf = {node.name: Spans() for node in self.nameservers}
        note_maps(self.bus, self._published)
        self._control: list[tuple[bool, bool]] = []
        self.world.on_change.append(self._look)
        for node in self.world.nodes.values():
            node.boot()

    @property
    def settle_s(self) -> float:
        """How long the network may take to be whole after the last fault."""
        scale = self.scale
        whole_s = checks.takeover_s() + checks.return_s(scale.dead_after_s, scale.beat_s) + 2 * RECHECK_S
        return whole_s + FAULT_MAX_S

    def run(self, for_s: float, progress: Callable[[float], None] = lambda now_s: None) -> None:
        """Faults for that long, then mending, then time to become whole; ``progress`` hears of every minute."""
        end_s = self.world.clock.now_s + QUIET_S + for_s
        for every_s, faults in (
            (self.scale.fault_every_s, self._fleet_faults()),
            (self.scale.control_fault_every_s, self._control_faults()),
        ):
            self.world.clock.after(QUIET_S, partial(self._await_fault, every_s, faults, end_s))
        self._pass_time(end_s, progress)
        self._mend_all()
        self._pass_time(end_s + self.settle_s, progress)

    def missing(self) -> list[str]:
        """The servers that some nameserver's map lacks at this moment."""
        return sorted({name for node in self.nameservers for name in node.disk.get("missing", self.history.dead)})

    def checks(self) -> dict[str, checks.Found]:
        """All checks of this scenario, by name."""
        scale = self.scale
        detection_s = checks.detection_s(scale.dead_after_s, scale.beat_s)
        return_s = checks.return_s(scale.dead_after_s, scale.beat_s)
        missing = self.missing()
        return {
            "dead servers named": checks.named_while_dead(self.history, detection_s, checks.takeover_s()),
            "live servers abandoned": checks.abandoned(self.history, return_s, checks.takeover_s()),
            "servers missing in the end": checks.Found(
                [f"{name} is missing" for name in missing], len(self.edges)
            ),
            "empty answers": checks.empty_answers(self.history),
            "terms with two writers": checks.published_twice(self.history),
        }

    def _make_regions(self) -> tuple[MapRegion, ...]:
        chance, scale = self.world.chance("places"), self.scale
        regions = []
        for n in range(scale.regions):
            point = Point(degrees(asin(chance.uniform(-0.9, 0.9))), chance.uniform(-180.0, 180.0))
            count = scale.servers * (n + 1) // scale.regions - scale.servers * n // scale.regions
            servers = tuple(Server(f"r{n}-{k}", f"10.0.{n}.{k}", 8080) for k in range(1, count + 1))
            regions.append(MapRegion(f"r{n}", point, servers))
        return tuple(regions)

    def _make_areas(self) -> list[Area]:
        chance = self.world.chance("areas")
        return [
            Area(
                f"C{n}",
                "",
                Point(region.point.lat + chance.uniform(-5, 5), region.point.lon),
                chance.randrange(1, 99),
            )
            for n, region in enumerate(self.regions)
        ]

    def _published(self, writer: str, map_: Map) -> None:
        self.history.publications.append(Publication(self.world.clock.now_s, writer, map_.term, map_.version))

    def _pass_time(self, until_s: float, progress: Callable[[float], None]) -> None:
        while self.world.clock.now_s < until_s:
            self.world.clock.run_until(min(self.world.clock.now_s + 60.0, until_s))
            progress(self.world.clock.now_s)

    def _look(self) -> None:
        """Writes down who can do what, whenever that changed."""
        now_s, bus = self.world.clock.now_s, self.bus
        for edge in self.edges:
            _mark(self.history.dead[edge.name], not edge.working, now_s)
            _mark(self.history.able[edge.name], edge.working and bus.reachable(edge), now_s)
        for node in self.nameservers:
            _mark(self.history.deaf[node.name], not (node.working and bus.reachable(node)), now_s)
        control = [(node.working and bus.reachable(node), bus.connected(node)) for node in self.controllers]
        _mark(self.history.disturbed, not any(works and connected for works, connected in control), now_s)
        if control != self._control:
            self._control = control
            self.history.disturbed.moment(now_s)

    def _await_fault(self, every_s: float, faults: Faults, end_s: float) -> None:
        pause_s = self._chance.expovariate(1 / every_s)
        if self.world.clock.now_s + pause_s < end_s:
            self.world.clock.after(pause_s, partial(self._fault, every_s, faults, end_s))

    def _fault(self, every_s: float, faults: Faults, end_s: float) -> None:
        self.faults += 1
        number, lasts_s = self.faults, min(self._chance.expovariate(1 / self.scale.fault_lasts_s), FAULT_MAX_S)
        (fault,) = self._chance.choices([fault for _, fault in faults], [weight for weight, _ in faults])
        self._mending[number] = fault(lasts_s)
        self.world.clock.after(lasts_s, lambda: self._mending.pop(number, _nothing)())
        self._await_fault(every_s, faults, end_s)

    def _fleet_faults(self) -> Faults:
        """Weights and what happens; each returns what mends it."""
        return [
            (6, lambda lasts_s: self._kill(self._chance.choice(self.edges))),
            (4, lambda lasts_s: self._crash(self._chance.choice(self.edges))),
            (3, lambda lasts_s: self._freeze(self._chance.choice(self.edges), lasts_s)),
            (3, lambda lasts_s: self._cut(self._neighbours(1))),
            (0.5, lambda lasts_s: self._cut(self._neighbours(CONTINENT))),
            (2, lambda lasts_s: self._cut([self._chance.choice(self.nameservers)])),
            (1, lambda lasts_s: self._crash(self._chance.choice(self.nameservers))),
            (1, lambda lasts_s: self._freeze(self._chance.choice(self.nameservers), lasts_s)),
        ]

    def _control_faults(self) -> Faults:
        return [
            (3, lambda lasts_s: self._crash(self._chance.choice(self.controllers))),
            (3, lambda lasts_s: self._freeze(self._chance.choice(self.controllers), lasts_s)),
            (3, lambda lasts_s: self._cut([self._chance.choice(self.controllers)])),
            (2, lambda lasts_s: self._crash(self.bus)),
        ]

    def _kill(self, edge: EdgeNode) -> Mend:
        edge.kill()  # its agent starts it again
        return _nothing

    def _crash(self, node: Node) -> Mend:
        node.crash()
        return node.boot

    def _freeze(self, node: Node, lasts_s: float) -> Mend:
        node.freeze(lasts_s)
        return _nothing

    def _neighbours(self, count: int) -> list[EdgeNode]:
        """All servers of some regions."""
        first = self._chance.randrange(len(self.regions) - count + 1)
        names = {server.name for region in self.regions[first : first + count] for server in region.servers}
        return [edge for edge in self.edges if edge.name in names]

    def _cut(self, nodes: Sequence[Node]) -> Mend:
        """Cuts nodes from the bus, half the time in one direction only."""
        network, names, bus = self.world.network, [node.name for node in nodes], [self.bus.name]
        ways = self._chance.choice(("to", "from", "both", "both"))
        heals = [network.cut(names, bus)] if ways in ("to", "both") else []
        heals += [network.cut(bus, names)] if ways in ("from", "both") else []
        self.world.clock.note(f"cut {ways} {names}")
        self._path_changed(nodes)

        def mend() -> None:
            for heal in heals:
                heal()
            self.world.clock.note(f"heal {ways} {names}")
            self._path_changed(nodes)

        return mend

    def _path_changed(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            self.bus.path_changed(node)
        self.world.changed()

    def _mend_all(self) -> None:
        for number in sorted(self._mending):
            self._mending.pop(number)()
        for node in self.world.nodes.values():
            node.boot()


def _mark(spans: Spans, begins: bool, now_s: float) -> None:
    if begins:
        spans.start(now_s)
    else:
        spans.end(now_s)


def _nothing() -> None:
    pass
