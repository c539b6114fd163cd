"""A client of HTTP/3 that is not ours (aioquic), on one connection, for tests of the edge server."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted, StopSendingReceived, StreamReset
from aioquic.tls import SessionTicket

from edge_world import ADDRESSES, HOST
from h2_client import SECURE_PORT, Answer


class H3Client:
    """Reads what comes as long as somebody waits for something."""

    def __init__(
        self,
        authority: Path,
        name: str | None = HOST,
        server: tuple[str, int] = (ADDRESSES[0], SECURE_PORT),
        idle_timeout: float = 60.0,
        ticket: SessionTicket | None = None,
    ) -> None:
        self.server = server
        configuration = QuicConfiguration(
            is_client=True,
            alpn_protocols=["h3"],
            server_name=name,
            idle_timeout=idle_timeout,
            session_ticket=ticket,
        )
        configuration.load_verify_locations(str(authority))
        self.tickets: list[SessionTicket] = []
        self.quic = QuicConnection(configuration=configuration, session_ticket_handler=self.tickets.append)
        self.loop = asyncio.get_running_loop()
        self.socket = _socket()
        self.got: dict[int, Answer] = {}
        self.done: set[int] = set()
        self.stopped: dict[int, int] = {}
        self.shaken: HandshakeCompleted | None = None
        self.over: ConnectionTerminated | None = None
        self.quic.connect(self.server, self.loop.time())
        self.h3 = H3Connection(self.quic)
        self.flush()

    def flush(self) -> None:
        """Sends what the library has to say."""
        for data, _ in self.quic.datagrams_to_send(self.loop.time()):
            self.throw(data)

    def throw(self, data: bytes) -> None:
        """Sends a datagram."""
        with contextlib.suppress(ConnectionError):
            self.socket.sendto(data, self.server)

    def move(self) -> None:
        """Goes on from another port, as behind a router that has forgotten the old one."""
        self.socket.close()
        self.socket = _socket()

    def close(self) -> None:
        """Parts."""
        self.quic.close()
        self.flush()
        self.socket.close()

    def ask(
        self, path: str, *fields: tuple[str, str], method: str = "GET", end: bool = True, authority: str = HOST
    ) -> int:
        """Opens a stream."""
        stream = self.quic.get_next_available_stream_id()
        pseudo = [(":method", method), (":scheme", "https"), (":authority", authority), (":path", path)]
        lines = [(name.encode(), value.encode("latin-1")) for name, value in (*pseudo, *fields)]
        self.h3.send_headers(stream, lines, end_stream=end)
        self.flush()
        return stream

    async def get(self, path: str, *fields: tuple[str, str], method: str = "GET") -> Answer:
        """One request and its response."""
        return await self.answer(self.ask(path, *fields, method=method))

    def upload(self, stream: int, body: bytes, end: bool = True) -> None:
        """Sends a body as the windows allow."""
        self.h3.send_data(stream, body, end)
        self.flush()

    async def answer(self, stream: int) -> Answer:
        """Waits for the end of a stream."""
        while stream not in self.done and self.over is None:
            await self.read()
        return self.got.get(stream, Answer(0, {}, b"", None, ()))

    async def connected(self) -> "H3Client":
        """Waits for the end of the handshake, or of the connection."""
        while self.shaken is None and self.over is None:
            await self.read()
        return self

    async def read(self) -> None:
        """Takes what has come, or waits for it or for the library's timer."""
        timer = self.quic.get_timer()
        wait_s = 1.0 if timer is None else max(timer - self.loop.time(), 0.001)
        try:
            async with asyncio.timeout(wait_s):
                data = await self.loop.sock_recv(self.socket, 65536)
            for datagram in (data, *self._more()):
                self.quic.receive_datagram(datagram, self.server, self.loop.time())
        except TimeoutError:
            if timer is not None and timer <= self.loop.time():
                self.quic.handle_timer(self.loop.time())
        except ConnectionError:
            await asyncio.sleep(0.01)
        while (event := self.quic.next_event()) is not None:
            if isinstance(event, HandshakeCompleted):
                self.shaken = event
            elif isinstance(event, ConnectionTerminated):
                self.over = event
            elif isinstance(event, StreamReset):
                self.got[event.stream_id] = self._have(event.stream_id)._replace(error=event.error_code)
                self.done.add(event.stream_id)
            elif isinstance(event, StopSendingReceived):
                self.stopped[event.stream_id] = event.error_code
            for one in self.h3.handle_event(event):
                self._take(one)
        self.flush()

    def _more(self) -> Iterator[bytes]:
        """What else is here already: so that not every datagram is acknowledged by itself."""
        with contextlib.suppress(BlockingIOError, ConnectionError):
            for _ in range(64):
                yield self.socket.recv(65536)

    def _take(self, event: H3Event) -> None:
        if isinstance(event, HeadersReceived):
            fields = {name.decode(): value.decode("latin-1") for name, value in event.headers}
            status = int(fields.pop(":status", 0))
            interim = self._have(event.stream_id).interim
            if not status:
                self.got[event.stream_id] = self._have(event.stream_id)._replace(trailers=fields)
            elif status < 200:
                self.got[event.stream_id] = Answer(0, {}, b"", None, (*interim, status))
            else:
                self.got[event.stream_id] = Answer(status, fields, b"", None, interim)
        elif isinstance(event, DataReceived):
            have = self._have(event.stream_id)
            self.got[event.stream_id] = have._replace(body=have.body + event.data)
        if isinstance(event, HeadersReceived | DataReceived) and event.stream_ended:
            self.done.add(event.stream_id)

    def _have(self, stream: int) -> Answer:
        return self.got.get(stream, Answer(0, {}, b"", None, ()))


def _socket() -> socket.socket:
    found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    found.bind(("127.0.0.1", 0))
    return found
