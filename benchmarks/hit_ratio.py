"""Hit ratios of the memory store's policy and of others, on request traces, by size of the cache.

    python benchmarks/hit_ratio.py [--quick] [--json] [--plot docs/cache-hit-ratio.svg]

The others are libcachesim's (a C library), each with its defaults. The bound is PFOO-L (Berger et al., SIGMETRICS
2018): no policy hits more, and usually none can hit as much. Every policy sees the size of the body alone.
"""

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from measure import Case, case, progress, show
from numpy.typing import NDArray

from nearmile.cache.entry import Entry
from nearmile.cache.eviction import HIT
from nearmile.cache.policy import Storable
from nearmile.cache.trial import Optimise, adaptive

try:
    import libcachesim
except ImportError:
    sys.exit("libcachesim is missing, the peers' policies: .venv/bin/pip install -c constraints.txt -e '.[bench]'")

TRACES = Path(__file__).parents[2] / "shared" / "data" / "traces"
SHARES = (0.001, 0.01, 0.1)
METRICS: tuple[Optimise, ...] = ("objects", "bytes")
KEPT = Storable(200, 0.0, 1.0, 0, 0, False, False, (), None, None, 0)
# libcachesim's binary format; ``next`` is the place of the object's next request, -1 for none.
RECORD = np.dtype([("time_s", "<u4"), ("object", "<u8"), ("size_bytes", "<u4"), ("next", "<i8")])

PEERS: dict[str, Callable[[int], libcachesim.CacheBase]] = {
    "LRU": lambda size: libcachesim.LRU(size),
    "ARC": lambda size: libcachesim.ARC(size),
    "SIEVE": lambda size: libcachesim.Sieve(size),
    "S3-FIFO": lambda size: libcachesim.S3FIFO(size),
    "W-TinyLFU": lambda size: libcachesim.WTinyLFU(size),
    "AdaptSize": lambda size: libcachesim.LRU(size, admissioner=libcachesim.AdaptSizeAdmissioner()),
    "second hit": lambda size: libcachesim.LRU(size, admissioner=libcachesim.BloomFilterAdmissioner()),
    "GDSF": lambda size: libcachesim.GDSF(size),
}


class Trace(NamedTuple):
    """Requests in order; a record each."""

    name: str
    records: NDArray[np.void]

    @property
    def distinct_bytes(self) -> int:
        _, first = np.unique(self.records["object"], return_index=True)
        return int(self.records["size_bytes"][first].sum(dtype=np.uint64))


class Ratios(NamedTuple):
    """Hits by requests, and bytes of hits by bytes requested."""

    objects: float
    bytes: float


class Row(NamedTuple):
    """One trace with one size of cache. ``ours`` and ``inserted`` (bytes, by LRU's) are by what was optimised."""

    trace: str
    share: float
    others: dict[str, Ratios]
    bound: Ratios
    ours: dict[Optimise, Ratios]
    inserted: dict[Optimise, float]
    miss_us: float


def traces(quick: bool) -> Iterator[Trace]:
    """The real ones; one made up where they are not."""
    paths = sorted(TRACES.glob("*.npz"))
    count = 150_000 if quick else None
    for path in paths:
        with np.load(path) as arrays:
            yield trace_of(path.stem, arrays["object"][:count], arrays["size_bytes"][:count])
    if not paths:
        progress(f"no traces in {TRACES}: a made-up one instead (Zipf 0.9, sizes log-normal, nothing changes)")
        random = np.random.default_rng(1)
        weights = 1 / np.arange(1, 50_001) ** 0.9
        objects = random.choice(len(weights), count or 500_000, p=weights / weights.sum())
        yield trace_of("zipf", objects, random.lognormal(9.5, 1.5, len(weights)).astype(np.uint32)[objects] + 1)


def trace_of(name: str, objects: NDArray[np.integer], size_bytes: NDArray[np.integer]) -> Trace:
    records = np.zeros(len(objects), RECORD)
    order = np.argsort(objects, kind="stable")
    again = objects[order][1:] == objects[order][:-1]
    following = np.full(len(objects), -1)
    following[order[:-1][again]] = order[1:][again]
    records["object"], records["size_bytes"], records["next"] = (
        objects.astype(np.uint64) + 1,
        size_bytes,
        following,
    )
    return Trace(name, records)


def bound_of(trace: Trace, capacity_bytes: int) -> Ratios:
    """PFOO-L: keep from one request to the next where that takes least space and time, until all is used."""
    records = trace.records
    size_bytes = records["size_bytes"].astype(float)
    hit = (records["next"] >= 0) & (size_bytes <= capacity_bytes)
    wait = (records["next"] - np.arange(len(records)))[hit].astype(float)
    room = float(capacity_bytes) * len(records)
    ratios = []
    for worth in (np.ones(len(records)), size_bytes):
        order = np.argsort(wait * size_bytes[hit] / worth[hit])
        fits = np.searchsorted(np.cumsum((wait * size_bytes[hit])[order]), room)
        ratios.append(float(worth[hit][order][:fits].sum() / worth.sum()))
    return Ratios(*ratios)


def ours(trace: Trace, capacity_bytes: int, optimise: Optimise) -> tuple[Ratios, int, float]:
    """The ratios, the bytes inserted, and the seconds of CPU time."""
    policy = adaptive(capacity_bytes, optimise)
    inside: dict[int, Entry] = {}
    used_bytes = hits = hit_bytes = inserted_bytes = 0
    started_s = time.process_time()
    for name, size_bytes in zip(
        trace.records["object"].tolist(), trace.records["size_bytes"].tolist(), strict=True
    ):
        found = inside.get(name)
        if found is not None:
            policy.level += HIT
            found.visited = policy.level
            hits += 1
            hit_bytes += size_bytes
        elif size_bytes <= capacity_bytes:
            inside[name] = entry = Entry(name.to_bytes(4, "big"), b"", KEPT, b"", b"", size_bytes)
            policy.insert(entry)
            used_bytes += size_bytes
            inserted_bytes += size_bytes
            while used_bytes > capacity_bytes:
                victim = policy.victim()
                policy.remove(victim)
                used_bytes -= victim.size_bytes
                inserted_bytes -= size_bytes if victim is entry else 0
                del inside[int.from_bytes(victim.key, "big")]
    took_s = time.process_time() - started_s
    asked_bytes = int(trace.records["size_bytes"].sum(dtype=np.uint64))
    return Ratios(hits / len(trace.records), hit_bytes / asked_bytes), inserted_bytes, took_s


def measure_all(quick: bool) -> Iterator[Row]:
    for trace in traces(quick):
        with tempfile.NamedTemporaryFile() as file:
            trace.records.tofile(file.name)
            for share in SHARES[1:2] if quick else SHARES:
                progress(f"{trace.name}, {share:.1%} of {trace.distinct_bytes / 1e9:.1f} GB")
                yield measure(trace, share, file.name)


def measure(trace: Trace, share: float, path: str) -> Row:
    capacity_bytes = int(trace.distinct_bytes * share)
    others = {}
    for name, make in PEERS.items():
        reader = libcachesim.TraceReader(path, trace_type=libcachesim.TraceType.ORACLE_GENERAL_TRACE)
        missed, missed_bytes = make(capacity_bytes).process_trace(reader)
        others[name] = Ratios(1 - missed, 1 - missed_bytes)
    asked = trace.records["size_bytes"].astype(float)
    # All that LRU misses it inserts, except what is larger than the cache.
    lru_bytes = (1 - others["LRU"].bytes) * asked.sum() - asked[asked > capacity_bytes].sum()
    mine: dict[Optimise, Ratios] = {}
    inserted: dict[Optimise, float] = {}
    miss_us = 0.0
    for metric in METRICS:
        mine[metric], inserted_bytes, took_s = ours(trace, capacity_bytes, metric)
        inserted[metric] = inserted_bytes / lru_bytes
        miss_us = max(miss_us, 1e6 * took_s / (len(trace.records) * (1 - mine[metric].objects)))
    return Row(trace.name, share, others, bound_of(trace, capacity_bytes), mine, inserted, miss_us)


def cases_of(row: Row) -> Iterator[Case]:
    for metric in METRICS:
        nearmile = getattr(row.ours[metric], metric)
        peer = max(getattr(ratios, metric) for ratios in row.others.values())
        title = f"{row.trace}, {row.share:.1%}, hits of {metric}"
        yield case(title, [nearmile], [peer], "share", "1.0 or more")


def table(rows: list[Row]) -> str:
    """In Markdown: all policies, then what ours costs."""
    lines = []
    for metric in METRICS:
        head = [f"hits of {metric}, %", *PEERS, "**nearmile**", "bound", "of the gap LRU to bound"]
        lines += ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
        for row in rows:
            mine, lru = getattr(row.ours[metric], metric), getattr(row.others["LRU"], metric)
            bound = getattr(row.bound, metric)
            closed = f"{(mine - lru) / (bound - lru):.0%}" if bound - lru > 0.001 else "(no gap)"
            cells = [f"{100 * getattr(ratios, metric):.2f}" for ratios in row.others.values()]
            cells += [f"**{100 * mine:.2f}**", f"{100 * bound:.2f}", closed]
            lines.append(f"| {row.trace} {row.share:.1%} | " + " | ".join(cells) + " |")
        lines.append("")
    lines += ["| | inserted, of LRU's bytes: for objects | for bytes | us a miss, at most |", "|---|---|---|---|"]
    for row in rows:
        of = row.inserted
        lines.append(
            f"| {row.trace} {row.share:.1%} | {of['objects']:.2f} | {of['bytes']:.2f} | {row.miss_us:.1f} |"
        )
    return "\n".join(lines)


def plot(rows: list[Row]) -> str:
    """An SVG: a column for each trace and size; grey the others, blue LRU, black the bound, red ours."""
    step, high, left = 84, 220, 50
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + step * len(rows) + 10} {2 * high + 90}" '
        'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="white"/>'
        f'<text x="{left}" y="14">red: nearmile; blue: LRU; grey: the other policies; black: offline bound</text>'
    ]
    for number, metric in enumerate(METRICS):
        foot = 30 + high + number * (high + 25)
        for percent in (0, 25, 50, 75, 100):
            y = foot - percent * (high - 20) / 100
            parts.append(f'<path d="M{left} {y:.1f}H{left + step * len(rows)}" stroke="#ddd"/>')
            parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{percent} %</text>')
        parts.append(f'<text x="{left + 4}" y="{foot - high + 16}">hits of {metric}</text>')
        for column, row in enumerate(rows):
            x = left + step * (column + 0.5)
            marks = [(row.bound, "black", 18), *((each, "#aaa", 10) for each in row.others.values())]
            marks += [(row.others["LRU"], "#36c", 12), (row.ours[metric], "#d22", 14)]
            for ratios, colour, half in marks:
                y = foot - getattr(ratios, metric) * (high - 20)
                parts.append(f'<path d="M{x - half} {y:.1f}h{2 * half}" stroke="{colour}" stroke-width="2"/>')
    for column, row in enumerate(rows):
        x, y = left + step * (column + 0.5), 2 * high + 70
        parts.append(f'<text x="{x}" y="{y}" text-anchor="middle">{row.trace}</text>')
        parts.append(f'<text x="{x}" y="{y + 14}" text-anchor="middle">{row.share:.1%}</text>')
    return "\n".join([*parts, "</svg>\n"])


@contextlib.contextmanager
def standard_output_for_us() -> Iterator[None]:
    """The C library prints remarks on standard output; here they go to standard error."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="150,000 requests of each trace, one size")
    parser.add_argument("--json", action="store_true", help="cases, each against the best of the others")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="writes an SVG")
    arguments = parser.parse_args()
    with standard_output_for_us():
        rows = list(measure_all(arguments.quick))
    if arguments.plot:
        arguments.plot.write_text(plot(rows))
    if arguments.json:
        show([case for row in rows for case in cases_of(row)], True)
    else:
        print(table(rows))


if __name__ == "__main__":
    main()
