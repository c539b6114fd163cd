"""A bounded table of what was worked out before, which a flood of what is asked once does not empty.

Two generations: the young one is full after half the bound and becomes the old one; what is asked for again comes
back from the old into the young. So what is asked more often than the flood fills half a table stays.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar, cast

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Memo(Generic[K, V]):
    """At most ``size_max`` values by key; None is no value."""

    def __init__(self, size_max: int) -> None:
        self._half = max(size_max // 2, 1)
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, key: K) -> V | None:
        """What was put there, while it is remembered."""
        value = self._young.get(key)
        if value is None and (value := self._old.get(key)) is not None:
            self.put(key, value)
        return value

    def young(self, keys: Sequence[K]) -> list[V | None]:
        """What of each is among the young: nearly all that is asked for often, for a tenth of the work."""
        return list(map(self._young.get, keys))

    def get_each(self, keys: Sequence[K], otherwise: Callable[[K], V]) -> list[V]:
        """What of each is among the young, else what ``otherwise`` says."""
        found = self.young(keys)
        if all(found):
            return cast(list[V], found)
        return [value or otherwise(key) for key, value in zip(keys, found, strict=True)]

    def put(self, key: K, value: V) -> None:
        """Remembers it."""
        if len(self._young) >= self._half:
            self._old, self._young = self._young, {}
        self._young[key] = value
