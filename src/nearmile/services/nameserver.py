"""A name server: answers over UDP and TCP from what it knows; nobody else is asked while it answers.

A new configuration or map makes a new world, swapped whole. When the bus is gone the last world stays.
"""

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import cast

import msgspec

from nearmile.base.errors import NearmileError
from nearmile.config.layout import Config
from nearmile.dns import wire
from nearmile.dns.answer import LowWorld, TopWorld, World
from nearmile.dns.locate import Locator
from nearmile.dns.records import to_wire
from nearmile.dns.responder import IDLE_S, Responder
from nearmile.dns.signer import Signer
from nearmile.mapping.atlas import Atlas
from nearmile.mapping.beacons import Side, Sighting
from nearmile.mapping.map import Map
from nearmile.mapping.places import Places
from nearmile.mapping.plans import SUBJECT, TELL_S
from nearmile.services import beacons, state
from nearmile.services.datagrams import Datagrams
from nearmile.services.late_maps import LateMaps
from nearmile.services.runtime import Runtime, listening_on

log = logging.getLogger("nearmile.nameserver")
# About 10,000 waiting queries, some 100 ms of work: more would be answered when nobody waits any more.
SOCKET_BUFFER_BYTES = 2 << 20
# No response is sent, or cut up on its way, as fragments, among which others could put theirs (RFC 9715). Python
# does not know these names of <linux/in.h> and <linux/in6.h>: IP_MTU_DISCOVER, IPV6_MTU_DISCOVER.
_DISCOVER = {socket.AF_INET: (socket.IPPROTO_IP, 10), socket.AF_INET6: (socket.IPPROTO_IPV6, 23)}
_PROBE = 3  # "don't fragment" is set, and what ICMP says of smaller paths, which anybody could, is not believed
# Resolvers come by TCP rarely, and each should get its answer at once (RFC 9210, section 4).
CONNECTIONS_MAX = 512
ACCEPT_BACKLOG = 256
LENGTH_BYTES = 2
ERROR_LOG_PAUSE_S = 10.0
# How often a server looks whether its signatures are of yesterday, there are other keys, or another of a delayed
# server's maps is old enough.
LOOK_S = state.KEYS_LOOK_S


class Nameserver:
    """The process's state: its world, and how it answers a packet whatever happens."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._world: World | None = None
        self._secret = state.cookie_secret(runtime.root)
        self._responder: Responder | None = None
        self._config: Config | None = None  # the last that worked, and its places
        self._locator: Locator | None = None
        self._atlas: Atlas | None = None
        self._signer: Signer | None = None
        delay_s = runtime.me.delayed_s
        self._late = LateMaps(runtime.folder / "past", delay_s) if delay_s else None
        self._errors = 0
        self._logged_at_s = float("-inf")

    def learn(self) -> None:
        """Takes the configuration and the map that are there, and all later ones."""
        self._runtime.on_config(self._take_config)
        self._runtime.on_atlas(self._take_atlas)
        self._runtime.on_map(self._take_map)

    def ready(self, queries: Sequence[bytes], resolvers: Sequence[int | bytes]) -> Sequence[bytes | None]:
        """For datagrams without their numbers what is prepared; the others are for ``answer``. Never raises."""
        self._runtime.requests += len(queries)
        try:
            if self._world is not None and self._responder is not None:
                return self._responder.ready(queries, resolvers, self._world, time.time())
        except Exception as error:
            self._note(error)
        return [None] * len(queries)

    def answer(self, packet: bytes, resolver: str, over_tcp: bool = False) -> bytes | None:
        """The response to a packet, if it gets one. Never raises."""
        self._runtime.requests += over_tcp
        if self._world is None or self._responder is None:
            return wire.failure(packet)
        try:
            return self._responder.answer(packet, resolver, self._world, time.time(), over_tcp)
        except Exception as error:
            self._note(error)
            return wire.failure(packet)

    def _take_config(self, config: Config) -> None:
        self._renew(config, self._locate(config), self._runtime.map)
        self._responder = Responder(self._runtime.me.name, self._secret, config.network.dns.rate_per_s)

    def _locate(self, config: Config) -> Locator:
        return Locator(Places.open(config.network).lookup, config.network.trusted, self._atlas)

    def _take_atlas(self, atlas: Atlas) -> None:
        self._atlas = atlas
        if self._config is not None:
            self._renew(self._config, self._locate(self._config), self._runtime.map)

    async def tell(self) -> None:
        """Tells the controllers for whom resolvers ask."""
        while True:
            await asyncio.sleep(TELL_S)
            seen = self._locator.take_seen() if self._locator is not None else ()
            if seen:
                self._runtime.bus.publish(f"{SUBJECT}.{self._runtime.me.name}", msgspec.msgpack.encode(seen))

    def beacons(self) -> tuple[Sighting, ...]:
        """Which resolvers asked for beacons' names since the last time."""
        return self._locator.beacons.take() if self._locator is not None else ()

    async def keep_time(self) -> None:
        """Signatures, and the maps of a delayed server, grow old without any event."""
        while True:
            await asyncio.sleep(LOOK_S)
            config, locator = self._config, self._locator
            if config is None or locator is None:
                continue
            if self._late is not None or self._signer is not self._current_signer(config):
                self._renew(config, locator, self._runtime.map)

    def _take_map(self, current: Map) -> None:
        if self._config is not None and self._locator is not None:
            self._renew(self._config, self._locator, current)

    def _renew(self, config: Config, locator: Locator, current: Map | None) -> None:
        if self._late is not None and current is not None:
            current = self._late.take(current, time.time())
        signer = self._current_signer(config)
        if self._runtime.me.tier == "low":
            self._world = LowWorld(config, current, locator, signer, self._world)
            self._runtime.ready = current is not None
        else:
            self._world = TopWorld(config, current, locator, signer, self._world)
            self._runtime.ready = True
        self._config, self._locator, self._signer = config, locator, signer

    def _current_signer(self, config: Config) -> Signer | None:
        """The one in use, unless its day or its keys are over."""
        if not config.network.dns.dnssec:
            return None
        now_s, signer = time.time(), self._signer
        try:
            secrets = state.dnssec_secrets(self._runtime.root)
            own = {to_wire(zone): each for zone, each in state.dnssec_own_secrets(self._runtime.root).items()}
        except NearmileError as error:
            if signer is None:
                raise
            log.error("the keys stay as they were: %s", error)
            secrets, own = signer.secrets, dict(signer.own)
        same = signer is not None and (signer.secrets, signer.own) == (secrets, own)
        if signer is not None and same and signer.from_s <= now_s < signer.until_s:
            return signer
        return Signer(secrets, now_s, own)

    def _note(self, error: Exception) -> None:
        """Whatever a stranger's packet provokes must not fill the disk."""
        self._errors += 1
        now_s = asyncio.get_running_loop().time()
        if now_s - self._logged_at_s >= ERROR_LOG_PAUSE_S:
            log.error("%d queries could not be answered; the last: %r", self._errors, error, exc_info=error)
            self._logged_at_s, self._errors = now_s, 0


class Connection(asyncio.Protocol):
    """A TCP client: queries with their lengths, pipelined (RFC 7766), answered in their order."""

    def __init__(self, server: Nameserver, connections: dict["Connection", None]) -> None:
        self._server = server
        self._connections = connections
        self._buffer = bytearray()
        self._transport: asyncio.Transport
        self._resolver = ""
        self._idle: asyncio.TimerHandle

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._resolver = peer[0] if peer else ""  # it may be gone already
        if len(self._connections) >= CONNECTIONS_MAX:
            next(iter(self._connections)).close()  # the one whose last whole query is the oldest
        self._wait()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        responses = b"".join(self._responses())
        if responses and not self._transport.is_closing():
            self._transport.write(responses)
            self._idle.cancel()
            del self._connections[self]
            self._wait()

    def _responses(self) -> Iterator[bytes]:
        start = 0
        while len(self._buffer) >= start + LENGTH_BYTES:
            packet_at = start + LENGTH_BYTES
            end = packet_at + int.from_bytes(self._buffer[start:packet_at], "big")
            if end - packet_at > wire.QUERY_BYTES_MAX:
                self.close()
                return
            if len(self._buffer) < end:
                break
            packet = bytes(self._buffer[packet_at:end])
            response = self._server.answer(packet, self._resolver, over_tcp=True)
            if response is not None:
                yield len(response).to_bytes(LENGTH_BYTES, "big") + response
            start = end
        del self._buffer[:start]

    def pause_writing(self) -> None:
        """Who does not read its answers is not read either."""
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()

    def connection_lost(self, _error: Exception | None) -> None:
        self._idle.cancel()
        self._connections.pop(self, None)

    def close(self) -> None:
        """Ends it at once, with what was not sent."""
        self._connections.pop(self, None)
        self._transport.abort()

    def _wait(self) -> None:
        self._connections[self] = None  # as the last: the others have waited longer
        self._idle = asyncio.get_running_loop().call_later(IDLE_S, self.close)


def bind_datagrams(address: str, port: int) -> socket.socket:
    """The UDP socket; NearmileError where the address is taken or not ours."""
    sock = socket.socket(_family(address), socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)
    level, discover = _DISCOVER[sock.family]
    sock.setsockopt(level, discover, _PROBE)
    try:
        with listening_on(address, port, "dns.port"):
            sock.bind((address, port))
    except NearmileError:
        sock.close()
        raise
    return sock


@asynccontextmanager
async def listening(server: Nameserver, address: str, port: int) -> AsyncIterator[None]:
    """Accepts TCP connections, and ends them at the end; NearmileError as above."""
    connections: dict[Connection, None] = {}
    with listening_on(address, port, "dns.port"):
        listener = await asyncio.get_running_loop().create_server(
            lambda: Connection(server, connections), address, port, backlog=ACCEPT_BACKLOG
        )
    try:
        yield
    finally:
        listener.close()
        for connection in tuple(connections):
            connection.close()


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


async def run(runtime: Runtime) -> None:
    """Serves until the process shall stop."""
    server, me, loop = Nameserver(runtime), runtime.me, asyncio.get_running_loop()
    with bind_datagrams(me.address, me.port) as sock:
        async with listening(server, me.address, me.port):
            server.learn()
            datagrams = Datagrams(sock, wire.QUERY_BYTES_MAX, wire.UDP_BYTES_MAX)
            datagrams.attend(server, loop)
            works = server.keep_time(), server.tell(), beacons.tell(runtime, Side.RESOLVER, server.beacons)
            tasks = [asyncio.create_task(work) for work in works]
            try:
                await runtime.stopping.wait()
            finally:
                for task in tasks:
                    task.cancel()
                datagrams.leave(loop)
