"""Maps of the past, for the name server that runs on one: a poisoned map reaches it when it is known as such.

Akamai's input-delayed name servers do so (Schomp et al., SIGCOMM 2020). Those stand in reserve by anycast; here
such a server is in each delegation, as the last: resolvers turn to it by themselves when the others fail, and they
keep a delegation for longer than a failure may last. So that it can answer in good days as well, it names nobody
who has left the newest map (``safety.late``): who lives is current, who is best for whom is of the past.
"""

from collections import deque
from collections.abc import Iterable

from nearmile.mapping.map import Map

# Maps may come ten times a second. One in each such part of the delay is kept: 14 at most, of some megabytes.
PARTS = 12


class Past:
    """Maps with the times at which they came, from the one to answer by to the newest that is kept."""

    def __init__(self, delay_s: float, kept: Iterable[tuple[float, Map]] = ()) -> None:
        self._delay_s = delay_s
        self.kept = deque(sorted(kept, key=lambda each: each[0]))

    def take(self, new: Map, now_s: float) -> bool:
        """A new map; returns whether it is kept."""
        if self.kept and 0 <= now_s - self.kept[-1][0] < self._delay_s / PARTS:
            return False
        self.kept.append((now_s, new))
        return True

    def current(self, now_s: float) -> Map | None:
        """The newest that is as old as it must be, or the oldest of all; what is older than that is forgotten."""
        while len(self.kept) > 1 and (self.kept[1][0] + self._delay_s <= now_s or len(self.kept) > PARTS + 2):
            self.kept.popleft()
        return self.kept[0][1] if self.kept else None
