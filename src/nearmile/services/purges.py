"""Purge orders at an edge, which obeys them: heard on the bus, applied in sequence, confirmed.

Who gives them is ``purger``; what comes next is decided in ``edge.follower``.
"""

import asyncio
import contextlib
import logging

import msgspec
from nats.aio.msg import Msg

from nearmile.cache.purge import Position
from nearmile.edge.follower import Apply, Command, Follower
from nearmile.edge.node import Node
from nearmile.services.bus import PURGE_STORED, SEQUENCE, Bus, BusDown
from nearmile.services.purger import ASK_SUBJECT, DONE_SUBJECT, Confirmation

log = logging.getLogger("nearmile.purges")

# A lost message is missed for no longer than this, or until somebody asks.
RECHECK_S, RETRY_S = 5.0, 0.2
# At the start: a bus that is up answers in milliseconds; then a week of orders can be read.
BUS_PATIENCE_S, CATCH_UP_PATIENCE_S = 1.0, 30.0
# The store's sweep: an object takes 2 to 3 us to look at.
SWEEP_OBJECTS, SWEEP_PAUSE_S, SWEEP_LOOK_S = 512, 0.02, 1.0


class Purges:
    """One edge's. ``run`` goes on until it is cancelled."""

    def __init__(self, bus: Bus, node: Node) -> None:
        self._bus, self._node = bus, node
        self._follower = Follower(node.position)
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()
        self._missing: range | None = None
        bus.subscribe(PURGE_STORED, self._stored)
        bus.subscribe(ASK_SUBJECT, self._asked)
        bus.on_up.append(self._wake.set)
        bus.on_down.append(self._lost)

    async def settled(self) -> None:
        """Returns when nothing stored here is older than a purge; without a bus soon, on what was known last."""
        if await self._bus.connected(BUS_PATIENCE_S):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._settled.wait(), CATCH_UP_PATIENCE_S)
        if not self._follower.current:
            log.warning("the purge orders cannot be read: serving what was stored before")

    async def run(self) -> None:
        """Keeps up with the log, and sweeps the store."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow())
            tasks.create_task(self._sweep())

    async def _follow(self) -> None:
        """Looks at the log on each connection, now and then, and when something is missing."""
        while True:
            self._wake.clear()
            try:
                await (self._look() if self._missing is None else self._fetch(self._missing))
            except BusDown as error:
                self._missing = None
                log.debug("%s", error)
            except Exception:  # whatever it is: an edge that no longer hears of purges must try again
                self._missing = None
                log.exception("purge orders could not be followed")
            if self._missing is None:
                pause_s = RECHECK_S if self._follower.current else RETRY_S
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), pause_s)

    async def _sweep(self) -> None:
        """Gives back the room of what was purged by prefix or tag, a little at a time, for ever."""
        while True:
            more = self._node.store.sweep(SWEEP_OBJECTS)
            await asyncio.sleep(SWEEP_PAUSE_S if more else SWEEP_LOOK_S)

    async def _look(self) -> None:
        self._follower.looking()
        self._do(self._follower.looked(*await self._bus.purge_log()))

    async def _fetch(self, missing: range) -> None:
        self._missing = None
        found = await asyncio.gather(*(self._bus.purge_order(seq) for seq in missing))
        for seq, data in zip(missing, found, strict=True):
            self._do(self._follower.arrived(seq, data))

    async def _stored(self, message: Msg) -> None:
        seq = (message.headers or {}).get(SEQUENCE, "")
        if seq.isdigit():
            self._do(self._follower.arrived(int(seq), message.data))

    async def _asked(self, message: Msg) -> None:
        """Somebody waits for the confirmation of an order."""
        with contextlib.suppress(msgspec.DecodeError):
            wanted = msgspec.json.decode(message.data, type=Position)
            position = self._follower.position
            if position is not None and position.covers(wanted):
                self._confirm(position, 0)
            else:
                self._wake.set()

    def _do(self, commands: list[Command]) -> None:
        for command in commands:
            if not isinstance(command, Apply):
                self._missing = range(command.first, command.last + 1)
                self._wake.set()
            elif command.order is None:
                if self._node.store.used_bytes:
                    log.warning("purge orders were missed, or cannot be read: the cache is emptied")
                self._node.purge_all(command.position)
                self._confirm(command.position, 0)
            else:
                self._confirm(command.position, self._node.purge(command.order, command.position))
        if self._follower.current:
            self._settled.set()

    def _confirm(self, position: Position, objects: int) -> None:
        said = Confirmation(self._node.me.name, position.log, position.seq, objects)
        self._bus.publish(DONE_SUBJECT, msgspec.json.encode(said))

    def _lost(self) -> None:
        self._follower.lost()
        self._settled.set()
