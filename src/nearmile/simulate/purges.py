"""Scenario 2: purges while servers crash, restart with their caches, hang, and lose the bus and each other.

Readers ask every server that serves, all the time; one by one objects change at the origin and are purged, by URL,
prefix and tag, hard and soft. No request that began after an order was confirmed may get what it purged.
"""

from collections.abc import Callable, Collection, Sequence
from functools import partial

from msgspec import Struct

from nearmile.cache.purge import Kind, Order
from nearmile.edge.follower import write_order
from nearmile.simulate.caches import ASKED, DONE, GROUPS, SERIAL, CacheNode, Log, Origin, key_of
from nearmile.simulate.checks import Found
from nearmile.simulate.world import Node, World

QUIET_S = 5.0
# As services.purger: who has not confirmed is asked, and an order is given up.
ASK_AFTER_S, PATIENCE_S = 0.2, 3.0

Mend = Callable[[], None]


class Scale(Struct, frozen=True, kw_only=True):
    """How large the scenario is and how rough: mean times."""

    regions: int = 4
    servers: int = 3
    """In each region."""
    objects: int = 20
    loss: float = 0.02
    read_every_s: float = 0.05
    purge_every_s: float = 0.5
    fault_every_s: float = 2.0
    fault_lasts_s: float = 3.0


class Read(Struct, frozen=True):
    """A request and what it got."""

    server: str
    number: int
    asked_s: float
    version: int


class Confirmed(Struct, frozen=True):
    """From that time on nobody may get less than this version."""

    number: int
    at_s: float
    version: int


class _Purge:
    """An order that waits for its confirmations."""

    def __init__(self, numbers: range, versions: dict[int, int]) -> None:
        self.numbers, self.versions = numbers, versions
        self.seq = 0
        self.over = False


class Purges:
    """One run of the scenario."""

    def __init__(self, seed: int, scale: Scale) -> None:
        self.scale = scale
        self.world = World(seed, scale.loss)
        self.reads: list[Read] = []
        self.confirmed: list[Confirmed] = []
        self.orders = 0
        self.log = Log(self.world)
        self.origin = Origin(self.world, scale.objects)
        self.edges: list[CacheNode] = []
        for region in range(scale.regions):
            names = tuple(f"r{region}-{number}" for number in range(scale.servers))
            self.edges += [CacheNode(self.world, name, self.log, self.origin, names) for name in names]
        self.operator = Node(self.world, "operator")
        self._chance = self.world.chance("purges")
        self._applied: dict[str, int] = {}
        self._waiting: list[_Purge] = []
        for node in self.world.nodes.values():
            node.boot()
        self.log.join(self.operator)
        self.log.subscribe(self.operator, DONE, self._done)

    def run(self, for_s: float) -> None:
        """Lets the world go on for that long, under faults after a quiet beginning."""
        clock, scale = self.world.clock, self.scale
        for edge in self.edges:
            self._again(scale.read_every_s, partial(self._read, edge))
        clock.after(QUIET_S, partial(self._again, scale.purge_every_s, self._purge))
        clock.after(QUIET_S, partial(self._again, scale.fault_every_s, self._fault))
        clock.run_until(QUIET_S + for_s)

    def check(self) -> Found:
        """No stale object after an acknowledged purge."""
        violations: list[str] = []
        must: dict[int, list[Confirmed]] = {}
        for one in self.confirmed:
            must.setdefault(one.number, []).append(one)
        for read in self.reads:
            least = max((c.version for c in must.get(read.number, ()) if c.at_s < read.asked_s), default=0)
            if read.version < least:
                what = f"version {read.version} of {read.number}, not {least}"
                violations.append(f"{read.asked_s:.3f} s: {read.server} gives {what}")
        return Found(violations, len(self.reads))

    def _again(self, mean_s: float, act: Callable[[], None]) -> None:
        """Does it again and again, after pauses of that mean."""

        def next_time() -> None:
            act()
            self._again(mean_s, act)

        self.world.clock.after(self._chance.expovariate(1 / mean_s), next_time)

    def _read(self, edge: CacheNode) -> None:
        if edge.working and edge.serving and edge.informed:
            number, asked_s = self._chance.randrange(self.scale.objects), self.world.clock.now_s
            edge.get(number, lambda version: self.reads.append(Read(edge.name, number, asked_s, version)))

    def _purge(self) -> None:
        """Something changes, and is purged."""
        self.orders += 1
        number, soft = self._chance.randrange(self.scale.objects), self._chance.random() < 0.3
        one, group = range(number, number + 1), range(number % GROUPS, self.scale.objects, GROUPS)
        choices: tuple[tuple[Kind, str, range], ...] = (
            ("url", key_of(number)[3:].decode(), one),
            ("tag", f"object-{number}", one),
            ("prefix", f"/{number % GROUPS}/", group),
            ("tag", f"group-{number % GROUPS}", group),
        )
        kind, value, numbers = self._chance.choice(choices)
        self.origin.change(numbers)
        purge = _Purge(numbers, {n: self.origin.versions[n] for n in numbers})
        order = Order(str(self.orders), SERIAL, kind, (value,), soft)
        self._waiting.append(purge)
        self.log.append(self.operator, write_order(order), partial(self._stored, purge))
        self.world.clock.after(PATIENCE_S, lambda: setattr(purge, "over", True))

    def _stored(self, purge: _Purge, seq: int) -> None:
        purge.seq = seq
        self._settle()
        self.world.clock.after(ASK_AFTER_S, partial(self._ask, purge))

    def _ask(self, purge: _Purge) -> None:
        """Who has not confirmed is asked; who does not run, seen after the order was stored, is not waited for."""
        if purge.over:
            return
        self.log.publish(self.operator, ASKED, purge.seq)
        if down := {edge.name for edge in self.edges if not edge.up}:
            self._settle(down)
        self.world.clock.after(ASK_AFTER_S, partial(self._ask, purge))

    def _done(self, said: tuple[str, int]) -> None:
        name, seq = said
        self._applied[name] = max(seq, self._applied.get(name, 0))
        self._settle()

    def _settle(self, down: Collection[str] = ()) -> None:
        """Confirms what all have applied but those that are down."""
        for purge in self._waiting:
            needed = [edge.name for edge in self.edges if edge.name not in down]
            if purge.seq and not purge.over and all(self._applied.get(name, 0) >= purge.seq for name in needed):
                purge.over = True
                now_s = self.world.clock.now_s
                self.confirmed += [Confirmed(number, now_s, purge.versions[number]) for number in purge.numbers]
        self._waiting = [purge for purge in self._waiting if not purge.over]

    def _fault(self) -> None:
        lasts_s = self._chance.expovariate(1 / self.scale.fault_lasts_s)
        edge = self._chance.choice(self.edges)
        kinds: Sequence[tuple[float, Callable[[], Mend]]] = (
            (3, partial(self._end, edge, edge.crash)),
            (4, partial(self._end, edge, edge.stop)),
            (2, partial(self._end, edge, partial(edge.freeze, lasts_s))),
            (4, partial(self._cut, edge, self.log)),
            (3, partial(self._cut, edge, self._chance.choice(self.edges))),
            (1, partial(self._end, self.log, self.log.crash)),
        )
        (fault,) = self._chance.choices([fault for _, fault in kinds], [weight for weight, _ in kinds])
        self.world.clock.after(lasts_s, fault())

    def _end(self, node: Node, how: Callable[[], None]) -> Mend:
        how()
        return node.boot

    def _cut(self, one: Node, other: Node) -> Mend:
        """A path in one direction or both."""
        ways = self._chance.choice(("to", "from", "both"))
        network = self.world.network
        heals = [network.cut([one.name], [other.name])] if ways in ("to", "both") else []
        heals += [network.cut([other.name], [one.name])] if ways in ("from", "both") else []

        def changed() -> None:
            for edge in self.edges:
                self.log.path_changed(edge)

        def mend() -> None:
            for heal in heals:
                heal()
            changed()

        changed()
        return mend
