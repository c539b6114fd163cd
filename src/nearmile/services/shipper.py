"""Hits on their way from an edge's disk into the stream: sealed each second, sent in order, forgotten when stored.

While the bus is down hits stay in the journal, in full segments; once it is up they go by themselves. A segment
that was sent twice has the same message id, and the collector counts it once.
"""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Mapping
from typing import cast

import msgspec

from nearmile.base.geography import Place
from nearmile.mapping import demand
from nearmile.mapping.classes import serials_of
from nearmile.mapping.demand import DemandArrived
from nearmile.mapping.map import unit_of
from nearmile.reports.disk import Journal, SegmentId
from nearmile.reports.segment import Steps, T, damage, hits_by_place
from nearmile.services.bus import FAULTS, HITS_STREAM, HITS_SUBJECT, MESSAGE_ID, BusDown
from nearmile.services.runtime import Runtime
from nearmile.services.trouble import Trouble

log = logging.getLogger("nearmile.shipper")

SEAL_S = 1.0
# Segments on the wire at once: each up to 1 MB, and an acknowledgement takes a few milliseconds.
IN_FLIGHT_MAX = 8
# Between two steps of work, of 0.2 ms at most, on slots of 8,192 hits: so no client waits for two of them.
STEP_PAUSE_S = 0.005
# The same between the pieces of what its thread has to do, which are shorter, and more: 15 ms in all for a slot.
PIECE_PAUSE_S = 0.001
# With these pauses 150,000 hits/s can be sealed, without ten times as many: whom more waits for makes none.
HURRY_SLOTS = 16
ACK_TIMEOUT_S = 3.0
# The last hits of a process that ends: what cannot be sent by then waits on disk for the next start.
FLUSH_S = 2.0


class Shipper:
    """Ships one journal."""

    def __init__(self, runtime: Runtime, journal: Journal) -> None:
        self._runtime, self._journal = runtime, journal
        self._subject = f"{HITS_SUBJECT}.{journal.server}"
        self._turn = asyncio.Lock()
        self._waiting = Trouble(log, "hits wait on disk", "hits wait no more")

    async def run(self) -> None:
        """Ships until the process is told to stop, and then what is left, for a bounded time."""
        stopping, clock = self._runtime.stopping, asyncio.get_running_loop().time
        while not stopping.is_set():
            next_s = clock() + SEAL_S
            await self.ship()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), max(0.0, next_s - clock()))
        await self.flush()

    async def flush(self, limit_s: float = FLUSH_S) -> None:
        """Seals and sends what there is now; returns after ``limit_s`` at the latest."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.ship(), limit_s)

    async def ship(self) -> None:
        """One turn: close the current slot, seal, send for a second at most; what fails is tried the next turn."""
        async with self._turn:
            journal, bus, clock = self._journal, self._runtime.bus, asyncio.get_running_loop().time
            until_s, why = clock() + SEAL_S, ""
            if bus.up and not journal.unsealed:  # who closes more, while the disk takes none, runs out of slots
                journal.roll()
            try:
                await self._seal()
                while bus.up and clock() < until_s and (batch := journal.pending(IN_FLIGHT_MAX)):
                    sends = (self._send(segment, n * STEP_PAUSE_S) for n, segment in enumerate(batch))
                    if why := next(filter(None, await asyncio.gather(*sends)), ""):
                        break
            except OSError as error:
                why = str(error)
            if why or bus.up:
                self._waiting.tell(why)
            self._runtime.detail["hits_unsent_bytes"] = journal.unsent_bytes
            self._runtime.detail["hits_lost"] = journal.lost

    async def _seal(self) -> None:
        """Seals all closed slots: at leisure or, once many wait, without a pause."""
        journal, leisure = self._journal, 1
        while journal.unsealed:
            if journal.unsealed > HURRY_SLOTS:
                leisure = 0
            if (closed := await _by_and_by(journal.drafting(), leisure * STEP_PAUSE_S)) is not None:
                await asyncio.to_thread(journal.seal, *closed, leisure * PIECE_PAUSE_S)

    async def _send(self, segment: SegmentId, wait_s: float) -> str:
        """Returns why it was not sent; "" if it was."""
        await asyncio.sleep(wait_s)
        journal = self._journal
        name = journal.message_id(segment)
        try:
            data = journal.read(segment)
            reason = damage(data)
        except FileNotFoundError:
            reason = "it has gone from the disk"
        if reason:
            log.error("the hits of segment %s are lost: %s", name, reason)
            journal.forget(segment)
            return ""
        try:
            js = self._runtime.bus.js
            await js.publish(
                self._subject, data, timeout=ACK_TIMEOUT_S, stream=HITS_STREAM, headers={MESSAGE_ID: name}
            )
        except (*FAULTS, BusDown) as error:
            return f"segment {name}: {error!r}"
        self._tell_demand(data)
        journal.forget(segment)
        return ""

    def _tell_demand(self, data: bytes) -> None:
        """Tells the controllers where the segment's hits came from; what is old is no demand of now."""
        apart = serials_of(self._runtime.config)
        pages, downloads = map(_by_unit, hits_by_place(data, time.time() - demand.RECENT_S, apart))
        if pages or downloads:
            told = msgspec.msgpack.encode(DemandArrived(pages, downloads))
            self._runtime.bus.publish(f"{demand.SUBJECT}.{self._journal.server}", told)


async def _by_and_by(steps: Steps[T], pause_s: float) -> T:
    """The loop catches up with its clients between two steps."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return cast(T, end.value)
        await asyncio.sleep(pause_s)


def _by_unit(hits: Mapping[tuple[str, str], int]) -> dict[str, int]:
    """Of the busiest."""
    counts = Counter[str]()
    for (country, state), count in hits.items():
        counts[unit_of(Place(country=country, state=state))] += count
    return dict(counts.most_common(demand.TOLD_MAX))
