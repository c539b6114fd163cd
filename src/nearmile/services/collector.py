"""The collector: takes segments of hits from the stream into the report store, and answers for them.

A segment is acknowledged only after the transaction that counts it: killed at any moment, the collector gets it
again, and the store knows whether it was counted. DuckDB works in one thread of its own.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Annotated, Any, TypeVar

import duckdb
import msgspec
from msgspec import Meta, Struct
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig

from nearmile.base.errors import NearmileError
from nearmile.config.layout import Config
from nearmile.reports.segment import Damaged, Segment, decode
from nearmile.reports.store import Store, StoreHeld, of_machine, open_store
from nearmile.services import leftovers
from nearmile.services.bus import FAULTS, HITS_STREAM, HITS_SUBJECT, REPORT_SUBJECT, BusDown
from nearmile.services.runtime import Runtime
from nearmile.services.trouble import START_S, Trouble

log = logging.getLogger("nearmile.collector")
T = TypeVar("T")

CONSUMER = "collector"
# Segments of a transaction: a commit costs milliseconds, a segment up to 1 MB of memory.
BATCH_MAX = 64
BATCH_WAIT_S = 0.5
# A segment not acknowledged comes again after so long; a batch takes a tenth of a second.
ACK_WAIT_S = 5.0
RETRY_S = 0.3
# Opening takes 0.1 s of a core; what was fetched for nothing comes again after ACK_WAIT_S.
REOPEN_PAUSE_S = 4.0
# A predecessor that is being stopped may hold the file for a moment.
OPEN_TIMEOUT_S = 10.0
# Reports that wait their turn; more are told to come again.
REPORTS_WAITING_MAX = 32
RETENTION_PAUSE_S = 3600.0
DAMAGED_KEPT_MAX = 64


class ReportRequest(Struct, frozen=True):
    """The question on the bus subject ``report``."""

    last_s: Annotated[int, Meta(ge=0)] | None = None
    by: tuple[str, ...] = ()


async def run(runtime: Runtime) -> None:
    """The whole life of the collector. Raises duckdb.Error where the store itself is at fault."""
    with ThreadPoolExecutor(1, "store") as thread:
        await Collector(runtime, thread).run()


class Collector:
    """The stream on one side, the store on the other."""

    def __init__(self, runtime: Runtime, thread: ThreadPoolExecutor) -> None:
        self._runtime, self._thread = runtime, thread
        self._store: Store | None = None
        self._answers = False
        self._reports_waiting = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._retaining: asyncio.Task[None] | None = None
        self._failing = Trouble(
            log, "the report store fails, and hits wait in their stream", "hits are counted again"
        )

    async def run(self) -> None:
        """Counts hits, and answers, until the process is told to stop.

        Where the machine is at fault, as its disk is full or the folder is another user's, the store is opened
        again and again: who ended for it would be taken for one that cannot start, and sleep for minutes when all
        is well again.
        """
        runtime = self._runtime
        runtime.on_config(self._take_config)
        self._spawn(leftovers.ship(runtime))
        stopping = asyncio.create_task(runtime.stopping.wait())
        try:
            while not stopping.done():
                try:
                    await self._open()
                    self._take_requests()
                    await self._collect(stopping)
                except (duckdb.Error, NearmileError) as error:
                    if not of_machine(error):
                        raise
                    self._failing.tell(str(error))
                    self._take_requests()
                    runtime.ready = False
                    await self._close()
                    await asyncio.wait([stopping], timeout=REOPEN_PAUSE_S)
        finally:
            for task in (*self._tasks, stopping):
                task.cancel()
            await self._close()

    async def _open(self) -> None:
        path = self._runtime.folder / "hits.duckdb"
        deadline_s = time.monotonic() + OPEN_TIMEOUT_S
        while self._store is None:
            reports = self._runtime.config.network.reports
            try:
                self._store = await self._in_thread(partial(open_store, path, reports, int(time.time() * 1000)))
            except StoreHeld:
                if time.monotonic() > deadline_s:
                    raise
                await asyncio.sleep(RETRY_S)
        await self._settle(self._store, self._runtime.config)
        await self._forget_old(self._store)
        self._retaining = self._spawn(self._retain(self._store))

    async def _close(self) -> None:
        """Lets the file go."""
        if self._retaining is not None:
            self._retaining.cancel()
        store, self._store = self._store, None
        if store is not None:
            with contextlib.suppress(duckdb.Error):
                await self._in_thread(store.close)

    async def _collect(self, stopping: asyncio.Task[bool]) -> None:
        """Segments into the store until the process is told to stop."""
        waiting = Trouble(
            log, "hits wait in their stream (nats.log may say why)", "hits wait no more in their stream", START_S
        )
        while not stopping.done():
            consumer = None
            try:
                consumer = await self._attach()
                self._runtime.ready = True
                while not stopping.done():
                    await self._take_batch(consumer, stopping)
                    waiting.tell("")
            except (*FAULTS, BusDown) as error:
                waiting.tell(f"{type(error).__name__} {error}")
                await asyncio.wait([stopping], timeout=RETRY_S)
            finally:
                if consumer is not None:
                    with contextlib.suppress(*FAULTS):
                        await consumer.unsubscribe()

    async def _attach(self) -> JetStreamContext.PullSubscription:
        # In memory: what was acknowledged is in the stream no more, and what comes again is not counted again, so
        # a file would tell nothing. But where one is damaged, NATS does not open it any more, nor makes another.
        config = ConsumerConfig(ack_wait=ACK_WAIT_S, max_ack_pending=2 * BATCH_MAX, mem_storage=True)
        js = self._runtime.bus.js
        return await js.pull_subscribe(f"{HITS_SUBJECT}.*", durable=CONSUMER, stream=HITS_STREAM, config=config)

    async def _take_batch(self, consumer: JetStreamContext.PullSubscription, stopping: asyncio.Task[bool]) -> None:
        fetch = asyncio.create_task(consumer.fetch(BATCH_MAX, BATCH_WAIT_S))
        await asyncio.wait([fetch, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not fetch.done():
            fetch.cancel()
            await asyncio.wait([fetch])
            return
        try:
            messages = fetch.result()
        except TimeoutError:
            if not self._runtime.bus.up:
                raise
            return
        await self._apply(messages)

    async def _apply(self, messages: list[Msg]) -> None:
        """Counts a batch, then acknowledges it."""
        store = self._store
        assert store is not None
        segments: list[Segment] = []
        contents = await self._in_thread(lambda: [decode(message.data) for message in messages])
        for message, content in zip(messages, contents, strict=True):
            if isinstance(content, Segment):
                segments.append(content)
            else:
                self._set_aside(message, content)
        new = await self._in_thread(partial(store.apply, segments))
        self._failing.tell("")
        detail = self._runtime.detail
        detail["segments"] = detail.get("segments", 0) + len(new)
        detail["hits"] = detail.get("hits", 0) + sum(header.hits for header in new)
        for message in messages:
            await message.ack()

    def _set_aside(self, message: Msg, damaged: Damaged) -> None:
        """Keeps a segment that cannot be counted for a person to look at."""
        path = self._runtime.folder / "damaged" / f"{message.subject}-{message.metadata.sequence.stream}.seg"
        with contextlib.suppress(OSError):  # a full disk must not keep what cannot be counted in the stream
            path.parent.mkdir(exist_ok=True)
            if sum(1 for _ in path.parent.iterdir()) < DAMAGED_KEPT_MAX:
                path.write_bytes(message.data)
        log.error("a segment from %s is not counted: %s; see %s", message.subject, damaged.reason, path)
        self._runtime.detail["segments_damaged"] = self._runtime.detail.get("segments_damaged", 0) + 1

    def _take_config(self, config: Config) -> None:
        if self._store is not None:
            self._spawn(self._settle(self._store, config))

    async def _settle(self, store: Store, config: Config) -> None:
        """The store goes by that configuration."""
        store.reports = config.network.reports
        names = {site.serial: site.name for site in config.sites}
        await self._in_thread(partial(store.name_sites, names))

    async def _retain(self, store: Store) -> None:
        while True:
            await asyncio.sleep(RETENTION_PAUSE_S)
            await self._forget_old(store)

    async def _forget_old(self, store: Store) -> None:
        await self._in_thread(partial(store.forget_old, int(time.time())))

    def _take_requests(self) -> None:
        """Once the store has been opened, or could not be."""
        if not self._answers:
            self._answers = True
            self._runtime.bus.subscribe(REPORT_SUBJECT, self._take_request)

    async def _take_request(self, message: Msg) -> None:
        if self._reports_waiting >= REPORTS_WAITING_MAX:
            await message.respond(_error("the collector is busy; ask again in a moment"))
            return
        self._reports_waiting += 1
        self._spawn(self._answer(message))

    async def _answer(self, message: Msg) -> None:
        try:
            if (store := self._store) is None:
                raise NearmileError("the report store cannot be opened now; the collector's log says why")
            ask = msgspec.json.decode(message.data, type=ReportRequest)
            report = await self._in_thread(partial(store.report, ask.last_s, ask.by, int(time.time())))
            reply = msgspec.json.encode(report)
        except (NearmileError, msgspec.DecodeError) as error:
            reply = _error(str(error))
        except duckdb.Error as error:
            log.error("a report failed: %s", error)
            reply = _error(f"the report store failed: {error}")
        finally:
            self._reports_waiting -= 1
        with contextlib.suppress(*FAULTS):
            await message.respond(reply)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("collector: %r", error)


def _error(text: str) -> bytes:
    return msgspec.json.encode({"error": text, "rows": []})
