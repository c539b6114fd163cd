"""The agent: one per machine. Starts, watches and restarts the machine's processes, and says how they are.

Everything it knows is in ``status.json`` of the state folder, so that asking needs neither the bus nor the agent.
"""

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from nats.aio.msg import Msg

from nearmile.base.addresses import bracketed
from nearmile.base.errors import NearmileError
from nearmile.config import layout
from nearmile.config.change import at_start, change
from nearmile.config.layout import Config, Process
from nearmile.config.network import Edge
from nearmile.fleet.beat import SUBJECT, Beat
from nearmile.fleet.restart import RestartPolicy
from nearmile.fleet.watch import BUS, Watch
from nearmile.mapping.map import decode
from nearmile.services import authority, children, natsserver, running, state
from nearmile.services.bus import EXIT_SUBJECT, KV_CONFIG, KV_CURRENT, KV_MAP, Bus, BusDown
from nearmile.services.rollout import Rollout
from nearmile.services.running import ProcessStatus, Status
from nearmile.services.trouble import Trouble

log = logging.getLogger("nearmile.agent")

STATUS_EVERY_S = 0.25
# Certificates have two months left when their time has come.
RENEW_EVERY_S = 3600.0
# In which nobody says much more than a log may have.
LOGS_EVERY_S = 10.0
# Long enough to cost nothing, and many times in what a hang takes.
STREAMS_EVERY_S = 5.0
# A process whose beats stay away for so long (while the bus answers) is silent; it is longer for rare beats.
SILENT_AFTER_S = 2.0
# What hangs is told to say where (SIGABRT), and then killed.
ABORT_PATIENCE_S = 1.0
BUS_PATIENCE_S = 10.0


class Agent:
    """Supervises the processes of one network document on this machine."""

    def __init__(self, root: Path, config: Config, tell: Callable[[str], None]) -> None:
        self.root, self.config, self._tell = root, config, tell
        authority.ensure(root, config, datetime.now(UTC))
        state.cookie_secret(root)
        state.make_dnssec_secret(root)
        if config.network.dns.dnssec:  # without keys no name server starts: who starts them should hear of it
            state.dnssec_secrets(root)
            state.dnssec_own_secrets(root)
        self._nats = natsserver.prepare(root, config) if config.network.nats is None else []
        self._bus = Bus.of(root, config, "agent")
        self._echo = f"echo.{os.getpid()}"
        """The bus gives back what it is told on this subject: a server that hangs keeps its connections."""
        self._status = {p.name: _status_of(p) for p in config.processes}
        self._beats: dict[str, Beat] = {}
        self._watch = Watch(_silent_after_s(config))
        self._children: dict[str, children.Child] = {}
        self._started: dict[str, tuple[object, ...]] = {}
        """What each child has read at its start."""
        self._supervisors: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, asyncio.Event] = {}
        self._renewed: set[str] = set()
        self._rollout = Rollout(self, self._mapped, tell)
        self._rolling: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._unwritten = Trouble(log, "cannot write status.json", "status.json can be written again")
        self.stopping = asyncio.Event()

    async def run(self) -> None:
        """Starts everything, keeps it running until ``stopping``, then stops everything."""
        self._bus.subscribe(f"{SUBJECT}.*", self._take_beat)
        self._bus.subscribe(self._echo, self._take_echo)
        self._bus.watch(KV_CONFIG, KV_CURRENT, self._take_config)
        works = [
            asyncio.create_task(work)
            for work in (
                self._write_status(),
                self._ask_streams(),
                self._renew_certificates(),
                self._bound_logs(),
            )
        ]
        try:
            if self._nats:
                self.keep("nats")
            self._bus.start()
            await _until(self.stopping, self._bus.connected(BUS_PATIENCE_S))
            for process in self.config.processes:
                if process.role != "nats" and not self.stopping.is_set():
                    self.keep(process.name)
            await self.stopping.wait()
        finally:
            await self._stop_all()
            for work in works:
                work.cancel()
            self._save()

    def status(self) -> Status:
        """How everything is now."""
        now_s, leaving = time.monotonic(), tuple(self._rollout.leaving)
        bus = self._bus.up and self._watch.answers(now_s)
        for name in self._children:
            ready = bus if name == BUS else self._watch.heard(name) and self._beats[name].ready
            silent = self._watch.silent(name, now_s) and (bus or name == BUS)
            self._status[name].state = "silent" if silent else "ready" if ready else "starting"
        return Status(
            ready=all(one.state == "ready" for one in self._status.values() if one.name not in leaving),
            network=self.config.network.name,
            agent_pid=os.getpid(),
            at_s=time.time(),
            bus=bus,
            config_version=self.config.version,
            map_version=max(one.map_version for one in self._status.values()),
            processes=list(self._status.values()),
            pending=self._rollout.pending,
            leaving=leaving,
        )

    def kept(self) -> Collection[str]:
        """All that is to run, or still does."""
        return tuple(name for name, keeper in self._supervisors.items() if not keeper.done())

    def keep(self, name: str) -> None:
        """Starts a process, and keeps it running until ``end``."""
        self._ends[name] = asyncio.Event()
        self._status.setdefault(name, _status_of(self.config.process(name)))
        self._supervisors[name] = asyncio.create_task(self._keep(name, self._ends[name]))

    async def end(self, name: str) -> None:
        """Ends it for good."""
        self._ends[name].set()
        if (child := self._children.get(name)) is not None:
            await child.stop()
        await self._supervisors[name]
        self._watch.forget(name)
        for known in (self._supervisors, self._ends, self._status, self._beats, self._started):
            known.pop(name, None)

    async def renew(self, name: str) -> None:
        """Ends it, to be started at once again; one that waits to be started reads what is new anyway."""
        if (child := self._children.get(name)) is not None:
            self._renewed.add(name)
            await child.stop()
            if self._children.get(name) is child:  # else its next life may have begun
                self._watch.forget(name)

    def tell(self, name: str, signum: int) -> None:
        """Sends it a signal, if it runs."""
        if (child := self._children.get(name)) is not None:
            child.signal(signum)

    def ready(self, name: str) -> bool:
        """Whether it says so."""
        return name in self._children and self._watch.heard(name) and self._beats[name].ready

    def outdated(self, process: Process) -> bool:
        """Whether it reads something else when it starts than it has read."""
        return self._started.get(process.name) not in (None, at_start(self.config, process))

    async def _keep(self, name: str, end: asyncio.Event) -> None:
        """Runs one process until its end, with the restart policy's pauses in between."""
        policy, one = RestartPolicy(), self._status[name]
        while not (end.is_set() or name in self._rollout.leaving):
            policy.started(time.monotonic())
            try:
                reason = await self._run_once(name, end)
            except OSError as error:
                reason = str(error)
            one.pid, one.state, one.requests_per_s, one.cpu = 0, "waiting", 0.0, 0.0
            if end.is_set():
                break
            if name in self._renewed:
                self._renewed.discard(name)
                continue
            self._bus.publish(f"{EXIT_SUBJECT}.{name}", name.encode())
            now_s = time.monotonic()
            pause_s = policy.exited(now_s) - now_s
            one.restarts += 1
            self._tell(f"{name} ended ({reason}); starts again in {max(0.0, pause_s):.1f} s")
            await _until(end, asyncio.sleep(pause_s))
        one.state = "stopped"

    async def _run_once(self, name: str, end: asyncio.Event) -> str:
        """Starts a process and waits for its end; returns the reason."""
        said = self.root / "log" / f"{name}.log"
        process = self.config.process(name)
        self._started[name] = at_start(self.config, process)
        child = await children.start(self._nats if name == "nats" else children.command(self.root, process), said)
        self._watch.begin(name, time.monotonic())
        self._children[name] = child
        self._status[name].pid, self._status[name].state = child.pid, "starting"
        if end.is_set():  # it was told while the process was being started
            await child.stop()
        code = await child.wait()
        del self._children[name]
        return signal.Signals(-code).name if code < 0 else f"exit code {code}, see {said}"

    async def _stop_all(self) -> None:
        """Roles first, all at once; the bus last, since they say their last words on it."""
        self.stopping.set()
        if self._rolling is not None:
            self._rolling.cancel()
        for end in self._ends.values():
            end.set()
        roles = [child for name, child in self._children.items() if name != "nats"]
        await asyncio.gather(*(child.stop() for child in roles))
        await self._bus.close()
        await asyncio.gather(*(child.stop() for child in list(self._children.values())))
        await asyncio.gather(*self._supervisors.values(), return_exceptions=True)

    def _take_config(self, _revision: int, value: bytes) -> None:
        """Another configuration than the one that was started: the processes hear of it by themselves."""
        try:
            new = layout.decode(value)
        except msgspec.DecodeError as error:
            log.error("a configuration from the bus cannot be read and is not used: %s", error)
            return
        old = self.config
        if new.version <= old.version or self.stopping.is_set():
            return
        refused = change(old, new).refused
        if refused or new.loopback != old.loopback:
            why = ", ".join(refused) or "its addresses"
            self._tell(f"configuration {new.version} is not for a network that runs: {why}")
            return
        self.config, self._watch.silent_after_s = new, _silent_after_s(new)
        try:
            state.write_atomically(self.root / "config.json", msgspec.json.encode(new), mode=0o600)
        except OSError as error:
            log.error("configuration %d cannot be kept for the next start: %s", new.version, error)
        if self._rolling is not None:
            self._rolling.cancel()
        self._rollout.begin(old, new)
        made = [_status_of(process) for process in new.processes]
        known = {one.name: self._status.get(one.name, one) for one in made}
        for one in made:
            known[one.name].city = one.city
        self._status = known | {name: self._status[name] for name in self._rollout.leaving}
        self._rolling = asyncio.create_task(self._roll(old, new))

    async def _roll(self, old: Config, new: Config) -> None:
        try:
            await self._make_certificates()
            await self._rollout.run(old, new)
        except Exception:  # whatever it is: what runs goes on
            log.exception("not all processes go by configuration %d", new.version)

    async def _mapped(self) -> Collection[str] | None:
        """The servers that the map names; None where nobody can say."""
        with contextlib.suppress(BusDown, ValueError):
            held = await self._bus.get(KV_MAP, KV_CURRENT)
            if held is not None:
                return {server.name for region in decode(held[1]).regions for server in region.servers}
        return None

    async def _take_beat(self, message: Msg) -> None:
        try:
            beat = msgspec.msgpack.decode(message.data, type=Beat)
        except msgspec.DecodeError:
            return
        one, before = self._status.get(beat.name), self._beats.get(beat.name)
        late = before is not None and before.epoch == beat.epoch and not self._watch.heard(beat.name)
        if one is not None and beat.name in self._children and not late:  # not of the life that ended
            self._watch.hear(beat.name, time.monotonic())
            self._beats[beat.name] = beat
            one.requests_per_s, one.cpu = beat.requests_per_s, beat.cpu
            one.config_version, one.map_version, one.detail = beat.config_version, beat.map_version, beat.detail

    async def _renew_certificates(self) -> None:
        """Those of the local authority; the edges take them up by themselves."""
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            await self._make_certificates()

    async def _make_certificates(self) -> None:
        try:
            await asyncio.to_thread(authority.ensure, self.root, self.config, datetime.now(UTC))
        except (OSError, NearmileError) as error:
            log.error("certificates are not renewed: %s", error)

    async def _bound_logs(self) -> None:
        while True:
            for path in (self.root / "log").glob("*.log"):
                with contextlib.suppress(OSError):
                    children.bound_log(path)
            await asyncio.sleep(LOGS_EVERY_S)

    async def _take_echo(self, _message: Msg) -> None:
        self._watch.hear(BUS, time.monotonic())

    async def _ask_streams(self) -> None:
        """Whether the bus gives what it keeps: that alone may hang."""
        while True:
            with contextlib.suppress(BusDown):
                await self._bus.get(KV_CONFIG, KV_CURRENT)
                self._watch.hear_streams(time.monotonic())
            await asyncio.sleep(STREAMS_EVERY_S)

    def _end_hanging(self) -> None:
        for name in self._watch.look(time.monotonic()):
            if name in self._children:
                self._tell(f"{name} hangs: it has been silent for too long, and is ended")
                task = asyncio.create_task(self._children[name].stop(signal.SIGABRT, ABORT_PATIENCE_S))
                self._ending.add(task)
                task.add_done_callback(self._ending.discard)

    async def _write_status(self) -> None:
        while True:
            self._bus.publish(self._echo, b"")
            self._end_hanging()
            self._save()
            await asyncio.sleep(STATUS_EVERY_S)

    def _save(self) -> None:
        why = ""
        try:
            state.write_atomically(self.root / running.STATUS_FILE, msgspec.json.encode(self.status()))
        except OSError as error:  # a full disk must not end the network
            why = str(error)
        self._unwritten.tell(why)


def _silent_after_s(config: Config) -> float:
    return max(SILENT_AFTER_S, config.network.health.dead_after_ms / 1000)


async def _until(end: asyncio.Event, wait: Awaitable[object]) -> None:
    """Waits for something, but no longer than until the end."""
    task = asyncio.ensure_future(wait)
    ending = asyncio.create_task(end.wait())
    await asyncio.wait((task, ending), return_when=asyncio.FIRST_COMPLETED)
    for each in (task, ending):
        each.cancel()


def _status_of(process: Process) -> ProcessStatus:
    address = f"{bracketed(process.address)}:{process.port}" if process.port else ""
    return ProcessStatus(
        name=process.name, role=process.role, region=process.region, city=process.city, address=address
    )


def taken(config: Config) -> list[str]:
    """The addresses of the layout that somebody already listens on (`127.20.0.2:4222`).

    NearmileError where one cannot be listened on for another reason: it is no address of this machine, or others
    alone may have that port.
    """
    busy = []
    for process in config.processes:
        for kind, port in _listens(process, config.network.edge):
            family = socket.AF_INET6 if ":" in process.address else socket.AF_INET
            try:
                with socket.socket(family, kind) as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(kind == socket.SOCK_STREAM))
                    probe.bind((process.address, port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    what = f"{process.name} cannot listen on {process.address} port {port}: {error.strerror}"
                    raise NearmileError(what) from None
                busy.append(f"{bracketed(process.address)}:{port}")
    return busy


def _listens(process: Process, edge: Edge) -> list[tuple[socket.SocketKind, int]]:
    """The kinds and ports of a process's sockets."""
    match process.role:
        case "edge":
            tcp, udp = [edge.http_port, edge.https_port], [edge.https_port] * edge.http3
        case "nameserver":
            tcp, udp = [process.port], [process.port]
        case _:
            tcp, udp = [process.port] if process.port else [], []
    return [*((socket.SOCK_STREAM, port) for port in tcp), *((socket.SOCK_DGRAM, port) for port in udp)]
