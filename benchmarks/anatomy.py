"""What each microsecond of a hit is spent on: HTTP/1.1, 6 KB from memory, a browser's headers, hits logged.

    python benchmarks/anatomy.py [--json] [--plot docs/speed.svg]

The whole is CPU time per request of a running server under wrk: in the kernel, and outside of it. The hit path,
`Connection.receive`, is called here with a transport that writes nothing, and so is each of its steps by itself;
what is left of the time outside of the kernel is uvloop's, and Python's on the way to the first line.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from timeit import repeat
from types import SimpleNamespace
from typing import Any

from edge_kinds import SCRIPT
from edge_origin import HEAD
from measure import HOST, LINES, WARM_S, case, cpu_parts_s, options, progress, require, show, wrk
from rivals import Client, edge_config, stage

from nearmile.cache.dates import format_date
from nearmile.cache.entry import response_head
from nearmile.cache.policy import decide_store, stored_fields
from nearmile.cache.store import MemoryStore
from nearmile.config.network import Edge
from nearmile.edge.clients.h1server import Connection
from nearmile.edge.clients.rounds import Round
from nearmile.edge.node import Node
from nearmile.edge.visitors import Visitors
from nearmile.http.fields import parse_pairs
from nearmile.reports.disk import Journal

SIZE_BYTES, TARGET = 6000, b"/size/6000"
# So few that the journal has room for all of them.
CALLS, REPEATS = 10_000, 7
ADDRESS = "127.44.203.1"
BAR_WIDTH, BAR_HEIGHT = 900, 46
COLOURS = ("#4c6ef5", "#748ffc", "#91a7ff", "#bac8ff", "#0b7285", "#15aabf", "#66d9e8", "#ffa94d", "#ffd8a8")


def per_call_us(call: Callable[[], object]) -> float:
    """The quickest of several turns, less what calling nothing costs."""
    took_s, nothing_s = (min(repeat(one, number=CALLS, repeat=REPEATS)) for one in (call, lambda: None))
    return max(0.0, took_s - nothing_s) / CALLS * 1e6


class Nowhere:
    """A transport that writes nothing."""

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        """Of asyncio."""

    def get_extra_info(self, name: str) -> tuple[str, int]:
        """Of asyncio."""
        return ("127.0.0.1", 4000)

    def writelines(self, pieces: tuple[bytes, ...]) -> None:
        """Of asyncio."""


def steps(folder: Path) -> dict[str, float]:
    """Microseconds of the hit path's steps, and of all of it under "hit path"."""
    config = edge_config(ADDRESS, ("127.44.201.1", 8100), Edge(memory_mb=64))
    journal = Journal(folder, "bench-1", "bench", 1)
    visitors = Visitors(lambda _: 0)
    nothing: Any = SimpleNamespace(requests=0, opened=lambda _: None, shaken=lambda *_: None, watch=lambda _: None)
    store = MemoryStore(64 << 20)
    node = Node(config.process("bench-1"), nothing, time.time, store, nothing, visitors, journal.record, nothing)
    node.take_config(config)
    site, now_s = node.sites[HOST.encode()], time.time()
    head = HEAD.format(date=format_date(int(now_s)).decode(), size=SIZE_BYTES).encode()
    pairs = parse_pairs(head.partition(b"\r\n")[2][:-2])
    kept = decide_store(b"GET", (), 200, pairs, 0, now_s, now_s)
    assert kept is not None
    key, body = site.prefix + TARGET, b"x" * SIZE_BYTES
    store.put(key, (), kept, response_head(200, stored_fields(pairs, now_s), SIZE_BYTES), body, store.generation)
    lines = "".join(f"{line}\r\n" for line in LINES).encode() + b"\r\n"
    data = b"GET %b HTTP/1.1\r\n%b" % (TARGET, lines)
    nothing.node, nothing.round = node, Round(lambda _: None)
    connection = Connection(nothing)
    connection.connection_made(Nowhere())  # type: ignore[arg-type]
    fields, end = node.memo.parse(lines), data.find(b" HTTP/1.1\r\n")
    entry = store.get(key, fields.pairs)
    assert entry is not None
    born_at_s = kept.born_at_s

    return {
        "request line": per_call_us(
            lambda: (32 in data[4 : data.find(b" HTTP/1.1\r\n", 0)], data.startswith(b"GET /", 0))
        ),
        "find the fields": per_call_us(lambda: len(data) - end == len(lines) + 11 and data.endswith(lines)),
        "find the site": per_call_us(lambda: node.sites.get(fields.host)),
        "find the object": per_call_us(lambda: store.get(site.prefix + TARGET, fields.pairs)),
        "fresh?": per_call_us(lambda: node.now_s() >= entry.fresh_until_s),
        "Age and Via": per_call_us(lambda: b"%bage: %d\r\n%b" % (entry.head, now_s - born_at_s, node.hit_end)),
        "journal": per_call_us(lambda: node.record(int(now_s * 1000), 1, 0, 200, 0, SIZE_BYTES, True)),
        "hit path": per_call_us(lambda: connection.receive(data)),
    }


def measure(seconds: float, rounds: int) -> dict[str, float]:
    """Microseconds by part; they add up to "in all"."""
    require("wrk", "wrk")
    found = []
    with stage("127.44", ()) as (_, (server,)):
        Client(server).get(TARGET.decode(), 200, LINES)
        wrk(server, SCRIPT, (TARGET.decode(),), WARM_S, LINES)
        for _ in range(rounds):
            before = cpu_parts_s(server.pid)
            per_s = wrk(server, SCRIPT, (TARGET.decode(),), seconds, LINES).per_s
            user_s, system_s = (after - then for after, then in zip(cpu_parts_s(server.pid), before, strict=True))
            count = per_s * seconds
            found.append((user_s / count * 1e6, system_s / count * 1e6))
            progress("outside of the kernel {:.1f} us, in it {:.1f} us".format(*found[-1]))
    user_us, kernel_us = (sorted(column)[len(found) // 2] for column in zip(*found, strict=True))
    with tempfile.TemporaryDirectory() as folder:
        parts = steps(Path(folder))
    path_us = parts.pop("hit path")
    parts["rest of the hit path"] = max(0.0, path_us - sum(parts.values()))
    parts["uvloop, calls"] = max(0.0, user_us - path_us)
    parts["kernel: read, write, wait"] = kernel_us
    return parts


def plot(parts: dict[str, float]) -> str:
    """One bar, to scale, with what its parts are below."""
    whole = sum(parts.values())
    out = [
        '<svg xmlns="http://www.w3.org/2000/svg" '
        f'viewBox="0 0 {BAR_WIDTH + 20} {BAR_HEIGHT + 60 + 20 * len(parts)}" '
        'font-family="sans-serif" font-size="13">',
        f'<text x="10" y="20">One hit of 6 KB over HTTP/1.1: {whole:.1f} microseconds of CPU time</text>',
    ]
    at = 10.0
    for number, (name, us) in enumerate(parts.items()):
        width, colour, y = us / whole * BAR_WIDTH, COLOURS[number % len(COLOURS)], BAR_HEIGHT + 56 + 20 * number
        out.append(f'<rect x="{at:.1f}" y="30" width="{width:.1f}" height="{BAR_HEIGHT}" fill="{colour}"/>')
        out.append(f'<rect x="10" y="{y - 10}" width="12" height="12" fill="{colour}"/>')
        out.append(f'<text x="30" y="{y}">{us:.2f} us, {us / whole:.0%}: {name}</text>')
        at += width
    return "\n".join([*out, "</svg>\n"])


def main() -> None:
    """Measures and prints, and draws where that is asked for."""
    chosen = options(__doc__ or "", seconds=2, rounds=3, plot=True)
    parts = measure(round(chosen.seconds), chosen.rounds)
    if chosen.plot:
        Path(chosen.plot).write_text(plot(parts))
    whole = sum(parts.values())
    show([case(f"a hit: {name}", [us], [whole], "us", "") for name, us in parts.items()], chosen.json)


if __name__ == "__main__":
    main()
