"""kill -9 under load: nobody notices. Clients resolve through the network and try the second address."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import dns.edns
import dns.message
import dns.query
import pytest

from live_network import EXAMPLES, LiveNetwork, eventually
from load import Load, Tally
from nearmile.base.gazetteer import find_city
from nearmile.config.layout import edge_hostname
from origin_folder import digests_of
from waiting import PATIENCE_S, until

HOST = "www.example.test"


def answers(network: LiveNetwork, city: str) -> set[str]:
    """The addresses that the low-level name servers that answer name now for a client in that city."""
    found = find_city(city)
    assert found is not None
    config = network.config
    query = dns.message.make_query(edge_hostname(config.sites[0].serial, config.network.zone), "A")
    query.use_edns(options=[dns.edns.ECSOption(found.address, 24)])
    addresses = set()
    for server in config.of_role("nameserver"):
        if server.tier == "low":
            reply, _ = dns.query.udp_with_fallback(query, server.address, timeout=PATIENCE_S, port=server.port)
            addresses |= {str(record.address) for rrset in reply.answer for record in rrset}
    return addresses


def under_load(network: LiveNetwork, act: Callable[[], Awaitable[None]]) -> Tally:
    """Runs 32 clients from ten cities, and ``act`` in their middle."""

    async def run() -> Tally:
        async with Load(network.config, HOST, digests_of(EXAMPLES / "world" / "site")) as load:
            await until(lambda: load.tally.received.total() > 100)
            await act()
            await until(lambda: load.tally.received.total() > 500)
        return load.tally

    tally = asyncio.run(run())
    assert tally.failures == []
    assert tally.wrong == []
    return tally


async def kill_and_time(network: LiveNetwork, names: tuple[str, ...], city: str) -> None:
    """Kills edges, and again where they start again: their addresses leave the answers; then all come back."""
    gone = {network.config.process(name).address for name in names}
    assert gone & await asyncio.to_thread(answers, network, city)
    started_s = time.monotonic()
    pids = {name: network.kill(name) for name in names}
    while gone & await asyncio.to_thread(answers, network, city):
        assert time.monotonic() - started_s < PATIENCE_S
        for name in names:
            network.kill(name)
    print(f"{names} left the answers in {time.monotonic() - started_s:.2f} s")
    for name, pid in pids.items():
        await asyncio.to_thread(network.until_replaced, name, pid)
    await asyncio.to_thread(
        eventually, lambda: bool(gone & answers(network, city)), 2 * PATIENCE_S, f"{names} back in the answers"
    )


def test_a_server_dies(world: LiveNetwork) -> None:
    world.until_ready()
    tally = under_load(world, lambda: kill_and_time(world, ("tokyo-1",), "Tokyo"))
    assert tally.asked_again == 0, "the second address was always enough"


def test_a_region_dies(world: LiveNetwork) -> None:
    world.until_ready()
    under_load(world, lambda: kill_and_time(world, ("london-1", "london-2"), "London"))


@pytest.mark.parametrize("names", [("top-1", "low-1"), ("top-2", "low-2")], ids="+".join)
def test_a_name_server_of_each_tier_dies(world: LiveNetwork, names: tuple[str, ...]) -> None:
    world.until_ready()

    async def act() -> None:
        pids = {name: world.kill(name) for name in names}
        for name, pid in pids.items():
            await asyncio.to_thread(world.until_replaced, name, pid)

    under_load(world, act)


def test_the_bus_and_the_controller_are_gone(world: LiveNetwork) -> None:
    world.until_ready()

    async def act() -> None:
        """Keeps both down for some seconds: as often as they are started again, they are killed again."""
        started_s = time.monotonic()
        while time.monotonic() - started_s < 4:
            for name in ("nats", "controller-1"):
                world.kill(name)
            await asyncio.sleep(0.1)

    under_load(world, act)
    world.until_ready()
