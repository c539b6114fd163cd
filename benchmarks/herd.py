"""A thousand clients that ask at once for one object of 10 MB that nobody has yet, beside nginx with a cache lock.

The origin is far away: 200 ms to its first byte, then 20 MB/s. All clients are connected before the first asks.
Each one's time to the first byte runs from the moment that the first request of all is sent; so does the time
until all have everything. How often the origin was asked is counted. The server has core 0, clients and origin 1.
"""

import asyncio
import os
import sys
import time

import uvloop
from measure import HOST, LOAD_CORE, Case, Server, case, options, progress, show
from rivals import stage, times_asked

CLIENTS, OBJECT_BYTES = 1000, 10_000_000
PATIENCE_S = 120.0
BUFFER_BYTES = 256 << 10


class One(asyncio.BufferedProtocol):
    """One client."""

    def __init__(self, space: bytearray, done: asyncio.Queue["One"]) -> None:
        self.space, self.done = space, done
        self.first_at_s = self.last_at_s = 0.0
        self.got_bytes = 0
        self.transport: asyncio.BaseTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.space

    def buffer_updated(self, nbytes: int) -> None:
        if not self.first_at_s:
            self.first_at_s = time.perf_counter()
            # With the head, so many more bytes come; that of each server is short.
            self.got_bytes -= self.space.find(b"\r\n\r\n") + 4
            if not self.space.startswith(b"HTTP/1.1 200 "):
                sys.exit(f"no response to count on: {bytes(self.space[:200])!r}")
        self.got_bytes += nbytes
        if self.got_bytes >= OBJECT_BYTES:
            self.last_at_s = time.perf_counter()
            self.done.put_nowait(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.done.put_nowait(self)


async def stampede(server: Server, target: str) -> tuple[float, float, float]:
    """Seconds from the first request to the first client's first byte, to the last one's, and to all of all."""
    loop, done, space = asyncio.get_running_loop(), asyncio.Queue[One](), bytearray(BUFFER_BYTES)
    clients = [
        (await loop.create_connection(lambda: One(space, done), *server.address))[1] for _ in range(CLIENTS)
    ]
    request = f"GET {target} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
    begun_s = time.perf_counter()
    for client in clients:
        client.transport.write(request)  # type: ignore[attr-defined]
    async with asyncio.timeout(PATIENCE_S):
        for _ in clients:
            if (one := await done.get()).got_bytes != OBJECT_BYTES:
                sys.exit(f"{server.name}: a client got {one.got_bytes} bytes")
    for client in clients:
        client.transport.abort()  # type: ignore[attr-defined]
    firsts_s = [client.first_at_s - begun_s for client in clients]
    return min(firsts_s), max(firsts_s), max(client.last_at_s for client in clients) - begun_s


def measure(rounds: int) -> list[Case]:
    """Both servers, in turn, each round with another object."""
    os.sched_setaffinity(0, {LOAD_CORE})
    found: dict[str, list[tuple[float, ...]]] = {}
    with stage("127.38", ("nginx",)) as (origin, servers):
        for number in range(rounds):
            for server in servers if number % 2 else servers[::-1]:
                before = times_asked(origin)
                first_s, last_s, all_s = uvloop.run(stampede(server, f"/far/{OBJECT_BYTES}?{number}"))
                fetches = times_asked(origin) - before
                found.setdefault(server.name, []).append((fetches, last_s / first_s, last_s, all_s))
                progress(
                    f"{server.name}: first byte after {first_s:.3f} s (first client) to {last_s:.3f} s (last), "
                    f"all after {all_s:.2f} s, {fetches} fetches"
                )
    name = f"{CLIENTS} clients, one uncached object of 10 MB"
    mine, theirs = ([list(column) for column in zip(*found[who], strict=True)] for who in ("nearmile", "nginx"))
    return [
        case(f"{name}: fetches from the origin", mine[0], [1.0] * rounds, "", "<= 1.0"),
        case(f"{name}: last one's first byte / first one's", mine[1], [1.0] * rounds, "", "<= 1.2"),
        case(f"{name}: last one's first byte, nginx", mine[2], theirs[2], "s", ""),
        case(f"{name}: all have all, nginx", mine[3], theirs[3], "s", ""),
    ]


def main() -> None:
    """Measures and prints."""
    chosen = options(__doc__ or "", seconds=0, rounds=3)
    show(measure(chosen.rounds), chosen.json)


if __name__ == "__main__":
    main()
