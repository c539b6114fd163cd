"""All clients of an edge server: listening, counting connections, and the sweep that ends what takes too long."""

import asyncio
import ssl
from collections import Counter
from collections.abc import Callable

from nearmile.edge import limits
from nearmile.edge.clients.door import Guest
from nearmile.edge.clients.h1server import Connection
from nearmile.edge.clients.h2server import H2Connection
from nearmile.edge.clients.rounds import Round
from nearmile.edge.clients.tlsserver import Secured, TlsTransport
from nearmile.edge.clients.udpserver import UdpServer
from nearmile.edge.node import Node
from nearmile.edge.rules.access import client_address, client_key
from nearmile.http.quic import Choose
from nearmile.mapping.downloads import Delivery, beyond_ms

DRAIN_LOOK_S = 0.02


class EdgeServer:
    """All clients' connections of an edge server."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.loop = asyncio.get_running_loop()
        self.round = Round(self.loop.call_soon)
        self.closing = False
        self.refused = 0
        """Connections beyond the limit."""
        self.full = False
        """Whether there are so many that the clients of others should not come."""
        self._connections: set[Guest] = set()
        self._of_clients: Counter[bytes] = Counter()
        """How many of them each client has, where that is bounded."""
        self._listeners: list[asyncio.Server] = []
        self._udp: list[UdpServer] = []
        self._sweeping: asyncio.Task[None] | None = None

    async def listen(self, address: str, port: int) -> None:
        """Opens the door; OSError where it is taken."""
        listener = await self.loop.create_server(
            lambda: Connection(self), address, port, backlog=limits.BACKLOG, reuse_address=True
        )
        self._listeners.append(listener)
        if self._sweeping is None:
            self._sweeping = self.loop.create_task(self._sweep())

    async def listen_secure(self, address: str, port: int, context: ssl.SSLContext) -> None:
        """The same for TLS, with HTTP/2 where the client chooses it."""
        listener = await self.loop.create_server(
            lambda: TlsTransport(self, context, self._secured),
            address,
            port,
            backlog=limits.BACKLOG,
            reuse_address=True,
        )
        self._listeners.append(listener)

    def _secured(self, chosen: str | None) -> Secured:
        """The connection of a client that has shaken hands, by the protocol that it chose (ALPN, RFC 7301)."""
        return H2Connection(self, secure=True) if chosen == "h2" else Connection(self, secure=True)

    def listen_udp(self, address: str, port: int, choose: Choose, key: bytes) -> None:
        """The same for HTTP/3. A ``key`` that outlives the process lets it send away the clients of the last."""
        self._udp.append(UdpServer(self, address, port, choose, key))

    @property
    def connections(self) -> int:
        """Clients connected now."""
        return len(self._connections)

    def opened(self, guest: Guest) -> None:
        """Called by a new connection."""
        self._connections.add(guest)
        most, client = self.node.connections_max, self._client_of(guest)
        self._of_clients[client] += 1
        self.full = self.full or len(self._connections) > most * limits.FULL_SHARE
        one_most = max(limits.CLIENT_CONNECTIONS_MIN, most * limits.CLIENT_CONNECTIONS_SHARE)
        if len(self._connections) > most or (client and self._of_clients[client] > one_most):
            self.refused += 1
            guest.turn_away()

    def shaken(self, guest: Guest, round_trip_ms: Callable[[], float]) -> None:
        """See Door."""
        round_trips = self.node.round_trips
        if round_trips.wanted() and self._client_of(guest) and (took_ms := round_trip_ms()) > 0:
            round_trips.heard(guest.peer, took_ms)

    def drained(self, guest: Guest, delivery: Callable[[], Delivery | None]) -> None:
        """See Door."""
        downloads = self.node.downloads
        if downloads.wanted() and self._client_of(guest) and (seen := delivery()) is not None:
            longer_ms = beyond_ms(seen)
            if longer_ms is not None:
                downloads.heard(guest.peer, longer_ms)

    def closed(self, guest: Guest) -> None:
        """Called by a connection that has ended."""
        if guest in self._connections:
            self._connections.discard(guest)
            self.full = self.full and len(self._connections) > self.node.connections_max * limits.ROOMY_SHARE
            client = self._client_of(guest)
            self._of_clients[client] -= 1
            if not self._of_clients[client]:
                del self._of_clients[client]

    def _client_of(self, guest: Guest) -> bytes:
        """Who is counted as one; nobody (empty) for who speaks for many."""
        many = guest.trusted or self.node.visitors.is_server(guest.peer)
        return b"" if many else client_key(client_address(guest.peer))

    async def close(self) -> None:
        """Takes no more clients, and gives responses in flight DRAIN_S to finish."""
        self.closing = True
        for listener in self._listeners:
            listener.close()
        for connection in tuple(self._connections):
            connection.stop()
        deadline_s = self.loop.time() + limits.DRAIN_S
        while self._connections and self.loop.time() < deadline_s:  # noqa: ASYNC110 (once in a process's life)
            await asyncio.sleep(DRAIN_LOOK_S)
        for connection in tuple(self._connections):
            connection.turn_away()
        for udp in self._udp:
            udp.close()
        if self._sweeping is not None:
            self._sweeping.cancel()
        self.node.origins.close()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(limits.SWEEP_S)
            for connection in tuple(self._connections):
                connection.sweep()
            self.node.origins.sweep(self.loop.time())
