"""Clients as users have them: they resolve through the network's name servers, keep connections open, and try the
next address when one does not answer."""

import asyncio
import hashlib
import random
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from nearmile.base.gazetteer import find_city
from nearmile.cli.fetch import read_cache_status
from nearmile.config.layout import Config
from nearmile.services.resolver import resolver_for
from suite_wire import read_body, read_head

CITIES = (
    "Paris",
    "London",
    "Chicago",
    "Los Angeles",
    "Sao Paulo",
    "Tokyo",
    "Frankfurt",
    "New York",
    "Seoul",
    "Lima",
)
# As a browser: who answers late on a busy machine has not failed.
ANSWER_S = 30.0
# After every known address failed: ask the name servers again, and give up after so long.
GIVE_UP_S = 30.0
PAUSE_S = 0.004


@dataclass
class Tally:
    """What all clients saw."""

    received: Counter[str] = field(default_factory=Counter)
    """Responses received in full, by server."""
    cache: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    second_tries: int = 0
    asked_again: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    last_seen_s: dict[str, float] = field(default_factory=dict)


class Client:
    """One user in one place."""

    def __init__(self, config: Config, hostname: str, city: str, digests: dict[str, str], tally: Tally) -> None:
        found = find_city(city)
        assert found is not None
        self.config, self.hostname, self.address = config, hostname, found.address
        self.port = config.network.edge.http_port
        self.resolver = resolver_for(config, self.address)
        self.digests, self.tally = digests, tally
        self._open: dict[str, tuple[asyncio.StreamReader, asyncio.StreamWriter]] = {}

    async def fetch(self, path: str) -> None:
        """One request, from the first address that answers it in full."""
        started_s = time.monotonic()
        why = ""
        while time.monotonic() - started_s < GIVE_UP_S:
            try:
                for address in (await self.resolver.resolve(self.hostname)).addresses:
                    try:
                        await asyncio.wait_for(self._get(address, path), ANSWER_S)
                    except (OSError, EOFError, TimeoutError, asyncio.IncompleteReadError) as error:
                        why = f"{address}: {error!r}"
                        self.tally.second_tries += 1
                        self._close(address)
                        continue
                    return
                self.tally.asked_again += 1
            except Exception as error:  # a failure to resolve is a failure of the network, where it lasts
                why = repr(error)
            self.resolver = resolver_for(self.config, self.address)  # which knows nothing yet
            await asyncio.sleep(0.05)
        self.tally.failures.append(f"{path} from {self.address}: {why}")

    async def _get(self, address: str, path: str) -> None:
        if address in self._open and self._open[address][0].at_eof():
            self._close(address)  # as the server has done
        if address not in self._open:
            self._open[address] = await asyncio.open_connection(address, self.port)
        reader, writer = self._open[address]
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: {self.hostname}:{self.port}\r\nUser-Agent: load\r\n"
            f"X-Forwarded-For: {self.address}\r\n\r\n".encode()
        )
        head = await read_head(reader)
        body = await read_body(reader, head, until_close=False)
        server, cache = read_cache_status(head.get("cache-status") or "")
        status = int(head.line[1])
        self.tally.received[server] += 1
        self.tally.cache[cache] += 1
        self.tally.statuses[status] += 1
        self.tally.last_seen_s[server] = time.time()
        if hashlib.sha256(body).hexdigest() != self.digests[path]:
            self.tally.wrong.append(f"{path} from {server}: {status}, {len(body)} bytes")
        if head.get("connection") == "close":
            self._close(address)

    def _close(self, address: str) -> None:
        if address in self._open:
            self._open.pop(address)[1].close()

    async def close(self) -> None:
        for address in list(self._open):
            _, writer = self._open.pop(address)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


class Load:
    """Many clients at once, in the background of a test: `async with Load(...) as load: ...`."""

    def __init__(
        self,
        config: Config,
        hostname: str,
        digests: dict[str, str],
        clients: int = 32,
        cities: Sequence[str] = CITIES,
    ) -> None:
        self.tally = Tally()
        self._cities = cities
        self._config, self._hostname, self._digests, self._count = config, hostname, digests, clients
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Load":
        self._tasks = [asyncio.create_task(self._one(number)) for number in range(self._count)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def _one(self, number: int) -> None:
        choice = random.Random(number)
        paths = sorted(self._digests)
        city = self._cities[number % len(self._cities)]
        client = Client(self._config, self._hostname, city, self._digests, self.tally)
        while not self._stopping:
            await client.fetch(choice.choice(paths))
            await asyncio.sleep(PAUSE_S)
        await client.close()
