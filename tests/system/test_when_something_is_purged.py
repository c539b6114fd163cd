"""Purges of a real network while its servers are killed, stopped and restarted: nothing stale once confirmed."""

import asyncio
import os
import signal
import uuid
from pathlib import Path

from live_network import LiveNetwork, eventually
from nearmile.cache.purge import Kind, Order
from nearmile.cli.purge import NOT_RUNNING
from nearmile.services import running
from nearmile.services.bus import Bus, BusDown
from nearmile.services.purger import Purged, Purger
from purge_load import GROUPS, HOST, OBJECTS, PurgeLoad, group, target
from waiting import PATIENCE_S

ORIGIN = "127.43.200.1"
NETWORK = """
name = "purge"
zone = "purge.test"
loopback = "127.43.0.0/16"
trusted = ["127.0.0.0/8"]
regions.here = { city = "Frankfurt", servers = 3 }
regions.there = { city = "Tokyo", servers = 1 }
nameservers = [{ tier = "top", city = "Frankfurt" }, { tier = "low", city = "Frankfurt" }]
"""


def documents(folder: Path) -> Path:
    (folder / "sites").mkdir(parents=True)
    (folder.parent / "state").mkdir()
    (folder / "network.toml").write_text(NETWORK)
    (folder / "sites" / "shop.toml").write_text(f'hostnames = ["{HOST}"]\norigin = "http://{ORIGIN}:8100"\n')
    return folder


class Purging:
    """One order after another, of every kind in turn; what was confirmed is what readers are held to."""

    def __init__(self, network: LiveNetwork, load: PurgeLoad, purger: Purger) -> None:
        self.network, self.load, self.purger = network, load, purger
        self.count = 0

    async def once(self, patience_s: float = 30.0) -> Purged:
        self.count += 1
        number = self.count * 7 % OBJECTS
        kinds: tuple[tuple[Kind, str, range], ...] = (
            ("url", target(number), range(number, number + 1)),
            ("tag", f"object-{number}", range(number, number + 1)),
            ("prefix", f"/{number % GROUPS}/", group(number)),
            ("tag", f"group-{number % GROUPS}", group(number)),
        )
        kind, value, concerned = kinds[self.count % len(kinds)]
        serial = self.network.config.sites[0].serial
        order = Order(str(uuid.uuid4()), serial, kind, (value,), soft=self.count % 3 == 0)
        await self.load.change(concerned)
        done = await self.purger.purge(order, self._down, patience_s)
        if not done.missing:
            self.load.purged(concerned)
        return done

    def _down(self, since_s: float) -> set[str]:
        now = running.read(self.network.root)
        return {one.name for one in now.processes if one.state in NOT_RUNNING} if now.at_s > since_s else set()

    async def until_back(self, name: str, pid: int) -> None:
        """Purges on until another process of that name is ready."""
        while self.network.one(name)["pid"] in (0, pid) or self.network.one(name)["state"] != "ready":
            try:
                assert not (await self.once()).missing
            except BusDown:
                await asyncio.sleep(0.1)


async def scenario(network: LiveNetwork, load: PurgeLoad, purging: Purging) -> None:
    await load.started()
    await asyncio.sleep(1)
    for _ in range(20):
        assert not (await purging.once()).missing
    for name, signum in (("here-1", signal.SIGKILL), ("here-2", signal.SIGTERM), ("there-1", signal.SIGTERM)):
        # SIGTERM leaves a cache on the disk; what is purged while nobody serves from it must go from it.
        await purging.until_back(name, network.kill(name, signum))
    pid = network.kill("here-3", signal.SIGSTOP)
    try:
        assert (await purging.once(5.0)).missing == {"here-3"}
    finally:
        os.kill(pid, signal.SIGCONT)
    for _ in range(20):
        assert not (await purging.once()).missing
    await purging.until_back("nats", network.kill("nats", signal.SIGKILL))


def test_nothing_stale_once_it_was_confirmed(tmp_path: Path) -> None:
    with LiveNetwork(documents(tmp_path / "documents"), tmp_path / "state") as network:
        edges = network.config.of_role("edge")
        load = PurgeLoad(ORIGIN, tmp_path / "records", [edge.address for edge in edges])

        async def run() -> None:
            bus = Bus.of(network.root, network.config, "test")
            purger = Purger(bus, (one.name for one in edges))
            async with bus.opened(PATIENCE_S):
                await scenario(network, load, Purging(network, load, purger))

        try:
            asyncio.run(run())
        finally:
            seen = load.stop()
        assert len(seen) > 100
        assert load.stale(seen) == []


def test_the_command(tmp_path: Path) -> None:
    with LiveNetwork(documents(tmp_path / "documents"), tmp_path / "state") as network:
        for arguments in (
            ("--prefix", f"http://{HOST}/a"),
            ("--host", HOST, "--soft"),
            ("--site", "shop", "--tag", "a", "b,c"),
            ("--site", "shop", "--all"),
        ):
            answer = network.json("purge", *arguments)
            assert (answer["confirmed"], answer["servers"], answer["missing"]) == (4, 4, [])
        assert "what is to be purged" in network.run("purge", "--all", check=False).stderr
        assert HOST in network.run("purge", "http://nobody.test/", check=False).stderr
        pid = network.kill("here-1", signal.SIGSTOP)
        try:
            shown = network.run("purge", f"http://{HOST}/", check=False)
            assert (shown.returncode, "no answer: here-1" in shown.stdout) == (1, True)
        finally:
            os.kill(pid, signal.SIGCONT)
        eventually(
            lambda: network.run("purge", f"http://{HOST}/", check=False).returncode == 0, PATIENCE_S, "it is back"
        )
