"""What turned out lately, remembered for some time."""

from nearmile.cache.key import site_of
from nearmile.cache.shares import Table


class Lately:
    """At most ``entries_max`` objects, by their keys, each for ``time_s``; each site has its part of them."""

    def __init__(self, time_s: float, entries_max: int) -> None:
        self._time_s = time_s
        self._until_s: Table[bytes, float] = Table(entries_max)

    def add(self, key: bytes, now_s: float) -> None:
        """It turned out now."""
        self._until_s.put(site_of(key), key, now_s + self._time_s)

    def has(self, key: bytes, now_s: float) -> bool:
        """Whether it turned out lately."""
        until_s = self._until_s.get(site_of(key), key)
        if until_s is None:
            return False
        if now_s < until_s <= now_s + self._time_s:  # else it is over, or the clock has been set back
            return True
        self._until_s.drop(site_of(key), key)
        return False
