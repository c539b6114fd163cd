"""What an edge is done with is freed at once: its collector of cycles hardly ever looks at what is old."""

import asyncio
import contextlib
import gc
from collections import Counter
from pathlib import Path

from edge_world import ADDRESSES, HOST, Asked, Client, World, response, world
from h2_client import SECURE_PORT, trusting
from nearmile.services import state
from secure_world import FRESH, pages, streams
from waiting import until

PATHS = ("/a", "/a", "/long", "/unstored", "/chunked", "/early", "/broken", "/refused", "/nonsense", "/half")
# The garbage of the tests' own clients does not count.
OURS = ("nearmile.edge", "nearmile.http", "nearmile.cache", "qh3.quic.tls_bridge", "qh3.tls")


async def mixed(asked: Asked) -> bytes | None:
    """An origin that also errs."""
    path = asked.line.split()[1]
    if path == "/refused":
        return None
    if path == "/nonsense":
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n"
    if path == "/half":
        asked.writer.write(response(b"short", FRESH).replace(b"Content-Length: 5", b"Content-Length: 9"))
        asked.writer.close()
        return b""
    return await pages(asked)


async def plain(here: World, _folder: Path) -> None:
    """HTTP/1.1."""
    for path in PATHS:
        client = await here.client()
        with contextlib.suppress(asyncio.IncompleteReadError):
            assert (await client.get(path)).status
        client.writer.close()
    client = await here.client()
    client.send(b"POST /echo HTTP/1.1\r\nHost: %b\r\nTransfer-Encoding: chunked\r\n\r\n" % HOST.encode())
    client.send(b"5\r\nhello\r\n0\r\nX-End: 1\r\n\r\n")
    assert (await client.response()).body == b"hello"
    client.writer.close()


async def streamed(here: World, folder: Path) -> None:
    """HTTP/2 and HTTP/3, and HTTP/1.1 over TLS."""
    async with streams(here, folder) as clients:
        for client in clients:
            for path in PATHS:
                await client.get(path)
            stream = client.ask("/echo", method="POST", end=False)
            sent = client.upload(stream, b"hello")
            if sent is not None:
                await sent
            assert (await client.answer(stream)).body == b"hello"
        trust = trusting(str(state.authority_files(folder)[0]), "http/1.1")
        secure = Client(*await asyncio.open_connection(ADDRESSES[0], SECURE_PORT, ssl=trust, server_hostname=HOST))
        assert (await secure.get("/a")).status == 200
        secure.writer.close()
        await clients[0].close()  # type: ignore[misc]


async def test_nothing_waits_for_the_collector(folder: Path) -> None:
    async with world(mixed) as here:
        for asks in (plain, streamed):
            gc.collect()
            gc.disable()
            gc.set_debug(gc.DEBUG_SAVEALL)
            try:
                await asks(here, folder)
                await until(lambda: here.servers[0].connections == 0)
                gc.collect()
            finally:
                gc.set_debug(0)
                gc.enable()
            found = Counter(f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.garbage)
            gc.garbage.clear()
            assert {kind: n for kind, n in found.items() if kind.startswith(OURS)} == {}, asks.__doc__
