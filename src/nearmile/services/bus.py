"""The bus: NATS with JetStream behind the few verbs that nearmile uses.

A bus that is down stops nobody: publishing drops, requests fail at once with ``BusDown``, and watches resume by
themselves. Every process holds one ``Bus``.
"""
# mypy: disable-error-code=no-untyped-call
# (nats-py's transport names no types)

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.transport import TcpTransport
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import (
    DiscardPolicy,
    KeyValueConfig,
    RePublish,
    RetentionPolicy,
    StorageType,
    StreamConfig,
    StreamInfo,
)
from nats.js.errors import Error as JetStreamError
from nats.js.errors import KeyWrongLastSequenceError, NoKeysError
from nats.js.kv import KeyValue

from nearmile.base.errors import NearmileError
from nearmile.base.packing import PAYLOAD_BYTES
from nearmile.config.layout import Config
from nearmile.services import state

log = logging.getLogger("nearmile.bus")

KV_CONFIG, KV_MAP, KV_LEASE, KV_ATLAS = "config", "map", "lease", "atlas"
KV_CERTIFICATES, KV_CHALLENGES = "certificates", "challenges"
KV_CURRENT = "current"
KV_DRAINED = "drained"  # beside the configuration: names of regions and servers
# An authority asks within minutes; a proof is 200 bytes.
CHALLENGE_S, CHALLENGES_BYTES_MAX = 3600.0, 1 << 20
EXIT_SUBJECT = "exit"  # exit.<process name>: an agent saw it end
EXPLAIN_SUBJECT = "explain"  # a unit's name; the leading controller answers
REPORT_SUBJECT = "report"  # a question; the collector answers
HITS_STREAM = "HITS"
HITS_SUBJECT = "hits"  # hits.<edge name>
# A day of hits of a large network; when full, edges keep their segments on their own disks (DiscardPolicy.NEW).
HITS_BYTES_MAX = 4 << 30
KV_BYTES_MAX = 64 << 20
PURGE_STREAM = "PURGES"
PURGE_SUBJECT, PURGE_STORED = "purge.order", "purge.stored"
# An edge that was away for longer starts with an empty cache. A purge of one URL takes about 200 bytes.
PURGE_DAYS, PURGE_BYTES_MAX = 7, 256 << 20
MESSAGE_ID, SEQUENCE = "Nats-Msg-Id", "Nats-Sequence"
CONNECT_PATIENCE_S = 3.0  # of commands
RECONNECT_PAUSE_S = 0.2
REQUEST_TIMEOUT_S = 2.0
# The client finds no entries where all have come, but none was looked at yet (nats-py 2.x, KeyValue.watch).
HISTORY_TRIES = 5
# A watch also asks for the key's value now and then, so that a lost update heals.
WATCH_RECHECK_S = 5.0

Handler = Callable[[Msg], Awaitable[None]]
Watcher = Callable[[int, bytes], None]
KeyWatcher = Callable[[str, bytes], None]
FAULTS = (NatsError, JetStreamError, OSError, TimeoutError, asyncio.TimeoutError)


class BusDown(NearmileError):
    """The bus does not answer now."""


class Conflict(NearmileError):
    """A compare-and-swap lost: somebody else wrote first."""


@contextlib.contextmanager
def _alive() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # of uvloop, where the connection has just ended
        raise ConnectionError(str(error)) from error


class _Socket(TcpTransport):
    """What the client's connections go over: each fault is an OSError, which it tries again (nats-py 2.x)."""

    def __bool__(self) -> bool:
        return True  # else the client takes one of its own in this one's place

    async def connect(self, *args: Any, **options: Any) -> None:
        self.close()  # that of a server which accepted and then said nothing is still open
        await super().connect(*args, **options)

    async def readline(self) -> bytes:
        line: bytes = await super().readline()
        if not line:
            raise ConnectionError("the server ended the connection as it began")
        return line

    def write(self, payload: bytes) -> None:
        with _alive():
            super().write(payload)

    def writelines(self, payload: Iterable[bytes]) -> None:
        with _alive():
            super().writelines(payload)


class Bus:
    """One process's connection. ``on_up`` and ``on_down`` are called at each change of the connection."""

    def __init__(self, url: str, token: str, name: str) -> None:
        self.url, self.token, self.name = url, token, name
        self.on_up: list[Callable[[], None]] = []
        self.on_down: list[Callable[[], None]] = []
        self._client = Client()
        self._client._transport = self._socket = _Socket()
        self._js: JetStreamContext | None = None
        self._subscriptions: list[tuple[str, Handler]] = []
        self._watches: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self._watching: list[asyncio.Task[None]] = []
        self._connecting: asyncio.Task[None] | None = None

    @classmethod
    def of(cls, root: Path, config: Config, name: str) -> "Bus":
        """That of the network on the state folder ``root``, for a process or a command."""
        return cls(state.bus_url(config), state.read_token(root), name)

    @property
    def up(self) -> bool:
        """Whether the bus can be used at this moment."""
        return self._js is not None and self._client.is_connected

    @property
    def js(self) -> JetStreamContext:
        """JetStream; BusDown where there is none now."""
        if self._js is None or not self._client.is_connected:
            raise BusDown("the bus (NATS) does not answer")
        return self._js

    def start(self) -> None:
        """Connects in the background, for as long as it takes."""
        self._connecting = asyncio.create_task(self._connect())

    async def connected(self, timeout_s: float) -> bool:
        """Waits for the first connection; False where none came in time."""
        if self._connecting is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._connecting), timeout_s)
        return self.up

    @contextlib.asynccontextmanager
    async def opened(self, timeout_s: float = CONNECT_PATIENCE_S) -> AsyncIterator[None]:
        """A connection for as long as the block lasts; BusDown where there is none in time."""
        self.start()
        try:
            if not await self.connected(timeout_s):
                raise BusDown(
                    "the bus (NATS) does not answer, so nothing was done; "
                    "try again when `nearmile status` says it is up"
                )
            yield
        finally:
            await self.close()

    async def close(self) -> None:
        """Ends the connection; quick also when the server is gone."""
        for task in [*self._watching, self._connecting]:
            if task is not None:
                task.cancel()
        with contextlib.suppress(*FAULTS):
            if self._client.is_connected:
                await asyncio.wait_for(self._client.flush(1), 1.5)
        # What nats-py says of a client that has not begun to connect must not hide why the process ends.
        with contextlib.suppress(*FAULTS, AssertionError):
            await asyncio.wait_for(self._client.close(), 1)
        self._socket.close()  # also where the client had last words for a connection that has ended

    def publish(self, subject: str, data: bytes) -> None:
        """Best effort: what is published while the bus is down is dropped (never queued, so never stale)."""
        if self.up:
            task = asyncio.ensure_future(self._client.publish(subject, data))
            task.add_done_callback(_swallow)

    async def request(self, subject: str, data: bytes, timeout_s: float = REQUEST_TIMEOUT_S) -> bytes:
        """One answer to one question; BusDown where none came."""
        if not self.up:
            raise BusDown("the bus (NATS) does not answer")
        try:
            return (await self._client.request(subject, data, timeout=timeout_s)).data
        except FAULTS as error:
            raise BusDown(f"no answer on {subject!r} within {timeout_s} s") from error

    def subscribe(self, subject: str, handler: Handler) -> None:
        """Calls ``handler`` with each message, now or once the bus is up. (NATS renews it after a reconnect.)"""
        self._subscriptions.append((subject, handler))
        if self.up:
            task = asyncio.ensure_future(self._client.subscribe(subject, cb=handler))
            task.add_done_callback(_swallow)

    def watch(self, bucket: str, key: str, callback: Watcher) -> None:
        """Calls ``callback(revision, value)`` with the key's value now and at each change, across reconnects."""
        self._add_watch(partial(self._watch, bucket, key, callback))

    def watch_all(self, bucket: str, callback: KeyWatcher) -> None:
        """Calls ``callback(key, value)`` as above for all keys: each watch of one costs the server a consumer."""
        self._add_watch(partial(self._watch_all, bucket, callback))

    def _add_watch(self, watch: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._watches.append(watch)
        if self.up:
            self._watching.append(asyncio.create_task(watch()))

    async def get(self, bucket: str, key: str) -> tuple[int, bytes] | None:
        """The key's revision and value; None where it has none."""
        try:
            entry = await (await self.js.key_value(bucket)).get(key)
        except nats.js.errors.NotFoundError:
            return None
        except FAULTS as error:
            raise BusDown(f"cannot read {bucket}/{key}: {error}") from error
        return entry.revision or 0, entry.value or b""

    async def history(self, bucket: str, key: str) -> list[bytes]:
        """The values that the bucket still keeps of a key, the oldest first; BusDown where nobody answers."""
        for _ in range(HISTORY_TRIES):
            try:
                entries = await (await self.js.key_value(bucket)).history(key)
                return [entry.value for entry in entries if entry.value]
            except NoKeysError:
                if await self.get(bucket, key) is None:
                    return []
            except nats.js.errors.NotFoundError:
                return []
            except FAULTS as error:
                raise BusDown(f"cannot read {bucket}/{key}: {error}") from error
        raise BusDown(f"cannot read what {bucket}/{key} was before; try again")

    async def put(self, bucket: str, key: str, value: bytes, expected_revision: int) -> int:
        """Compare-and-swap: writes if the key's revision is still the expected one (0: does not exist yet).

        Returns the new revision; raises Conflict where somebody wrote meanwhile, BusDown where nobody answers.
        """
        try:
            store = await self.js.key_value(bucket)
            return await store.update(key, value, last=expected_revision)
        except KeyWrongLastSequenceError as error:
            raise Conflict(f"{bucket}/{key} is no longer at revision {expected_revision}") from error
        except FAULTS as error:
            raise BusDown(f"cannot write {bucket}/{key}: {error}") from error

    async def purge_log(self) -> tuple[str, int, int]:
        """The identity of the log of purge orders, and the sequences of the first and the last that it holds.

        It is made where there is none. BusDown where nobody answers.
        """
        try:
            try:
                info = await self.js.stream_info(PURGE_STREAM)
            except nats.js.errors.NotFoundError:
                info = await self._create_purge_log()
        except FAULTS as error:
            raise BusDown(f"cannot look at the purge orders: {error}") from error
        return str(info.created).replace(" ", "T"), info.state.first_seq, info.state.last_seq

    async def purge_order(self, seq: int) -> bytes | None:
        """The purge order of that sequence; None where the log does not have it (any more)."""
        try:
            return (await self.js.get_msg(PURGE_STREAM, seq)).data
        except nats.js.errors.NotFoundError:
            return None
        except FAULTS as error:
            raise BusDown(f"cannot read purge order {seq}: {error}") from error

    async def put_purge_order(self, data: bytes, id_: str) -> int:
        """Appends an order; returns its sequence. Of the same id, one is kept. BusDown where nobody answers."""
        try:
            headers = {MESSAGE_ID: id_}
            ack = await self.js.publish(PURGE_SUBJECT, data, stream=PURGE_STREAM, headers=headers)
        except FAULTS as error:
            raise BusDown(f"the purge order was not stored: {error}") from error
        return ack.seq

    async def _create_purge_log(self) -> StreamInfo:
        return await self.js.add_stream(
            StreamConfig(
                name=PURGE_STREAM,
                subjects=[PURGE_SUBJECT],
                storage=StorageType.FILE,
                max_age=PURGE_DAYS * 86_400,
                max_bytes=PURGE_BYTES_MAX,
                duplicate_window=120,
                # Every edge hears of an order without a consumer of its own; the message tells its sequence.
                republish=RePublish(src=PURGE_SUBJECT, dest=PURGE_STORED),
            )
        )

    async def create_stores(self) -> None:
        """Creates buckets and streams where they are missing (the controller does, at start and reconnect)."""
        js = self.js
        for bucket, history in ((KV_CONFIG, 16), (KV_MAP, 16), (KV_LEASE, 1), (KV_ATLAS, 1)):
            await js.create_key_value(
                KeyValueConfig(bucket=bucket, history=history, storage=StorageType.FILE, max_bytes=KV_BYTES_MAX)
            )
        await js.create_key_value(
            KeyValueConfig(bucket=KV_CERTIFICATES, history=2, storage=StorageType.FILE, max_bytes=KV_BYTES_MAX)
        )
        await js.create_key_value(
            KeyValueConfig(
                bucket=KV_CHALLENGES, ttl=CHALLENGE_S, storage=StorageType.FILE, max_bytes=CHALLENGES_BYTES_MAX
            )
        )
        await js.add_stream(
            StreamConfig(
                name=HITS_STREAM,
                subjects=[f"{HITS_SUBJECT}.*"],
                retention=RetentionPolicy.WORK_QUEUE,
                storage=StorageType.FILE,
                discard=DiscardPolicy.NEW,
                max_bytes=HITS_BYTES_MAX,
                duplicate_window=120,
            )
        )
        await self._create_purge_log()

    async def _connect(self) -> None:
        while True:
            try:
                await self._client.connect(
                    self.url,
                    name=self.name,
                    token=self.token or None,
                    connect_timeout=1,
                    max_reconnect_attempts=-1,
                    # nats-py types whole seconds, but sleeps for what it is given.
                    reconnect_time_wait=RECONNECT_PAUSE_S,  # type: ignore[arg-type]
                    ping_interval=5,
                    error_cb=self._error,
                    disconnected_cb=self._lost,
                    reconnected_cb=self._back,
                )
            except FAULTS:
                await asyncio.sleep(RECONNECT_PAUSE_S)
                continue
            if self._client.max_payload < PAYLOAD_BYTES:
                log.error(
                    "the bus carries %d bytes a message, so it may refuse a large map; set its max_payload to %d",
                    self._client.max_payload,
                    PAYLOAD_BYTES,
                )
            for subject, handler in self._subscriptions:  # sees also what is added while it runs
                await self._client.subscribe(subject, cb=handler)
            self._js = self._client.jetstream(timeout=REQUEST_TIMEOUT_S)
            await self._back()
            return

    async def _back(self) -> None:
        log.info("bus up")
        for task in self._watching:
            task.cancel()
        self._watching = [asyncio.create_task(watch()) for watch in self._watches]
        for callback in self.on_up:
            callback()

    async def _lost(self) -> None:
        if not self._client.is_closed:
            log.warning("bus down")
        for callback in self.on_down:
            callback()

    async def _error(self, error: Exception) -> None:
        log.debug("bus: %r", error)

    async def _watch(self, bucket: str, key: str, callback: Watcher) -> None:
        seen = 0
        while True:
            try:
                store = await self.js.key_value(bucket)
                watcher = await store.watch(key)
                while True:
                    try:
                        entry = await watcher.updates(timeout=WATCH_RECHECK_S)
                    except (TimeoutError, NatsError):
                        entry = await store.get(key)
                    revision = entry.revision or 0 if entry is not None else 0
                    if entry is not None and entry.value is not None and revision != seen:
                        seen = revision
                        callback(revision, entry.value)
            except (*FAULTS, BusDown) as error:
                log.debug("watch %s/%s: %r", bucket, key, error)
                await asyncio.sleep(RECONNECT_PAUSE_S)

    async def _watch_all(self, bucket: str, callback: KeyWatcher) -> None:
        seen = 0
        while True:
            try:
                store = await self.js.key_value(bucket)
                seen = await _watched(store, await store.watchall(), callback, seen)
            except (*FAULTS, BusDown) as error:
                log.debug("watch %s: %r", bucket, error)
                await asyncio.sleep(RECONNECT_PAUSE_S)


async def _watched(store: KeyValue, watcher: KeyValue.KeyWatcher, callback: KeyWatcher, seen: int) -> int:
    """Returns the last revision that the bucket got, once nothing comes though another was ``seen`` last."""
    try:
        while True:
            try:
                entry = await watcher.updates(timeout=WATCH_RECHECK_S)
            except (TimeoutError, NatsError):
                last = (await store.status()).stream_info.state.last_seq
                if last != seen:
                    return last
                continue
            if entry is not None:
                seen = max(seen, entry.revision or 0)
                callback(entry.key, entry.value or b"")
    finally:
        with contextlib.suppress(*FAULTS):
            await watcher.stop()


def _swallow(task: asyncio.Future[Any]) -> None:
    """A lost best-effort message is no fault; anything else is."""
    if not task.cancelled() and task.exception() is not None and not isinstance(task.exception(), FAULTS):
        log.error("bus: %r", task.exception())
