"""The agent: one per machine. Starts, watches and restarts the machine's processes, and says how they are.

Everything it knows is in ``status.json`` of the state folder, so that asking needs neither the bus nor the agent.
"""

import asyncio
import errno
import logging
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from nats.aio.msg import Msg

from nearmile.base.errors import NearmileError
from nearmile.base.hosts import bracketed
from nearmile.config.layout import Config, Process
from nearmile.config.network import Edge
from nearmile.fleet.beat import SUBJECT, Beat
from nearmile.fleet.restart import RestartPolicy
from nearmile.fleet.watch import BUS, Watch
from nearmile.services import authority, children, natsserver, running, state
from nearmile.services.bus import Bus
from nearmile.services.running import ProcessStatus, Status
from nearmile.services.trouble import Trouble

log = logging.getLogger("nearmile.agent")

STATUS_EVERY_S = 0.25
# Certificates have two months left when their time has come.
RENEW_EVERY_S = 3600.0
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
        self._commands = {p.name: children.command(root, p) for p in config.processes if p.role != "nats"}
        if config.network.nats is None:
            self._commands["nats"] = natsserver.prepare(root, config)
        self._bus = Bus(state.bus_url(config), state.read_token(root), "agent")
        self._echo = f"echo.{os.getpid()}"
        """The bus gives back what it is told on this subject: a server that hangs keeps its connections."""
        self._status = {p.name: _status_of(p) for p in config.processes}
        self._beats: dict[str, Beat] = {}
        self._watch = Watch(max(SILENT_AFTER_S, config.network.health.dead_after_ms / 1000))
        self._children: dict[str, children.Child] = {}
        self._supervisors: list[asyncio.Task[None]] = []
        self._ending: set[asyncio.Task[None]] = set()
        self._unwritten = Trouble(log, "cannot write status.json", "status.json can be written again")
        self.stopping = asyncio.Event()

    async def run(self) -> None:
        """Starts everything, keeps it running until ``stopping``, then stops everything."""
        self._bus.subscribe(f"{SUBJECT}.*", self._take_beat)
        self._bus.subscribe(self._echo, self._take_echo)
        works = [asyncio.create_task(work) for work in (self._write_status(), self._renew_certificates())]
        try:
            self._supervise("nats")
            self._bus.start()
            await self._until_stopping(self._bus.connected(BUS_PATIENCE_S))
            for name in self._commands:
                if name != "nats" and not self.stopping.is_set():
                    self._supervise(name)
            await self.stopping.wait()
        finally:
            await self._stop_all()
            for work in works:
                work.cancel()
            self._save()

    def status(self) -> Status:
        """How everything is now."""
        now_s = time.monotonic()
        bus = self._bus.up and self._watch.answers(now_s)
        for name in self._children:
            ready = bus if name == BUS else self._watch.heard(name) and self._beats[name].ready
            silent = self._watch.silent(name, now_s) and (bus or name == BUS)
            self._status[name].state = "silent" if silent else "ready" if ready else "starting"
        return Status(
            ready=all(one.state == "ready" for one in self._status.values()),
            network=self.config.network.name,
            agent_pid=os.getpid(),
            at_s=time.time(),
            bus=bus,
            config_version=self.config.version,
            map_version=max(one.map_version for one in self._status.values()),
            processes=list(self._status.values()),
        )

    def _supervise(self, name: str) -> None:
        if name in self._commands:
            self._supervisors.append(asyncio.create_task(self._keep(name)))

    async def _keep(self, name: str) -> None:
        """Runs one process for as long as the agent lives, with the restart policy's pauses in between."""
        policy, one = RestartPolicy(), self._status[name]
        while not self.stopping.is_set():
            policy.started(time.monotonic())
            try:
                reason = await self._run_once(name)
            except OSError as error:
                reason = str(error)
            one.pid, one.state, one.requests_per_s, one.cpu = 0, "waiting", 0.0, 0.0
            if self.stopping.is_set():
                break
            self._bus.publish(f"exit.{name}", name.encode())
            now_s = time.monotonic()
            pause_s = policy.exited(now_s) - now_s
            one.restarts += 1
            self._tell(f"{name} ended ({reason}); starts again in {max(0.0, pause_s):.1f} s")
            await self._until_stopping(asyncio.sleep(pause_s))
        one.state = "stopped"

    async def _run_once(self, name: str) -> str:
        """Starts a process and waits for its end; returns the reason."""
        said = self.root / "log" / f"{name}.log"
        child = await children.start(self._commands[name], said)
        self._watch.begin(name)
        self._children[name] = child
        self._status[name].pid, self._status[name].state = child.pid, "starting"
        code = await child.wait()
        del self._children[name]
        return signal.Signals(-code).name if code < 0 else f"exit code {code}, see {said}"

    async def _until_stopping(self, wait: Awaitable[object]) -> None:
        """Waits for something, but no longer than until the agent is told to stop."""
        task = asyncio.ensure_future(wait)
        stopping = asyncio.create_task(self.stopping.wait())
        await asyncio.wait((task, stopping), return_when=asyncio.FIRST_COMPLETED)
        for each in (task, stopping):
            each.cancel()

    async def _stop_all(self) -> None:
        """Roles first, all at once; the bus last, since they say their last words on it."""
        self.stopping.set()
        roles = [child for name, child in self._children.items() if name != "nats"]
        await asyncio.gather(*(child.stop() for child in roles))
        await self._bus.close()
        await asyncio.gather(*(child.stop() for child in list(self._children.values())))
        await asyncio.gather(*self._supervisors, return_exceptions=True)

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
            try:
                await asyncio.to_thread(authority.ensure, self.root, self.config, datetime.now(UTC))
            except (OSError, NearmileError) as error:
                log.error("certificates are not renewed: %s", error)

    async def _take_echo(self, _message: Msg) -> None:
        self._watch.hear(BUS, time.monotonic())

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
