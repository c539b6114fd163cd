"""The controller process: joins the machine of ``mapping.controller`` to the bus, clock and configuration."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from random import Random
from typing import TypeVar

import msgspec
from nats.aio.msg import Msg

from nearmile.base.gazetteer import areas
from nearmile.config import layout
from nearmile.config.layout import Config
from nearmile.fleet.beat import SUBJECT, Beat
from nearmile.fleet.health import BeatArrived, BusBack, BusLost, Change, ExitReported
from nearmile.fleet.lease import Lease, LeaseAnswer, LeaseSeen, Outcome, PutLease
from nearmile.mapping import beacons, demand, measured, plans
from nearmile.mapping.controller import (
    AtlasMade,
    BeaconsArrived,
    BehindArrived,
    Command,
    Controller,
    DrainSeen,
    Event,
    MapAnswer,
    MapSeen,
    MeasuresArrived,
    PutMap,
    changed_by,
)
from nearmile.mapping.demand import DemandArrived
from nearmile.mapping.map import decode, encode
from nearmile.mapping.measured import Report
from nearmile.mapping.plans import Seen
from nearmile.services.acme.account import Account
from nearmile.services.acme.renewals import Renewals
from nearmile.services.atlases import Atlases
from nearmile.services.bus import (
    EXIT_SUBJECT,
    EXPLAIN_SUBJECT,
    FAULTS,
    KV_CONFIG,
    KV_CURRENT,
    KV_DRAINED,
    KV_LEASE,
    KV_MAP,
    BusDown,
    Conflict,
)
from nearmile.services.runtime import Runtime
from nearmile.services.trouble import START_S, Trouble

log = logging.getLogger("nearmile.controller")
LEASE_KEY = "controller"
# JetStream may need a moment after NATS is up.
RETRY_S = 0.2
LEASE, NAMES = msgspec.json.Decoder(Lease), msgspec.json.Decoder(frozenset[str])
T = TypeVar("T")


class Shell:
    """The machine's hands and ears."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime, self._bus = runtime, runtime.bus
        self._loop = asyncio.get_running_loop()
        # One clock: monotonic, but near the wall clock's time, since maps carry it.
        self._offset_s = time.time() - self._loop.time()
        self._machine = Controller(runtime.me.name, areas(), Random(runtime.epoch), runtime.map)
        self._atlas = Atlases(runtime, self.leading, lambda atlas: self._tell(AtlasMade(atlas)))
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = 0.0
        """For when it is set."""
        self._greeting: asyncio.Task[None] | None = None
        self._held = Trouble(
            log, "a map is held back, as it loses too much at once", "no map is held back any more", START_S
        )
        self._unready = Trouble(log, "the bus is not ready", "the bus is ready", START_S)
        self._unwritten = {
            bucket: Trouble(log, f"the {bucket} is not published", f"the {bucket} is published again")
            for bucket in (KV_LEASE, KV_MAP)
        }
        # At most a lease and a map are written at a time.
        self._writing: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begins to listen."""
        self._atlas.start()
        self._runtime.on_config(self._configure)
        self._bus.on_up.append(self._up)
        self._bus.on_down.append(self._down)
        self._bus.subscribe(f"{SUBJECT}.*", self._beat)
        self._bus.subscribe(f"{EXIT_SUBJECT}.*", self._exit)
        self._bus.subscribe(f"{demand.SUBJECT}.*", self._demand)
        self._bus.subscribe(f"{measured.SUBJECT}.*", self._measured)
        self._bus.subscribe(f"{plans.SUBJECT}.*", self._behind)
        self._bus.subscribe(f"{beacons.SUBJECT}.*", self._beacons)
        self._bus.subscribe(EXPLAIN_SUBJECT, self._explain)
        self._bus.watch(KV_LEASE, LEASE_KEY, self._lease_seen)
        self._bus.watch(KV_MAP, KV_CURRENT, self._map_seen)
        self._bus.watch(KV_CONFIG, KV_DRAINED, self._drain_seen)
        if self._bus.up:
            self._up()

    def leading(self) -> bool:
        """Whether this controller is the one that acts."""
        return self._machine.term(self._now_s()) > 0

    def stop(self) -> None:
        """Ends everything under way."""
        self._atlas.stop()
        for task in (*self._writing, self._greeting):
            if task is not None:
                task.cancel()
        if self._timer is not None:
            self._timer.cancel()

    def _now_s(self) -> float:
        return self._loop.time() + self._offset_s

    def _tell(self, event: Event) -> None:
        self._execute(self._machine.handle(event, self._now_s()))

    def _wake(self) -> None:
        self._timer = None
        self._execute(self._machine.wake(self._now_s()))

    def _execute(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case PutLease():
                    self._spawn_put(command, KV_LEASE, LEASE_KEY, msgspec.json.encode(command.lease))
                case PutMap():
                    self._spawn_put(command, KV_MAP, KV_CURRENT, encode(command.map))
                    live = sum(len(region.servers) for region in command.map.regions)
                    log.info("map %d of term %d: %d servers", command.map.version, command.map.term, live)
                case Change(name, before, after, why):
                    log.info("%s: %s, was %s (%s)", name, after.value, before.value, why.value)
        self._runtime.detail["leading"] = float(self.leading())
        self._runtime.detail["map_held"] = float(bool(self._machine.guard.why))
        self._held.tell(self._machine.guard.why)
        self._set_timer()

    def _set_timer(self) -> None:
        deadline_s = self._machine.next_deadline()
        if deadline_s is None:
            return
        at_s = deadline_s - self._offset_s
        # Most beats move the deadline back: a timer that fires early costs less than a new one for each beat.
        if self._timer is None or at_s < self._timer_s:
            if self._timer is not None:
                self._timer.cancel()
            self._timer, self._timer_s = self._loop.call_at(at_s, self._wake), at_s

    def _configure(self, config: Config) -> None:
        self._tell(changed_by(config))

    def _up(self) -> None:
        self._tell(BusBack())
        if self._greeting is not None:
            self._greeting.cancel()
        self._greeting = self._loop.create_task(self._greet())

    def _down(self) -> None:
        self._tell(BusLost())

    async def _greet(self) -> None:
        """Makes the stores, publishes our configuration if it is newer, reads what the machine goes on from."""
        while True:
            try:
                await self._bus.create_stores()
                await self._publish_config()
                await self._read(KV_LEASE, LEASE_KEY)
                await self._read(KV_MAP, KV_CURRENT)
                self._unready.tell("")
                return
            except (*FAULTS, BusDown, Conflict) as error:
                self._unready.tell(f"{type(error).__name__} {error}")
                await asyncio.sleep(RETRY_S)

    async def _publish_config(self) -> None:
        config = self._runtime.config
        held = await self._bus.get(KV_CONFIG, KV_CURRENT)
        revision, known = (held[0], _decode(held[1], layout.decode)) if held is not None else (0, None)
        if known is None or known.version < config.version:
            await self._bus.put(KV_CONFIG, KV_CURRENT, layout.encode(config), revision)
            log.info("configuration %d published", config.version)

    async def _read(self, bucket: str, key: str) -> None:
        revision, value = await self._bus.get(bucket, key) or (0, b"")
        if bucket == KV_LEASE:
            self._lease_seen(revision, value)
        else:
            self._map_seen(revision, value)

    def _lease_seen(self, revision: int, value: bytes) -> None:
        self._tell(LeaseSeen(revision, _decode(value, LEASE.decode)))

    def _map_seen(self, revision: int, value: bytes) -> None:
        self._tell(MapSeen(revision, _decode(value, decode)))

    def _drain_seen(self, _revision: int, value: bytes) -> None:
        self._tell(DrainSeen(_decode(value, NAMES.decode) or frozenset()))

    async def _beat(self, message: Msg) -> None:
        try:
            beat = msgspec.msgpack.decode(message.data, type=Beat)
        except msgspec.DecodeError as error:
            log.warning("a heartbeat on %s cannot be read: %s", message.subject, error)
            return
        self._tell(BeatArrived(beat))

    async def _demand(self, message: Msg) -> None:
        with contextlib.suppress(msgspec.DecodeError):  # one report of many
            self._tell(msgspec.msgpack.decode(message.data, type=DemandArrived))

    async def _measured(self, message: Msg) -> None:
        with contextlib.suppress(msgspec.DecodeError):
            self._tell(MeasuresArrived(msgspec.msgpack.decode(message.data, type=Report)))

    async def _behind(self, message: Msg) -> None:
        with contextlib.suppress(msgspec.DecodeError):
            self._tell(BehindArrived(msgspec.msgpack.decode(message.data, type=tuple[Seen, ...])))

    async def _beacons(self, message: Msg) -> None:
        with contextlib.suppress(msgspec.DecodeError):
            self._tell(BeaconsArrived(msgspec.msgpack.decode(message.data, type=beacons.Report)))

    async def _explain(self, message: Msg) -> None:
        if self.leading():
            told = self._machine.told(message.data.decode(errors="replace"), self._now_s())
            await message.respond(msgspec.msgpack.encode(told))

    async def _exit(self, message: Msg) -> None:
        self._tell(ExitReported(message.data.decode(errors="replace")))

    def _spawn_put(self, command: PutLease | PutMap, bucket: str, key: str, value: bytes) -> None:
        task = self._loop.create_task(self._put(command, bucket, key, value))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _put(self, command: PutLease | PutMap, bucket: str, key: str, value: bytes) -> None:
        revision = 0
        try:
            revision = await self._bus.put(bucket, key, value, command.expected_revision)
            outcome = Outcome.WON
        except Conflict:
            outcome = Outcome.LOST
        except BusDown as error:
            outcome = Outcome.FAILED
            if self._bus.up:
                self._unwritten[bucket].tell(str(error))
        if outcome is Outcome.WON:
            self._unwritten[bucket].tell("")
        else:
            with contextlib.suppress(BusDown):
                await self._read(bucket, key)
        match command:
            case PutLease():
                self._tell(LeaseAnswer(command, outcome, revision))
            case PutMap():
                self._tell(MapAnswer(command, outcome, revision))


def _decode(data: bytes, read: Callable[[bytes], T]) -> T | None:
    """None where there is nothing, or nothing that can be read: it will be written anew."""
    try:
        return read(data) if data else None
    except msgspec.DecodeError as error:
        log.error("what the KV holds cannot be read: %s", error)
        return None


async def run(runtime: Runtime) -> None:
    """Controls until told to stop."""
    shell = Shell(runtime)
    shell.start()
    renewing = asyncio.create_task(Renewals(runtime, shell.leading, Account(runtime).issuer).run())
    runtime.ready = True
    try:
        await runtime.stopping.wait()
    finally:
        renewing.cancel()
        shell.stop()
