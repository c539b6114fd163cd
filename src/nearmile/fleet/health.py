"""Which servers live, by their heartbeats and by the word of the agents that see processes die.

A server is in the map (``in_map``) while its beats are fresh and say it is ready. Silence and an agent's word end
that. Three things are not believed: silence while the bus is away (it proves nothing); the silence of most servers
at once (rather our own ears, so it is held back for a bounded time); and the return of a server that keeps
dying (it waits, ever longer up to a bound, so nobody is abandoned for good).

Pure: ``handle(event, now_s)`` and ``wake(now_s)`` return changes of state; ``next_deadline()`` says when to wake
it. A beat costs O(1), since servers are kept in the order of their last beats, which is the order of deadlines.
"""

from collections import OrderedDict
from collections.abc import Iterable
from enum import Enum
from itertools import takewhile
from math import inf

from msgspec import Struct

from nearmile.fleet.beat import Beat

# A mass silence is believed after all: whoever is truly gone must not be named forever.
HELD_BACK_S = 10.0
# The share of the servers in the map whose common silence is doubted.
MASS_SHARE = 0.5
# The second death within STEADY_S costs a second out of the map, then twice as long each time.
FIRST_HOLD_S, HOLD_MAX_S, STEADY_S = 1.0, 16.0, 60.0
# Load is averaged over so long: longer than a burst, shorter than a rush hour.
LOAD_MEMORY_S = 10.0


class State(Enum):
    """What is believed of a server."""

    UNKNOWN = "unknown"  # not heard of since we listen
    LIVE = "live"
    SUSPECT = "suspect"  # silent together with most others; still in the map
    IDLE = "idle"  # beats, but says it is not ready
    FULL = "full"  # lives, but wants no more clients
    HELD = "held"  # back after repeated deaths, waiting its time
    DEAD = "dead"


class Signal(Enum):
    """What is learned about a server."""

    READY = "ready"
    UNREADY = "not ready"
    FULL = "full"
    SILENT = "silent"
    DOUBTED = "silent, like most"
    EXITED = "exited"
    RELEASED = "held long enough"


# Where nothing stands, nothing changes.
NEXT: dict[tuple[State, Signal], State] = {
    (State.UNKNOWN, Signal.READY): State.LIVE,
    (State.UNKNOWN, Signal.UNREADY): State.IDLE,
    (State.UNKNOWN, Signal.FULL): State.FULL,
    (State.UNKNOWN, Signal.SILENT): State.DEAD,
    (State.UNKNOWN, Signal.EXITED): State.DEAD,
    (State.LIVE, Signal.UNREADY): State.IDLE,
    (State.LIVE, Signal.FULL): State.FULL,
    (State.LIVE, Signal.SILENT): State.DEAD,
    (State.LIVE, Signal.DOUBTED): State.SUSPECT,
    (State.LIVE, Signal.EXITED): State.DEAD,
    (State.SUSPECT, Signal.READY): State.LIVE,
    (State.SUSPECT, Signal.UNREADY): State.IDLE,
    (State.SUSPECT, Signal.FULL): State.FULL,
    (State.SUSPECT, Signal.SILENT): State.DEAD,
    (State.SUSPECT, Signal.EXITED): State.DEAD,
    (State.IDLE, Signal.READY): State.LIVE,
    (State.IDLE, Signal.FULL): State.FULL,
    (State.IDLE, Signal.SILENT): State.DEAD,
    (State.IDLE, Signal.EXITED): State.DEAD,
    (State.FULL, Signal.READY): State.LIVE,
    (State.FULL, Signal.UNREADY): State.IDLE,
    (State.FULL, Signal.SILENT): State.DEAD,
    (State.FULL, Signal.EXITED): State.DEAD,
    (State.HELD, Signal.RELEASED): State.LIVE,
    (State.HELD, Signal.UNREADY): State.IDLE,
    (State.HELD, Signal.SILENT): State.DEAD,
    (State.HELD, Signal.EXITED): State.DEAD,
    (State.DEAD, Signal.READY): State.HELD,
    (State.DEAD, Signal.FULL): State.HELD,
    (State.DEAD, Signal.UNREADY): State.IDLE,
}
IN_MAP = (State.LIVE, State.SUSPECT)
ALIVE = (*IN_MAP, State.FULL)


class BeatArrived(Struct, frozen=True):
    """A heartbeat."""

    beat: Beat


class ExitReported(Struct, frozen=True):
    """An agent saw the process die."""

    name: str


class BusLost(Struct, frozen=True):
    """We hear nobody any more."""


class BusBack(Struct, frozen=True):
    """We hear again."""


class MembersChanged(Struct, frozen=True):
    """The servers to watch, all of them, and the silence after which one is given up."""

    names: tuple[str, ...]
    dead_after_s: float


Event = BeatArrived | ExitReported | BusLost | BusBack | MembersChanged


class Change(Struct, frozen=True):
    """A server's state changed."""

    name: str
    before: State
    after: State
    why: Signal


class _Server:
    __slots__ = ("certain", "deaths", "epoch", "held_until_s", "live_since_s", "load", "seq", "state", "touched_s")

    def __init__(self) -> None:
        self.state = State.UNKNOWN
        self.epoch = self.seq = 0
        self.touched_s = -inf  # when it last beat or exited
        self.live_since_s = 0.0
        self.held_until_s = 0.0
        self.deaths = 0
        self.certain = False  # whether its last death was more than a silence
        self.load = 0.0


class Health:
    """All servers of one network, as one observer hears them."""

    def __init__(self) -> None:
        self.dead_after_s = 1.0
        self._servers: dict[str, _Server] = {}
        # Whoever may fall silent, by the time counted from, the oldest first. (In a plain dict, finding the first
        # is not O(1) where others before it have gone.)
        self._heard: OrderedDict[str, float] = OrderedDict()
        self._suspects: OrderedDict[str, float] = OrderedDict()
        self._held: set[str] = set()
        self._bus_up = False

    def in_map(self, name: str) -> bool:
        """Whether users may be sent to the server."""
        server = self._servers.get(name)
        return server is not None and server.state in IN_MAP

    def alive(self, name: str) -> bool:
        """Whether it could serve users, be it full."""
        server = self._servers.get(name)
        return server is not None and server.state in ALIVE

    def state(self, name: str) -> State:
        """What is believed of it; KeyError for a stranger."""
        return self._servers[name].state

    def gone(self, name: str) -> bool:
        """Whether it is dead by its agent's word, or by a silence that was doubted for long enough."""
        server = self._servers.get(name)
        return server is not None and server.state is State.DEAD and server.certain

    def load(self, name: str) -> float:
        """Its averaged load, as a share of one core; 0 for a stranger."""
        server = self._servers.get(name)
        return server.load if server is not None else 0.0

    @property
    def settled(self) -> bool:
        """Whether everybody has been heard or has had the time to be: before, silence says nothing."""
        return all(server.state is not State.UNKNOWN for server in self._servers.values())

    def next_deadline(self) -> float | None:
        """When ``wake`` has something to decide; None while the bus is away."""
        if not self._bus_up:
            return None
        due_s = inf
        for at_s in self._heard.values():
            due_s = at_s + self.dead_after_s
            break  # the first is the earliest
        for at_s in self._suspects.values():
            due_s = min(due_s, at_s + HELD_BACK_S)
            break
        for name in self._held:
            due_s = min(due_s, self._servers[name].held_until_s)
        return due_s if due_s < inf else None

    def handle(self, event: Event, now_s: float) -> tuple[Change, ...]:
        """Takes what happened."""
        match event:
            case BeatArrived(beat):
                return self._beat(beat, now_s)
            case ExitReported(name):
                return self._exit(name, now_s)
            case BusLost():
                self._bus_up = False
            case BusBack():
                self._bus_up = True
                # Nobody could be heard meanwhile: everybody gets the whole time anew.
                self._heard = OrderedDict.fromkeys(self._heard, now_s)
                self._suspects = OrderedDict.fromkeys(self._suspects, now_s)
            case MembersChanged(names, dead_after_s):
                self._members(names, now_s)
                self.dead_after_s = dead_after_s
        return ()

    def wake(self, now_s: float) -> tuple[Change, ...]:
        """Decides what is due."""
        if not self._bus_up:
            return ()
        changes = []
        silent = _due(self._heard, self.dead_after_s, now_s)
        doubted = bool(silent) and self._mass_silence(now_s)
        for name in silent:
            del self._heard[name]
            believed = not doubted or self._servers[name].state is not State.LIVE
            changes.append(self._signal(name, Signal.SILENT if believed else Signal.DOUBTED, now_s))
        for name in _due(self._suspects, HELD_BACK_S, now_s):
            del self._suspects[name]
            changes.append(self._signal(name, Signal.SILENT, now_s))
        for name in sorted(name for name in self._held if self._servers[name].held_until_s <= now_s):
            self._held.discard(name)
            changes.append(self._signal(name, Signal.RELEASED, now_s))
        return tuple(change for change in changes if change is not None)

    def _members(self, names: Iterable[str], now_s: float) -> None:
        self._servers = {name: self._servers.get(name) or _Server() for name in names}
        for waiting in (self._heard, self._suspects):
            for name in [name for name in waiting if name not in self._servers]:
                del waiting[name]
        self._held &= self._servers.keys()
        for name, server in self._servers.items():
            if server.state is State.UNKNOWN:
                self._heard.setdefault(name, now_s)

    def _beat(self, beat: Beat, now_s: float) -> tuple[Change, ...]:
        server = self._servers.get(beat.name)
        if server is None:
            return ()
        silent_s = now_s - server.touched_s
        # Late beats of a life that ended prove nothing. But order is by the sender's clock, which may step back:
        # after some silence any beat is news, so that nobody is shut out for good.
        if (beat.epoch, beat.seq) <= (server.epoch, server.seq) and silent_s < self.dead_after_s:
            return ()
        server.epoch, server.seq, server.touched_s = beat.epoch, beat.seq, now_s
        server.load += (beat.cpu - server.load) * min(silent_s / LOAD_MEMORY_S, 1.0)
        self._heard[beat.name] = now_s
        self._heard.move_to_end(beat.name)
        signal = Signal.UNREADY if not beat.ready else Signal.FULL if beat.full else Signal.READY
        if signal is Signal.READY and server.state is State.LIVE:
            return ()  # as nearly always
        change = self._signal(beat.name, signal, now_s)
        if change is not None and change.after is State.HELD and server.held_until_s <= now_s:
            return _told(self._signal(beat.name, Signal.RELEASED, now_s))
        return _told(change)

    def _exit(self, name: str, now_s: float) -> tuple[Change, ...]:
        server = self._servers.get(name)
        if server is None:
            return ()
        server.touched_s = now_s
        server.seq = 1 << 62  # whatever that life still sent is late
        return _told(self._signal(name, Signal.EXITED, now_s))

    def _signal(self, name: str, signal: Signal, now_s: float) -> Change | None:
        server = self._servers[name]
        before = server.state
        after = NEXT.get((before, signal), before)
        if after is before:
            return None
        server.state = after
        if after is State.LIVE and before not in ALIVE:
            server.live_since_s = now_s
        if after is State.DEAD and before in ALIVE:
            self._count_death(server, now_s)
        if after is State.DEAD:
            server.certain = signal is Signal.EXITED or before is State.SUSPECT
        self._suspects.pop(name, None)
        self._held.discard(name)
        if after is State.SUSPECT:
            self._suspects[name] = now_s
        if after is State.HELD:
            self._held.add(name)
        if after in (State.SUSPECT, State.DEAD):
            self._heard.pop(name, None)  # until it beats again, no silence is due
        return Change(name, before, after, signal)

    def _count_death(self, server: _Server, now_s: float) -> None:
        server.deaths = 1 if now_s - server.live_since_s >= STEADY_S else server.deaths + 1
        hold_s = FIRST_HOLD_S * 2.0 ** min(server.deaths - 2, 10) if server.deaths > 1 else 0.0
        server.held_until_s = now_s + min(hold_s, HOLD_MAX_S)

    def _mass_silence(self, now_s: float) -> bool:
        """Whether most servers in the map went silent about together: within half the time that makes one dead."""
        live = sum(server.state in IN_MAP for server in self._servers.values())
        silent = _due(self._heard, self.dead_after_s / 2, now_s)
        late = sum(self._servers[name].state is State.LIVE for name in silent)
        return late + len(self._suspects) > live * MASS_SHARE


def _due(times_s: OrderedDict[str, float], wait_s: float, now_s: float) -> list[str]:
    """The keys whose wait is over; the times never decrease."""
    return list(takewhile(lambda name: times_s[name] + wait_s <= now_s, times_s))


def _told(change: Change | None) -> tuple[Change, ...]:
    return () if change is None else (change,)
