"""Whoever wants something purged, a command: puts the order into the log, and waits until every live edge has
confirmed it. The edges' side is ``purges``.

An edge that does not run need not confirm: it reads the log before it serves. That it does not run counts only
where it was seen after the order was in the log; an edge that started before may have looked too early.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Iterable

import msgspec
from msgspec import Struct
from nats.aio.msg import Msg

from nearmile.cache.purge import Order, Position
from nearmile.edge.follower import write_order
from nearmile.services.bus import Bus

DONE_SUBJECT, ASK_SUBJECT = "purge.done", "purge.ask"
# Confirmations come in milliseconds; who has not sent one by then is asked, in case a message was lost.
ASK_AFTER_S = 0.2
# Orders whose objects are counted at a time.
COUNTED_MAX = 1024

Down = Callable[[float], Collection[str]]
"""Which servers were seen not to run, after that time (seconds since 1970)."""


class Confirmation(Struct, frozen=True):
    """A server has applied the orders of that log up to ``seq``, which concerned so many single objects."""

    name: str
    log: str
    seq: int
    objects: int = 0


class Purged(Struct, frozen=True):
    """What came of an order. ``servers`` are those that had to confirm, ``missing`` those that did not."""

    servers: frozenset[str]
    missing: frozenset[str]
    objects: int
    total_s: float


class Purger:
    """On a connected bus; ``servers`` are all edges of the network. Orders may be given side by side."""

    def __init__(self, bus: Bus, servers: Iterable[str]) -> None:
        self._bus, self._servers = bus, frozenset(servers)
        self._log = ""
        self._applied: dict[str, int] = {}
        # Of the latest orders: a confirmation may come before the answer that tells the order's sequence.
        self._objects: dict[int, int] = {}
        self._news = asyncio.Event()
        bus.subscribe(DONE_SUBJECT, self._confirmed)

    async def purge(self, order: Order, down: Down, patience_s: float) -> Purged:
        """Raises BusDown where the order cannot be stored."""
        started_s = time.perf_counter()
        if not self._log:
            self._log = (await self._bus.purge_log())[0]
        seq = await self._bus.put_purge_order(write_order(order), order.id)
        stored_s, excused = time.time(), frozenset[str]()
        while (missing := self._missing(seq) - excused) and time.perf_counter() - started_s < patience_s:
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), ASK_AFTER_S)
            except TimeoutError:
                self._bus.publish(ASK_SUBJECT, msgspec.json.encode(Position(self._log, seq)))
                excused = frozenset(down(stored_s))
        total_s = time.perf_counter() - started_s
        return Purged(self._servers - (excused & self._missing(seq)), missing, self._objects.get(seq, 0), total_s)

    def _missing(self, seq: int) -> frozenset[str]:
        return frozenset(name for name in self._servers if self._applied.get(name, 0) < seq)

    async def _confirmed(self, message: Msg) -> None:
        with contextlib.suppress(msgspec.DecodeError):
            said = msgspec.json.decode(message.data, type=Confirmation)
            if said.log == self._log:
                # It may have lost its place in the log since: the latest word counts.
                self._applied[said.name] = said.seq
                self._objects[said.seq] = self._objects.get(said.seq, 0) + said.objects
                if len(self._objects) > COUNTED_MAX:
                    del self._objects[min(self._objects)]
                self._news.set()
