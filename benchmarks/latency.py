"""How long hits take at 70 % of each server's own peak, against nginx and Varnish: the 99th percentile, in turn.

The requests are those of edge.py, the load is open_load.py's: at times of its own, whatever the server does. A
server's peak is what wrk gets from it, as in edge.py. nearmile is asked at the peers' rates too. The
server has core 0, load and origin core 1.

Where a machine is shared, what does not count is decided by the machine, and never by how long an answer took:

- The server has real-time priority, where that is allowed: no other process has its turn on that core before it.
- What came while the host of a virtual machine let nobody run on the server's core (canary.py), or while somebody
  else ran instead of the load (which sees that itself), or until that is made up for, does not count.
- The peak is measured before each run and after it. Where the two differ much, the machine is not as fast as it
  was, and nobody knows what 70 % were: the run is repeated.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from canary import LOOK_S
from edge import fetch_all, hits
from measure import SERVER_CORE, WARM_S, Case, Server, case, on_load_core, options, progress, require, show
from rivals import hits_alone, stage

Seconds = npt.NDArray[np.float64]
GOALS = {"nginx": "<= 1.0", "varnish": "<= 1.0"}
SHARE = 0.7
PEAK_S = 1.0
# What came during a stop at 70 % of the peak is worked off 0.7 / (1 - 0.7) = 2.3 times its length later; and more.
RECOVERY = 4
# Of a run's requests, what has to count; of the higher one of its two peaks, what the other has to be.
COUNTED_MIN, STEADY_MIN = 0.5, 0.85
TRIES_MAX = 8
HERE = Path(__file__).parent


class Run(NamedTuple):
    """What one run found in the requests that count, and their share."""

    p99_ms: float
    counted: float


def at_share_of_peak(server: Server, seconds: float, seed: int) -> tuple[Run, float]:
    """A run at SHARE of the server's peak, and that rate: one in which the machine ran, as fast as before."""
    for _ in range(TRIES_MAX):
        peak_per_s = hits(server, seed, PEAK_S).per_s
        run = at_rate(server, SHARE * peak_per_s, seconds, seed)
        after_per_s = hits(server, seed, PEAK_S).per_s
        steady = min(peak_per_s, after_per_s) >= STEADY_MIN * max(peak_per_s, after_per_s)
        if steady and run.counted >= COUNTED_MIN:
            return run, SHARE * peak_per_s
        progress(f"once more: its peak was {peak_per_s:.0f} requests/s before and {after_per_s:.0f} after")
    sys.exit("the machine stands still, or changes its speed, too often for this to be measured")


def at_rate(server: Server, rate: float, seconds: float, seed: int) -> Run:
    """One run at that rate."""
    command = [sys.executable, str(HERE / "open_load.py"), *map(str, server.address)]
    with canary() as stops:
        result = subprocess.run(
            [*command, str(rate), str(seconds), str(seed)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            preexec_fn=on_load_core,
        )
    found = json.loads(result.stdout)
    since_s, took_s = np.array(found["took"]).T
    counts = count(since_s, stops + found["stops"])
    p50_ms, p99_ms, p999_ms = 1000 * np.quantile(took_s[counts], (0.5, 0.99, 0.999)) if counts.any() else (0, 0, 0)
    progress(
        f"{server.name}: {found['per_s']:.0f} requests/s, p50 {p50_ms:.3f} ms, p99 {p99_ms:.3f} ms, "
        f"p99.9 {p999_ms:.3f} ms, of {counts.mean():.0%} of the requests"
    )
    return Run(p99_ms, float(counts.mean()))


@contextmanager
def canary() -> Iterator[list[Sequence[float]]]:
    """Looks at the server's core meanwhile; the stops are there at the end."""
    command = [sys.executable, str(HERE / "canary.py"), str(SERVER_CORE)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        stops: list[Sequence[float]] = []
        try:
            yield stops
        finally:
            process.terminate()
        stops += [[float(at_s) for at_s in line.split()] for line in process.stdout or ()]


def count(since_s: Seconds, stops: Sequence[Sequence[float]]) -> npt.NDArray[np.bool_]:
    """Which requests came while the machine ran, and had caught up; those under way at a stop do not count."""
    counts = np.ones(len(since_s), np.bool_)
    for begin_s, end_s in stops:
        counts &= (since_s < begin_s - LOOK_S) | (since_s > end_s + RECOVERY * (end_s - begin_s))
    return counts


def measure(seconds: float, rounds: int) -> list[Case]:
    """All servers, warm, in turn."""
    require("wrk", "wrk")
    own_ms: dict[str, list[float]] = {name: [] for name in ("nearmile", *GOALS)}
    same_rate_ms: dict[str, list[float]] = {name: [] for name in GOALS}
    with stage("127.36", tuple(GOALS), alone=True) as (origin, servers):
        for server in servers:
            fetch_all(server)
            hits(server, 0, WARM_S)
        nearmile = servers[0]
        with hits_alone(origin):
            for number in range(rounds):
                for server in servers if number % 2 else servers[::-1]:
                    run, rate = at_share_of_peak(server, seconds, number)
                    own_ms[server.name].append(run.p99_ms)
                    if server is not nearmile:
                        same_rate_ms[server.name].append(at_rate(nearmile, rate, seconds, number).p99_ms)
    name = f"HTTP/1.1 hit, mixed objects, at {SHARE:.0%} of"
    return [
        *(
            case(f"{name} own peak: p99, {peer}", own_ms["nearmile"], own_ms[peer], "ms", GOALS[peer])
            for peer in GOALS
        ),
        *(
            case(f"{name} the peer's peak: p99, {peer}", same_rate_ms[peer], own_ms[peer], "ms", "-")
            for peer in GOALS
        ),
    ]


def main() -> None:
    """Measures and prints."""
    chosen = options(__doc__ or "", seconds=2, rounds=7)
    show(measure(chosen.seconds, chosen.rounds), chosen.json)


if __name__ == "__main__":
    main()
