"""TLS of the edge server: what clients do to it below HTTP, on loopback and in memory."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge_world import ADDRESSES, HOST, Asked, World, config, response, world
from nearmile.edge import limits
from nearmile.edge.clients.tlsserver import TlsTransport
from nearmile.services import authority, state
from nearmile.services.certificates import Certificates
from waiting import until

SECURE_PORT = 8443
LONG = bytes(range(256)) * 65_536  # 16 MB: more than the kernel keeps for two ends of a connection
REQUEST = f"GET /a HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


async def pages(asked: Asked) -> bytes:
    body = LONG if asked.line.split()[1] == "/long" else b"hello"
    return response(body, "Cache-Control: max-age=60")


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    authority.ensure(tmp_path, config(), datetime.now(UTC))
    made = Certificates(tmp_path)
    made.take_config(config())
    made.refresh()
    return made


@pytest.fixture
def trust(tmp_path: Path, certificates: Certificates) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=state.authority_files(tmp_path)[0])


class Peer:
    """A client whose TLS is driven by hand, over a plain connection."""

    def __init__(self, trust: ssl.SSLContext, name: str = HOST, session: ssl.SSLSession | None = None) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = trust.wrap_bio(self.incoming, self.outgoing, server_hostname=name, session=session)
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def connect(self) -> "Peer":
        self.reader, self.writer = await asyncio.open_connection(ADDRESSES[0], SECURE_PORT)
        while True:
            with contextlib.suppress(ssl.SSLWantReadError):
                self.tls.do_handshake()
                self.flush()
                return self
            self.flush()
            if not await self.hear():
                raise ConnectionResetError("the server hung up")

    def flush(self) -> None:
        self.writer.write(self.outgoing.read())

    async def hear(self) -> bytes:
        data = await self.reader.read(65536)
        self.incoming.write(data)
        return data

    def say(self, data: bytes) -> None:
        self.tls.write(data)
        self.flush()

    async def read(self, end: bytes = b"") -> bytes:
        """Plaintext, until it ends so, or with the connection; ssl.SSLError where that is no end."""
        found = b""
        while not end or not found.endswith(end):
            piece = await self.some()
            found += piece
            if not piece:
                break
        return found

    async def some(self) -> bytes:
        """The next of it; empty at an orderly end."""
        while True:
            try:
                return self.tls.read(65536)
            except ssl.SSLWantReadError:
                if not await self.hear():
                    raise


@contextlib.asynccontextmanager
async def secure(certificates: Certificates) -> AsyncIterator[World]:
    async with world(pages) as here:
        await here.servers[0].listen_secure(ADDRESSES[0], SECURE_PORT, certificates.context)
        yield here


def guests(here: World) -> int:
    return here.servers[0].connections


async def test_a_name_that_no_site_has_is_told_so(certificates: Certificates, trust: ssl.SSLContext) -> None:
    async with secure(certificates) as here:
        peer = Peer(trust, "other.example")
        with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
            await peer.connect()
        peer.writer.close()
        await until(lambda: not guests(here))


@pytest.mark.parametrize("version", (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3))
async def test_records_cut_anywhere_and_an_orderly_end(
    certificates: Certificates, trust: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    trust.maximum_version = version
    async with secure(certificates) as here:
        peer = await Peer(trust).connect()
        peer.tls.write(REQUEST)
        peer.tls.write(REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        for byte in peer.outgoing.read():
            peer.writer.write(bytes((byte,)))
            await asyncio.sleep(0)
        assert (await peer.read()).count(b"hello") == 2  # and the end is said: it raises nothing
        await until(lambda: len(here.records) == 2)
        peer.writer.close()
        await until(lambda: not guests(here))


async def test_a_session_is_resumed_on_another_connection(
    certificates: Certificates, trust: ssl.SSLContext
) -> None:
    async with secure(certificates):
        first = await Peer(trust).connect()
        first.say(REQUEST)
        await first.read(b"hello")
        assert not first.tls.session_reused
        second = await Peer(trust, session=first.tls.session).connect()
        assert second.tls.session_reused
        for peer in (first, second):
            peer.writer.close()


async def test_a_reader_that_stops_costs_a_bounded_buffer(
    certificates: Certificates, trust: ssl.SSLContext
) -> None:
    async with secure(certificates) as here:
        plain = await here.client()
        for _ in range(2):
            await plain.get("/long")
        peer = await Peer(trust).connect()
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        peer.say(REQUEST.replace(b"/a", b"/long"))

        def held() -> list[TlsTransport]:
            transports = [getattr(guest, "_transport", None) for guest in here.servers[0]._connections]
            return [one for one in transports if isinstance(one, TlsTransport) and one._blocked]

        await until(lambda: bool(held()))
        (transport,) = held()
        assert len(LONG) > transport.get_write_buffer_size() > 0
        assert transport._transport.get_write_buffer_size() < limits.TLS_WRITE_BYTES * 1.01
        peer.writer.transport.resume_reading()  # type: ignore[attr-defined]
        found = bytearray()
        while len(found) < here.records[1][2]:
            found += await peer.some()
        assert found.endswith(LONG)
        await until(lambda: len(here.records) == 3 and here.records[2] == here.records[1])
        peer.writer.transport.abort()
