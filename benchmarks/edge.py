"""Hits of an edge server against nginx's proxy cache and Varnish: CPU time per request, in turn.

5,000 objects (log-normal sizes, median about 6 KB), chosen by Zipf(0.9), asked for with a browser's headers by
wrk on keep-alive connections. The server has core 0, load and origin core 1. nearmile runs as in a network (its
own process, hits written to the journal), without the bus; nginx writes its access log, buffered; Varnish's log
stays in shared memory.
"""

from pathlib import Path

from edge_origin import COUNT
from measure import (
    LINES,
    WARM_S,
    Case,
    Load,
    Server,
    cpu_cases,
    in_turn,
    options,
    progress,
    require,
    show,
    wrk,
)
from rivals import Client, hits_alone, stage

SCRIPT = Path(__file__).with_name("edge.lua")
NAME = "HTTP/1.1 hit, mixed objects, hits logged"
GOALS = {"nginx": "<= 0.75", "varnish": "<= 0.5"}


def fetch_all(server: Server) -> None:
    """Every object once, so that all is cached."""
    progress(f"{server.name}: filling the cache")
    client = Client(server)
    for number in range(COUNT):
        client.get(f"/{number}", 200)


def hits(server: Server, seed: int, seconds: float) -> Load:
    """What wrk gets of them."""
    return wrk(server, SCRIPT, (str(seed),), seconds, LINES)


def measure(seconds: float, rounds: int) -> list[Case]:
    """All servers, warm, in turn."""
    require("wrk", "wrk")

    with stage("127.31", tuple(GOALS)) as (origin, servers):
        for server in servers:
            fetch_all(server)
            hits(server, 0, WARM_S)
        with hits_alone(origin):
            found = in_turn(NAME, servers, rounds, lambda server, number: hits(server, number, seconds))
    return cpu_cases(NAME, found, GOALS)


def main() -> None:
    """Measures and prints."""
    chosen = options(__doc__ or "", seconds=4, rounds=5)
    show(measure(chosen.seconds, chosen.rounds), chosen.json)


if __name__ == "__main__":
    main()
