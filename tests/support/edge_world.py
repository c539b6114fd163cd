"""An edge server and a scripted origin, joined by real sockets in one event loop."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from itertools import count
from typing import Any, NamedTuple

import msgspec
import uvloop

from nearmile.base.geography import Point
from nearmile.cache.pages import Shelf
from nearmile.cache.store import MemoryStore
from nearmile.config.layout import Config, lay_out
from nearmile.config.network import Edge, Nameserver, Network, Region, Site
from nearmile.edge.clients.server import EdgeServer
from nearmile.edge.node import Node
from nearmile.edge.origins.client import Origins
from nearmile.edge.rules.site import NO_FILES, Files
from nearmile.edge.visitors import Visitors
from nearmile.mapping.map import Map, MapRegion, Server, Units

HOST = "www.test.example"
ADDRESSES = ("127.31.40.1", "127.31.40.2")
HERE = {"here": ADDRESSES}
ORIGIN_ADDRESS, PORT = "127.31.41.1", 8080
DEADLINE_S = 60.0
POINT = Point(50, 8)
# Of large bodies; enough for a test.
FILES_MAX = 256


class Asked(NamedTuple):
    """A request as the origin got it."""

    line: str
    fields: dict[str, str]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    connection: int

    async def body(self) -> bytes:
        """Its body, however framed."""
        if self.fields.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                body += await self.reader.readexactly(size)
                await self.reader.readuntil(b"\r\n")
            await self.reader.readuntil(b"\r\n")
            return body
        return await self.reader.readexactly(int(self.fields.get("content-length", 0)))


Handler = Callable[[Asked], Awaitable[bytes | None]]
"""Answers a request: with bytes, or by itself on the writer, or with None to end the connection."""


class Origin:
    """Asks ``handler`` what to answer, and keeps what it was asked."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.asked: list[Asked] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        number = self.connections
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                line, *lines = head.rstrip().split("\r\n")
                fields = joined(lines)
                asked = Asked(line, fields, reader, writer, number)
                self.asked.append(asked)
                answer = await self.handler(asked)
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()


class Response(NamedTuple):
    """What a client got."""

    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def cache(self) -> str:
        """What the last cache says of itself."""
        return self.fields.get("cache-status", "")


class Client:
    """A raw connection to an edge server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        """Sends bytes."""
        self.writer.write(data)

    async def get(self, target: str = "/", *lines: str, method: str = "GET") -> Response:
        """One request, one response."""
        self.send(request(target, *lines, method=method))
        return await self.response(method)

    async def head(self) -> tuple[int, dict[str, str]]:
        """The next response's status and fields."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *lines = head.rstrip().split("\r\n")
        return int(line.split()[1]), joined(lines)

    async def response(self, method: str = "GET") -> Response:
        """The next response, whole."""
        status, fields = await self.head()
        return await self.rest(status, fields, method)

    async def rest(self, status: int, fields: dict[str, str], method: str = "GET") -> Response:
        """The response with that head, whole."""
        if method == "HEAD" or status in (204, 304) or status < 200:
            return Response(status, fields, b"")
        if fields.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(await self.reader.readline(), 16):
                body += await self.reader.readexactly(size)
                await self.reader.readline()
            await self.reader.readline()
            return Response(status, fields, body)
        if "content-length" not in fields:
            return Response(status, fields, await self.reader.read())
        return Response(status, fields, await self.reader.readexactly(int(fields["content-length"])))

    async def ended(self) -> bytes:
        """What is left until the server ends the connection; a reset counts as an end."""
        data = b""
        with contextlib.suppress(ConnectionError):
            while piece := await self.reader.read(65536):
                data += piece
        return data


class World:
    """Edge servers of one region in front of one origin."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.servers: list[EdgeServer] = []
        self.records: list[tuple[int, ...]] = []
        self.requests = 0
        """The edge servers count here."""
        self.skew_s = 0.0
        """How far the edge servers' clocks are ahead."""
        self._clients: list[Client] = []

    @property
    def node(self) -> Node:
        """The first edge server's."""
        return self.servers[0].node

    def purge(self, target: bytes) -> int:
        """Purges an object of the first edge server."""
        return self.node.purge_key(self.node.sites[HOST.encode()].prefix + target)

    async def client(self, index: int = 0, local: str | None = None) -> Client:
        """A new connection to an edge server."""
        address = (local, 0) if local else None
        client = Client(
            *await asyncio.open_connection(self.servers[index].node.me.address, PORT, local_addr=address)
        )
        self._clients.append(client)
        return client

    def record(
        self, now_ms: int, serial: int, place: int, status: int, cache: int, sent: int, whole: bool
    ) -> None:
        """In place of the journal."""
        self.records.append((status, cache, sent, whole, place))

    def tell_map(self) -> None:
        """All edge servers learn that they all live."""
        alive = tuple(Server(s.node.me.name, s.node.me.address, PORT) for s in self.servers)
        regions = {server.node.me.region: POINT for server in self.servers}
        made = tuple(
            MapRegion(name, POINT, tuple(one for one in alive if one.name.startswith(f"{name}-")))
            for name in regions
        )
        map_ = Map(version=1, term=1, made_at_s=0, regions=made, units=Units(), fallback=(0,))
        for server in self.servers:
            server.node.take_map(map_)

    async def close(self) -> None:
        """Ends clients and servers."""
        for client in self._clients:
            client.writer.close()
        await asyncio.gather(*(server.close() for server in self.servers))


def joined(lines: list[str]) -> dict[str, str]:
    """Field lines as fields; several of one name are joined."""
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        fields[name] = f"{fields[name]}, {value.strip()}" if name in fields else value.strip()
    return fields


def request(target: str, *lines: str, method: str = "GET") -> bytes:
    """A request's head."""
    return "\r\n".join([f"{method} {target} HTTP/1.1", f"Host: {HOST}", *lines, "", ""]).encode()


def response(body: bytes = b"", *lines: str, status: str = "200 OK") -> bytes:
    """A response as an origin sends it."""
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *lines, "", ""])
    return head.encode() + body


def config(
    trusted: tuple[str, ...] = (),
    edge: Edge | None = None,
    rules: dict[str, Any] | None = None,
    regions: Mapping[str, tuple[str, ...]] = HERE,
) -> Config:
    """Edge servers and a site; ``rules`` are further keys of its document."""
    network = Network(
        name="test",
        zone="test.example",
        trusted=trusted,
        regions={name: Region(city="X", servers=addresses) for name, addresses in regions.items()},
        nameservers=tuple(Nameserver(tier=tier, city="X") for tier in ("top", "low")),
        edge=edge or Edge(http_port=PORT, memory_mb=8, max_object_mb=1),
    )
    document = {"hostnames": [HOST], "origin": f"http://{ORIGIN_ADDRESS}:{PORT}", **(rules or {})}
    site = msgspec.convert(document, Site)
    return lay_out(network, {"www": site}, {"X": POINT}, version=1)


@contextlib.asynccontextmanager
async def world(
    handler: "Handler | Origin",
    servers: int = 1,
    trusted: tuple[str, ...] = (),
    edge: Edge | None = None,
    rules: dict[str, Any] | None = None,
    files: Files = NO_FILES,
    regions: Mapping[str, tuple[str, ...]] = HERE,
    clock: Callable[[], float] | None = None,
) -> AsyncIterator[World]:
    """Edge servers that have sockets and clocks, but neither bus nor journal.

    Clocks advance by a microsecond with each look at them, and by ``skew_s``: what is fresh for a second is so
    however long the machine takes.
    """
    origin = handler if isinstance(handler, Origin) else Origin(handler)
    here, looks = World(origin), count(int(time.time() * 1e6))
    loop = asyncio.get_running_loop()
    listener = await asyncio.start_server(origin.serve, ORIGIN_ADDRESS, PORT)
    document = config(trusted, edge, rules, regions)
    for process in document.of_role("edge")[: servers if regions is HERE else None]:
        visitors = Visitors(lambda address: int(address.rpartition(".")[2]), country)
        store = MemoryStore(document.network.edge.memory_mb << 20, shelf=Shelf(FILES_MAX))
        node = Node(
            process,
            loop,
            lambda: (clock() if clock is not None else next(looks) / 1e6) + here.skew_s,
            store,
            Origins(loop),
            visitors,
            here.record,
            here,
        )
        node.take_config(document, lambda _: files)
        server = EdgeServer(node)
        await server.listen(node.me.address, node.me.port)
        here.servers.append(server)
    try:
        yield here
    finally:
        await here.close()
        listener.close()


def country(address: str) -> str:
    """Of an address: 127.45.1.x is in Germany, 127.45.2.x in France."""
    return {"127.45.1": "DE", "127.45.2": "FR"}.get(address.rpartition(".")[0], "")


def run(test: Coroutine[Any, Any, None]) -> None:
    """Runs a test as the product runs, within a deadline."""

    async def bounded() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await test

    uvloop.run(bounded())
