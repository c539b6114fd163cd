"""Who leaves a full store.

A policy sees entries come and go, and names the next victim. A hit costs it nothing but ``entry.visited =
True``, set by the store; so it must be one of the policies that need no more.
"""

from typing import Protocol

from nearmile.cache.entry import Entry


class Eviction(Protocol):
    """What the store asks of a policy. Every entry given to ``insert`` is given to ``remove`` once."""

    def insert(self, entry: Entry) -> None:
        """A new entry is in the store."""

    def remove(self, entry: Entry) -> None:
        """It is in the store no more."""

    def victim(self) -> Entry:
        """The entry to remove next; there is at least one."""


class Sieve:
    """SIEVE (Zhang et al., NSDI 2024): a queue that never moves what is hit.

    A hand walks from the oldest entry to the newest, takes the mark of visited ones and evicts the first
    without; there it stays. Newcomers that nobody asks for again are so the first to go.
    """

    def __init__(self) -> None:
        self._newest: Entry | None = None
        self._oldest: Entry | None = None
        self._hand: Entry | None = None

    def insert(self, entry: Entry) -> None:
        entry.older, entry.newer = self._newest, None
        if self._newest is None:
            self._oldest = entry
        else:
            self._newest.newer = entry
        self._newest = entry

    def remove(self, entry: Entry) -> None:
        older, newer = entry.older, entry.newer
        if self._hand is entry:
            self._hand = newer
        if older is None:
            self._oldest = newer
        else:
            older.newer = newer
        if newer is None:
            self._newest = older
        else:
            newer.older = older
        entry.older = entry.newer = None

    def victim(self) -> Entry:
        hand = self._hand or self._oldest
        assert hand is not None
        while hand.visited:
            hand.visited = False
            hand = hand.newer or self._oldest
            assert hand is not None
        self._hand = hand
        return hand
