"""``python -m nearmile.simulate --seed N``: one run of a scenario, its figures and its hash."""

import argparse
import sys
from resource import RUSAGE_SELF, getrusage

from rich.console import Console
from rich.progress import Progress

from nearmile.simulate import checks
from nearmile.simulate.outages import QUIET_S, Outages, Scale
from nearmile.simulate.planet import QUIET_S as PLANET_QUIET_S
from nearmile.simulate.planet import Planet
from nearmile.simulate.planet import Scale as PlanetScale
from nearmile.simulate.purges import Purges
from nearmile.simulate.purges import Scale as PurgesScale


def main() -> int:
    """Exit code 0 where every check held, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m nearmile.simulate",
        description="Servers under random crashes and partitions, in virtual time.",
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="the run; the same seed gives the same run (default 1)"
    )
    parser.add_argument("--minutes", type=float, default=60.0, help="virtual minutes of faults (default 60)")
    scenarios = (
        "outages: 200 servers in 50 regions keep their users (default); purges: 12 caches forget what they must; "
        "planet: maps for 100,000 servers and a million units"
    )
    parser.add_argument("--scenario", choices=("outages", "purges", "planet"), default="outages", help=scenarios)
    parser.add_argument("--tenth", action="store_true", help="the planet with a tenth of its regions and units")
    options = parser.parse_args()
    if options.scenario == "purges":
        return _purges(options.seed, 60 * options.minutes)
    if options.scenario == "planet":
        scale = PlanetScale(regions=500, units=100_000, places=5000) if options.tenth else PlanetScale()
        return _planet(options.seed, scale, 60 * options.minutes)
    run = Outages(options.seed, Scale())
    for_s = 60 * options.minutes
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("virtual time", total=QUIET_S + for_s + run.settle_s)
        run.run(for_s, lambda now_s: progress.update(task, completed=now_s))
    found = run.checks()
    out = Console(highlight=False, soft_wrap=True)
    delays_s = checks.delays_s(run.history, checks.takeover_s())
    detection_s = checks.detection_s(run.scale.dead_after_s, run.scale.beat_s)
    out.print(
        f"seed {options.seed}: {run.world.clock.now_s / 60:.0f} virtual minutes, {run.world.clock.events} events"
    )
    out.print(f"faults: {run.faults}; answers: {len(run.history.answers)}; maps: {len(run.history.publications)}")
    if delays_s:
        middle_s, worst_s = delays_s[len(delays_s) // 2], delays_s[-1]
        out.print(f"named after death: median {middle_s:.2f} s, worst {worst_s:.2f} s, bound {detection_s:.2f} s")
    for name, result in found.items():
        for line in checks.told(name, result):
            out.print(line)
    out.print(f"trace {run.world.clock.digest()}")
    return 1 if any(result.violations for result in found.values()) else 0


def _purges(seed: int, for_s: float) -> int:
    """The second scenario."""
    run = Purges(seed, PurgesScale())
    run.run(for_s)
    found = run.check()
    out = Console(highlight=False, soft_wrap=True)
    out.print(f"seed {seed}: {run.orders} orders, {len(run.confirmed)} changes of objects confirmed everywhere")
    for line in checks.told("stale after a confirmed purge", found):
        out.print(line)
    out.print(f"trace {run.world.clock.digest()}")
    return 1 if found.violations else 0


def _planet(seed: int, scale: PlanetScale, for_s: float) -> int:
    """The third scenario."""
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("virtual time", total=PLANET_QUIET_S + for_s)
        run = Planet(seed, scale)
        run.run(for_s, lambda now_s: progress.update(task, completed=now_s))
        elapsed_s = progress.tasks[task].elapsed or 0.0
    used, judge = getrusage(RUSAGE_SELF), run.judge
    out = Console(highlight=False, soft_wrap=True)
    out.print(
        f"seed {seed}: {scale.regions * scale.servers:,} servers in {scale.regions:,} regions, "
        f"{scale.units:,} units, {run.clock.now_s / 60:.0f} virtual minutes, {run.faults} faults and a continent"
    )
    out.print(
        f"maps: {judge.maps}, of these with all units placed anew: {judge.placings}; mean distance of users in "
        f"round trips: {judge.mean_ms[0]:.2f} ms at first, {max(judge.mean_ms):.2f} ms at worst, "
        f"{judge.mean_ms[-1]:.2f} ms in the end"
    )
    out.print(
        f"most demand that moved in 10 s: {judge.moved_most:.1%}; the fullest region: {judge.over_most:.1%} "
        f"of its capacity; bound for the dead: {judge.bound_s:.2f} s"
    )
    for name, result in run.checks().items():
        for line in checks.told(name, result):
            out.print(line)
    out.print(
        f"{elapsed_s:.0f} s by the clock, {used.ru_utime + used.ru_stime:.0f} s of CPU, "
        f"{used.ru_maxrss / 2**20:.2f} GiB of memory at most"
    )
    out.print(f"trace {run.clock.digest()}")
    return 1 if any(result.violations for result in run.checks().values()) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
