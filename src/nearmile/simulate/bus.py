"""A model of the bus as ``services.bus`` gives it: subjects, and a KV with compare-and-swap and watches.

The KV is one place, so it is linearizable; a write whose answer is lost may have been done all the same. A
client's connection breaks some time after the path does, in either direction, and is renewed some time after it
heals.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from nearmile.fleet.lease import Outcome
from nearmile.simulate.world import Node, World

# A path that swallows everything is noticed by missing pongs; one whose far end died, at once.
NOTICE_MAX_S, RESET_MAX_S = 10.0, 0.05
RECONNECT_MAX_S = 0.6
# As services.bus: REQUEST_TIMEOUT_S and WATCH_RECHECK_S.
REQUEST_TIMEOUT_S, RECHECK_S = 2.0, 5.0

Receive = Callable[[Any], None]
Key = tuple[str, str]
Seen = Callable[[int, Any], None]


class _Client:
    """One node's connection."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.connected = False
        self.watches: dict[Key, Seen] = {}


class Bus(Node):
    """The server, a node like others: it can crash, freeze and be cut off; what the KV holds is durable."""

    def __init__(self, world: World) -> None:
        super().__init__(world, "bus")
        self.held: dict[Key, tuple[int, Any]] = {}
        self.on_write: list[Callable[[str, Key, Any], None]] = []
        self._clients: dict[str, _Client] = {}
        self._subscribers: dict[str, dict[str, Receive]] = {}

    def connected(self, node: Node) -> bool:
        """Whether the node believes it is connected."""
        client = self._clients.get(node.name)
        return client is not None and client.connected and node.up

    def reachable(self, node: Node) -> bool:
        """Whether messages pass both ways between the node and a living bus."""
        network = self.world.network
        return self.working and network.open(node.name, self.name) and network.open(self.name, node.name)

    def join(self, node: Node) -> None:
        """A node that booted begins to connect."""
        self._clients[node.name] = _Client(node)
        self.path_changed(node)

    def path_changed(self, node: Node) -> None:
        """Something happened to the path or to the bus: the client will notice, in time."""
        client = self._clients.get(node.name)
        if client is None or not node.up:
            return
        if self.reachable(node):
            if not client.connected:
                node.after(RECONNECT_MAX_S * self.chance.random(), partial(self._connect, client))
        elif client.connected:
            notice_s = NOTICE_MAX_S if self.up else RESET_MAX_S
            node.after(notice_s * self.chance.random(), partial(self._disconnect, client))

    def subscribe(self, node: Node, subject: str, receive: Receive) -> None:
        """Messages on the subject go to the node, while it lives and is connected."""
        self._subscribers.setdefault(subject, {})[node.name] = receive

    def watch(self, node: Node, key: Key, seen: Seen) -> None:
        """The node learns the key's revision and value when it connects, at each change, and now and then."""
        self._clients[node.name].watches[key] = seen
        self._recheck(node, key, seen)

    def publish(self, node: Node, subject: str, message: Any) -> None:
        """Best effort, at most once."""
        if self.connected(node):
            arrive = partial(self.fan_out, subject, message)
            self.world.network.send(node.name, self.name, arrive, reliable=False)

    def fan_out(self, subject: str, message: Any) -> None:
        """A message has reached the server, which sends it on to the subscribers."""
        if not self.working:
            return
        send = self.world.network.send
        for name, receive in self._subscribers.get(subject, {}).items():
            client = self._clients[name]
            if client.connected:
                send(self.name, name, client.node.guarded(partial(receive, message)), False)

    def get(self, node: Node, key: Key, seen: Seen) -> None:
        """Reads; no answer where there is none. Revision 0 and None stand for nothing."""
        self._ask(node, lambda: self._tell(node, partial(seen, *self.held.get(key, (0, None)))))

    def put(self, node: Node, key: Key, value: Any, expected: int, answer: Callable[[Outcome, int], None]) -> None:
        """Compare-and-swap; the answer comes exactly once, ``FAILED`` where none came in time."""
        waiting = [answer]

        def settle(outcome: Outcome, revision: int) -> None:
            if waiting:
                waiting.pop()(outcome, revision)

        def write() -> None:
            revision = self.held.get(key, (0, None))[0]
            outcome = Outcome.WON if revision == expected else Outcome.LOST
            if outcome is Outcome.WON:
                revision += 1
                self._write(node, key, revision, value)
            self._tell(node, partial(settle, outcome, revision))

        self._ask(node, write)
        node.after(REQUEST_TIMEOUT_S, partial(settle, Outcome.FAILED, 0))

    def booted(self) -> None:
        self.everybodys_path_changed()

    def crashed(self) -> None:
        self.everybodys_path_changed()

    def everybodys_path_changed(self) -> None:
        """Every client will notice that the bus came or went."""
        for client in self._clients.values():
            self.path_changed(client.node)

    def _connect(self, client: _Client) -> None:
        if client is self._clients[client.node.name] and not client.connected and self.reachable(client.node):
            client.connected = True
            self.world.clock.note(f"{client.node.name} connects")
            client.node.bus_back()
            self.world.changed()
            for key, seen in client.watches.items():
                self.get(client.node, key, seen)

    def _disconnect(self, client: _Client) -> None:
        if client is self._clients[client.node.name] and client.connected and not self.reachable(client.node):
            client.connected = False
            self.world.clock.note(f"{client.node.name} loses the bus")
            client.node.bus_lost()
            self.world.changed()
            # The path may have healed between two looks.
            self.path_changed(client.node)

    def _ask(self, node: Node, act: Callable[[], None]) -> None:
        if self.connected(node):
            self.world.network.send(node.name, self.name, self.guarded(act))

    def _tell(self, node: Node, act: Callable[[], None]) -> None:
        if self.connected(node):
            self.world.network.send(self.name, node.name, node.guarded(act))

    def _write(self, writer: Node, key: Key, revision: int, value: Any) -> None:
        self.held[key] = (revision, value)
        for heard in self.on_write:
            heard(writer.name, key, value)
        for client in self._clients.values():
            seen = client.watches.get(key)
            if seen is not None:
                self._tell(client.node, partial(seen, revision, value))

    def _recheck(self, node: Node, key: Key, seen: Seen) -> None:
        self.get(node, key, seen)
        node.after(RECHECK_S, partial(self._recheck, node, key, seen))
