"""What every benchmark here needs: processes on cores of their own, CPU time, a table or JSON of the results."""

import argparse
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple, TypedDict

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
SERVER_CORE, LOAD_CORE = 0, 1
CONNECTIONS = 64
WARM_S = 1.0
HOST = "www.bench.test"
# All that a browser says whose user follows a link, as some servers have more work with each field than others.
BROWSER = {
    "sec-ch-ua": '"Chromium";v="130", "Google Chrome";v="130", "Not?A_Brand";v="99"',
    "sec-ch-ua-mobile": "?0",
    "sec-ch-ua-platform": '"Linux"',
    "Upgrade-Insecure-Requests": "1",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 "
    "Safari/537.36",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,"
    "application/signed-exchange;v=b3;q=0.7",
    "Sec-Fetch-Site": "same-origin",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-User": "?1",
    "Sec-Fetch-Dest": "document",
    "Referer": f"https://{HOST}/index.html",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Accept-Language": "en-US,en;q=0.9",
}
FIELDS = tuple(f"{name}: {value}" for name, value in BROWSER.items())
# The same with what HTTP/1.1 has besides.
LINES = (f"Host: {HOST}", "Connection: keep-alive", *FIELDS)


class Server(NamedTuple):
    """A server that runs and can be measured."""

    name: str
    address: tuple[str, int]
    pid: int


class Load(NamedTuple):
    """What one measurement of one server found."""

    cpu_us: float
    """CPU time of the server per request."""
    per_s: float
    latency_us: float = 0.0
    """Mean, where it was measured."""


class Case(TypedDict):
    """One line of a benchmark's result. ``ratio`` is nearmile's figure divided by the peer's; None without one."""

    case: str
    nearmile: float
    peer: float | None
    unit: str
    ratio: float | None
    goal: str


def case(name: str, nearmile: list[float], peer: list[float], unit: str, goal: str) -> Case:
    """A case from alternate rounds: medians, and the median of the rounds' ratios. ``peer`` may be empty, or 0."""
    ratios = [mine / theirs for mine, theirs in zip(nearmile, peer, strict=True)] if peer and all(peer) else []
    return {
        "case": name,
        "nearmile": round(median(nearmile), 4),
        "peer": round(median(peer), 4) if peer else None,
        "unit": unit,
        "ratio": round(median(ratios), 4) if ratios else None,
        "goal": goal,
    }


def in_turn(
    title: str, servers: Sequence[Server], rounds: int, load: Callable[[Server, int], Load]
) -> dict[str, list[Load]]:
    """Measures each server in each round, the first one first in every other; ``load`` is told the round."""
    found: dict[str, list[Load]] = {server.name: [] for server in servers}
    for number in range(rounds):
        for server in servers if number % 2 else servers[::-1]:
            found[server.name].append(one := load(server, number + 1))
            progress(f"{title}, {server.name}: {one.cpu_us:.1f} us, {one.per_s:.0f} requests/s")
    return found


def cpu_cases(title: str, found: dict[str, list[Load]], goals: dict[str, str]) -> list[Case]:
    """nearmile's CPU time per request beside that of each peer for which there is a goal."""
    cpu_us = {name: [one.cpu_us for one in loads] for name, loads in found.items()}
    return [
        case(f"{title}: CPU per request, {peer}", cpu_us["nearmile"], cpu_us[peer], "us", goal)
        for peer, goal in goals.items()
    ]


def wrk(
    server: Server, script: Path, arguments: Sequence[str], seconds: float, headers: Sequence[str] = ()
) -> Load:
    """One measurement with wrk, on kept connections; ends where a request failed. ``script`` has to say how many
    were answered, as benchmarks/answered.lua does."""
    fields = [part for header in headers for part in ("-H", header)]
    url = f"http://{server.address[0]}:{server.address[1]}/"
    command = [
        require("wrk", "wrk"),
        "-t1",
        f"-c{CONNECTIONS}",
        f"-d{seconds:.0f}s",
        "-s",
        str(script),
        *fields,
        url,
    ]
    before_s = cpu_s(server.pid)
    result = subprocess.run(
        [*command, "--", *arguments], capture_output=True, text=True, check=True, preexec_fn=on_load_core
    )
    used_s = cpu_s(server.pid) - before_s
    figures = json.loads(result.stdout.splitlines()[-1])
    if figures["errors"] or not figures["requests"]:
        sys.exit(f"{server.name} failed some requests: {figures}")
    return Load(used_s / figures["requests"] * 1e6, figures["requests"] / figures["duration_s"])


def on_load_core() -> None:
    """For a process about to run: the core of the load."""
    os.sched_setaffinity(0, {LOAD_CORE})


def show(cases: list[Case], as_json: bool) -> None:
    """Prints what was measured."""
    if as_json:
        print(json.dumps({"cases": cases}))
        return
    print(f"{'case':<72} {'nearmile':>10} {'peer':>10} {'unit':<8} {'ratio':>6}  goal")
    for one in cases:
        peer = "-" if one["peer"] is None else f"{one['peer']:.6g}"
        ratio = "-" if one["ratio"] is None else f"{one['ratio']:.2f}"
        print(f"{one['case']:<72} {one['nearmile']:>10.6g} {peer:>10} {one['unit']:<8} {ratio:>6}  {one['goal']}")


def progress(text: str) -> None:
    """One line on standard error."""
    print(text, file=sys.stderr, flush=True)


def require(program: str, package: str) -> str:
    """The program's path; ends with a clear message where it is not installed."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if path is None:
        sys.exit(f"this benchmark needs {program}: apt install {package}")
    return path


def cpu_s(pid: int) -> float:
    """CPU time of a process and its present children."""
    return sum(cpu_parts_s(pid))


def cpu_parts_s(pid: int) -> tuple[float, float]:
    """The same, outside of the kernel and in it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    user_s = system_s = 0.0
    for one in [str(pid), *children]:
        with contextlib.suppress(FileNotFoundError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            user_s += int(fields[11]) / TICKS_PER_S
            system_s += int(fields[12]) / TICKS_PER_S
    return user_s, system_s


@contextlib.contextmanager
def running(command: list[str], core: int, log: Path, alone: bool = False) -> Iterator[int]:
    """Runs a process on one core; it is ended at the end. ``alone``: before all others there, where allowed."""

    def begin() -> None:
        os.sched_setaffinity(0, {core})
        with contextlib.suppress(PermissionError):
            if alone:
                os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(os.sched_get_priority_min(os.SCHED_FIFO)))

    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, preexec_fn=begin)
        try:
            yield process.pid
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for_port(host: str, port: int, log: Path, timeout_s: float = 15.0) -> None:
    """Returns when somebody listens; ends with the process's own words where nobody does."""
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s:
        with contextlib.suppress(OSError), socket.create_connection((host, port), 1):
            return
        time.sleep(0.05)
    sys.exit(f"nobody listens on {host}:{port}:\n{log.read_text()[-2000:]}")


def options(
    description: str, seconds: float, rounds: int, only: bool = False, plot: bool = False, nginx: bool = False
) -> argparse.Namespace:
    """The options that all benchmarks have; ``only``: one of several cases can be chosen; ``plot``: it draws;
    ``nginx``: which one may be said."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--seconds", type=float, default=seconds, help="length of one measurement (wrk: whole seconds)"
    )
    parser.add_argument("--rounds", type=int, default=rounds, help="how often the two take turns")
    if only:
        parser.add_argument("--only", default="", metavar="TEXT", help="the cases with this in their name alone")
    if nginx:
        parser.add_argument("--nginx", metavar="PATH", help="the nginx to compare with")
    if plot:
        parser.add_argument("--plot", metavar="FILE", help="writes an SVG")
    return parser.parse_args()
