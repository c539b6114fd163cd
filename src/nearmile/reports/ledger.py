"""Which segments were counted: for each server and epoch, the runs of sequence numbers that arrived.

Almost always that is one run, from 0 to the latest: a few numbers remember millions of segments, and a hole is a
segment that is late or gone.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple


class Run(NamedTuple):
    """Segments ``first`` to ``last`` of a server's epoch; ``until_ms`` is the latest hit of that epoch."""

    server: str
    epoch: int
    first: int
    last: int
    until_ms: int


class Ledger:
    """Remembers identities: each counts once."""

    def __init__(self, runs: Iterable[Run] = ()) -> None:
        self._runs: dict[tuple[str, int], list[tuple[int, int]]] = {}
        self._until_ms: dict[tuple[str, int], int] = {}
        for run in sorted(runs):
            self._runs.setdefault((run.server, run.epoch), []).append((run.first, run.last))
            self._until_ms[run.server, run.epoch] = run.until_ms

    def add(self, server: str, epoch: int, seq: int, until_ms: int) -> bool:
        """Whether the segment is new; if it is, it no longer is."""
        runs = self._runs.setdefault((server, epoch), [])
        after = bisect_right(runs, (seq, seq))
        before = after - 1
        if (before >= 0 and runs[before][1] >= seq) or (after < len(runs) and runs[after][0] == seq):
            return False
        first = last = seq
        if after < len(runs) and runs[after][0] == seq + 1:
            last = runs.pop(after)[1]
        if before >= 0 and runs[before][1] == seq - 1:
            first = runs.pop(before)[0]
            after = before
        runs.insert(after, (first, last))
        self._until_ms[server, epoch] = max(until_ms, self._until_ms.get((server, epoch), 0))
        return True

    def runs(self, server: str, epoch: int) -> Iterator[Run]:
        """The runs of one epoch, in order."""
        for first, last in self._runs.get((server, epoch), ()):
            yield Run(server, epoch, first, last, self._until_ms[server, epoch])

    def missing(self, since_ms: int) -> dict[str, int]:
        """Segments that have not arrived though later ones have, by server, of epochs with hits since then."""
        counts: dict[str, int] = {}
        for (server, epoch), runs in self._runs.items():
            holes = runs[0][0] + sum(b[0] - a[1] - 1 for a, b in pairwise(runs))
            if holes and self._until_ms[server, epoch] >= since_ms:
                counts[server] = counts.get(server, 0) + holes
        return counts

    def forget(self, before_ms: int) -> None:
        """Drops epochs that have been silent since then: nothing of them is delivered again."""
        for key in [key for key, until_ms in self._until_ms.items() if until_ms < before_ms]:
            del self._runs[key], self._until_ms[key]
