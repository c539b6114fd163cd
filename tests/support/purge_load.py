"""Objects that change, readers that never stop, and the check that no reader gets what was purged before it asked.

Origin and readers are a process of their own, so that whoever measures purges does not wait for them:
python purge_load.py ORIGIN_ADDRESS RECORDS EDGE_ADDRESS...
"""

import asyncio
import contextlib
import os
import random
import signal
import struct
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import uvloop

HOST = "www.purge.test"
PORT, ORIGIN_PORT = 8080, 8100
OBJECTS, GROUPS = 200, 10
READERS_PER_EDGE, PAUSE_S = 2, 0.008
BODY_BYTES = 1000
RECORD = struct.Struct("<dHI")  # asked at (monotonic seconds), object, version


def target(number: int) -> str:
    """Objects of a group have a path in common, and a tag."""
    return f"/{number % GROUPS}/{number}"


def group(number: int) -> range:
    """All objects of an object's group."""
    return range(number % GROUPS, OBJECTS, GROUPS)


class Seen(NamedTuple):
    """What a reader got."""

    asked_s: float
    number: int
    version: int


class PurgeLoad:
    """The process, as its parent sees it."""

    def __init__(self, origin: str, records: Path, edges: list[str]) -> None:
        self.records = records
        command = [sys.executable, __file__, origin, str(records), *edges]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self._origin = origin
        self._must: dict[int, list[tuple[float, int]]] = defaultdict(list)
        self._versions = [1] * OBJECTS

    async def started(self) -> None:
        """Returns when the origin listens."""
        while self._process.poll() is None:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(self._origin, ORIGIN_PORT)
                writer.close()
                await writer.wait_closed()
                return
            await asyncio.sleep(0.02)
        raise AssertionError("the load ended")

    async def change(self, numbers: range) -> None:
        """These objects have a new version at their origin from now on."""
        reader, writer = await asyncio.open_connection(self._origin, ORIGIN_PORT)
        for number in numbers:
            self._versions[number] += 1
            writer.write(f"GET /change/{number} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        for _ in numbers:
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(BODY_BYTES)
        writer.close()
        await writer.wait_closed()

    def purged(self, numbers: range) -> None:
        """Every server has confirmed: who asks from now on must get what they are now, or newer."""
        now_s = time.monotonic()
        for number in numbers:
            self._must[number].append((now_s, self._versions[number]))

    def stop(self) -> list[Seen]:
        """Ends it; what all readers got."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(20)
        data = self.records.read_bytes() if self.records.exists() else b""
        return [Seen(*record) for record in RECORD.iter_unpack(data)]

    def stale(self, seen: list[Seen]) -> list[str]:
        """The responses that were older than a purge that had been confirmed when they were asked for."""
        found = []
        for one in seen:
            must = max((version for at_s, version in self._must[one.number] if at_s < one.asked_s), default=0)
            if one.version < must:
                found.append(
                    f"object {one.number}: version {one.version}, purged to {must} before it was asked for"
                )
        return found


async def _origin(address: str) -> None:
    versions = [1] * OBJECTS

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                path = (await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)[1]
                number = int(path.rpartition(b"/")[2])
                if path.startswith(b"/change/"):
                    versions[number] += 1
                body = (b"%d " % versions[number]).ljust(BODY_BYTES)
                head = (
                    f"HTTP/1.1 200 OK\r\nContent-Length: {BODY_BYTES}\r\nCache-Control: max-age=86400\r\n"
                    f"Surrogate-Key: object-{number} group-{number % GROUPS}\r\n\r\n"
                )
                writer.write(head.encode() + body)
                await writer.drain()
        writer.close()

    await asyncio.start_server(serve, address, ORIGIN_PORT)


async def _read(edge: str, seen: bytearray) -> None:
    chance = random.Random(edge)
    while True:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection(edge, PORT)
            while True:
                number = chance.randrange(OBJECTS)
                asked_s = time.monotonic()
                writer.write(f"GET {target(number)} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
                head = await reader.readuntil(b"\r\n\r\n")
                if not head.startswith(b"HTTP/1.1 200"):
                    break
                body = await reader.readexactly(BODY_BYTES)
                seen += RECORD.pack(asked_s, number, int(body.split(b" ", 1)[0]))
                await asyncio.sleep(PAUSE_S)
        await asyncio.sleep(0.05)


async def _main(origin: str, records: Path, edges: list[str]) -> None:
    stopping, seen = asyncio.Event(), bytearray()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    await _origin(origin)
    readers = [asyncio.create_task(_read(edge, seen)) for edge in edges for _ in range(READERS_PER_EDGE)]
    await stopping.wait()
    records.write_bytes(seen)
    os._exit(0 if readers else 1)


if __name__ == "__main__":
    uvloop.run(_main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:]))
