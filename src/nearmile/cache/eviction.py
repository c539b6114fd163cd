"""Who leaves a full store.

A policy sees entries come and go, and names the next victim. A hit costs it nothing but ``entry.visited =
True``, set by the store; so it must be one of the policies that need no more.
"""

from collections import deque
from typing import Protocol

from nearmile.cache.entry import Entry

# The paper's share; on the traces measured, 5 % and 25 % lose more on one than they gain on another.
SMALL_SHARE = 0.1
# As many ghosts as the main queue has entries, each ~90 bytes; a few to begin with.
GHOSTS_MIN = 100


class Eviction(Protocol):
    """What the store asks of a policy. Every entry given to ``insert`` is given to ``remove`` once."""

    def insert(self, entry: Entry) -> None:
        """A new entry is in the store."""

    def remove(self, entry: Entry) -> None:
        """It is in the store no more."""

    def victim(self) -> Entry:
        """The entry to remove next; there is at least one."""


class S3Fifo:
    """S3-FIFO (Yang et al., SOSP 2023) by bytes, with one bit for hits where the paper has two.

    Newcomers wait in a small queue; who was hit there when its turn comes goes on to the main queue, the others
    leave and only their hashes are remembered. A remembered one that returns starts in the main queue, where a
    hit means another round.
    """

    def __init__(self) -> None:
        self._small = _Queue()
        self._main = _Queue()
        self._ghosts: set[int] = set()
        self._ghosts_in_order: deque[int] = deque()

    def insert(self, entry: Entry) -> None:
        name = hash((entry.key, entry.variant))
        if name in self._ghosts:
            self._ghosts.remove(name)
            entry.settled = True
        self._queue_of(entry).append(entry)

    def remove(self, entry: Entry) -> None:
        self._queue_of(entry).remove(entry)

    def victim(self) -> Entry:
        small, main = self._small, self._main
        while True:
            turn_of_small = small.used_bytes > SMALL_SHARE * (small.used_bytes + main.used_bytes)
            entry = small.oldest if turn_of_small or main.oldest is None else main.oldest
            assert entry is not None
            if not entry.visited:
                if not entry.settled:
                    self._remember(entry)
                return entry
            self._queue_of(entry).remove(entry)
            entry.visited, entry.settled = False, True
            main.append(entry)

    def _queue_of(self, entry: Entry) -> "_Queue":
        return self._main if entry.settled else self._small

    def _remember(self, entry: Entry) -> None:
        name = hash((entry.key, entry.variant))
        self._ghosts.add(name)
        self._ghosts_in_order.append(name)
        while len(self._ghosts_in_order) > max(GHOSTS_MIN, self._main.count):
            self._ghosts.discard(self._ghosts_in_order.popleft())


class _Queue:
    """A doubly linked list through the entries themselves: any of them leaves at once."""

    def __init__(self) -> None:
        self.oldest: Entry | None = None
        self.newest: Entry | None = None
        self.used_bytes = 0
        self.count = 0

    def append(self, entry: Entry) -> None:
        entry.older, entry.newer = self.newest, None
        if self.newest is None:
            self.oldest = entry
        else:
            self.newest.newer = entry
        self.newest = entry
        self.used_bytes += entry.size_bytes
        self.count += 1

    def remove(self, entry: Entry) -> None:
        older, newer = entry.older, entry.newer
        if older is None:
            self.oldest = newer
        else:
            older.newer = newer
        if newer is None:
            self.newest = older
        else:
            newer.older = older
        entry.older = entry.newer = None
        self.used_bytes -= entry.size_bytes
        self.count -= 1
