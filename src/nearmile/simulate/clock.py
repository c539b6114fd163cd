"""Virtual time: a heap of things to do, done in the order of their times, then of their making."""

import heapq
from array import array
from collections.abc import Callable
from hashlib import blake2b

# The times of events are hashed in bunches, since a call for each would cost as much as the event.
BUNCH = 8192


class Clock:
    """The world's own time in seconds from its beginning; nobody in it may look at another clock."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.events = 0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._made = 0
        self._times_s = array("d")
        self._hash = blake2b(digest_size=16)

    def at(self, at_s: float, act: Callable[[], None]) -> None:
        """Does it then; what lies in the past is done next."""
        self._made += 1
        heapq.heappush(self._heap, (at_s if at_s > self.now_s else self.now_s, self._made, act))

    def after(self, pause_s: float, act: Callable[[], None]) -> None:
        """Does it after a pause."""
        self.at(self.now_s + pause_s, act)

    def run_until(self, end_s: float) -> None:
        """Lets time pass."""
        heap = self._heap
        while heap and heap[0][0] <= end_s:
            self.now_s, _, act = heapq.heappop(heap)
            self._times_s.append(self.now_s)
            if len(self._times_s) == BUNCH:
                self._bunch()
            act()
        self.now_s = end_s

    def note(self, text: str) -> None:
        """Adds a line to what the digest is made of."""
        self._bunch()
        self._hash.update(f"{self.now_s!r} {text}\n".encode())

    def digest(self) -> str:
        """A hash of the times of all events and of all notes, in order: runs that differ have different ones."""
        self._bunch()
        return self._hash.hexdigest()

    def _bunch(self) -> None:
        self.events += len(self._times_s)
        self._hash.update(self._times_s.tobytes())
        del self._times_s[:]
