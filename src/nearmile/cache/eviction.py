"""Who leaves a full store, and who is not let in.

A policy sees entries come and go, and names the next victim. A hit costs it two attributes: the store lifts the
policy's ``level`` by HIT, and sets ``entry.visited`` to it. The policy looks at that when the entry's turn comes;
since a hit can only put a turn off, that is early enough, and the order is as if it had looked at once.
"""

from collections.abc import Sequence
from heapq import heapify, heappop, heappush, heapreplace
from typing import Generic, NamedTuple, Protocol, TypeVar, final
from zlib import crc32

from nearmile.cache.entry import Entry

FIRST_LEVEL = 1.0
# Credits are of the order of 1 for an object of this size, so that levels stay far from the precision of a float.
SIZE_UNIT_BYTES = 1 << 20
# How far a turnover lifts the level by itself: without it, all that was hit between two turns is nearly equal.
DRIFT = 0.5
# How far a hit does: so little that only the order of hits is told by it.
HIT = 1e-9
# Stale places in the heap are dropped when they are as many as the others.
STALE_MIN = 64
# For each entry, this many cells of a byte remember how often objects were asked for that are not stored.
CELLS_PER_ENTRY, CELLS_MIN = 16, 256
# Counts are kept in halves, so that one that is halved once is not forgotten.
COUNT_MAX = 127
_HALVES = bytes(value >> 1 for value in range(256))


class Eviction(Protocol):
    """What the store asks of a policy. Every entry given to ``insert`` is given to ``remove`` once."""

    level: float
    """What ``visited`` is set to by a hit: positive, never falls, changes by hits and in the calls below."""

    def insert(self, entry: Entry, lane: int) -> None:
        """A new entry of that site has come; a full store removes victims until it fits, or is the victim."""

    def remove(self, entry: Entry, lane: int) -> None:
        """It is in the store no more."""

    def victim(self, lanes: Sequence[int]) -> Entry:
        """The entry of those sites to remove next; each has at least one."""


class Item(Protocol):
    """What a policy needs of an entry."""

    size_bytes: int
    visited: float
    turn: float
    count: float


E = TypeVar("E", bound=Item)


@final
class _Turn(float, Generic[E]):
    """When an entry's turn comes: its place in a heap, stale once the entry has another.

    A pair of both would take 80 bytes with its number, and be compared more slowly; this takes 48.
    """

    __slots__ = ("entry",)
    entry: E


def _turn_of(entry: E, level: float) -> _Turn[E]:
    """The entry's from now on."""
    turn: _Turn[E] = _Turn(level)
    turn.entry, entry.turn = entry, turn
    return turn


@final
class _Lane(Generic[E]):
    """Entries among which a victim may be looked for alone; there may be stale places among them."""

    __slots__ = ("count", "heap")

    def __init__(self) -> None:
        self.count = 0
        self.heap: list[_Turn[E]] = []


class Weights(NamedTuple):
    """What an entry is worth: ``count ** count_power / size ** size_power``."""

    size_power: float
    """About 0 for hits of bytes, 1 for hits of objects; below 0, large objects are worth more than their bytes."""
    count_power: float
    """0 is LRU, 1 is GreedyDual-Size-Frequency; more trusts the counts more than how recent a hit was."""
    memory: float
    """Counts outlive eviction, halved after so many misses for each entry of the store; 0: they do not."""


def name_of(entry: Entry) -> int:
    """64 bits, the same in every process, so that what happened once can be played again."""
    return crc32(entry.variant, crc32(entry.key)) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF


class GreedyDual(Generic[E]):
    """GreedyDual-Size-Frequency (Cherkasova, 1998) with turns looked at late, and powers of size and count.

    An entry's turn is the level at its last hit and its credit; the level rises to the turn of each that leaves.
    Its count is one and the number of times it was found hit when its turn came. ``name``: as of ``name_of``.
    Victims are looked for by lanes, but the level is one for all.
    """

    def __init__(self, capacity_bytes: int, weights: Weights) -> None:
        self._capacity_bytes = max(1, capacity_bytes)
        self.level = FIRST_LEVEL
        self.weights = weights
        self._lanes: dict[int, _Lane[E]] = {}
        self._count = self._missed = 0
        self._newest: E | None = None
        self._counts = Counts()

    def __len__(self) -> int:
        return self._count

    def insert(self, entry: E, name: int, space_bytes: int, lane: int = 0) -> None:
        """A new entry has come. It takes so much of the capacity: more than its size if it stands for others."""
        self._count += 1
        memory = self.weights.memory
        if memory:
            self._counts.fit(self._count)
            self._missed += 1
            if self._missed > memory * max(self._count, STALE_MIN):
                self._missed = 0
                self._counts.halve()
        # It has a count already if it replaces another response for the same request.
        entry.count = 1 + (max(entry.count, self._counts.get(name)) if memory else entry.count)
        drift = DRIFT * min(1, space_bytes / self._capacity_bytes)
        credit = self._credit_of(1, entry.size_bytes)
        self.level += drift * credit
        turn = _turn_of(entry, self.level + (credit if entry.count == 1 else self._credit(entry)))
        self._newest = entry
        found = self._lanes.get(lane)
        if found is None:
            found = self._lanes[lane] = _Lane()
        found.count += 1
        heappush(found.heap, turn)

    def remove(self, entry: E, name: int, lane: int = 0) -> None:
        entry.turn = 0.0
        found = self._lanes[lane]
        found.count -= 1
        self._count -= 1
        if self.weights.memory:
            self._counts.raise_to(name, entry.count)
        if entry is self._newest:
            self._newest = None
        if not found.count:
            del self._lanes[lane]
        elif len(found.heap) > 2 * found.count + STALE_MIN:
            found.heap = [turn for turn in found.heap if turn is turn.entry.turn]
            heapify(found.heap)

    def victim(self, lanes: Sequence[int] = (0,)) -> E:
        while True:
            heap = self._lanes[lanes[0]].heap
            for lane in lanes[1:]:
                other = self._lanes[lane].heap
                heap = other if other[0] < heap[0] else heap
            turn = heap[0]
            entry = turn.entry
            if turn is not entry.turn:
                heappop(heap)
                continue
            hit_level = entry.visited
            if hit_level > 0:
                entry.visited = -hit_level
                entry.count += 1
                later = hit_level + self._credit(entry)
                if later > turn:
                    heapreplace(heap, _turn_of(entry, later))
                    continue
            if entry is not self._newest:
                # As a number alone: who is hit notes it, and would keep what has left.
                self.level = max(self.level, float(turn))
            return entry

    def reweigh(self, weights: Weights) -> None:
        """Goes on with other weights. Takes a few microseconds for each entry."""
        self.weights = weights
        for lane in self._lanes.values():
            kept = sorted(turn for turn in lane.heap if turn is turn.entry.turn)
            lane.heap = []
            for rank, old in enumerate(kept):
                # All come before what is hit from now on; who was to go sooner still does among equals.
                level = self.level + self._credit(old.entry) * (rank + 1) / (len(kept) + 1)
                lane.heap.append(_turn_of(old.entry, level))
            heapify(lane.heap)

    def _credit(self, entry: E) -> float:
        return self._credit_of(entry.count, entry.size_bytes)

    def _credit_of(self, count: float, size_bytes: int) -> float:
        size_power, count_power, _ = self.weights
        return float(count**count_power * (size_bytes / SIZE_UNIT_BYTES) ** -size_power)


class Counts:
    """How often objects were asked for: the lesser of two cells that others may share (count-min sketch)."""

    def __init__(self) -> None:
        self._cells = bytearray(CELLS_MIN)

    def fit(self, entries: int) -> None:
        """Makes room for the objects of a store of so many entries; a copy of all cells keeps what they say."""
        while len(self._cells) < entries * CELLS_PER_ENTRY:
            self._cells = self._cells * 2

    def get(self, name: int) -> float:
        first, second = self._places(name)
        return min(self._cells[first], self._cells[second]) / 2

    def raise_to(self, name: int, count: float) -> None:
        value = int(2 * min(count, COUNT_MAX))
        for place in self._places(name):
            if self._cells[place] < value:
                self._cells[place] = value

    def halve(self) -> None:
        self._cells = self._cells.translate(_HALVES)

    def _places(self, name: int) -> tuple[int, int]:
        mask = len(self._cells) - 1
        return name & mask, name >> 32 & mask
