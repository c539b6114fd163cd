"""The network's processes as nodes: thin adapters that join the production machines to the virtual world."""

from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from nearmile.base.gazetteer import Area
from nearmile.fleet.beat import Beat
from nearmile.fleet.health import BeatArrived, BusBack, BusLost, ExitReported
from nearmile.fleet.lease import Lease, LeaseAnswer, LeaseSeen, Outcome, PutLease
from nearmile.fleet.restart import RestartPolicy
from nearmile.mapping.choose import choose
from nearmile.mapping.controller import Command, Controller, Event, MapAnswer, MapSeen, PutMap, RegionsChanged
from nearmile.mapping.map import Map, MapRegion
from nearmile.simulate.bus import Bus
from nearmile.simulate.history import Absence, Answer, History
from nearmile.simulate.world import Node, World

BEAT, EXIT = "beat", "exit"
MAP, LEASE = ("map", "current"), ("lease", "controller")
# What an agent needs to see a child die and say so.
SEE_EXIT_S = 0.02
# Serials of the sites that are asked for.
SERIALS = 1000


class EdgeNode(Node):
    """An edge server and the agent that watches it."""

    def __init__(self, world: World, name: str, bus: Bus, beat_s: float) -> None:
        super().__init__(world, name)
        self._bus, self._beat_s = bus, beat_s
        self._restart = RestartPolicy()
        self._epoch = self._seq = 0

    def kill(self) -> None:
        """The process dies; the agent reports it, and starts it again when the policy says so."""
        if not self.up:
            return
        bus, reported = self._bus, self._bus.connected(self)
        start_s = self._restart.exited(self.now_s())
        self.crash()
        life = self.life
        if reported:
            tell = partial(bus.fan_out, EXIT, self.name)
            self.world.clock.after(SEE_EXIT_S, partial(self.world.network.send, self.name, bus.name, tell, False))
        # Whoever starts the machine meanwhile starts the process.
        self.world.clock.after(start_s - self.now_s(), lambda: self.boot() if self.life == life else None)

    def booted(self) -> None:
        self._restart.started(self.now_s())
        self._epoch, self._seq = int(self.now_s() * 1000), 0
        self._bus.join(self)
        self.after(self._beat_s * self.chance.random(), self._beat)

    def _beat(self) -> None:
        self._seq += 1
        beat = Beat(name=self.name, role="edge", epoch=self._epoch, seq=self._seq, ready=True)
        self._bus.publish(self, BEAT, beat)
        self.after(self._beat_s, self._beat)


class ControllerNode(Node):
    """A controller: the machine of ``mapping.controller``, as ``services.controller`` runs it."""

    def __init__(
        self,
        world: World,
        name: str,
        bus: Bus,
        areas: Sequence[Area],
        regions: tuple[MapRegion, ...],
        dead_after_s: float,
    ) -> None:
        super().__init__(world, name)
        self._bus, self._areas, self._regions, self._dead_after_s = bus, areas, regions, dead_after_s
        self.machine = Controller(name, areas, self.chance)

    def booted(self) -> None:
        self.machine = Controller(self.name, self._areas, self.chance, self.disk.get("map"))
        self._tell(RegionsChanged(self._regions, self._dead_after_s))
        self._bus.join(self)
        self._bus.subscribe(self, BEAT, lambda beat: self._tell(BeatArrived(beat)))
        self._bus.subscribe(self, EXIT, lambda name: self._tell(ExitReported(name)))
        self._bus.watch(self, LEASE, self._lease_seen)
        self._bus.watch(self, MAP, self._map_seen)

    def bus_lost(self) -> None:
        self._tell(BusLost())

    def bus_back(self) -> None:
        self._tell(BusBack())

    def wake(self) -> None:
        self._execute(self.machine.wake(self.now_s()))

    def _tell(self, event: Event) -> None:
        self._execute(self.machine.handle(event, self.now_s()))

    def _lease_seen(self, revision: int, lease: Lease | None) -> None:
        self._tell(LeaseSeen(revision, lease))

    def _map_seen(self, revision: int, seen: Map | None) -> None:
        if seen is not None:
            self.disk["map"] = seen
        self._tell(MapSeen(revision, seen))

    def _execute(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case PutLease():
                    self._bus.put(
                        self, LEASE, command.lease, command.expected_revision, partial(self._leased, command)
                    )
                case PutMap():
                    self._bus.put(
                        self, MAP, command.map, command.expected_revision, partial(self._mapped, command)
                    )
        self.arm(self.machine.next_deadline())

    def _leased(self, put: PutLease, outcome: Outcome, revision: int) -> None:
        if outcome is not Outcome.WON:
            self._bus.get(self, LEASE, self._lease_seen)
        self._tell(LeaseAnswer(put, outcome, revision))

    def _mapped(self, put: PutMap, outcome: Outcome, revision: int) -> None:
        if outcome is not Outcome.WON:
            self._bus.get(self, MAP, self._map_seen)
        self._tell(MapAnswer(put, outcome, revision))


class NameserverNode(Node):
    """A nameserver: keeps the last good map on its disk, and answers from it whatever happens."""

    def __init__(
        self,
        world: World,
        name: str,
        bus: Bus,
        history: History,
        units: Sequence[str],
        servers: Sequence[str],
        ask_s: float,
    ) -> None:
        super().__init__(world, name)
        self._bus, self._history, self._units, self._servers, self._ask_s = bus, history, units, servers, ask_s

    def booted(self) -> None:
        self._bus.join(self)
        self._bus.watch(self, MAP, self._map_seen)
        self.after(self._ask_s * self.chance.random(), self._answer)

    def _map_seen(self, _revision: int, new: Map | None) -> None:
        old: Map | None = self.disk.get("map")
        if new is not None and (old is None or (new.term, new.version) > (old.term, old.version)):
            self.disk["map"] = new
            live = {server.name for region in new.regions for server in region.servers}
            self.disk["missing"] = tuple(name for name in self._servers if name not in live)

    def _answer(self) -> None:
        at_s, map_ = self.world.clock.now_s, self.disk.get("map")
        if map_ is not None:
            unit = self.chance.choice(self._units)
            choice = choose(map_, unit, self.chance.randrange(1, SERIALS), 2)
            names = tuple(server.name for server in choice.servers)
            self._history.answers.append(Answer(at_s, self.name, unit, choice.region, names))
            self.world.clock.note(f"{self.name} answers {unit} {choice.region} {names}")
            if self.disk["missing"]:
                self._history.absences.append(Absence(at_s, self.name, self.disk["missing"]))
        self.after(self._ask_s, self._answer)


def note_maps(bus: Bus, history_note: Callable[[str, Map], None]) -> None:
    """Writes every map that reaches the KV into the world's record, to the byte."""

    def written(writer: str, key: tuple[str, str], value: Map | Lease) -> None:
        bus.world.clock.note(f"{writer} writes {key} {msgspec.json.encode(value).decode()}")
        if isinstance(value, Map):
            history_note(writer, value)

    bus.on_write.append(written)
