"""Name servers of both tiers on real sockets, asked by independent clients (dnspython, dig) and by our stub."""

import asyncio
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import dns.asyncquery
import dns.edns
import dns.message
import dns.rcode
import msgspec
import pytest
import uvloop
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from ipv6 import needs_ipv6
from nearmile.base.errors import NearmileError
from nearmile.base.geography import Point
from nearmile.config.layout import Config, Process, lay_out
from nearmile.config.names import Dns
from nearmile.config.network import Nameserver, Network, Region, Site
from nearmile.dns.responder import Responder
from nearmile.mapping.map import Map, MapRegion, Server, Units, encode
from nearmile.services import nameserver, state
from nearmile.services.resolver import resolver_for
from nearmile.services.runtime import Runtime
from waiting import until

FRANKFURT, TOKYO = Point(50.1, 8.7), Point(35.7, 139.7)
PORT = 5399
DEADLINE_S = 30.0
LISTEN = "0A"  # as /proc/net/tcp writes it


def write_places(path: Path) -> str:
    writer = MMDBWriter(ip_version=4)
    for block, country, point in (("192.0.2.0/24", "DE", FRANKFURT), ("203.0.113.0/24", "JP", TOKYO)):
        place = {"country_code": country, "state1": "", "city": "", "latitude": point.lat, "longitude": point.lon}
        writer.insert_network(IPSet([block]), place)
    writer.to_db_file(str(path))
    return str(path)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    network = Network(
        name="names",
        zone="cdn.test",
        loopback="127.33.0.0/16",
        trusted=("127.0.0.0/8",),
        geography=write_places(tmp_path / "places.mmdb"),
        regions={"fra": Region(city="", point=FRANKFURT), "tyo": Region(city="", point=TOKYO)},
        nameservers=tuple(
            Nameserver(tier=tier, city="", point=point) for tier in ("top", "low") for point in (FRANKFURT, TOKYO)
        ),
        dns=Dns(port=PORT),
    )
    site = Site(hostnames=("www.example.test",), origin="http://127.33.0.9:80", serial=7)
    config = lay_out(network, {"site": site}, {"": FRANKFURT}, version=1)
    (tmp_path / "config.json").write_bytes(msgspec.json.encode(config))
    state.make_dnssec_secret(tmp_path)
    return config


def make_map(config: Config, version: int = 1, without: str = "") -> Map:
    regions = tuple(
        MapRegion(
            name,
            point,
            tuple(
                Server(p.name, p.address, p.port)
                for p in config.of_role("edge")
                if p.region == name and p.name != without
            ),
        )
        for name, point in (("fra", FRANKFURT), ("tyo", TOKYO))
    )
    units: dict[str, tuple[int, ...]] = {"JP": (1, 0), "DE": (0, 1)}
    return Map(version=version, term=1, made_at_s=0.0, regions=regions, units=Units.of(units), fallback=(0, 1))


@asynccontextmanager
async def running(root: Path, *names: str, kept: Map | None = None) -> AsyncIterator[list[Runtime]]:
    """Those processes' roles, without a bus; the low ones find that map on their disk."""
    async with AsyncExitStack() as stack:
        runtimes = []
        for name in names:
            if kept is not None:
                (state.process_folder(root, name) / "map.bin").write_bytes(encode(kept))
            runtime = Runtime(root, name)
            role = asyncio.create_task(nameserver.run(runtime))
            stack.push_async_callback(stop, runtime, role)
            await until(lambda runtime=runtime, role=role: role.done() or bound(runtime.me))  # type: ignore[misc]
            runtimes.append(runtime)
        yield runtimes


async def stop(runtime: Runtime, role: "asyncio.Task[None]") -> None:
    runtime.stopping.set()
    await role


def bound(me: Process) -> bool:
    """Whether the process listens for TCP connections, which it does last."""
    wanted = "".join(f"{int(part):02X}" for part in reversed(me.address.split("."))) + f":{me.port:04X}"
    sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    return any(fields[1] == wanted and fields[3] == LISTEN for fields in sockets)


def ask(name: str, client: str = "", qtype: str = "A") -> dns.message.QueryMessage:
    options: list[dns.edns.Option] = [dns.edns.ECSOption(client, 24)] if client else []
    return dns.message.make_query(name, qtype, use_edns=0, options=options)


def run(scenario: Coroutine[None, None, None]) -> None:
    uvloop.run(scenario)


def test_both_tiers_over_udp_and_tcp(config: Config, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path, "top-1", "low-1", kept=make_map(config)) as (top, low):
            assert top.ready and low.ready
            for transport in (dns.asyncquery.udp, dns.asyncquery.tcp):
                alias = await transport(ask("WWW.example.test"), top.me.address, port=PORT, timeout=DEADLINE_S)
                assert alias.answer[0].to_text() == "WWW.example.test. 1800 IN CNAME a7.g.cdn.test."
                edges = await transport(
                    ask("a7.g.cdn.test", "203.0.113.0"), low.me.address, port=PORT, timeout=DEADLINE_S
                )
                assert {rdata.to_text() for rdata in edges.answer[0]} == {"127.33.2.1", "127.33.2.2"}
            assert (top.requests, low.requests) == (2, 2)

    run(scenario())


def test_the_stub_walks_both_tiers_from_where_the_client_is(config: Config, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path, "top-1", "low-1", "low-2", kept=make_map(config)):
            for client, low, edges in (("203.0.113.5", "low-2", "127.33.2."), ("192.0.2.5", "low-1", "127.33.1.")):
                found = await resolver_for(config, client).resolve("www.example.test")
                assert {address[:9] for address in found.addresses} == {edges}
                assert [step.tier for step in found.steps] == ["top", "top", "low"]
                assert found.steps[0].answers == ("a7.g.cdn.test",)
                assert found.steps[2].server == f"{config.process(low).address}:{PORT}"
                assert 0 < found.ttl_s <= 20

    run(scenario())


def test_a_dead_server_of_each_tier_is_passed_over(config: Config, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path, "top-2", "low-1", kept=make_map(config)):
            found = await resolver_for(config, "203.0.113.5").resolve("www.example.test")
            assert [len(step.failures) for step in found.steps] == [1, 0, 1]
            assert set(found.addresses) == {"127.33.2.1", "127.33.2.2"}

    run(scenario())


def test_a_new_map_is_in_the_next_answer(config: Config, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path, "low-1") as (low,):
            server = low.me.address
            nothing = await dns.asyncquery.udp(ask("a7.g.cdn.test"), server, port=PORT, timeout=DEADLINE_S)
            assert nothing.rcode() == dns.rcode.SERVFAIL and not low.ready
            for version, dead in ((1, "fra-1"), (2, "fra-2")):
                low._take_map(version, encode(make_map(config, version, without=dead)))
                edges = await dns.asyncquery.udp(
                    ask("a7.g.cdn.test", "192.0.2.1"), server, port=PORT, timeout=DEADLINE_S
                )
                assert edges.answer[0][0].to_text() == f"127.33.1.{3 - version}" and low.ready
                assert config.process(dead).address not in edges.answer[0].to_text()

    run(scenario())


def test_a_configuration_that_does_not_work_is_not_used(config: Config, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path, "top-1") as (top,):
            for version, geography in ((2, "/nowhere.mmdb"), (3, config.network.geography)):
                network = msgspec.structs.replace(config.network, geography=geography)
                new = msgspec.structs.replace(config, version=version, network=network)
                top._take_config(version, msgspec.json.encode(new))
                found = await dns.asyncquery.udp(
                    ask("cdn.test", qtype="SOA"), top.me.address, port=PORT, timeout=DEADLINE_S
                )
                serial = 1 if version == 2 else 3
                assert top.config.version == serial, "and that is what its heartbeats tell"
                assert f"hostmaster.cdn.test. {serial} " in found.answer[0].to_text()

    run(scenario())


def test_changed_keys_and_a_new_day_are_taken_up(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nameserver, "LOOK_S", 0.02)
    ahead_s = 0.0
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + ahead_s)

    async def scenario() -> None:
        nonlocal ahead_s
        query = dns.message.make_query("cdn.test", "DNSKEY", want_dnssec=True)
        async with running(tmp_path, "top-1") as (top,):

            async def look() -> tuple[int, set[int]]:
                """How many keys there are, and when their signatures end."""
                found = await dns.asyncquery.tcp(query, top.me.address, port=PORT, timeout=DEADLINE_S)
                keys, signatures = found.answer
                assert len(keys) == len(signatures)
                return len(keys), {signature.expiration for signature in signatures}

            async def until_keys(wanted: int, than: set[int]) -> set[int]:
                async with asyncio.timeout(DEADLINE_S):
                    while (found := await look())[0] != wanted or found[1] == than:
                        await asyncio.sleep(0.01)
                return found[1]

            first = await until_keys(1, set())
            path = state.dnssec_file(tmp_path)
            secret = path.read_bytes()
            path.write_bytes(secret + bytes(32))
            assert await until_keys(2, set()) == first
            path.unlink()
            ahead_s = 86_400.0
            assert {one - 86_400 for one in await until_keys(2, first)} == first
            path.write_bytes(secret)
            await until_keys(1, set())
            own = state.dnssec_file(tmp_path, "cdn.test")
            own.parent.mkdir()
            own.write_bytes(bytes(32) + secret)
            await until_keys(2, set())
            own.write_bytes(b"damaged")
            await asyncio.sleep(0.05)
            await until_keys(2, set())
            own.unlink()
            await until_keys(1, set())

    run(scenario())


def test_pipelined_queries_come_back_in_order_however_they_are_cut(config: Config, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path, "top-1") as (top,):
            queries = [ask(f"x{n}.cdn.test").to_wire(prepend_length=True) for n in range(20)]
            stream = b"".join(queries)
            reader, writer = await asyncio.open_connection(top.me.address, PORT)
            for start in range(0, len(stream), 7):
                writer.write(stream[start : start + 7])
                await asyncio.sleep(0)
            for query in queries:
                length = int.from_bytes(await reader.readexactly(2), "big")
                assert (await reader.readexactly(length))[:2] == query[2:4]
            writer.write(b"\xff\xff")  # no query is that long
            assert await reader.read() == b""
            writer.close()

    run(scenario())


def test_connections_are_bounded(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nameserver, "CONNECTIONS_MAX", 3)
    monkeypatch.setattr(nameserver, "IDLE_S", 10 * DEADLINE_S)

    async def scenario() -> None:
        async with running(tmp_path, "top-1") as (top,), asyncio.timeout(DEADLINE_S):
            streams = [await asyncio.open_connection(top.me.address, PORT) for _ in range(4)]
            assert await streams[0][0].read() == b""
            monkeypatch.setattr(nameserver, "IDLE_S", 0.2)
            for reader, writer in streams[1:]:
                writer.write(ask("cdn.test").to_wire(prepend_length=True))
                assert await reader.readexactly(2)
                await reader.read()  # the idle ones end by themselves
            for _, writer in streams:
                writer.close()

    run(scenario())


@pytest.mark.parametrize(
    ("address", "level", "option"), [("127.0.0.1", 0, 10), pytest.param("::1", 41, 23, marks=needs_ipv6)]
)
def test_no_response_becomes_fragments(address: str, level: int, option: int) -> None:
    with nameserver.bind_datagrams(address, 0) as sock:
        assert sock.getsockopt(level, option) == 3


def test_an_error_in_the_answer_is_servfail_and_logged_once(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr(Responder, "answer", broken)

    async def scenario() -> None:
        async with running(tmp_path, "top-1") as (top,):
            for _ in range(20):
                failed = await dns.asyncquery.udp(ask("cdn.test"), top.me.address, port=PORT, timeout=DEADLINE_S)
                assert failed.rcode() == dns.rcode.SERVFAIL

    run(scenario())
    assert len(caplog.records) == 1


def test_a_taken_address_is_told(config: Config, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path, "top-1"):
            with pytest.raises(NearmileError, match=r"127\.33\.0\.53 port 5399 .*dns\.port"):
                await nameserver.run(Runtime(tmp_path, "top-1"))

    run(scenario())


@pytest.mark.skipif(shutil.which("dig") is None, reason="dig is not installed")
@pytest.mark.parametrize(
    ("server", "arguments", "wanted"),
    [
        ("top-1", "www.example.test A", "status: NOERROR;flags: qr aa;CNAME\ta7.g.cdn.test."),
        ("top-1", "a7.g.cdn.test A", "AUTHORITY: 2, ADDITIONAL: 3;NS\tn1.g.cdn.test.;127.33.0.55"),
        ("top-1", "cdn.test SOA +tcp", "hostmaster.cdn.test. 1 ;flags: qr aa"),
        ("low-1", "a7.g.cdn.test A +subnet=203.0.113.9/32", "CLIENT-SUBNET: 203.0.113.9/32/24;127.33.2."),
        ("low-1", "a7.g.cdn.test AAAA", "status: NOERROR;ANSWER: 0, AUTHORITY: 1"),
        ("low-1", "a8.g.cdn.test A", "status: NXDOMAIN;SOA"),
        ("low-1", "a7.g.cdn.test A +edns=1 +noednsneg", "status: BADVERS"),
        ("low-1", "a7.g.cdn.test A +opcode=UPDATE +noedns", "status: NOTIMP"),
        ("low-1", "elsewhere.test A", "status: REFUSED"),
    ],
)
def test_dig_understands(config: Config, tmp_path: Path, server: str, arguments: str, wanted: str) -> None:
    async def scenario() -> None:
        async with running(tmp_path, server, kept=make_map(config)) as (runtime,):
            process = await asyncio.create_subprocess_exec(
                "dig", f"@{runtime.me.address}", "-p", str(PORT), "+norec", "+tries=1", *arguments.split(),
                stdout=subprocess.PIPE,
            )  # fmt: skip
            output = (await process.communicate())[0].decode()
            assert "WARNING" not in output and "malformed" not in output
            for part in wanted.split(";"):
                assert part in output.replace(" \t", "\t"), output

    run(scenario())
