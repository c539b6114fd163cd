"""The memory store: objects by key, variants by second key, bounded in bytes, purged by generation.

Of the sites that share it, none loses for another what is within its part (see ``shares``).

A purge raises the store's ``generation``. A fill notes the generation when it starts, and is refused when its
object was purged meanwhile; so what was fetched before a purge is never served after it.

A purge of one object is done at once. One of many (a prefix, a tag) leaves a mark, and changes the number
``_broad``: a stored response that was last found good at another number is held against the marks made since, when
it is asked for, or by a slow ``sweep`` of the whole store, which gives back the room and lets old marks go.
"""

from collections.abc import Iterator, Mapping
from math import inf
from typing import Protocol

from nearmile.cache.accept import ACCEPT_ENCODING
from nearmile.cache.directives import Fields
from nearmile.cache.entry import Entry
from nearmile.cache.eviction import HIT, Eviction
from nearmile.cache.key import CODING, VARIANT_BYTES, VARIANTS_MAX, codings_of, names_of, site_of, variant_key
from nearmile.cache.pages import Body, Shelf, kept_bytes
from nearmile.cache.policy import VARY_NAMES_MAX, Storable
from nearmile.cache.purge import EVERYTHING, MARKS_MAX, Marks, Order, Position, key_of, marks_of
from nearmile.cache.shares import Shares
from nearmile.cache.trial import adaptive

# Measured with tracemalloc (CPython 3.11, 64 bits): 605 to 660 bytes for the entry, its terms and validators, the
# headers of its byte strings, its places in the dictionary and in the eviction policy's heap, and its share of
# what the policy tries on a small scale, also for each of several variants; and 40 for a place on disk. In a store
# of fewer than 10,000 objects, what is tried takes a megabyte in all, which is not charged.
OBJECT_OVERHEAD_BYTES = 700
# What a tag costs beside its letters: the header of a byte string and its place in a tuple.
TAG_OVERHEAD_BYTES = 41
# Requests whose second keys are remembered, in each of the first ways to vary that come: 16 MB at worst.
KNOWN_MAX, KNOWN_NAMES_MAX, KNOWN_BYTES_MAX = 1024, 4, 2048
# When half of the marks are taken, each new one has so many objects swept: a pass over a million ends in time, and
# takes less than a millisecond at a time.
SWEEP_SLICE = 256


# What is larger than this share of the memory is kept below alone, if there is such a store: it pushes out many.
LARGE_SHARE = 1 / 32


class Below(Protocol):
    """A larger and slower store that is told of all that happens in this one."""

    @property
    def working(self) -> bool:
        """Whether it takes what it is given."""
        ...

    def vary(self, key: bytes) -> tuple[bytes, ...]:
        """As this store's; it may know of more variants."""
        ...

    async def find(self, key: bytes, fields: Fields) -> Entry | None:
        """The response stored for this object and these request fields; taken into memory, if it is not large."""
        ...

    def put(self, entry: Entry, names: tuple[bytes, ...], in_memory: bool) -> None:
        """A new response has come, in place of another; ``in_memory`` it is here too."""
        ...

    def left(self, entry: Entry) -> None:
        """It was evicted here."""
        ...

    def delete(self, key: bytes, variant: bytes) -> None:
        """The response with that second key is to be forgotten."""
        ...

    def mark(self, mark: bytes, soft_at_s: float | None) -> int:
        """As this store's."""
        ...

    def reached(self, position: Position) -> None:
        """All orders up to there have been given to ``mark``."""
        ...

    def weigh(self, weights: Mapping[int, int]) -> None:
        """As this store's."""
        ...


_Known = dict[int, tuple[Fields, bytes]]
"""Second keys by the identities of the requests' fields, with the fields, so that these stay what they are.

Clients' fields are parsed once and remembered, so the same tuple comes again and again: with this, a hit among
variants takes 0.7 us, by finding and hashing the named fields 4 us.
"""


_Variants = tuple[tuple[bytes, ...], *tuple[Entry, ...]]
"""Several variants of one object, the oldest first, behind the names of the request fields that tell them apart.

One whose names are those in its own Vary is stored without. They are few: a dictionary would take 230 bytes more.
"""


class MemoryStore:
    """At most ``capacity_bytes`` of heads, bodies, keys and overhead; the eviction policy says who leaves."""

    def __init__(self, capacity_bytes: int, eviction: Eviction | None = None, shelf: Shelf | None = None) -> None:
        self.capacity_bytes = capacity_bytes
        self.shelf = Shelf() if shelf is None else shelf
        """Where large bodies are."""
        self.used_bytes = 0
        self._objects: dict[bytes, Entry | _Variants] = {}
        self._eviction = adaptive(capacity_bytes, "objects") if eviction is None else eviction
        self._level = self._eviction.level
        self._shares = Shares(capacity_bytes)
        self.below: Below | None = None
        self._marks = Marks()
        self._known: dict[tuple[bytes, ...], _Known] = {}
        # The generation of the latest mark that may concern many, of the one that the last pass of the sweep began
        # at, and of the one that this pass did; and what it has not looked at.
        self._broad = self._swept = self._sweeping = 0
        self._unswept: list[bytes] = []

    @property
    def entry_bytes_max(self) -> int:
        """The largest response that is kept here, with its overhead."""
        below = self.below is not None and self.below.working
        return int(self.capacity_bytes * LARGE_SHARE) if below else self.capacity_bytes

    @property
    def generation(self) -> int:
        """Counts purges. A fill notes it at its start and hands it to ``put``."""
        return self._marks.generation

    def get(self, key: bytes, fields: Fields) -> Entry | None:
        """The response stored for this object and these request fields, fresh or not."""
        found = self._objects.get(key)
        if isinstance(found, tuple):
            found = _among(found[1:], self._variant(found[0], fields))
        elif found is not None and found.variant:
            found = _among((found,), self._variant(names_of(found.kept.vary), fields))
        if found is None or (found.clean != self._broad and not self._still_good(found)):
            return None
        self._level += HIT
        found.visited = self._level
        return found

    async def find(self, key: bytes, fields: Fields) -> Entry | None:
        """As ``get``, and looks below for what is not here."""
        entry = self.get(key, fields)
        return entry if entry is not None or self.below is None else await self.below.find(key, fields)

    def put(
        self, key: bytes, fields: Fields, kept: Storable, head: bytes, body: Body, started_generation: int
    ) -> Entry | None:
        """Stores a response in place of the one for the same object and request ``fields``, evicting others.

        None if it was purged since ``started_generation``, is larger than the store, or is worth less than what it
        would push out: nothing is stored then. What is large or worth little is given to the store below alone.
        Of a response that the edge codes, this is the one in the coding of ``kept``; as the origin sent it, it
        also takes the place of all its codings. Where the origin chose a coding, it is for who likes the same.
        """
        if self.purged_since(key, started_generation, kept.tags):
            return None
        known = self.vary(key)
        names = _names(known, names_of(kept.vary))
        codes = CODING in names
        if codes and (CODING in kept.vary or ACCEPT_ENCODING not in kept.vary):
            fields = (*fields, (CODING, kept.coding))
        variant = variant_key(names, fields) if names else b""
        if codes and not kept.coding:
            self._drop_codings(key, variant)
        if names != known:
            self._drop(key)
        entry, below = self._keep(key, names, variant, kept, head, body), self.below
        if below is not None:
            stored = Entry(key, variant, kept, head, body, 0) if entry is None else entry
            below.put(stored, names, entry is not None)
            return stored
        return entry

    def restore(
        self, key: bytes, names: tuple[bytes, ...], variant: bytes, kept: Storable, head: bytes, body: Body
    ) -> Entry | None:
        """Stores what ``put`` once stored: under the names and the second key that it had (both may be empty)."""
        if self.vary(key) != names:
            self._drop(key)
        return self._keep(key, names, variant, kept, head, body)

    def _keep(
        self, key: bytes, names: tuple[bytes, ...], variant: bytes, kept: Storable, head: bytes, body: Body
    ) -> Entry | None:
        count = self._make_place(key, variant)
        lists = (*kept.tags, *kept.links) if kept.tags or kept.links else ()
        lists_bytes = sum(map(len, lists)) + len(lists) * TAG_OVERHEAD_BYTES if lists else 0
        size_bytes = len(key) + len(head) + kept_bytes(len(body)) + lists_bytes + OBJECT_OVERHEAD_BYTES
        if size_bytes > self.entry_bytes_max:
            return None
        entry = Entry(key, variant, kept, head, body, size_bytes)
        entry.count = count
        if not self._admit(entry):
            return None
        entry.body = self.shelf.keep(body)
        entry.clean = self._broad
        self._place(entry, names)
        self.used_bytes += size_bytes
        return entry

    def _place(self, entry: Entry, names: tuple[bytes, ...]) -> None:
        """Where it is found: alone, or among the variants of its object."""
        if names and names not in self._known and len(self._known) < KNOWN_NAMES_MAX:
            self._known[names] = {}
        group = self._objects.get(entry.key)
        if group is None:
            self._objects[entry.key] = entry if names == names_of(entry.kept.vary) else (names, entry)
        else:
            others = group[1:] if isinstance(group, tuple) else (group,)
            self._objects[entry.key] = (names, *others, entry)

    def weigh(self, weights: Mapping[int, int]) -> None:
        """The sites' weights by serial: what part of the store each has a right to (see Shares)."""
        self._shares.weigh(weights)
        if self.below is not None:
            self.below.weigh(weights)

    def _admit(self, entry: Entry) -> bool:
        """Makes place for it, unless the policy thinks less of it than of all others that may go for it."""
        eviction, site = self._eviction, site_of(entry.key)
        eviction.level = self._level
        eviction.insert(entry, site)
        self._shares.use(site, entry.size_bytes)
        self._level = eviction.level
        while self.used_bytes + entry.size_bytes > self.capacity_bytes:
            victim = eviction.victim(self._shares.payers(site))
            self._level = eviction.level
            if victim is entry:
                eviction.remove(entry, site)
                self._shares.use(site, -entry.size_bytes)
                return False
            self._remove(victim)
            if self.below is not None:
                self.below.left(victim)
        return True

    def delete(self, entry: Entry) -> None:
        """Forgets one response in all its codings, if no other is in its place here; no fill is concerned."""
        stored, family = self._stored(entry.key), [entry.variant]
        if any(found.variant == entry.variant and found is not entry for found in stored):
            return
        if CODING in entry.kept.vary:
            family = [entry.variant[:VARIANT_BYTES], *codings_of(entry.variant)]
        for found in stored:
            if found.variant in family:
                self._remove(found)
        if self.below is not None:
            for variant in family:
                self.below.delete(entry.key, variant)

    def _drop_codings(self, key: bytes, variant: bytes) -> None:
        """Of a response as the origin sent it, what the edge made of that."""
        coded = codings_of(variant)
        for entry in self._stored(key):
            if entry.variant in coded:
                self._remove(entry)
        if self.below is not None:
            for other in coded:
                self.below.delete(key, other)

    def purge(self, order: Order, now_s: float) -> int:
        """Carries out an order; returns how many responses of single objects it concerned.

        Those that a mark concerns are not counted: they go, or become stale, when they are looked at.
        """
        return sum(self.mark(mark, now_s if order.soft else None) for mark in marks_of(order))

    def purge_all(self) -> None:
        """Nothing of what is stored, or on its way, is to be served any more."""
        self.mark(EVERYTHING)

    def mark(self, mark: bytes, soft_at_s: float | None = None) -> int:
        """One mark of an order: removes what it concerns, or makes it stale; refuses fills that have started."""
        self._marks.add(mark, soft_at_s)
        if len(self._marks) > MARKS_MAX // 2 and self._marks.oldest() > self._swept:
            self.sweep(SWEEP_SLICE)
        if len(self._marks) > MARKS_MAX:
            while self._marks.oldest() > self._swept and self.sweep(SWEEP_SLICE):
                pass
            self._marks.drop_oldest()
        key, below = key_of(mark), 0 if self.below is None else self.below.mark(mark, soft_at_s)
        if key is None:
            self._broad = self.generation
            return 0
        if soft_at_s is None:
            return max(self._drop(key), below)
        stored = self._stored(key)
        for entry in stored:
            entry.expire(soft_at_s)
        return max(len(stored), below)

    def reached(self, position: Position) -> None:
        """All orders up to there have been carried out: what is below must know, if it outlives this store."""
        if self.below is not None:
            self.below.reached(position)

    def purged_since(self, key: bytes, generation: int, tags: tuple[bytes, ...]) -> bool:
        """Whether a response with that key and those tags was purged, or may have been, since that generation."""
        marks = self._marks
        return marks.forgotten > generation or (
            marks.generation > generation and marks.good_until_s(key, tags, generation, alone=True) != inf
        )

    def sweep(self, count: int) -> bool:
        """Holds so many objects against the marks; returns whether there are more to look at."""
        if not self._unswept and self._swept < self._broad:
            self._unswept, self._sweeping = list(self._objects), self._broad
        for key in self._unswept[-count:]:
            for entry in self._stored(key):
                if entry.clean != self._broad:
                    self._still_good(entry)
        del self._unswept[-count:]
        if not self._unswept:
            self._swept = self._sweeping
        return self._swept < self._broad

    def __iter__(self) -> Iterator[Entry]:
        """Every stored response, also those that a mark concerns; the store must not change meanwhile."""
        for key in self._objects:
            yield from self._stored(key)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def vary(self, key: bytes) -> tuple[bytes, ...]:
        """The names of the request fields that tell this object's variants apart; empty if it has none."""
        found = self._objects.get(key)
        if found is None and self.below is not None:
            return self.below.vary(key)
        if isinstance(found, tuple):
            return found[0]
        return names_of(found.kept.vary) if found is not None and found.variant else ()

    def _variant(self, names: tuple[bytes, ...], fields: Fields) -> bytes:
        """The second key of a request, remembered if it is no large one and many vary alike."""
        known = self._known.get(names)
        if known is not None and (before := known.get(id(fields))) is not None:
            return before[1]
        variant = variant_key(names, fields)
        if known is not None and sum(len(name) + len(value) for name, value in fields) <= KNOWN_BYTES_MAX:
            if len(known) >= KNOWN_MAX:
                known.clear()
            known[id(fields)] = fields, variant
        return variant

    def _make_place(self, key: bytes, variant: bytes) -> float:
        """Removes the predecessor, whose count is returned, else the oldest of too many variants."""
        stored = self._stored(key)
        for entry in stored:
            if entry.variant == variant:
                self._remove(entry)
                return entry.count
        if len(stored) >= VARIANTS_MAX:
            self._remove(stored[0])
        return 0

    def _still_good(self, entry: Entry) -> bool:
        """Carries out what marks of many say of a stored response; whether it is still there."""
        good_until_s = self._marks.good_until_s(entry.key, entry.kept.tags, entry.clean)
        if good_until_s == -inf:
            self._remove(entry)
            return False
        entry.clean = self._broad
        if good_until_s != inf:
            entry.expire(good_until_s)
        return True

    def _drop(self, key: bytes) -> int:
        gone = self._stored(key)
        for entry in gone:
            self._remove(entry)
        return len(gone)

    def _stored(self, key: bytes) -> list[Entry]:
        found = self._objects.get(key)
        if found is None:
            return []
        return list(found[1:]) if isinstance(found, tuple) else [found]

    def _remove(self, entry: Entry) -> None:
        group = self._objects.pop(entry.key)
        if isinstance(group, tuple):
            names, *others = group
            others.remove(entry)
            if len(others) == 1 and names_of(others[0].kept.vary) == names:
                self._objects[entry.key] = others[0]
            elif others:
                self._objects[entry.key] = (names, *others)
        self.used_bytes -= entry.size_bytes
        site = site_of(entry.key)
        self._eviction.remove(entry, site)
        self._shares.use(site, -entry.size_bytes)


def _among(entries: tuple[Entry, ...], variant: bytes) -> Entry | None:
    for entry in entries:
        if entry.variant == variant:
            return entry
    return None


def _names(known: tuple[bytes, ...], vary: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """The names for an object's second keys: all that its responses named, so that none hides another.

    When they change from those ``known``, the old variants can be found no more.
    """
    if known == vary:
        return vary
    # Of one response in several codings there may be a successor that is not coded.
    names = tuple(sorted({*(known if known != (CODING,) else ()), *vary}))
    return vary if len(names) > VARY_NAMES_MAX else names
