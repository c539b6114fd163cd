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
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import TypedDict

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
SERVER_CORE, LOAD_CORE = 0, 1


class Case(TypedDict):
    """One line of a benchmark's result. ``ratio`` is nearmile's figure divided by the peer's."""

    case: str
    nearmile: float
    peer: float
    unit: str
    ratio: float
    goal: str


def case(name: str, nearmile: list[float], peer: list[float], unit: str, goal: str) -> Case:
    """A case from alternate rounds: medians, and the median of the rounds' ratios."""
    return {
        "case": name,
        "nearmile": round(median(nearmile), 3),
        "peer": round(median(peer), 3),
        "unit": unit,
        "ratio": round(median(mine / theirs for mine, theirs in zip(nearmile, peer, strict=True)), 3),
        "goal": goal,
    }


def show(cases: list[Case], as_json: bool) -> None:
    """Prints what was measured."""
    if as_json:
        print(json.dumps({"cases": cases}))
        return
    print(f"{'case':<44} {'nearmile':>10} {'peer':>10} {'unit':<8} {'ratio':>6}  goal")
    for one in cases:
        print(
            f"{one['case']:<44} {one['nearmile']:>10.6g} {one['peer']:>10.6g} {one['unit']:<8} "
            f"{one['ratio']:>6.2f}  {one['goal']}"
        )


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
    """User and system time of a process and its present children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    total = 0.0
    for one in [str(pid), *children]:
        with contextlib.suppress(FileNotFoundError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / TICKS_PER_S
    return total


@contextlib.contextmanager
def running(command: list[str], core: int, log: Path) -> Iterator[int]:
    """Runs a process on one core; it is ended at the end."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, preexec_fn=lambda: os.sched_setaffinity(0, {core})
        )
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


def options(description: str, seconds: float, rounds: int) -> argparse.Namespace:
    """The options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--seconds", type=float, default=seconds, help="length of one measurement")
    parser.add_argument("--rounds", type=int, default=rounds, help="how often the two take turns")
    return parser.parse_args()
