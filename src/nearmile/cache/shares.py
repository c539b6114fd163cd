"""What is whose part of something that all sites use: the stores, and tables that remember.

A site has a right to half of the room times its share of the weights of all sites that use it now. What is over
that is taken from by anybody; what is within it, by nobody but the site itself. So a flood of one site's costs the
others no more than what they had beyond their parts, and a site alone has it all.

Who pays for new room is one of the largest for its weight, found without a search: sites are in classes by the
power of two of their use for each weight. Where more than all is in use, the largest uses more than the average,
others of its class more than half of that, and half is what is guaranteed: so all of that class are over their
parts. They pay in turn.
"""

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

DEFAULT_WEIGHT, WEIGHT_MAX = 10, 1000
# So that whoever uses anything at all is in a class above the lowest, whatever its weight.
_FINE = 1 << WEIGHT_MAX.bit_length()


class Shares:
    """Of ``capacity`` (bytes, or pieces) by sites, named by their serials. No call searches."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._weights: Mapping[int, int] = {}
        self._used: dict[int, int] = {}
        self._weight = 0
        """Of all sites that use something."""
        self._classes: dict[int, dict[int, None]] = {}
        """By the bits of use for each weight: the sites, in the order in which they are to pay."""
        self._filled = 0
        """A bit for each class that has sites."""

    def weigh(self, weights: Mapping[int, int]) -> None:
        """New weights by site; those not named weigh DEFAULT_WEIGHT. Looks at every site."""
        used = self._used
        self._weights, self._used, self._weight, self._classes, self._filled = weights, {}, 0, {}, 0
        for site, amount in used.items():
            self.use(site, amount)

    def use(self, site: int, amount: int) -> None:
        """The site uses so much more, or less."""
        before = self._used.get(site, 0)
        after, weight = before + amount, self._weight_of(site)
        old, new = (before * _FINE // weight).bit_length(), (after * _FINE // weight).bit_length()
        if before and after and old == new:
            self._used[site] = after
            return
        if before:
            self._leave(old, site)
        if after:
            self._used[site] = after
            self._classes.setdefault(new, {})[site] = None
            self._filled |= 1 << new
        else:
            self._used.pop(site, None)
        self._weight += weight * (bool(after) - bool(before))

    def used(self, site: int) -> int:
        """How much it uses."""
        return self._used.get(site, 0)

    def within(self, site: int, more: int = 0) -> bool:
        """Whether the site is within its part, with so much more."""
        weight, used = self._weight_of(site), self._used.get(site, 0)
        of = self._weight if used else self._weight + weight
        return 2 * (used + more) * of <= self._capacity * weight

    def payers(self, site: int) -> tuple[int, ...]:
        """Who may pay for what ``site`` has come to use, where that is more than there is.

        One of the largest; also the site itself, where it is over its part.
        """
        largest = self._classes[self._filled.bit_length() - 1]
        payer = next(iter(largest))
        del largest[payer]
        largest[payer] = None
        return (payer,) if payer == site or self.within(site) else (payer, site)

    def _weight_of(self, site: int) -> int:
        return self._weights.get(site, DEFAULT_WEIGHT)

    def _leave(self, number: int, site: int) -> None:
        del self._classes[number][site]
        if not self._classes[number]:
            del self._classes[number]
            self._filled &= ~(1 << number)


K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Table(Generic[K, V]):
    """Values by site and key, at most ``entries_max``: who pays forgets what it has not put for longest."""

    def __init__(self, entries_max: int) -> None:
        self._entries_max, self._count = entries_max, 0
        self._shares = Shares(entries_max)
        self._sites: dict[int, OrderedDict[K, V]] = {}

    def __len__(self) -> int:
        return self._count

    def get(self, site: int, key: K) -> V | None:
        """The value, where it is known."""
        return self._sites[site].get(key) if site in self._sites else None

    def put(self, site: int, key: K, value: V) -> None:
        """Remembers it, as the latest of its site."""
        known = self._sites.setdefault(site, OrderedDict())
        if key not in known:
            self._grow(site, 1)
        known[key] = value
        known.move_to_end(key)
        while self._count > self._entries_max:
            payer = self._shares.payers(site)[-1]
            self._sites[payer].popitem(last=False)
            self._grow(payer, -1)

    def drop(self, site: int, key: K) -> None:
        """Forgets it, if it is known."""
        if key in self._sites.get(site, ()):
            del self._sites[site][key]
            self._grow(site, -1)

    def _grow(self, site: int, count: int) -> None:
        self._count += count
        self._shares.use(site, count)
        if not self._sites[site] and count < 0:
            del self._sites[site]
