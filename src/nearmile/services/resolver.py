"""A stub that walks both tiers by itself, as a resolver near a client would: for `nearmile fetch` and for tests.

It asks a top-level server, follows the CNAME and the delegation, asks the low-level servers in the order given,
and keeps what it learns as long as the TTLs allow. Every step can be shown.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator
from ipaddress import ip_address

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
from dns.rcode import Rcode
from dns.rdatatype import RdataType
from msgspec import Struct

from nearmile.base.addresses import bracketed
from nearmile.base.errors import NearmileError
from nearmile.config.layout import Config

# Far above any round trip between a resolver and the server it is sent to; the next one is asked after it.
TRY_TIMEOUT_S = 0.4
# Every server is asked twice before all are given up: a lost datagram is not a dead server.
ROUNDS = 2
# Two tiers take five hops, in the cache or outside; many more are a mistake or a loop.
HOPS_MAX = 12
# A stub asks for a few sites; the oldest entry makes room.
CACHE_MAX = 1024
# A server that did not answer is asked last for so long; it may be back after a restart.
AVOID_S = 10.0
# What public resolvers tell of a client's address (RFC 7871, section 11.1).
SUBNET_BITS = {4: 24, 6: 56}
UDP_BYTES = 1232

# Of servers that have both, IPv4 ones are asked: the commands run where networks do, which have that for sure.
ADDRESSES = (RdataType.A, RdataType.AAAA)

Address = tuple[str, int]


class Step(Struct, frozen=True):
    """One question and its answer."""

    tier: str
    """`top` or `low`."""
    server: str
    """Who answered, as address:port."""
    question: str
    answers: tuple[str, ...]
    """The alias's target, or name servers with their addresses, or the addresses asked for."""
    ttl_s: int
    elapsed_ms: float
    """Of the whole step, failures included."""
    failures: tuple[str, ...] = ()
    """Who was asked before and gave no answer."""


class Resolution(Struct, frozen=True):
    """A host's addresses, the preferred one first, how long they hold, and the steps (none for what was kept)."""

    addresses: tuple[str, ...]
    ttl_s: float
    steps: tuple[Step, ...]


class Lesson(Struct, frozen=True):
    """What a response teaches about a name: its addresses, its alias's target, or its name servers' addresses."""

    owner: dns.name.Name
    rtype: RdataType
    values: tuple[str, ...]
    ttl_s: int
    texts: tuple[str, ...]


class Resolver:
    """Asks for one client: ``client`` is the address whose subnet is told to the servers, None to tell nothing.

    ``top_servers`` are (address, port); a delegation names addresses only, which are asked at ``low_port``.
    """

    def __init__(self, top_servers: Iterable[Address], low_port: int, client: str | None = None) -> None:
        self._top = tuple(top_servers)
        self._low_port = low_port
        self._options: list[dns.edns.Option] = [_client_subnet(client)] if client else []
        self._cache: dict[tuple[dns.name.Name, RdataType], tuple[Lesson, float]] = {}
        self._avoided_until_s: dict[Address, float] = {}

    async def resolve(self, hostname: str) -> Resolution:
        """The addresses of the host; NearmileError where the network gives none."""
        name, ttl_s, steps = _parse_name(hostname), float("inf"), list[Step]()
        for _ in range(HOPS_MAX):
            if known := next(filter(None, (self._recall(name, rtype) for rtype in ADDRESSES)), None):
                lesson, left_s = known
                return Resolution(lesson.values, min(ttl_s, left_s), tuple(steps))
            if known := self._recall(name, RdataType.CNAME):
                lesson, left_s = known
                name, ttl_s = dns.name.from_text(lesson.values[0]), min(ttl_s, left_s)
            else:
                steps.append(await self._step(name))
        raise NearmileError(f"{hostname} leads nowhere, by way of {[step.answers for step in steps]}")

    async def _step(self, name: dns.name.Name) -> Step:
        """Asks the servers known to be nearest to the name, and keeps what they answer."""
        started_s = _now_s()
        tier, servers = self._servers(name)
        for rtype in ADDRESSES:
            question = f"{name.to_text(omit_final_dot=True)} {dns.rdatatype.to_text(rtype)}"
            server, response, failures = await self._ask(name, rtype, servers)
            lessons = list(_learn(response))
            if lessons or response.rcode():
                break
        if not lessons:
            what = dns.rcode.to_text(response.rcode()) if response.rcode() else "it has no address"
            raise NearmileError(
                f"{question}: {_text(server)} ({tier}) says {what}; is the name in a site document?"
            )
        for lesson in lessons:
            self._keep(lesson)
        return Step(
            tier,
            _text(server),
            question,
            tuple(text for lesson in lessons for text in lesson.texts),
            min(lesson.ttl_s for lesson in lessons),
            (_now_s() - started_s) * 1000,
            tuple(failures),
        )

    def _servers(self, name: dns.name.Name) -> tuple[str, tuple[Address, ...]]:
        parent = name
        while parent != dns.name.root:
            if known := self._recall(parent, RdataType.NS):
                return "low", tuple((host, self._low_port) for host in known[0].values)
            parent = parent.parent()
        return "top", self._top

    async def _ask(
        self, name: dns.name.Name, rtype: RdataType, servers: tuple[Address, ...]
    ) -> tuple[Address, dns.message.Message, list[str]]:
        """The first answer that says yes or no, and who failed before."""
        failures: list[str] = []
        for _ in range(ROUNDS):
            now_s = _now_s()
            for server in sorted(servers, key=lambda each: self._avoided_until_s.get(each, 0.0) > now_s):
                query = dns.message.make_query(name, rtype, use_edns=0, payload=UDP_BYTES, options=self._options)
                query.flags &= ~dns.flags.RD
                try:
                    response = await _exchange(query, server)
                except (OSError, EOFError, dns.exception.DNSException) as error:
                    failures.append(f"{_text(server)}: {_reason(error)}")
                else:
                    if response.rcode() in (Rcode.NOERROR, Rcode.NXDOMAIN, Rcode.REFUSED):
                        self._avoided_until_s.pop(server, None)
                        return server, response, failures
                    failures.append(f"{_text(server)}: {dns.rcode.to_text(response.rcode())}")
                self._avoided_until_s[server] = _now_s() + AVOID_S
        raise NearmileError(
            f"{name.to_text(omit_final_dot=True)} {dns.rdatatype.to_text(rtype)}: "
            f"no name server answers ({'; '.join(failures)})"
        )

    def _recall(self, name: dns.name.Name, rtype: RdataType) -> tuple[Lesson, float] | None:
        """What is still known, and for how many seconds."""
        lesson, until_s = self._cache.get((name, rtype), (None, 0.0))
        left_s = until_s - _now_s()
        return (lesson, left_s) if lesson is not None and left_s > 0 else None

    def _keep(self, lesson: Lesson) -> None:
        key = lesson.owner, lesson.rtype
        self._cache.pop(key, None)
        if len(self._cache) >= CACHE_MAX:
            del self._cache[next(iter(self._cache))]
        self._cache[key] = lesson, _now_s() + lesson.ttl_s


def resolver_for(config: Config, client: str | None) -> Resolver:
    """One that asks the network's own name servers, from the top."""
    tops = [(one.address, one.port) for one in config.of_role("nameserver") if one.tier == "top"]
    return Resolver(tops, config.network.dns.port, client)


def _learn(response: dns.message.Message) -> Iterator[Lesson]:
    """The answers, or else the delegation with its glue."""
    for rrset in response.answer:
        if rrset.rdtype in (*ADDRESSES, RdataType.CNAME):
            values = tuple(rdata.to_text().rstrip(".") for rdata in rrset)
            yield Lesson(rrset.name, rrset.rdtype, values, rrset.ttl, values)
    if response.answer or response.flags & dns.flags.AA:
        return
    glue = [rrset for rrset in response.additional if rrset.rdtype in ADDRESSES]
    for rrset in response.authority:
        if rrset.rdtype == RdataType.NS:
            found = [each for rdata in rrset for each in glue if each.name == rdata.target]
            pairs = [(each.name.to_text(omit_final_dot=True), rdata.to_text()) for each in found for rdata in each]
            values, texts = tuple(host for _, host in pairs), tuple(f"{name} {host}" for name, host in pairs)
            if values:
                yield Lesson(
                    rrset.name, rrset.rdtype, values, min(rrset.ttl, *(each.ttl for each in found)), texts
                )


class _Datagrams(asyncio.DatagramProtocol):
    """Waits for the response to one query; what is not that is ignored (RFC 5452)."""

    def __init__(self, query: dns.message.Message) -> None:
        self._query = query
        self.response: asyncio.Future[dns.message.Message] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, _address: Address) -> None:
        try:
            response = dns.message.from_wire(data)
        except dns.exception.DNSException:
            return
        if self._query.is_response(response) and not self.response.done():
            self.response.set_result(response)

    def error_received(self, error: Exception) -> None:
        if not self.response.done():
            self.response.set_exception(error)


async def _exchange(query: dns.message.Message, server: Address) -> dns.message.Message:
    """One question over UDP, again over TCP where the answer was cut short. OSError or EOFError if none comes."""
    loop = asyncio.get_running_loop()
    # Outside of the timeout: it waits for nobody, and who ends it half-way leaves a socket open.
    transport, waiting = await loop.create_datagram_endpoint(lambda: _Datagrams(query), remote_addr=server)
    try:
        async with asyncio.timeout(TRY_TIMEOUT_S):
            transport.sendto(query.to_wire())
            response = await waiting.response
    finally:
        transport.close()
    if not response.flags & dns.flags.TC:
        return response
    async with asyncio.timeout(TRY_TIMEOUT_S):
        return await _exchange_tcp(query, server)


async def _exchange_tcp(query: dns.message.Message, server: Address) -> dns.message.Message:
    reader, writer = await asyncio.open_connection(*server)
    try:
        writer.write(query.to_wire(prepend_length=True))
        length = int.from_bytes(await reader.readexactly(2), "big")
        response = dns.message.from_wire(await reader.readexactly(length))
    finally:
        writer.close()
    if not query.is_response(response):
        raise OSError("it answered another question")
    return response


def _client_subnet(client: str) -> dns.edns.ECSOption:
    return dns.edns.ECSOption(client, SUBNET_BITS[ip_address(client).version])


def _parse_name(hostname: str) -> dns.name.Name:
    try:
        return dns.name.from_text(hostname)
    except dns.exception.DNSException as error:
        raise NearmileError(f"{hostname!r} is not a host name: {error}") from None


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer in {TRY_TIMEOUT_S} s"
    return str(error) or type(error).__name__


def _text(server: Address) -> str:
    return f"{bracketed(server[0])}:{server[1]}"


def _now_s() -> float:
    return time.monotonic()  # the loop's own clock has whole milliseconds only
