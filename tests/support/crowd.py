"""Guests who all want one object, again and again, with little work for each request: so a crowd is one on a busy
machine too. Each resolves by itself, and goes to the first address that answers."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

from nearmile.base.errors import NearmileError
from nearmile.base.gazetteer import find_city
from nearmile.config.layout import Config
from nearmile.services.resolver import resolver_for

BATCH = 10


class Crowd:
    """As many guests, with so many requests a second together: `async with Crowd(...) as crowd: ...`."""

    def __init__(
        self, config: Config, host: str, target: str, body: bytes, cities: Sequence[str], guests: int, per_s: float
    ) -> None:
        self.received = Counter[str]()
        """Right responses, by the server's address."""
        self.wrong: list[bytes] = []
        """The heads of others."""
        self._config, self._host, self._body = config, host, body
        self._requests = f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode() * BATCH
        self._cities, self._guests = cities, guests
        self._pause_s = BATCH * guests / per_s
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Crowd":
        self._tasks = [asyncio.create_task(self._guest(number)) for number in range(self._guests)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping.set()
        await asyncio.gather(*self._tasks)

    async def _guest(self, number: int) -> None:
        city = find_city(self._cities[number % len(self._cities)])
        assert city is not None
        resolver = resolver_for(self._config, city.address)
        opened: dict[str, tuple[asyncio.StreamReader, asyncio.StreamWriter]] = {}
        clock, port = asyncio.get_running_loop().time, self._config.network.edge.http_port
        while not self._stopping.is_set():
            next_s = clock() + self._pause_s
            with suppress(NearmileError):  # a name server of a busy machine may be late: it is asked again
                for address in (await resolver.resolve(self._host)).addresses:
                    with suppress(OSError, EOFError):
                        if address not in opened:
                            opened[address] = await asyncio.open_connection(address, port)
                        await self._ask(address, *opened[address])
                        break
                    if address in opened:
                        opened.pop(address)[1].close()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), next_s - clock())
        for _, writer in opened.values():
            writer.close()

    async def _ask(self, address: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self._requests)
        for _ in range(BATCH):
            head = await reader.readuntil(b"\r\n\r\n")
            if await reader.readexactly(len(self._body)) == self._body and head.startswith(b"HTTP/1.1 200 "):
                self.received[address] += 1
            else:
                self.wrong.append(head)
