"""Worlds that are asked over HTTP/2 and HTTP/3, and an origin with pages for both."""

import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

from edge_world import ADDRESSES, Asked, Handler, World, config, response, world
from h2_client import SECURE_PORT, H2Client, connect, trusting
from h3_client import H3Client
from nearmile.services import state
from nearmile.services.certificates import Certificates

FRESH = "Cache-Control: max-age=60"
LONG = bytes(range(256)) * 3_000


async def pages(asked: Asked) -> bytes:
    """Objects of many sizes, an echo, and one that is not stored."""
    path = asked.line.split()[1]
    if path == "/echo":
        return response(await asked.body(), "Cache-Control: no-store", "Connection: x-odd", "X-Odd: 1")
    if path == "/long":
        return response(LONG, FRESH)
    if path == "/unstored":
        return response(LONG, "Cache-Control: no-store")
    if path == "/chunked":
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    if path == "/cookie":
        return response(asked.fields.get("cookie", "").encode("latin-1"), "Cache-Control: no-store")
    if path == "/early":
        asked.writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
        return response(b"late", "Cache-Control: no-store")
    if path == "/broken":
        asked.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nCache-Control: no-store\r\n\r\nshort")
        asked.writer.close()
        return b""
    return response(path.encode() * 40, FRESH, 'ETag: "1"', "Content-Type: text/plain")


@contextlib.asynccontextmanager
async def secure(folder: Path, handler: Handler = pages) -> AsyncIterator[tuple[World, ssl.SSLContext]]:
    """A world whose first edge server also listens for TLS."""
    async with world(handler) as here:
        certificates = Certificates(folder)
        certificates.take_config(config())
        certificates.refresh()
        await here.servers[0].listen_secure(ADDRESSES[0], SECURE_PORT, certificates.context)
        yield here, trusting(str(state.authority_files(folder)[0]), "h2")


@contextlib.asynccontextmanager
async def streams(here: World, folder: Path) -> AsyncIterator[tuple[H2Client | H3Client, ...]]:
    """Clients of HTTP/2 and HTTP/3."""
    certificates = Certificates(folder)
    certificates.take_config(config())
    certificates.refresh()
    server, trust = here.servers[0], state.authority_files(folder)[0]
    await server.listen_secure(ADDRESSES[0], SECURE_PORT, certificates.context)
    server.listen_udp(ADDRESSES[0], SECURE_PORT, certificates.identity, bytes(32))
    quick = await H3Client(trust).connected()
    try:
        yield await connect(trusting(str(trust), "h2")), quick
    finally:
        quick.close()
