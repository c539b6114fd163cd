"""Edge servers as the purge scenario has them: production store, marks and follower, between a log and an origin.

What is modelled is what the sockets do: questions to the owner of an object and to the origin that take their
time, several readers who wait for one fetch, a cache kept on the disk by a clean stop. Versions stand for bodies.
"""

from collections.abc import Callable
from functools import partial

from nearmile.cache.key import object_key
from nearmile.cache.policy import Storable
from nearmile.cache.purge import EVERYTHING, Position, believed, marks_of, may_concern
from nearmile.cache.store import MemoryStore
from nearmile.edge.follower import Apply, Command, Follower
from nearmile.mapping.choose import owner
from nearmile.mapping.map import Server
from nearmile.simulate.bus import Bus
from nearmile.simulate.world import Node, World

SERIAL, GROUPS = 1, 5
STORED, DONE, ASKED = "purge.stored", "purge.done", "purge.ask"
# As services.purges and edge.limits.
RECHECK_S, RETRY_S, BUS_PATIENCE_S, OWNER_PATIENCE_S = 5.0, 0.2, 1.0, 0.5
SLOW_S = 2.0
FRESH_S, CACHE_BYTES = 3600.0, 1 << 20

Got = Callable[[int], None]


def key_of(number: int) -> bytes:
    """Objects of a group have the beginning of their path in common."""
    return object_key(SERIAL, b"/%d/%d" % (number % GROUPS, number))


def tags_of(number: int) -> tuple[bytes, ...]:
    """And a tag."""
    return (b"group-%d" % (number % GROUPS), b"object-%d" % number)


class Log(Bus):
    """The bus, with a stream of orders beside the KV: durable, and sent on to whoever hears it."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.orders: list[bytes] = []

    def append(self, node: Node, data: bytes, answer: Callable[[int], None]) -> None:
        """Stores an order and tells its sequence. Where no answer comes, it may be stored all the same."""

        def store() -> None:
            self.orders.append(data)
            seq = len(self.orders)
            self.fan_out(STORED, (seq, data))
            self._tell(node, partial(answer, seq))

        self._ask(node, store)

    def look(self, node: Node, answer: Callable[[str, int, int], None]) -> None:
        """Tells which log it is, and what it holds."""
        self._ask(node, lambda: self._tell(node, partial(answer, "log", 1, len(self.orders))))

    def read(self, node: Node, first: int, last: int, answer: Callable[[int, bytes], None]) -> None:
        """Tells of each of these orders."""
        for seq in range(first, last + 1):
            data = self.orders[seq - 1]
            self._ask(node, partial(self._tell, node, partial(answer, seq, data)))


class Origin(Node):
    """Has the truth: a version of each object."""

    def __init__(self, world: World, objects: int) -> None:
        super().__init__(world, "origin")
        self.versions = [1] * objects

    def change(self, numbers: range) -> None:
        """From now on it answers with a newer version."""
        for number in numbers:
            self.versions[number] += 1

    def pause_s(self) -> float:
        """How long an answer takes: often no time, else up to SLOW_S. It is of the version that it began with."""
        return max(0.0, self.chance.uniform(-SLOW_S, SLOW_S))


class _Fill:
    """One fetch, and who waits for it. What was known at its start decides what may become of it."""

    def __init__(self, life: int, generation: int, position: Position | None) -> None:
        self.life, self.generation, self.position = life, generation, position
        self.waiting: list[Got] = []
        self.asked_origin = False


class CacheNode(Node):
    """One edge server; ``neighbours`` are all of its region, itself among them."""

    def __init__(self, world: World, name: str, log: Log, origin: Origin, neighbours: tuple[str, ...]) -> None:
        super().__init__(world, name)
        self._log, self._origin = log, origin
        self._servers = tuple(Server(name, "", 0) for name in neighbours)
        self.serving = self.informed = False
        """``informed``: has been up to date with the log since it booted. Without a bus it serves what it has."""
        self.store, self.follower = MemoryStore(CACHE_BYTES), Follower(None)
        self._fills: dict[bytes, _Fill] = {}

    def stop(self) -> None:
        """Ends cleanly: the cache and its position stay on the disk."""
        if self.up:
            while self.store.sweep(1024):
                pass
            kept = [(entry.key, entry.kept, entry.body) for entry in self.store]
            self.disk["cache"] = (self.follower.position, kept)
            self.crash()

    def booted(self) -> None:
        self.store, self._fills, self.serving = MemoryStore(CACHE_BYTES), {}, False
        self.informed = False
        position, kept = self.disk.pop("cache", (None, []))
        for key, terms, body in kept:
            self.store.restore(key, (), b"", terms, b"", body)
        self.follower = Follower(position)
        self._log.join(self)
        self._log.subscribe(self, STORED, lambda said: self._arrived(*said))
        self._log.subscribe(self, ASKED, self._asked)
        self.after(BUS_PATIENCE_S, self._open_without_bus)
        self._look()

    def crashed(self) -> None:
        self.serving = False

    def bus_back(self) -> None:
        self._look(again=False)

    def bus_lost(self) -> None:
        self.follower.lost()
        self.serving = True

    def get(self, number: int, got: Got, hop: bool = False) -> None:
        """A request: calls back with the version, now or later, or never where the origin does not answer."""
        key = key_of(number)
        entry = self.store.get(key, ())
        if entry is not None and self.now_s() < entry.fresh_until_s:
            got(int(bytes(entry.body)))
            return
        fill = self._fills.get(key)
        if fill is None:
            fill = self._fills[key] = _Fill(self.life, self.store.generation, self.follower.position)
            owns = owner(key, self._servers).name
            if hop or owns == self.name:
                self._ask_origin(number, fill)
            else:
                self._ask_owner(number, fill, owns)
        fill.waiting.append(got)

    def _ask_owner(self, number: int, fill: _Fill, name: str) -> None:
        there, send = self.world.nodes[name], self.world.network.send
        assert isinstance(there, CacheNode)

        def question() -> None:
            if there.serving:
                position = there.follower.position
                there.get(number, lambda version: answer(version, position), hop=True)

        def answer(version: int, position: Position | None) -> None:
            send(name, self.name, self.guarded(partial(self._owner_answered, number, fill, version, position)))

        send(self.name, name, there.guarded(question))
        self.after(OWNER_PATIENCE_S, partial(self._ask_origin, number, fill))

    def _owner_answered(self, number: int, fill: _Fill, version: int, said: Position | None) -> None:
        if fill.asked_origin or fill.life != self.life:
            return
        if believed(said, fill.position):
            fill.asked_origin = True
            self._filled(number, fill, version)
        else:
            self._ask_origin(number, fill)

    def _ask_origin(self, number: int, fill: _Fill) -> None:
        if fill.asked_origin:
            return
        fill.asked_origin = True
        send, origin = self.world.network.send, self._origin

        def question() -> None:
            version = origin.versions[number]
            back = self.guarded(partial(self._filled, number, fill, version))
            origin.after(origin.pause_s(), partial(send, origin.name, self.name, back))

        send(self.name, origin.name, origin.guarded(question))

    def _filled(self, number: int, fill: _Fill, version: int) -> None:
        if fill.life != self.life:
            return
        key, now_s = key_of(number), self.now_s()
        terms = Storable(
            200, now_s, now_s + FRESH_S, 0, 0, False, False, (), b'"x"', None, 0, None, tags_of(number)
        )
        self.store.put(key, (), terms, b"", b"%d" % version, fill.generation)
        if self._fills.get(key) is fill:
            del self._fills[key]
        for got in fill.waiting:
            got(version)

    def _open_without_bus(self) -> None:
        if not self._log.connected(self):
            self.serving = True

    def _look(self, again: bool = True) -> None:
        self.follower.looking()
        self._log.look(self, lambda log, first, last: self._carry_out(self.follower.looked(log, first, last)))
        if again:
            self.after(RECHECK_S if self.follower.current else RETRY_S, self._look)

    def _asked(self, wanted: int) -> None:
        position = self.follower.position
        if position is not None and self.follower.current and position.seq >= wanted:
            self._log.publish(self, DONE, (self.name, position.seq))
        else:
            self._look(again=False)

    def _arrived(self, seq: int, data: bytes) -> None:
        self._carry_out(self.follower.arrived(seq, data))

    def _carry_out(self, commands: list[Command]) -> None:
        for command in commands:
            if not isinstance(command, Apply):
                self._log.read(self, command.first, command.last, self._arrived)
                continue
            order = command.order
            for mark in (EVERYTHING,) if order is None else marks_of(order):
                for key in [key for key in self._fills if may_concern(mark, key)]:
                    del self._fills[key]
                self.store.mark(mark, self.now_s() if order is not None and order.soft else None)
            self._log.publish(self, DONE, (self.name, command.position.seq))
        if self.follower.current:
            self.serving = self.informed = True
