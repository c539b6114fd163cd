"""What is recorded of a response cut short: the bytes that the kernel has taken, over every protocol on TCP."""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest

from edge_world import ADDRESSES, HOST, PORT, Asked, World, config, response, world
from h2_client import SECURE_PORT, trusting
from nearmile.config.network import Edge
from nearmile.edge.clients.tlsserver import RECORD_BYTES_MAX, TlsTransport
from nearmile.services import authority, state
from nearmile.services.certificates import Certificates
from waiting import at_rest, until

BODY_BYTES = 16 << 20  # more than the kernel keeps for two ends of a connection
STREAMS = 3
FRAME_BYTES_MAX = 16_384  # RFC 9113 section 4.2
# Read before the client's end is still: what comes meanwhile finds the buffers of the last pause changed.
READ_BYTES = 3 << 20


async def pages(asked: Asked) -> bytes:
    stored = "max-age=60" if asked.line.split()[1] == "/hit" else "no-store"
    return response(bytes(BODY_BYTES), f"Cache-Control: {stored}")


class Taker:
    """Counts the bytes of bodies in what it is fed."""

    def __init__(self, path: str, tls: ssl.SSLContext | None, streams: int) -> None:
        self.bodies_bytes = 0
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = None
        if tls is not None:
            self._tls = tls.wrap_bio(self._incoming, self._outgoing, server_hostname=HOST)
        self._h2 = None
        self._head: bytes | None = b""
        self._asked = False
        request = f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
        if streams:
            self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="latin-1"))
            self._h2.initiate_connection()
            self._h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: (1 << 31) - 1})
            self._h2.increment_flow_control_window(1 << 30)
            fields = [(":method", "GET"), (":scheme", "https"), (":authority", HOST), (":path", path)]
            for number in range(streams):
                self._h2.send_headers(2 * number + 1, fields, end_stream=True)
            request = self._h2.data_to_send()
        self._request = request

    def feed(self, data: bytes) -> bytes:
        """Returns what is to be sent."""
        if self._tls is None:
            self._count(data)
            return self._ask()
        self._incoming.write(data)
        out = b""
        with contextlib.suppress(ssl.SSLWantReadError):
            if not self._asked:
                self._tls.do_handshake()
                self._tls.write(self._ask())
            while True:
                self._count(self._tls.read(1 << 16))
        out += self._outgoing.read()
        return out

    def _ask(self) -> bytes:
        asked, self._asked = self._asked, True
        return b"" if asked else self._request

    def _count(self, plain: bytes) -> None:
        if self._h2 is not None:
            events = self._h2.receive_data(plain)
            self.bodies_bytes += sum(len(e.data) for e in events if isinstance(e, h2.events.DataReceived))
        elif self._head is None:
            self.bodies_bytes += len(plain)
        else:
            head, found, rest = (self._head + plain).partition(b"\r\n\r\n")
            self._head = None if found else head
            self.bodies_bytes += len(rest)


async def take(client: socket.socket, taker: Taker, enough: Callable[[], bool]) -> None:
    """Reads until there is enough, or the end."""
    loop = asyncio.get_running_loop()
    while not enough():
        data = await loop.sock_recv(client, 1 << 16)
        if not data:
            break
        if out := taker.feed(data):
            await loop.sock_sendall(client, out)


@contextlib.asynccontextmanager
async def secure(folder: Path) -> AsyncIterator[tuple[World, ssl.SSLContext]]:
    authority.ensure(folder, config(), datetime.now(UTC))
    certificates = Certificates(folder)
    certificates.take_config(config())
    certificates.refresh()
    async with world(pages, edge=Edge(http_port=PORT, memory_mb=256, max_object_mb=32)) as here:
        await here.servers[0].listen_secure(ADDRESSES[0], SECURE_PORT, certificates.context)
        yield here, trusting(str(state.authority_files(folder)[0]), "h2", "http/1.1")


async def asking(trust: ssl.SSLContext | None, path: str, streams: int) -> tuple[socket.socket, Taker]:
    loop = asyncio.get_running_loop()
    client = socket.socket()
    client.setblocking(False)
    await loop.sock_connect(client, (ADDRESSES[0], SECURE_PORT if trust else PORT))
    taker = Taker(path, trust, streams)
    await loop.sock_sendall(client, taker.feed(b""))
    return client, taker


async def taking(
    here: World, trust: ssl.SSLContext | None, path: str, streams: int
) -> tuple[socket.socket, Taker, int]:
    """A client that has read a part of its responses, twice; and how many bytes a whole one is."""
    if trust is not None and not streams:
        trust.set_alpn_protocols(["http/1.1"])
    for number in (1, 2):
        client, taker = await asking(trust, path, min(streams, 1))
        await take(client, taker, lambda taker=taker: taker.bodies_bytes == BODY_BYTES)  # type: ignore[misc]
        client.close()
        await until(lambda number=number: len(here.records) == number and not here.servers[0].connections)  # type: ignore[misc]
    client, taker = await asking(trust, path, streams)
    await take(client, taker, lambda: taker.bodies_bytes > READ_BYTES)
    await still(here)
    await take(client, taker, lambda: taker.bodies_bytes > 2 * READ_BYTES)
    return client, taker, here.records[1][2]


def buffered(here: World) -> tuple[int, int]:
    """Of the one connection there is: what waits in the loop, encrypted where it is, and what before it."""
    (guest,) = here.servers[0]._connections
    transport = guest._transport  # type: ignore[attr-defined]
    if isinstance(transport, TlsTransport):
        return transport._transport.get_write_buffer_size(), transport._waiting_bytes
    return transport.get_write_buffer_size(), sum(map(len, getattr(guest, "_rest", ())))


async def still(here: World) -> None:
    """Until no more goes out."""
    await until(lambda: buffered(here)[0] > 0)
    await at_rest(lambda: buffered(here))


@pytest.mark.parametrize("path", ("/hit", "/pass"))
@pytest.mark.parametrize(
    ("over_tls", "streams"), ((False, 0), (True, 0), (True, 1), (True, STREAMS)), ids=("plain", "tls", "h2", "h2s")
)
async def test_what_the_kernel_took_is_recorded(tmp_path: Path, path: str, over_tls: bool, streams: int) -> None:
    async with secure(tmp_path) as (here, trust):
        client, taker, whole_bytes = await taking(here, trust if over_tls else None, path, streams)
        # The server lets go of it; what the kernel has still arrives.
        (guest,) = here.servers[0]._connections
        guest.turn_away()
        await take(client, taker, lambda: False)
        client.close()
        count = max(streams, 1)
        await until(lambda: len(here.records) == 2 + count)
        assert not any(record[3] for record in here.records[2:])
        missing_bytes = sum(whole_bytes - record[2] for record in here.records[2:])
        unseen_bytes = count * BODY_BYTES - taker.bodies_bytes - missing_bytes
        # Of a record and a frame that were cut, the client can make nothing.
        assert 0 <= unseen_bytes <= (RECORD_BYTES_MAX if over_tls else 0) + (FRAME_BYTES_MAX if streams else 0)


@pytest.mark.parametrize("over_tls", (False, True), ids=("plain", "tls"))
async def test_a_reset_hides_nothing_of_it(tmp_path: Path, over_tls: bool) -> None:
    async with secure(tmp_path) as (here, trust):
        client, _, whole_bytes = await taking(here, trust if over_tls else None, "/hit", 0)
        await still(here)
        encrypted_bytes, waiting_bytes = buffered(here)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        await until(lambda: len(here.records) == 3)
        left_bytes = whole_bytes - here.records[2][2] - waiting_bytes
        assert 0.99 * encrypted_bytes <= left_bytes <= encrypted_bytes
