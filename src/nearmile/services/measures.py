"""What an edge server tells the mapping: how far its clients and the targets are, and who made beacons."""

import asyncio
import logging
import os
from zlib import crc32

import msgspec

from nearmile.base.addresses import read_address
from nearmile.config.probes import Target
from nearmile.edge.samples import Samples
from nearmile.mapping.atlas import Atlas, Finder
from nearmile.mapping.beacons import Side, Sightings
from nearmile.mapping.choose import owner
from nearmile.mapping.classes import serials_of
from nearmile.mapping.map import Map, Server
from nearmile.mapping.measured import CLIENTS_TOLD_MAX, SUBJECT, TELL_S, UNITS_TOLD_MAX, Report
from nearmile.services import beacons
from nearmile.services.runtime import Runtime

log = logging.getLogger("nearmile.edge")
# Whoever is further away is no choice.
PATIENCE_S = 2.0
# Probes under way at once; each is a socket.
PROBES_MAX = 64
# Whoever has a /48 (RFC 6177) must not have 256 votes.
IPV6_CLIENT_BITS = 48
# RFC 1035: no flags, one question, for NS of the root in class IN. Every resolver knows that.
QUESTION = b"\0\0\0\1\0\0\0\0\0\0" + b"\0" + b"\0\2\0\1"


class Measures:
    """One edge server's."""

    def __init__(self, runtime: Runtime, round_trips: Samples, downloads: Samples, seen: Sightings) -> None:
        self._runtime, self._round_trips, self._downloads, self._seen = runtime, round_trips, downloads, seen
        self._finder: Finder | None = None
        self._names: tuple[str, ...] = ()
        self._neighbours: tuple[Server, ...] = ()
        self._targets: dict[str, float] = {}
        self._probing: set[asyncio.Task[None]] = set()
        runtime.on_atlas(self._take_atlas)
        runtime.on_map(self._take_map)

    async def run(self) -> None:
        """Probes and tells, until it is cancelled."""
        telling = beacons.tell(self._runtime, Side.CLIENT, self._seen.take)
        works = [asyncio.create_task(work) for work in (self._ask(), telling)]
        try:
            while True:
                await asyncio.sleep(TELL_S)
                report = self.report()
                if report.clients or report.targets or report.downloads:
                    subject = f"{SUBJECT}.{self._runtime.me.name}"
                    self._runtime.bus.publish(subject, msgspec.msgpack.encode(report))
        finally:
            for task in (*works, *self._probing):
                task.cancel()

    def report(self) -> Report:
        """What was measured since the last; those with the most clients first, as far as there is room."""
        heard, downloads, targets = self._round_trips.take(), self._downloads.take(), self._targets
        self._targets = {}
        if self._finder is None:
            return Report(self._runtime.me.region)
        of_unit: dict[str, dict[str, float]] = {}
        for address, rtt_ms in targets.items():
            unit = self._names[self._finder.unit(address)]
            if unit:
                of_unit.setdefault(unit, {})[address] = round(rtt_ms, 3)
        if not serials_of(self._runtime.config):
            downloads = {}  # nobody asks for them
        return Report(
            self._runtime.me.region,
            self._by_unit(self._finder, heard),
            of_unit,
            self._by_unit(self._finder, downloads),
        )

    def _by_unit(self, finder: Finder, heard: dict[str, float]) -> dict[str, dict[int, float]]:
        """By unit and client."""
        clients: dict[str, dict[int, float]] = {}
        for address, ms in heard.items():
            unit = self._names[finder.unit(address)]
            own = clients.setdefault(unit, {}) if unit else {}
            if len(own) < CLIENTS_TOLD_MAX:
                own[_number(address)] = round(ms, 3)
        return dict(sorted(clients.items(), key=lambda each: (-len(each[1]), each[0]))[:UNITS_TOLD_MAX])

    def _take_atlas(self, atlas: Atlas) -> None:
        self._finder, self._names = Finder(atlas), atlas.names

    def _take_map(self, map_: Map) -> None:
        mine = self._runtime.me.region
        self._neighbours = next((region.servers for region in map_.regions if region.name == mine), ())

    async def _ask(self) -> None:
        """Each target once in a round, one after the other, if it is this server's to ask."""
        while True:
            probes = self._runtime.config.network.probes
            pause_s = probes.every_s / max(len(probes.targets), 1)
            for target in probes.targets:
                if self._is_mine(target) and len(self._probing) < PROBES_MAX:
                    task = asyncio.create_task(self._probe(target))
                    self._probing.add(task)
                    task.add_done_callback(self._probing.discard)
                await asyncio.sleep(pause_s)
            if not probes.targets:
                await asyncio.sleep(pause_s)

    def _is_mine(self, target: Target) -> bool:
        servers = self._neighbours
        return bool(servers) and owner(target.address.encode(), servers).name == self._runtime.me.name

    async def _probe(self, target: Target) -> None:
        loop = asyncio.get_running_loop()
        try:
            started_s = loop.time()
            async with asyncio.timeout(PATIENCE_S):
                await (_question if target.by == "dns" else _connection)(target, self._runtime.me.address)
            self._targets[target.address] = (loop.time() - started_s) * 1000
        except (OSError, TimeoutError) as error:
            log.debug("no answer from %s: %s", target.address, error)


async def _connection(target: Target, local: str) -> None:
    same = (":" in local) == (":" in target.address)
    _, writer = await asyncio.open_connection(target.address, target.port, local_addr=(local, 0) if same else None)
    writer.close()


async def _question(target: Target, local: str) -> None:
    """Any response to our question counts, even a refusal."""
    loop, asked = asyncio.get_running_loop(), os.urandom(2) + QUESTION
    answered: asyncio.Future[None] = loop.create_future()

    class Answers(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, _address: object) -> None:
            if data[:2] == asked[:2] and not answered.done():
                answered.set_result(None)

        def error_received(self, error: Exception) -> None:
            if not answered.done():
                answered.set_exception(error)

    same = (":" in local) == (":" in target.address)
    transport, _ = await loop.create_datagram_endpoint(
        Answers, local_addr=(local, 0) if same else None, remote_addr=(target.address, target.port)
    )
    try:
        transport.sendto(asked)
        await answered
    finally:
        transport.close()


def _number(address: str) -> int:
    """What stands for a client: of IPv6 all that it can have to itself."""
    packed = read_address(address).packed
    return crc32(packed[: IPV6_CLIENT_BITS // 8] if len(packed) > 4 else packed)
