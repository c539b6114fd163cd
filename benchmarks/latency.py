"""How long hits take at 70 % of each server's own peak, against nginx and Varnish: the 99th percentile, in turn.

The objects are those of edge.py, the load is open_load.py's: at times of its own, counted from when each request
was due. A server's peak is what it answers when all is due at once. The server has core 0, load and origin core 1,
which may be the slower: then the peak is of both together, and the server is less busy than 70 %.
"""

import json
import subprocess
import sys
from pathlib import Path
from statistics import median

from edge import SCRIPT, fetch_all
from measure import WARM_S, Case, Server, case, on_load_core, options, progress, require, show, wrk
from rivals import stage, times_asked

GOALS = {"nginx": "<= 1.0", "varnish": "<= 1.0"}
SHARE = 0.7
AT_ONCE_PER_S, AT_ONCE_S = 1e6, 0.03
GENERATOR = Path(__file__).with_name("open_load.py")


def peak_per_s(server: Server, rounds: int) -> float:
    """What it answers when all is due at once."""
    return median(at_rate(server, AT_ONCE_PER_S, AT_ONCE_S, number)["per_s"] for number in range(rounds))


def at_rate(server: Server, rate: float, seconds: float, seed: int) -> dict[str, float]:
    """One run at that rate: rate reached, and percentiles in ms."""
    command = [sys.executable, str(GENERATOR), *map(str, server.address), str(rate), str(seconds), str(seed)]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, preexec_fn=on_load_core)
    found: dict[str, float] = json.loads(result.stdout)
    return found


def measure(seconds: float, rounds: int) -> list[Case]:
    """All servers, warm, in turn."""
    require("wrk", "wrk")
    p99_ms: dict[str, list[float]] = {}
    with stage("127.36", tuple(GOALS)) as (origin, servers):
        rates = {}
        for server in servers:
            fetch_all(server)
            wrk(server, SCRIPT, ("0",), WARM_S)
            rates[server.name] = SHARE * peak_per_s(server, rounds)
            progress(f"{server.name}: {rates[server.name]:.0f} requests/s are {SHARE:.0%} of its peak")
        asked = times_asked(origin)
        for number in range(rounds):
            for server in servers if number % 2 else servers[::-1]:
                found = at_rate(server, rates[server.name], seconds, number)
                p99_ms.setdefault(server.name, []).append(found["p99_ms"])
                progress(
                    f"{server.name}: {found['per_s']:.0f} requests/s, p50 {found['p50_ms']:.3f} ms, "
                    f"p99 {found['p99_ms']:.3f} ms, p99.9 {found['p999_ms']:.3f} ms"
                )
        if times_asked(origin) != asked:
            sys.exit("not all requests were hits: the origin was asked during the measurement")
    name = f"HTTP/1.1 hit, mixed objects, at {SHARE:.0%} of own peak: p99"
    return [case(f"{name}, {peer}", p99_ms["nearmile"], p99_ms[peer], "ms", goal) for peer, goal in GOALS.items()]


def main() -> None:
    """Measures and prints."""
    chosen = options(__doc__ or "", seconds=4, rounds=5)
    show(measure(chosen.seconds, chosen.rounds), chosen.json)


if __name__ == "__main__":
    main()
