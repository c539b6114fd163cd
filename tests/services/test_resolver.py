"""The stub against name servers that follow a script: what it asks, keeps, follows and gives up."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
import uvloop
from dns.rdatatype import RdataType

from ipv6 import needs_ipv6
from nearmile.base.errors import NearmileError
from nearmile.services import resolver
from nearmile.services.resolver import Address, Resolver

TOP, OTHER_TOP, LOW, OTHER_LOW = "127.33.7.1", "127.33.7.2", "127.33.7.3", "127.33.7.4"
PORT = 5398
TOPS = [(TOP, PORT), (OTHER_TOP, PORT)]
Script = Callable[[dns.message.Message], dns.message.Message | None]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers and clients share a processor, with others: who answers at all is waited for."""
    monkeypatch.setattr(resolver, "TRY_TIMEOUT_S", 30.0)


class Scripted(asyncio.DatagramProtocol):
    """A name server that answers as its script says, and keeps the questions."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.asked: list[dns.message.Message] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, peer: Address) -> None:
        query = dns.message.from_wire(data)
        self.asked.append(query)
        response = self._script(query)
        if response is not None:
            self._transport.sendto(response.to_wire(), peer)  # type: ignore[attr-defined]


def says(*answers: str, authority: str = "", glue: str = "", flags: int = 0, rcode: int = 0) -> Script:
    """The same to every question; records are written as `owner TTL type data`."""

    def script(query: dns.message.Message) -> dns.message.Message:
        response = dns.message.make_response(query)
        response.flags |= flags
        response.set_rcode(dns.rcode.Rcode(rcode))
        for section, lines in (
            (response.answer, answers),
            (response.authority, authority.split(";") if authority else ()),
            (response.additional, glue.split(";") if glue else ()),
        ):
            for line in lines:
                owner, ttl, rtype, data = line.split()
                section.append(dns.rrset.from_text(owner, int(ttl), "IN", rtype, data))
        return response

    return script


def by_name(**scripts: Script) -> Script:
    """Another script for each first label."""
    return lambda query: scripts[query.question[0].name.labels[0].decode()](query)


ALIAS = says("www.example.test. 1800 CNAME a7.g.cdn.test.")
REFERRAL = says(
    authority="g.cdn.test. 1800 NS n1.g.cdn.test.;g.cdn.test. 1800 NS n2.g.cdn.test.",
    glue=f"n1.g.cdn.test. 1800 A {LOW};n2.g.cdn.test. 1800 A {OTHER_LOW}",
)
EDGES = says("a7.g.cdn.test. 20 A 127.33.1.1", flags=dns.flags.AA)
TIERS: dict[str, Script] = {TOP: by_name(www=ALIAS, a7=REFERRAL), LOW: EDGES}


def silent(_query: dns.message.Message) -> None:
    return None


@asynccontextmanager
async def serving(scripts: dict[str, Script]) -> AsyncIterator[dict[str, Scripted]]:
    async with AsyncExitStack() as stack:
        servers = {}
        for address, script in scripts.items():
            transport, servers[address] = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda script=script: Scripted(script),  # type: ignore[misc]
                local_addr=(address, PORT),
            )
            stack.callback(transport.close)
        yield servers


def test_each_step_is_told() -> None:
    async def scenario() -> None:
        async with serving(TIERS) as servers:
            found = await Resolver(TOPS, PORT, "203.0.113.77").resolve("www.Example.test")
            assert found.addresses == ("127.33.1.1",) and 19 < found.ttl_s <= 20
            told = [(step.tier, step.server, step.question, step.answers, step.ttl_s) for step in found.steps]
            assert told == [
                ("top", f"{TOP}:{PORT}", "www.Example.test A", ("a7.g.cdn.test",), 1800),
                (
                    "top", f"{TOP}:{PORT}", "a7.g.cdn.test A",
                    (f"n1.g.cdn.test {LOW}", f"n2.g.cdn.test {OTHER_LOW}"), 1800,
                ),
                ("low", f"{LOW}:{PORT}", "a7.g.cdn.test A", ("127.33.1.1",), 20),
            ]  # fmt: skip
            assert all(step.elapsed_ms > 0 and not step.failures for step in found.steps)
            for server in servers.values():
                for query in server.asked:
                    assert query.options[0] == dns.edns.ECSOption("203.0.113.0", 24)

    uvloop.run(scenario())


@pytest.mark.parametrize(
    ("client", "option"),
    [(None, None), ("2001:db8:1:2:3::4", dns.edns.ECSOption("2001:db8:1::", 56))],
)
def test_what_is_told_of_the_client(client: str | None, option: dns.edns.ECSOption | None) -> None:
    async def scenario() -> None:
        async with serving({TOP: says("www.example.test. 20 A 127.33.1.1")}) as servers:
            await Resolver(TOPS, PORT, client).resolve("www.example.test")
            assert list(servers[TOP].asked[0].options) == ([option] if option else [])

    uvloop.run(scenario())


@needs_ipv6
async def test_servers_that_have_ipv6_alone_are_found() -> None:
    referral = says(
        authority="g.cdn.test. 1800 NS n1.g.cdn.test.;g.cdn.test. 1800 NS n2.g.cdn.test.",
        glue=f"n1.g.cdn.test. 1800 AAAA ::1;n2.g.cdn.test. 1800 A {LOW}",
    )

    def low(query: dns.message.Message) -> dns.message.Message | None:
        records = ["a7.g.cdn.test. 20 AAAA 2001:db8::1"] if query.question[0].rdtype == RdataType.AAAA else []
        return says(*records, flags=dns.flags.AA)(query)

    async with serving({TOP: by_name(www=ALIAS, a7=referral), "::1": low, LOW: low}):
        found = await Resolver(TOPS, PORT).resolve("www.example.test")
    assert found.addresses == ("2001:db8::1",)
    assert [step.server for step in found.steps] == [f"{TOP}:{PORT}", f"{TOP}:{PORT}", f"[::1]:{PORT}"]
    assert found.steps[-1].question == "a7.g.cdn.test AAAA"


def test_what_is_known_is_not_asked_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with serving(TIERS) as servers:
            stub = Resolver(TOPS, PORT)
            await stub.resolve("www.example.test")
            again = await stub.resolve("www.example.test.")
            assert again.addresses == ("127.33.1.1",) and not again.steps
            now_s = time.monotonic() + 30
            monkeypatch.setattr(resolver, "_now_s", lambda: now_s)
            later = await stub.resolve("www.example.test")  # only the low level's answer has ended
            assert [step.tier for step in later.steps] == ["low"]
            assert (len(servers[TOP].asked), len(servers[LOW].asked)) == (2, 2)

    uvloop.run(scenario())


def test_silent_closed_and_failing_servers_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "TRY_TIMEOUT_S", 2.0)

    async def scenario() -> None:
        scripts: dict[str, Script] = {TOP: silent, OTHER_TOP: TIERS[TOP], LOW: says(rcode=2), OTHER_LOW: EDGES}
        async with serving(scripts) as servers:
            found = await Resolver([("127.33.7.9", PORT), *TOPS], PORT).resolve("www.example.test")
            assert found.addresses == ("127.33.1.1",)
            first, second, third = (step.failures for step in found.steps)
            assert "refused" in first[0] and first[1] == f"{TOP}:{PORT}: no answer in 2.0 s"
            assert second == ()  # who failed is not asked again at once
            assert third == (f"{LOW}:{PORT}: SERVFAIL",)
            assert len(servers[TOP].asked) == 1

    uvloop.run(scenario())


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (silent, rf"www\.example\.test A: no name server answers \({TOP}:{PORT}: no answer in 0\.05 s; "),
        (says(rcode=3, flags=dns.flags.AA), rf"{TOP}:{PORT} \(top\) says NXDOMAIN"),
        (says(rcode=5), r"\(top\) says REFUSED; is the name in a site document\?"),
        (says(flags=dns.flags.AA), "says it has no address"),
        (says(authority="test. 60 NS n1.test."), "says it has no address"),
        (says("www.example.test. 60 CNAME www.example.test."), "leads nowhere"),
    ],
)
def test_what_gives_no_address_is_told(script: Script, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if script is silent:
        monkeypatch.setattr(resolver, "TRY_TIMEOUT_S", 0.05)

    async def scenario() -> None:
        async with serving({TOP: script, OTHER_TOP: script}):
            with pytest.raises(NearmileError, match=message):
                await Resolver(TOPS, PORT).resolve("www.example.test")

    uvloop.run(scenario())


@pytest.mark.parametrize("hostname", ["a" * 64 + ".test", "two..dots"])
def test_what_is_no_name_is_told(hostname: str) -> None:
    with pytest.raises(NearmileError, match="is not a host name"):
        asyncio.run(Resolver(TOPS, PORT).resolve(hostname))


def test_junk_and_answers_to_others_are_ignored() -> None:
    class Noisy(Scripted):
        def datagram_received(self, data: bytes, peer: Address) -> None:
            self._transport.sendto(b"junk", peer)  # type: ignore[attr-defined]
            super().datagram_received(b"\0\0" + data[2:], peer)  # an answer with another id
            super().datagram_received(data, peer)

    async def scenario() -> None:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: Noisy(EDGES), local_addr=(TOP, PORT)
        )
        found = await Resolver(TOPS, PORT).resolve("a7.g.cdn.test")
        assert found.addresses == ("127.33.1.1",) and not found.steps[0].failures
        transport.close()

    uvloop.run(scenario())


def test_what_was_cut_short_is_asked_again_over_tcp() -> None:
    async def over_tcp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = int.from_bytes(await reader.readexactly(2), "big")
        response = EDGES(dns.message.from_wire(await reader.readexactly(length)))
        assert response is not None
        writer.write(response.to_wire(prepend_length=True))
        writer.close()

    async def scenario() -> None:
        async with serving({TOP: says(flags=dns.flags.TC)}), await asyncio.start_server(over_tcp, TOP, PORT):
            found = await Resolver(TOPS, PORT).resolve("a7.g.cdn.test")
            assert found.addresses == ("127.33.1.1",)

    uvloop.run(scenario())


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "CACHE_MAX", 2)

    def any_name(query: dns.message.Message) -> dns.message.Message | None:
        return says(f"{query.question[0].name} 60 A 127.33.1.1")(query)

    async def scenario() -> None:
        async with serving({TOP: any_name}):
            stub = Resolver(TOPS, PORT)
            for name in ("a.test", "b.test", "c.test", "c.test"):
                assert (await stub.resolve(name)).addresses
            assert len(stub._cache) == 2
            assert not (await stub.resolve("c.test")).steps and (await stub.resolve("a.test")).steps

    uvloop.run(scenario())


def test_thirty_two_clients_at_once() -> None:
    async def scenario() -> None:
        async with serving(TIERS):
            stubs = [Resolver(TOPS, PORT, f"203.0.113.{n}") for n in range(32)]
            found = await asyncio.gather(*(stub.resolve("www.example.test") for stub in stubs))
            assert {each.addresses for each in found} == {("127.33.1.1",)}

    uvloop.run(scenario())
