"""A memo for what is read from values and heads that clients and origins write, which may be long.

``lru_cache`` bounds how many it remembers, not how long they are: with heads of 60 KB, which an origin may send,
those of this room took 200 MB.
"""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TypeVar

K = TypeVar("K", bytes, tuple[bytes, ...])
V = TypeVar("V")

# Nearly all values are below 100 bytes, and heads about 500; what comes of them is no longer.
LONG_BYTES = 4 << 10


def remembered(entries_max: int) -> Callable[[Callable[[K], V]], Callable[[K], V]]:
    """``lru_cache`` for a function of one value, or of the values of a field; what is long is read each time."""

    def decorate(read: Callable[[K], V]) -> Callable[[K], V]:
        known = lru_cache(entries_max)(read)

        @wraps(read)
        def look(value: K) -> V:
            text = value if isinstance(value, bytes) else b"".join(value)
            return known(value) if len(text) <= LONG_BYTES else read(value)

        return look

    return decorate
