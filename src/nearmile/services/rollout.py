"""How the agent brings what runs to what a new configuration wants: who starts, who starts again, who goes.

It is a matter of what there is and what there should be, so another configuration may come at any time: what is
left to do is found anew. Servers leave the answers before they end, and stay for as long as resolvers know them.
"""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Collection
from typing import Protocol

from nearmile.config.layout import Config, Process
from nearmile.config.names import Dns
from nearmile.fleet.turns import next_turn

# Maps that lose most servers are held back for ten seconds; no map at all may come while the bus is down.
MAP_PATIENCE_S = 15.0
LOOK_S = 0.25
READY_PATIENCE_S = 60.0
# What an edge fetches from an origin's folder may still be on its way.
ORIGIN_LINGER_S = 5.0
# Resolvers that know a name server for a day ask the others when it is silent.
NAMESERVER_LINGER_S_MAX = 1800.0
Mapped = Callable[[], Awaitable[Collection[str] | None]]


class Processes(Protocol):
    """What the agent keeps running."""

    def kept(self) -> Collection[str]:
        """All names."""

    def keep(self, name: str) -> None:
        """Starts a process, and keeps it running."""

    async def end(self, name: str) -> None:
        """Ends it for good; returns when it has."""

    async def renew(self, name: str) -> None:
        """Ends it, to be started at once again."""

    def tell(self, name: str, signum: int) -> None:
        """Sends it a signal, if it runs."""

    def ready(self, name: str) -> bool:
        """Whether it runs and is ready."""

    def outdated(self, process: Process) -> bool:
        """Whether it runs by what has changed since it started."""


class Rollout:
    """``mapped`` tells which servers the map names now, or None where nobody knows."""

    def __init__(self, processes: Processes, mapped: Mapped, say: Callable[[str], None]) -> None:
        self._processes, self._mapped, self._say = processes, mapped, say
        self.pending: tuple[str, ...] = ()
        """Who is yet to be started again."""
        self.leaving: dict[str, Process] = {}
        """Who is to end once nobody asks it any more."""
        self._elsewhere: set[str] = set()
        """Who was to end, and is wanted again, but with another address than the one that it runs at."""
        self._ending: set[asyncio.Task[None]] = set()
        self._told: set[str] = set()
        """Edge servers that have left the answers, and return when they are started again."""

    def begin(self, old: Config, new: Config) -> None:
        """Settles who is to be started again and who is to go, before ``run`` does it."""
        known = {process.name: process for process in old.processes} | self.leaving
        wanted = {process.name: process for process in new.processes}
        back = [(name, process.address) for name, process in self.leaving.items() if name in wanted]
        self._elsewhere.update(name for name, address in back if wanted[name].address != address)
        self.leaving = {name: known[name] for name in self._processes.kept() if name not in wanted}
        self.pending = tuple(process.name for process in self._outdated(new))

    async def run(self, old: Config, new: Config) -> None:
        """Does it all; may be cancelled, and begun again, at any time."""
        if self._ending:  # of the last time
            await asyncio.wait(self._ending)
        self.begin(old, new)
        dns = old.network.dns  # by which answers were given
        addresses = {process.address for process in new.processes if process.address}
        clashing = {name for name, process in self.leaving.items() if process.address in addresses}
        for name in sorted((clashing | self._elsewhere).intersection(self._processes.kept())):
            await self._end(name)  # another may have its address from now on
        added = [process.name for process in new.processes if process.name not in self._processes.kept()]
        for name in added:
            self._processes.keep(name)
        async with asyncio.TaskGroup() as group:
            for name, process in self.leaving.items():
                group.create_task(self._leave(name, linger_s(process, dns)))
            # Whoever is new can then carry the load of those that start again.
            await asyncio.gather(*(_until(READY_PATIENCE_S, self._ready, name) for name in added))
            await self._renew_all(new, dns.low_ttl_s)

    def _outdated(self, config: Config) -> list[Process]:
        return [one for one in config.processes if one.name in self._told or self._processes.outdated(one)]

    async def _leave(self, name: str, linger_s: float) -> None:
        if self.leaving[name].role == "edge":
            await _until(MAP_PATIENCE_S, self._unmapped, name)
        await asyncio.sleep(linger_s)
        await self._end(name)

    async def _end(self, name: str) -> None:
        ending = asyncio.create_task(self._processes.end(name))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        await asyncio.shield(ending)  # half ended, it would be kept by nobody, should it be wanted again
        self.leaving.pop(name, None)
        self._elsewhere.discard(name)
        self._told.discard(name)

    async def _renew_all(self, config: Config, low_ttl_s: float) -> None:
        edges = len(config.of_role("edge"))
        while todo := self._outdated(config):
            await asyncio.gather(*(self._renew(process, low_ttl_s) for process in next_turn(todo, edges)))
            self.pending = tuple(process.name for process in self._outdated(config))

    async def _renew(self, process: Process, low_ttl_s: float) -> None:
        name = process.name
        if process.role == "edge" and self._processes.ready(name):
            self._told.add(name)
            self._processes.tell(name, signal.SIGUSR1)
            await _until(MAP_PATIENCE_S, self._unmapped, name)
            await asyncio.sleep(low_ttl_s)
        await self._processes.renew(name)
        self._told.discard(name)
        if not await _until(READY_PATIENCE_S, self._ready, name):
            self._say(f"{name} is not ready again; who is yet to be started again waits for it")
            await _until(None, self._ready, name)

    async def _ready(self, name: str) -> bool:
        return self._processes.ready(name)

    async def _unmapped(self, name: str) -> bool:
        named = await self._mapped()
        return named is not None and name not in named


async def _until(patience_s: float | None, condition: Callable[[str], Awaitable[bool]], name: str) -> bool:
    """Waits so long, or for ever; returns whether it holds."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(patience_s):
            while not await condition(name):  # noqa: ASYNC110 (who is asked tells nobody)
                await asyncio.sleep(LOOK_S)
            return True
    return False


def linger_s(process: Process, dns: Dns) -> float:
    """How long a process may still be asked after it has left all answers."""
    match process.role:
        case "edge":
            return dns.low_ttl_s
        case "nameserver":
            return min(dns.top_ttl_s, NAMESERVER_LINGER_S_MAX)
        case "origin":
            return ORIGIN_LINGER_S
        case _:
            return 0.0
