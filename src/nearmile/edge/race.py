"""Fetches of one object that are under way together, whose answers need not come in the order of the questions.

There are several where each client is to ask for itself, where a part and the whole are wanted, and where another
server knows of a change. What was asked for first goes to who waits for it; it never takes the place of what was
asked for later (RFC 9111 section 4: the most recent response).
"""

from math import inf

from nearmile.cache.key import same_variant
from nearmile.cache.purge import NEVER
from nearmile.http.fields import Pairs

Races = dict[bytes, list["Racer"]]
"""What is under way, by the keys of the objects."""


class Racer:
    """One of them. ``asked`` are its request's fields, ``begun`` is the store's generation before that is sent."""

    def __init__(self, races: Races, object_key: bytes, asked: Pairs, begun: int) -> None:
        self.object_key, self.asked, self.begun = object_key, asked, begun
        self.sent_at_s = inf
        self._races = races
        self._overtaken_at_s = -inf

    @property
    def generation(self) -> int:
        """With which to store what comes: none, where what was asked for later was answered first."""
        return NEVER if self.sent_at_s < self._overtaken_at_s else self.begun

    def enter(self) -> None:
        """It begins."""
        self._races.setdefault(self.object_key, []).append(self)

    def leave(self) -> None:
        """It has ended."""
        racers = self._races[self.object_key]
        racers.remove(self)
        if not racers:
            del self._races[self.object_key]

    def overtake(self, vary: tuple[bytes, ...] = ()) -> None:
        """Its answer has come, and depends on these fields of the request."""
        overtake(self._races, self.object_key, self.asked, self.sent_at_s, vary)

    def overtaken(self, at_s: float) -> None:
        """What was asked for then has been answered."""
        self._overtaken_at_s = max(self._overtaken_at_s, at_s)


def overtake(races: Races, object_key: bytes, asked: Pairs, at_s: float, vary: tuple[bytes, ...]) -> None:
    """Tells those that asked before for the same variant that there is an answer to what was asked then."""
    for racer in races.get(object_key, ()):
        if racer.sent_at_s < at_s and same_variant(vary, racer.asked, asked):
            racer.overtaken(at_s)
