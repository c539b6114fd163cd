"""Mixed load over every protocol while the origin errs, stalls, truncates, lies and restarts, and edges are killed
at random: no wrong byte, no request without an end, nothing that grows. Twenty minutes of it: ``make soak``."""

import asyncio
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

import bad_origin
from live_network import LiveNetwork, eventually
from mixed_load import Seen, run_clients
from nearmile.services import state

SECONDS = float(os.environ.get("NEARMILE_SOAK_S", "12"))
SEED = int(os.environ.get("NEARMILE_SOAK_SEED", "1"))
HOST, ORIGIN = "bad.test", ("127.47.200.1", 8100)
CLIENTS = 24
# Longer than the edge waits for an origin in all: the owner in the region, and the origin after it, twice.
PATIENCE_S = 150.0
STALL_S = min(35.0, SECONDS / 8)
EDGE_DIES_EVERY_S, ORIGIN_RESTARTS_EVERY_S, LOOK_EVERY_S = 3.0, 7.0, 1.0
# The idle connections to the origin are closed after 20 s.
QUIET_S = 40.0
# One server of each region is never killed: it is the one whose size is looked at.
SPARED = ("here-1", "there-1")
VICTIMS = ("here-2", "there-2", "there-3")
NETWORK = """
name = "wrong"
zone = "wrong.test"
loopback = "127.47.0.0/16"
trusted = ["127.0.0.0/8"]
regions.here = { city = "Frankfurt", servers = 2 }
regions.there = { city = "Tokyo", servers = 3 }
nameservers = [
  { tier = "top", city = "Frankfurt" }, { tier = "top", city = "Tokyo" },
  { tier = "low", city = "Frankfurt" }, { tier = "low", city = "Tokyo" },
]
edge = { memory_mb = 16, disk_mb = 64, max_object_mb = 1 }
"""
SITE = f"""
hostnames = ["{HOST}"]
origin = "http://{ORIGIN[0]}:{ORIGIN[1]}"
"""


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNetwork]:
    folder = tmp_path_factory.mktemp("wrong")
    (folder / "sites").mkdir()
    (folder / "network.toml").write_text(NETWORK)
    (folder / "sites" / "bad.toml").write_text(SITE)
    with LiveNetwork(folder, tmp_path_factory.mktemp("state")) as network:
        network.until_ready()
        yield network


class Origin:
    """The origin's process, which can be killed and started anew."""

    def __init__(self, log: Path) -> None:
        self.log, self.starts = log, 0
        self._process: subprocess.Popen[bytes] | None = None

    def restart(self) -> None:
        """kill -9, and another one."""
        self.stop()
        self.starts += 1
        host, port = ORIGIN
        arguments = (host, str(port), str(SEED + self.starts), str(STALL_S), str(self.log))
        self._process = subprocess.Popen(
            [sys.executable, bad_origin.__file__, *arguments], stderr=subprocess.DEVNULL
        )

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@contextmanager
def origin(log: Path) -> Iterator[Origin]:
    one = Origin(log)
    one.restart()
    try:
        yield one
    finally:
        one.stop()


def memory_kb(pid: int) -> int:
    """Anonymous memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1])


def sockets(pid: int) -> int:
    """Its open sockets; files it has one for each segment of its disk cache."""
    links = (file.readlink() for file in Path(f"/proc/{pid}/fd").iterdir() if file.is_symlink())
    return sum(str(link).startswith("socket:") for link in links)


class Meanwhile:
    """Kills and looks, for as long as the run takes; ``memory`` has what the spared edges took, by time."""

    def __init__(self, network: LiveNetwork, origin: Origin) -> None:
        self.network, self.origin = network, origin
        self.choice = random.Random(SEED)
        self.memory: dict[str, list[int]] = {name: [] for name in SPARED}
        self.kills = 0

    async def run(self) -> None:
        started_s = time.monotonic()
        next_edge_s, next_origin_s = EDGE_DIES_EVERY_S, ORIGIN_RESTARTS_EVERY_S
        while (at_s := time.monotonic() - started_s) < SECONDS:
            await asyncio.sleep(LOOK_EVERY_S)
            for name, sizes in self.memory.items():
                sizes.append(memory_kb(self.network.one(name)["pid"]))
            if at_s >= next_edge_s:
                self.kills += bool(self.network.kill(self.choice.choice(VICTIMS)))
                next_edge_s += EDGE_DIES_EVERY_S
            if at_s >= next_origin_s:
                self.origin.restart()
                next_origin_s += ORIGIN_RESTARTS_EVERY_S


def at_rest(network: LiveNetwork, name: str) -> bool:
    """Whether an edge has no client and fetches nothing; who was killed often is not started again soon."""
    one = network.one(name)
    return one["state"] == "waiting" or bool(one["detail"]["connections"] == one["detail"]["fills"] == 0)


def is_flat(sizes: list[int]) -> bool:
    """What a process took in the last tenth is no more than in the middle, but for what moves anyway."""
    tenth = len(sizes) // 10
    middle, last = sorted(sizes[4 * tenth : 6 * tenth]), sorted(sizes[-tenth:])
    return last[len(last) // 2] <= middle[len(middle) // 2] * 1.05 + 4096


@pytest.mark.timeout(SECONDS + 240)
def test_no_wrong_byte_no_stuck_request_and_nothing_grows(network: LiveNetwork, tmp_path: Path) -> None:
    authority = state.authority_files(network.root)[0]
    before = {name: sockets(network.one(name)["pid"]) for name in SPARED}
    pids = {name: network.one(name)["pid"] for name in SPARED}
    with origin(tmp_path / "posts") as bad:
        meanwhile = Meanwhile(network, bad)
        seen = asyncio.run(run_clients(network.config, HOST, authority, CLIENTS, PATIENCE_S, meanwhile.run()))
        report(seen, meanwhile)
        for name in (*SPARED, *VICTIMS):
            eventually(partial(at_rest, network, name), QUIET_S + STALL_S, f"{name} at rest")
        for name in SPARED:
            assert network.one(name)["pid"] == pids[name], "nobody killed it"
            closed = partial(lambda name: sockets(pids[name]) <= before[name], name)
            eventually(closed, QUIET_S, f"as many sockets of {name} as before: {before[name]}")
    for name in (*SPARED, *VICTIMS):
        assert "Traceback" not in (network.root / "log" / f"{name}.log").read_text(), (
            f"{name} expected all of this"
        )
    assert seen.wrong == []
    assert seen.stuck == []
    assert seen.outcomes.total() > 100
    posts = Counter((tmp_path / "posts").read_text().split())
    assert posts.total() > 0
    assert [post for post, count in posts.items() if count > 1] == [], "what is not idempotent is sent once"
    if SECONDS >= 300:
        assert {name: is_flat(sizes) for name, sizes in meanwhile.memory.items()} == dict.fromkeys(SPARED, True)


def report(seen: Seen, meanwhile: Meanwhile) -> None:
    """For people (pytest -s)."""
    print(f"\n{seen.outcomes.total()} requests, {seen.posted} POST, {meanwhile.kills} kills of edges, ", end="")
    print(f"{meanwhile.origin.starts} origins; wrong {len(seen.wrong)}, stuck {len(seen.stuck)}")
    for outcome, count in sorted(seen.outcomes.items()):
        print(f"  {count:>8}  {outcome}")
    for name, sizes in meanwhile.memory.items():
        step = max(1, len(sizes) // 10)
        print(f"  {name}: anonymous memory in MB {[size >> 10 for size in sizes[::step]]}")
