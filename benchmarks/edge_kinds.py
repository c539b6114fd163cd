"""What is no plain hit of some KB, against nginx and Varnish: hits of 1 MB, misses, 304s, single ranges; CPU time
per request, in turn.

wrk on keep-alive connections; the server has core 0, load and origin core 1. All write their hits down, Varnish in
shared memory. Misses are of 10 KB, each of a URL of its own, and the origin keeps its connections too.
"""

from pathlib import Path
from typing import NamedTuple

from measure import LINES, WARM_S, Case, Load, Server, cpu_cases, in_turn, options, progress, require, show, wrk
from rivals import SENDFILE_OFF, SENDFILE_ON, Client, stage, times_asked

SCRIPT = Path(__file__).with_name("answered.lua")
SIZE_BYTES = 10 * 1024


class Kind(NamedTuple):
    """Requests of one kind; ``target`` as answered.lua has it."""

    name: str
    target: str
    header: str
    status: int
    body_bytes: int
    goals: dict[str, str]
    sendfile: str = SENDFILE_OFF
    """nginx's, as is best for it."""


KINDS = (
    Kind(
        "hit of 1 MB", f"/size/{1 << 20}", "", 200, 1 << 20, {"nginx": "<= 1.0", "varnish": "<= 1.0"}, SENDFILE_ON
    ),
    Kind(
        "miss, 10 KB, kept connections to the origin",
        f"/size/{SIZE_BYTES}?#",
        "",
        200,
        SIZE_BYTES,
        {"nginx": "<= 1.2"},
    ),
    Kind("304", f"/size/{SIZE_BYTES}", f'If-None-Match: "{SIZE_BYTES:x}-5f3e"', 304, 0, {"nginx": "<= 0.75"}),
    Kind(
        "single range, 1 KB of 10 KB",
        f"/size/{SIZE_BYTES}",
        "Range: bytes=1024-2047",
        206,
        1024,
        {"nginx": "<= 0.75"},
    ),
)


def prepare(server: Server, kind: Kind) -> None:
    """Stores the object, if it is to be hit, and sees that the server answers as it should."""
    client = Client(server)
    headers = (*LINES, kind.header) if kind.header else LINES
    client.get(kind.target.replace("#", "first"), 200, LINES)
    body = client.get(kind.target.replace("#", "second"), kind.status, headers)
    if body != b"x" * kind.body_bytes:
        raise SystemExit(f"{server.name} does not answer with the object")


def measure_kind(kind: Kind, network: str, seconds: float, rounds: int) -> list[Case]:
    """One kind, all servers in turn."""
    headers = (*LINES, kind.header) if kind.header else LINES

    def load(server: Server, number: int) -> Load:
        before = times_asked(origin)
        found = wrk(server, SCRIPT, (kind.target, str(number)), seconds, headers)
        if (times_asked(origin) > before) != ("#" in kind.target):
            raise SystemExit(f"{kind.name}, {server.name}: hits and misses are not as they should be")
        return found

    with stage(network, tuple(kind.goals), sendfile=kind.sendfile) as (origin, servers):
        for server in servers:
            prepare(server, kind)
            wrk(server, SCRIPT, (kind.target, "warm"), WARM_S, headers)
        return cpu_cases(f"HTTP/1.1, {kind.name}", in_turn(kind.name, servers, rounds, load), kind.goals)


def measure(seconds: float, rounds: int, only: str = "") -> list[Case]:
    """All kinds, or those whose names contain ``only``."""
    require("wrk", "wrk")
    cases = []
    for number, kind in enumerate(KINDS):
        if only in kind.name:
            progress(kind.name)
            cases += measure_kind(kind, f"127.{50 + number}", seconds, rounds)
    return cases


def main() -> None:
    """Measures and prints."""
    chosen = options(__doc__ or "", seconds=4, rounds=5, only=True)
    show(measure(chosen.seconds, chosen.rounds, chosen.only), chosen.json)


if __name__ == "__main__":
    main()
