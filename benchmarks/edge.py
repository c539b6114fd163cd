"""Hits of an edge server against nginx's proxy cache: CPU time per request, requests/s and p99, in turn.

5,000 objects (log-normal sizes, median about 6 KB), chosen by Zipf(0.9), asked for with a browser's headers by
wrk on keep-alive connections. The server has core 0, load and origin core 1. nearmile runs as in a network (its
own process, hits written to the journal), without the bus; nginx writes its access log, buffered.
"""

import http.client
import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from edge_origin import COUNT
from measure import (
    LOAD_CORE,
    SERVER_CORE,
    Case,
    case,
    cpu_s,
    options,
    progress,
    require,
    running,
    show,
    wait_for_port,
)
from rivals import HOST, edge_command, edge_config, nginx_command, origin_command, text, times_asked

from nearmile.config.network import Edge

HERE = Path(__file__).parent
CONNECTIONS = 64
ORIGIN, NGINX, NEARMILE = ("127.31.201.1", 8100), ("127.31.202.1", 8080), ("127.31.203.1", 8080)


def fetch_all(address: tuple[str, int]) -> None:
    """Every object once, so that all is cached."""
    connection = http.client.HTTPConnection(*address)
    for number in range(COUNT):
        connection.request("GET", f"/{number}", headers={"Host": HOST, "Accept-Encoding": "gzip"})
        response = connection.getresponse()
        response.read()
        if response.status != 200:
            sys.exit(f"{address} answered {response.status} for object {number}")
    connection.close()


def load(address: tuple[str, int], pid: int, seconds: float, seed: int) -> tuple[float, float, float]:
    """One measurement: CPU us per request, requests/s, p99 in ms."""
    url = f"http://{text(address)}/"
    command = [
        require("wrk", "wrk"),
        "-t1",
        f"-c{CONNECTIONS}",
        f"-d{seconds:g}s",
        "-s",
        str(HERE / "edge.lua"),
        url,
    ]
    before_s = cpu_s(pid)
    result = subprocess.run(
        [*command, "--", str(seed)],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {LOAD_CORE}),
    )
    used_s = cpu_s(pid) - before_s
    figures = json.loads(result.stdout.splitlines()[-1])
    if figures["errors"] or figures["not_2xx"]:
        sys.exit(f"{url} failed some requests: {figures}")
    requests = figures["requests"]
    return used_s / requests * 1e6, requests / figures["duration_s"], figures["p99_ms"]


def measure(seconds: float, rounds: int) -> list[Case]:
    """Both servers, warm, in turn."""
    require("wrk", "wrk")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nearmile-bench-")))
        folder.chmod(0o755)
        servers = []
        config = edge_config(NEARMILE[0], ORIGIN, Edge(http_port=NEARMILE[1], memory_mb=256))
        (folder / "nginx").mkdir()
        (folder / "nearmile").mkdir()
        stack.enter_context(running(origin_command(ORIGIN), LOAD_CORE, folder / "origin.log"))
        wait_for_port(*ORIGIN, folder / "origin.log")
        for name, address, command in (
            ("nearmile", NEARMILE, edge_command(folder / "nearmile", config)),
            ("nginx", NGINX, nginx_command(folder / "nginx", ORIGIN, text(NGINX))),
        ):
            log = folder / f"{name}.log"
            pid = stack.enter_context(running(command, SERVER_CORE, log))
            wait_for_port(*address, log)
            progress(f"{name}: filling the cache")
            fetch_all(address)
            load(address, pid, 1, 0)
            servers.append((name, address, pid))
        asked = times_asked(ORIGIN)
        figures: dict[str, list[tuple[float, float, float]]] = {"nearmile": [], "nginx": []}
        for number in range(rounds):
            for name, address, pid in servers if number % 2 else servers[::-1]:
                figures[name].append(load(address, pid, seconds, number + 1))
                cpu_us, per_s, p99_ms = figures[name][-1]
                progress(
                    f"round {number + 1}, {name}: {cpu_us:.1f} us, {per_s:.0f} requests/s, p99 {p99_ms:.2f} ms"
                )
        if times_asked(ORIGIN) != asked:
            sys.exit("not all requests were hits: the origin was asked during the measurement")
    mine, theirs = (
        [list(column) for column in zip(*figures[name], strict=True)] for name in ("nearmile", "nginx")
    )
    name = "HTTP/1.1 hit, mixed objects, hits logged"
    return [
        case(f"{name}: CPU per request", mine[0], theirs[0], "us", "< 1.0"),
        case(f"{name}: rate", mine[1], theirs[1], "1/s", "> 1.0"),
        case(f"{name}: p99", mine[2], theirs[2], "ms", "< 1.0"),
    ]


def main() -> None:
    """Measures and prints."""
    chosen = options(__doc__ or "", seconds=4, rounds=5)
    show(measure(chosen.seconds, chosen.rounds), chosen.json)


if __name__ == "__main__":
    main()
