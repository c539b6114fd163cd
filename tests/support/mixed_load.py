"""Clients of every kind against an origin that misbehaves (bad_origin), and what they must never see: a byte that
is not the object's, or a request without an end."""

import asyncio
import random
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import h2.exceptions

from bad_origin import body_of, etag_of
from h2_client import H2Client, trusting
from h3_client import H3Client
from load import CITIES
from nearmile.base.errors import NearmileError
from nearmile.base.gazetteer import find_city
from nearmile.config.layout import Config
from nearmile.services.resolver import resolver_for
from suite_wire import read_body, read_head

KINDS = (("lasting", 60), ("brief", 20), ("swr", 10), ("never", 10))
SIZES = (0, 300, 5_000, 40_000, 300_000, 1_500_000)
NAMES = 40
REQUESTS_PER_CONNECTION_MAX = 30
PROTOCOLS = ("http/1.1", "http/1.1 over tls", "h2", "h3")
# A client of QUIC whose server was killed hears nothing, and gives up after so long.
QUIC_SILENCE_S = 10.0
Broken = (OSError, EOFError, asyncio.IncompleteReadError, ssl.SSLError, NearmileError)


@dataclass
class Seen:
    """What all clients saw."""

    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    posted: int = 0


@dataclass(frozen=True)
class Asked:
    """One request. ``slow`` reads with pauses; ``leaves`` goes away in the middle of the answer."""

    method: str
    path: str
    fields: dict[str, str]
    body: bytes = b""
    slow: bool = False
    leaves: bool = False


def plan(choice: random.Random, post_id: str) -> Asked:
    """What a client asks next."""
    kind = choice.choices([kind for kind, _ in KINDS], [weight for _, weight in KINDS])[0]
    size = choice.choice(SIZES)
    path = f"/{kind}/{size}/{int(NAMES * choice.random() ** 2)}"
    dice = choice.random()
    if dice < 0.05:
        return Asked("POST", f"/never/{size}/{post_id}", {}, body_of(path))
    if dice < 0.20 and size:
        first = choice.randrange(size)
        last = choice.choice((str(first + choice.randrange(100_000)), ""))
        fields = {"range": f"bytes={first}-{last}"}
        return Asked("GET", path, fields | ({"if-range": etag_of(path)} if dice < 0.10 else {}))
    if dice < 0.25:
        return Asked("GET", path, {"if-none-match": etag_of(path)})
    return Asked("GET", path, {}, slow=dice > 0.95, leaves=0.90 < dice < 0.95)


def judge(asked: Asked, status: int, fields: dict[str, str], body: bytes) -> str:
    """What a complete answer is; begins with "wrong" where a user was lied to."""
    if status >= 500 or status == 421:
        return str(status)
    if asked.method == "POST":
        return "posted" if (status, body) == (200, asked.body) else f"wrong: {status} to POST {asked.path}"
    whole = body_of(asked.path)
    if status == 304 and "if-none-match" in asked.fields and not body:
        return "304"
    if status == 200 and body == whole:
        return fields.get("cache-status", "").partition(";")[2].partition(";")[0].strip() or "200"
    if status == 206 and "range" in asked.fields:
        first, _, rest = fields["content-range"].removeprefix("bytes ").partition("-")
        last, _, total = rest.partition("/")
        start, end = int(first), int(last) + 1
        wanted_first, _, wanted_last = asked.fields["range"].removeprefix("bytes=").partition("-")
        wanted = (int(wanted_first), min(int(wanted_last or len(whole)) + 1, len(whole)))
        if (body, int(total), (start, end)) == (whole[start:end], len(whole), wanted):
            return "206"
    return f"wrong: {status} with {len(body)} bytes to {asked}: {fields}"


class Client:
    """One user, who asks on one connection for a while, then on another."""

    def __init__(
        self, config: Config, hostname: str, number: int, authority: Path, seen: Seen, patience_s: float
    ) -> None:
        self.config, self.hostname, self.number, self.authority = config, hostname, number, authority
        self.trusts = {"http/1.1 over tls": trusting(str(authority)), "h2": trusting(str(authority), "h2")}
        self.seen, self.patience_s = seen, patience_s
        self.choice = random.Random(number)
        city = find_city(CITIES[number % len(CITIES)])
        assert city is not None
        self.address = city.address

    async def run(self, stopping: asyncio.Event) -> None:
        """Asks until told to stop."""
        while not stopping.is_set():
            protocol = self.choice.choice(PROTOCOLS)
            try:
                address = await self._resolve()
                ways = {"h2": self._h2, "h3": self._h3}
                await ways.get(protocol, self._http1)(address, protocol, stopping)
            except Broken:
                self.seen.outcomes["cut or refused"] += 1
                await asyncio.sleep(0.02)

    async def _resolve(self) -> str:
        found = await resolver_for(self.config, self.address).resolve(self.hostname)
        return str(self.choice.choice(found.addresses))

    async def _open(self, address: str, protocol: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        edge, trust = self.config.network.edge, self.trusts.get(protocol)
        if trust is None:
            return await asyncio.open_connection(address, edge.http_port)
        return await asyncio.open_connection(address, edge.https_port, ssl=trust, server_hostname=self.hostname)

    async def _timed(self, asked: Asked, protocol: str, answer: Callable[[Asked], Awaitable[str]]) -> bool:
        """One request; whether the connection can be used further."""
        if asked.method == "POST":
            self.seen.posted += 1
        try:
            async with asyncio.timeout(self.patience_s):
                outcome = await answer(asked)
        except TimeoutError:
            self.seen.stuck.append(f"{protocol}: {asked.method} {asked.path} {asked.fields}")
            return False
        except (ValueError, h2.exceptions.ProtocolError) as error:
            outcome = f"wrong: no HTTP to {asked}: {error!r}"
        if outcome.startswith("wrong"):
            self.seen.wrong.append(f"{protocol}, {outcome}")
        else:
            self.seen.outcomes[f"{protocol} {outcome}"] += 1
        return outcome != "left" and not outcome.startswith("wrong")

    def _next(self) -> Asked:
        return plan(self.choice, f"{self.number}-{self.seen.posted}")

    async def _http1(self, address: str, protocol: str, stopping: asyncio.Event) -> None:
        reader, writer = await self._open(address, protocol)
        keep = True

        async def answer(asked: Asked) -> str:
            nonlocal keep
            fields = {"host": self.hostname, "x-forwarded-for": self.address, **asked.fields}
            if asked.body or asked.method == "POST":
                fields["content-length"] = str(len(asked.body))
            lines = [f"{name}: {value}\r\n" for name, value in fields.items()]
            writer.write(f"{asked.method} {asked.path} HTTP/1.1\r\n{''.join(lines)}\r\n".encode() + asked.body)
            while (got := await read_head(reader)).line[1].startswith("1"):
                pass
            if asked.leaves:
                return "left"
            if asked.slow:
                await asyncio.sleep(self.choice.random())
            status = int(got.line[1])
            body = b"" if status == 304 else await read_body(reader, got, until_close=False)
            keep = got.get("connection") != "close"
            return judge(asked, status, {name.lower(): value for name, value in got.pairs}, body)

        try:
            for _ in range(REQUESTS_PER_CONNECTION_MAX):
                if stopping.is_set() or not await self._timed(self._next(), protocol, answer) or not keep:
                    break
        finally:
            writer.transport.abort()

    async def _h2(self, address: str, protocol: str, stopping: asyncio.Event) -> None:
        reader, writer = await self._open(address, protocol)
        try:
            await self._streams(H2Client(reader, writer), protocol, stopping)
        finally:
            writer.transport.abort()

    async def _h3(self, address: str, protocol: str, stopping: asyncio.Event) -> None:
        server = (address, self.config.network.edge.https_port)
        client = H3Client(self.authority, self.hostname, server, idle_timeout=QUIC_SILENCE_S)
        try:
            await self._streams(await client.connected(), protocol, stopping)
        finally:
            client.close()

    async def _streams(self, client: H2Client | H3Client, protocol: str, stopping: asyncio.Event) -> None:
        async def answer(asked: Asked) -> str:
            fields, last = (("x-forwarded-for", self.address), *asked.fields.items()), asked.method == "GET"
            stream = client.ask(asked.path, *fields, method=asked.method, end=last, authority=self.hostname)
            if asked.leaves:
                return "left"
            if not last and (sending := client.upload(stream, asked.body)) is not None:
                await sending
            got = await client.answer(stream)
            if got.error is not None or stream not in client.done:
                return "cut"
            return judge(asked, got.status, got.fields, got.body)

        for _ in range(REQUESTS_PER_CONNECTION_MAX):
            if stopping.is_set() or client.over or not await self._timed(self._next(), protocol, answer):
                break


async def run_clients(
    config: Config, hostname: str, authority: Path, count: int, patience_s: float, meanwhile: Awaitable[None]
) -> Seen:
    """That many clients until ``meanwhile`` is over."""
    seen, stopping = Seen(), asyncio.Event()
    clients = [Client(config, hostname, number, authority, seen, patience_s) for number in range(count)]
    tasks = [asyncio.create_task(client.run(stopping)) for client in clients]
    try:
        await meanwhile
    finally:
        stopping.set()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks)
    return seen
