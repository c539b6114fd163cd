"""From a purge order until every edge server has confirmed: 1,000 orders, one after another, under load.

`examples/world` with a site of 200 small objects, started by `nearmile up` (12 edge servers, NATS and the others
on this computer); readers ask all edges without end, and each answer is held against what had been purged when it
was asked for. The peer's column is the goal, since no peer has this.
"""

import asyncio
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from statistics import median, quantiles

from measure import Case, case, options, progress, show

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from nearmile.cache.purge import Order
from nearmile.services import state
from nearmile.services.bus import Bus
from nearmile.services.purger import Purger
from purge_load import GROUPS, HOST, OBJECTS, PurgeLoad, Seen, group, target

ROOT = Path(__file__).resolve().parents[1]
LOOPBACK, ORIGIN = "127.143.0.0/16", "127.143.200.1"
PURGES, GOAL_MEDIAN_MS, GOAL_P99_MS = 1_000, 20.0, 100.0
PATIENCE_S = 5.0
# So long after the last purge readers go on, for what might come up late.
AFTERWARDS_S = 2.0
COMMAND = [sys.executable, "-m", "nearmile.cli.main"]


def documents(folder: Path) -> None:
    """`examples/world` with another site, at addresses of its own."""
    shutil.copytree(ROOT / "examples" / "world", folder)
    shutil.rmtree(folder / "sites")
    (folder / "sites").mkdir()
    (folder / "sites" / "purge.toml").write_text(f'hostnames = ["{HOST}"]\norigin = "http://{ORIGIN}:8100"\n')
    network = folder / "network.toml"
    network.write_text(f'loopback = "{LOOPBACK}"\n{network.read_text()}')


def order(number: int, serial: int) -> tuple[Order, range]:
    """In turn a URL, a tag of one object, and a prefix or tag of a group; and the objects that it concerns."""
    match number % 20:
        case 5:
            return Order(str(uuid.uuid4()), serial, "prefix", (f"/{number % GROUPS}/",)), group(number)
        case 15:
            return Order(str(uuid.uuid4()), serial, "tag", (f"group-{number % GROUPS}",)), group(number)
        case _:
            n = number * 7 % OBJECTS
            if number % 2:
                return Order(str(uuid.uuid4()), serial, "tag", (f"object-{n}",)), range(n, n + 1)
            return Order(str(uuid.uuid4()), serial, "url", (target(n),)), range(n, n + 1)


async def purges(root: Path, records: Path) -> tuple[list[float], list[Seen], list[str]]:
    """Milliseconds of each order; what readers got, and what of it was stale."""
    config = state.read_config(root)
    edges = config.of_role("edge")
    load = PurgeLoad(ORIGIN, records, [edge.address for edge in edges])
    bus = Bus.of(root, config, "benchmark")
    purger = Purger(bus, (edge.name for edge in edges))
    took_ms: list[float] = []
    try:
        await load.started()
        async with bus.opened():
            await asyncio.sleep(AFTERWARDS_S)  # caches fill
            for number in range(PURGES):
                what, concerned = order(number, config.sites[0].serial)
                await load.change(concerned)
                done = await purger.purge(what, lambda _since_s: (), PATIENCE_S)
                load.purged(concerned)
                if done.missing:
                    sys.exit(f"not confirmed: {sorted(done.missing)}")
                took_ms.append(done.total_s * 1000)
                if number % 100 == 99:
                    progress(f"{number + 1} purges: median {median(took_ms):.1f} ms, worst {max(took_ms):.1f} ms")
            await asyncio.sleep(AFTERWARDS_S)
    finally:
        seen = load.stop()
    return took_ms, seen, load.stale(seen)


def measure() -> list[Case]:
    """Starts the network, purges, ends it."""
    with tempfile.TemporaryDirectory(prefix="nearmile-purge-") as name:
        folder, root = Path(name) / "documents", Path(name) / "state"
        documents(folder)
        up = [*COMMAND, "up", str(folder), "--state", str(root), "--detach"]
        subprocess.run(up, check=True, stdout=subprocess.DEVNULL)
        try:
            started_s = time.monotonic()
            took_ms, seen, stale = asyncio.run(purges(root, Path(name) / "records"))
            elapsed_s = time.monotonic() - started_s
        finally:
            subprocess.run([*COMMAND, "down", "--state", str(root)], check=True, stdout=subprocess.DEVNULL)
    progress(f"{len(seen)} responses checked, {len(seen) / elapsed_s:.0f}/s; {len(stale)} stale")
    for line in stale[:10]:
        progress(line)
    return [
        case("purge confirmed by 12 edges: median", [median(took_ms)], [GOAL_MEDIAN_MS], "ms", "< 1.0"),
        case("purge confirmed by 12 edges: p99", [quantiles(took_ms, n=100)[98]], [GOAL_P99_MS], "ms", ""),
        case("stale responses after confirmation", [len(stale)], [0], "", "0"),
    ]


def main() -> None:
    """Measures and prints."""
    chosen = options(__doc__ or "", seconds=0, rounds=1)
    show(measure(), chosen.json)


if __name__ == "__main__":
    main()
