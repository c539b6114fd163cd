"""Under load: who is drained or fills up has left all answers two seconds later; a crowd is spread in its region.

Every low-level name server is asked, for clients in several places; load clients resolve as the TTLs allow.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator

import dns.edns
import dns.message
import dns.query
import pytest

from live_network import EXAMPLES, LiveNetwork
from load import Load
from nearmile.base.gazetteer import find_city
from nearmile.config.layout import edge_hostname
from nearmile.mapping.spread import LOAD_MAX
from origin_folder import digests_of

HOST = "www.example.test"
SITE = EXAMPLES / "world" / "site"
LEAVES_ANSWERS_S = 2.0
# Hits are counted each second, then told, placed and published: two seconds, and one for a machine that does more.
SPREAD_S = 3.0
TTL_S = 1
CONNECTIONS = 400
NETWORK = f"""
name = "crowd"
zone = "crowd.test"
loopback = "127.48.0.0/16"
trusted = ["127.0.0.0/8"]
regions.frankfurt = {{ city = "Frankfurt", servers = 4 }}
regions.tokyo = {{ city = "Tokyo", servers = 4 }}
nameservers = [
  {{ tier = "top", city = "Frankfurt" }},
  {{ tier = "low", city = "Frankfurt" }}, {{ tier = "low", city = "Tokyo" }},
]
dns.low_ttl_s = {TTL_S}
edge = {{ memory_mb = 16, disk_mb = 64, max_object_mb = 1, max_connections = {CONNECTIONS} }}
"""
# So many sites that most servers are the first of some. Two have load: as they are hot, their answers take turns.
SITES, LOADED, CROWDED = 10, 3, 5
TOWNS = ("Paris", "New York", "Tokyo")
# Cities of either region, so that a crowd of one is in one.
NEAR_FRANKFURT = ("Paris", "London", "Frankfurt", "Berlin", "Madrid", "Rome")


def host_of(number: int) -> str:
    return f"s{number}.{HOST}"


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNetwork]:
    folder = tmp_path_factory.mktemp("crowd")
    (folder / "sites").mkdir()
    (folder / "network.toml").write_text(NETWORK)
    for number in range(SITES):
        site = f'hostnames = ["{host_of(number)}"]\norigin = "{SITE}"\n'
        (folder / "sites" / f"s{number}.toml").write_text(site)
    with LiveNetwork(folder, tmp_path_factory.mktemp("state")) as running:
        running.until_ready()
        yield running


def firsts(network: LiveNetwork) -> dict[tuple[str, int, str], str]:
    """The first address of each answer, by name server, site, and city of the client."""
    found, config = {}, network.config
    for server in config.of_role("nameserver"):
        if server.tier == "low":
            for site in config.sites:
                for town in TOWNS:
                    city = find_city(town)
                    assert city is not None
                    query = dns.message.make_query(edge_hostname(site.serial, config.network.zone), "A")
                    query.use_edns(options=[dns.edns.ECSOption(city.address, 24)])
                    reply = dns.query.udp(query, server.address, timeout=1, port=server.port)
                    named = [str(record.address) for rrset in reply.answer for record in rrset]
                    found[server.name, site.serial, town] = " ".join(named)
    return found


def named(answers: dict[tuple[str, int, str], str]) -> set[str]:
    return {address for answer in answers.values() for address in answer.split()}


async def left(network: LiveNetwork, names: set[str], since_s: float) -> dict[tuple[str, int, str], str]:
    """Waits until no answer has one of these servers; returns all answers."""
    addresses = {network.config.process(name).address for name in names}
    while True:
        asked_s = time.monotonic()
        answers = await asyncio.to_thread(firsts, network)
        if not addresses & named(answers):
            return answers
        assert asked_s - since_s < LEAVES_ANSWERS_S, f"{names} are still in the answers"


async def back(network: LiveNetwork, names: set[str]) -> None:
    addresses, deadline_s = {network.config.process(name).address for name in names}, time.monotonic() + 10
    while not addresses <= named(await asyncio.to_thread(firsts, network)):
        assert time.monotonic() < deadline_s, f"{names} do not come back"


def load_of(network: LiveNetwork) -> Load:
    return Load(network.config, host_of(LOADED), digests_of(SITE), clients=16)


def test_a_crowd_that_comes_at_once_is_soon_spread_over_its_region(network: LiveNetwork) -> None:
    """From nothing to thousands of requests a second. New clients are told of all servers within two seconds, and
    those who came before follow when their answers run out. It is the first test: servers remember for a minute
    what else was hot."""
    page = {"/index.html": digests_of(SITE)["/index.html"]}
    (serial,) = (site.serial for site in network.config.sites if host_of(CROWDED) in site.document.hostnames)
    servers = [process for process in network.config.of_role("edge") if process.region == "frankfurt"]

    async def run() -> tuple[Load, float, Counter[str]]:
        async with Load(network.config, host_of(CROWDED), page, clients=24, cities=NEAR_FRANKFURT) as load:
            started_s = time.monotonic()
            while len(await asyncio.to_thread(told, network, serial, 4 * len(servers))) < len(servers):
                assert time.monotonic() - started_s < 5 * SPREAD_S, f"no name server spreads {load.tally.received}"
                await asyncio.sleep(0.05)
            spread_s = time.monotonic() - started_s
            await asyncio.sleep(TTL_S + 0.5)
            before = load.tally.received.copy()
            await asyncio.sleep(2 * TTL_S)
            return load, spread_s, load.tally.received - before

    load, spread_s, received = asyncio.run(run())
    assert load.tally.failures == [] and load.tally.wrong == []
    print(f"spread after {spread_s:.2f} s; then by server: {dict(received)}")
    assert received.total() > 100 * len(servers), "it was a crowd"
    assert max(received.values()) <= LOAD_MAX * received.total() / len(servers)
    assert spread_s <= SPREAD_S


def told(network: LiveNetwork, serial: int, count: int) -> set[str]:
    """The first servers in so many answers of the same name server."""
    config, found = network.config, set()
    city = find_city(NEAR_FRANKFURT[0])
    assert city is not None
    server = next(process for process in config.of_role("nameserver") if process.tier == "low")
    for _ in range(count):
        query = dns.message.make_query(edge_hostname(serial, config.network.zone), "A")
        query.use_edns(options=[dns.edns.ECSOption(city.address, 24)])
        reply = dns.query.udp(query, server.address, timeout=1, port=server.port)
        found.add(str(reply.answer[0][0].address))
    return found


@pytest.mark.parametrize("name", ["frankfurt-2", "tokyo"])
def test_who_is_drained_leaves_all_answers_and_nothing_else_moves(network: LiveNetwork, name: str) -> None:
    names = {p.name for p in network.config.of_role("edge") if name in (p.name, p.region)}
    addresses = {network.config.process(one).address for one in names}
    hosts = {host_of(LOADED), host_of(CROWDED)}
    hot = {site.serial for site in network.config.sites if hosts & set(site.document.hostnames)}

    async def run() -> Load:
        async with load_of(network) as load:
            before = await asyncio.to_thread(firsts, network)
            assert (await asyncio.to_thread(network.json, "drain", name))["drained"] == [name]
            after = await left(network, names, time.monotonic())
            for key, answer in before.items():
                had, has = answer.split()[0], after[key].split()[0]
                assert key[1] in hot or had in addresses or has == had
            assert (await asyncio.to_thread(network.json, "drain", name, "--undo"))["drained"] == []
            await back(network, names)
        return load

    tally = asyncio.run(run()).tally
    assert tally.failures == [] and tally.wrong == []


def test_who_fills_up_leaves_all_answers_and_returns(network: LiveNetwork) -> None:
    victim = network.config.process("frankfurt-2")

    async def run() -> Load:
        async with load_of(network) as load:
            port = network.config.network.edge.http_port
            opened = [await asyncio.open_connection(victim.address, port) for _ in range(int(CONNECTIONS * 0.92))]
            await left(network, {victim.name}, time.monotonic())
            for _, writer in opened:
                writer.close()
            await back(network, {victim.name})
        return load

    tally = asyncio.run(run()).tally
    assert tally.failures == [] and tally.wrong == []
