"""What reaches the disk, against a plain LRU cache of the same size that writes each miss.

    python benchmarks/disk_writes.py [--json] [--requests 300000]

The memory store over the disk's index, with no files: every byte that they would append to one on disk counts,
of new records and of copies. What is appended to the log does not, as that is in memory; nor does a file that is
deleted within 30 s of its first byte, on the trace's own clock: the kernel writes nothing before that
(vm.dirty_expire_centisecs). Both are filled by the first half of the requests and measured in the second. Memory
is a 16th of the disk, as it is by default, and the log as much again. Large objects are stored in slices,
as the edge does, by both.
"""

import argparse
import sys
from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple, cast

import numpy as np
from hit_ratio import KEPT, SHARES, TRACES
from measure import Case, case, progress, show
from numpy.typing import NDArray

from nearmile.cache.directives import Fields
from nearmile.cache.entry import Entry
from nearmile.cache.key import object_key, site_of
from nearmile.cache.purge import Position
from nearmile.cache.slices import SLICE_BYTES
from nearmile.cache.store import MemoryStore
from nearmile.cache.tier.index import Copy, Index, Unlink, on_disk
from nearmile.cache.tier.places import Place
from nearmile.cache.tier.record import object_name

SITE, MEMORY_SHARE, EXPIRE_S, HEAD_BYTES = 1, 1 / 16, 30.0, 400
SLICES_MAX = 4_096  # traces have no larger objects than 4 GB


class Requests(NamedTuple):
    """Of a trace."""

    objects: NDArray[np.uint64]
    size_bytes: NDArray[np.uint32]
    time_s: NDArray[np.float32]


class Run(NamedTuple):
    """Of the second half."""

    hit_share: float
    """Of the bytes."""
    written_bytes: float


class Body:
    """So many bytes, without them."""

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes

    def __len__(self) -> int:
        return self._size_bytes


class Disk:
    """What the memory store is told, and the sizes of the files that there would be."""

    def __init__(self, capacity_bytes: int, log_bytes: int) -> None:
        self.index = Index(capacity_bytes, log_bytes)
        self.now_s = 0.0
        self.written_bytes = 0
        self._files: dict[int, tuple[float, int]] = {}

    @property
    def working(self) -> bool:
        return True

    def vary(self, key: bytes) -> tuple[bytes, ...]:
        return ()

    async def find(self, key: bytes, fields: Fields) -> Entry | None:
        return None

    def put(self, entry: Entry, names: tuple[bytes, ...], in_memory: bool) -> None:
        name, length = object_name(entry.key), len(entry.body) + HEAD_BYTES
        place = self.index.put(name, name, names, length, in_memory, site_of(entry.key))
        if place is not None:
            self._append(place)
        self.obey()

    def left(self, entry: Entry) -> None:
        self.index.left(object_name(entry.key), entry.visited != 0)

    def delete(self, key: bytes, variant: bytes) -> None:
        self.index.remove(object_name(key))

    def mark(self, mark: bytes, soft_at_s: float | None) -> int:
        return 0

    def reached(self, position: Position) -> None:
        pass

    def weigh(self, weights: Mapping[int, int]) -> None:
        self.index.shares.weigh(weights)

    def obey(self) -> None:
        for command in self.index.take_commands():
            if isinstance(command, Copy):
                self._append(command.target)
            elif isinstance(command, Unlink):
                born_s, size_bytes = self._files.pop(command.segment, (self.now_s, 0))
                if self.now_s - born_s < EXPIRE_S:
                    self.written_bytes -= size_bytes

    def _append(self, place: Place) -> None:
        if not on_disk(place.segment):
            return
        born_s, size_bytes = self._files.get(place.segment, (self.now_s, 0))
        self._files[place.segment] = born_s, size_bytes + place.length
        self.written_bytes += place.length


def tiers(requests: Requests, capacity_bytes: int) -> Run:
    """Ours."""
    memory_bytes = int(capacity_bytes * MEMORY_SHARE)
    memory, disk = MemoryStore(memory_bytes), Disk(capacity_bytes, memory_bytes)
    memory.below = disk
    half, hit_bytes, before_bytes = len(requests.objects) // 2, 0, 0
    for number, (one, size_bytes, now_s) in enumerate(zip(*(each.tolist() for each in requests), strict=True)):
        if number == half:
            hit_bytes, before_bytes = 0, disk.written_bytes
        key, body = object_key(SITE, b"/%d" % one), cast(bytes, Body(size_bytes))
        name = object_name(key)
        if memory.get(key, ()) is not None:
            hit_bytes += size_bytes
        elif disk.index.place(name) is not None:
            hit_bytes += size_bytes
            disk.index.hit(name, memory.restore(key, (), b"", KEPT, b"", body) is not None)
        else:
            disk.now_s = now_s
            memory.put(key, (), KEPT, b"", body, 0)
    asked_bytes = float(requests.size_bytes[half:].sum(dtype=np.uint64))
    return Run(hit_bytes / asked_bytes, disk.written_bytes - before_bytes)


def lru(requests: Requests, capacity_bytes: int) -> Run:
    """The plain one."""
    stored: OrderedDict[int, int] = OrderedDict()
    half, hit_bytes, written_bytes, used_bytes = len(requests.objects) // 2, 0, 0, 0
    pairs = zip(requests.objects.tolist(), requests.size_bytes.tolist(), strict=True)
    for number, (one, size_bytes) in enumerate(pairs):
        if number == half:
            hit_bytes = written_bytes = 0
        if one in stored:
            stored.move_to_end(one)
            hit_bytes += size_bytes
        elif size_bytes + HEAD_BYTES <= capacity_bytes:
            stored[one] = size_bytes + HEAD_BYTES
            used_bytes += size_bytes + HEAD_BYTES
            written_bytes += size_bytes + HEAD_BYTES
            while used_bytes > capacity_bytes:
                used_bytes -= stored.popitem(last=False)[1]
    asked_bytes = float(requests.size_bytes[half:].sum(dtype=np.uint64))
    return Run(hit_bytes / asked_bytes, written_bytes)


def sliced(requests: Requests) -> Requests:
    """A request for each slice of a large object."""
    size_bytes = requests.size_bytes.astype(np.int64)
    slices = np.maximum(1, -(-size_bytes // SLICE_BYTES))
    whole = np.repeat(np.arange(len(slices)), slices)
    number = np.arange(len(whole)) - np.repeat(np.cumsum(slices) - slices, slices)
    return Requests(
        requests.objects[whole].astype(np.uint64) * SLICES_MAX + number.astype(np.uint64),
        np.minimum(size_bytes[whole] - number * SLICE_BYTES, SLICE_BYTES).astype(np.uint32),
        requests.time_s[whole],
    )


def measure(name: str, requests: Requests, share: float) -> list[Case]:
    _, first = np.unique(requests.objects, return_index=True)
    distinct_bytes = int(requests.size_bytes[first].sum(dtype=np.uint64))
    progress(f"{name}, {share:.1%} of {distinct_bytes / 1e9:.1f} GB")
    mine, plain = (run(requests, int(distinct_bytes * share)) for run in (tiers, lru))
    figures = (
        ("bytes written", "GB", mine.written_bytes / 1e9, plain.written_bytes / 1e9, "0.4 or less"),
        ("hits of bytes", "share", mine.hit_share, plain.hit_share, "1.0 or more"),
    )
    return [
        case(f"{name}, {share:.1%}, {what}", [ours], [theirs], unit, goal)
        for what, unit, ours, theirs, goal in figures
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="cases instead of a table")
    parser.add_argument("--requests", type=int, default=300_000, help="so many of each trace")
    arguments = parser.parse_args()
    cases: list[Case] = []
    for path in sorted(TRACES.glob("*.npz")):
        with np.load(path) as arrays:
            fields = (arrays[field][: arguments.requests] for field in ("object", "size_bytes", "time_s"))
            requests = sliced(Requests(*fields))
        for share in SHARES[1:]:
            cases += measure(path.stem, requests, share)
    if not cases:
        sys.exit(f"no traces in {TRACES}")
    show(cases, arguments.json)


if __name__ == "__main__":
    main()
