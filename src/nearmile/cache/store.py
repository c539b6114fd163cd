"""The memory store: objects by key, variants by second key, bounded in bytes, purged by generation.

A purge raises the store's ``generation``. A fill notes the generation when it starts, and is refused when its
object was purged meanwhile; so what was fetched before a purge is never served after it.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import final

from nearmile.cache.directives import Fields
from nearmile.cache.entry import Entry
from nearmile.cache.eviction import Eviction, S3Fifo
from nearmile.cache.key import variant_key
from nearmile.cache.policy import VARY_NAMES_MAX, Storable

# Measured with tracemalloc (CPython 3.11, 64 bits): 580 to 605 bytes for the entry, its terms and validators, the
# headers of its byte strings and its place in the dictionary, and 90 for a ghost of the eviction policy; 390 more
# for an object's first variant.
OBJECT_OVERHEAD_BYTES = 700
VARIANT_OVERHEAD_BYTES = 400
# Enough for the encodings and languages of a page; a Vary on User-Agent must not make a list without end.
VARIANTS_MAX = 64
# Purges whose keys are remembered for fills under way; a fill older than the oldest of them is always refused.
PURGES_REMEMBERED_MAX = 10_000


@final
class _Variants:
    """The variants of one object: by the value of the request fields in ``names``."""

    __slots__ = ("entries", "names")

    def __init__(self, names: tuple[bytes, ...]) -> None:
        self.names = names
        self.entries: dict[bytes, Entry] = {}


class MemoryStore:
    """At most ``capacity_bytes`` of heads, bodies, keys and overhead; the eviction policy says who leaves."""

    def __init__(self, capacity_bytes: int, eviction: Eviction | None = None) -> None:
        self.capacity_bytes = capacity_bytes
        self.used_bytes = 0
        self.generation = 0
        """Counts purges. A fill notes it at its start and hands it to ``put``."""
        self._objects: dict[bytes, Entry | _Variants] = {}
        self._eviction = S3Fifo() if eviction is None else eviction
        self._purged: OrderedDict[bytes, int] = OrderedDict()
        self._forgotten = 0

    def get(self, key: bytes, fields: Fields) -> Entry | None:
        """The response stored for this object and these request fields, fresh or not."""
        found = self._objects.get(key)
        if type(found) is _Variants:
            found = found.entries.get(variant_key(found.names, fields))
        if found is None:
            return None
        found.visited = True
        return found

    def put(
        self, key: bytes, fields: Fields, kept: Storable, head: bytes, body: bytes, started_generation: int
    ) -> Entry | None:
        """Stores a response in place of the one for the same object and request ``fields``, evicting others.

        None if it was purged since ``started_generation``, or is larger than the store: nothing is stored then.
        """
        if self.purged_since(key, started_generation):
            return None
        names = self._names(key, kept.vary)
        variant = variant_key(names, fields) if names else b""
        return self.restore(key, names, variant, kept, head, body)

    def restore(
        self, key: bytes, names: tuple[bytes, ...], variant: bytes, kept: Storable, head: bytes, body: bytes
    ) -> Entry | None:
        """Stores what ``put`` once stored: under the names and the second key that it had (both may be empty)."""
        if self.vary(key) != names:
            self._drop(key)
        self._make_place(key, variant)
        overhead_bytes = OBJECT_OVERHEAD_BYTES + (VARIANT_OVERHEAD_BYTES if names else 0)
        size_bytes = len(key) + len(head) + len(body) + overhead_bytes
        if size_bytes > self.capacity_bytes:
            return None
        while self.used_bytes + size_bytes > self.capacity_bytes:
            self._remove(self._eviction.victim())
        entry = Entry(key, variant, kept, head, body, size_bytes)
        if names:
            group = self._objects.get(key)
            if type(group) is not _Variants:
                group = self._objects[key] = _Variants(names)
            group.entries[variant] = entry
        else:
            self._objects[key] = entry
        self.used_bytes += size_bytes
        self._eviction.insert(entry)
        return entry

    def delete(self, entry: Entry) -> None:
        """Forgets one response, if it is still the stored one; fills under way are not concerned."""
        if any(found is entry for found in self._stored(entry.key)):
            self._remove(entry)

    def purge(self, key: bytes) -> int:
        """Forgets an object with all its variants, and refuses fills of it that have started; returns how many."""
        self.generation += 1
        self._purged[key] = self.generation
        self._purged.move_to_end(key)
        if len(self._purged) > PURGES_REMEMBERED_MAX:
            self._forgotten = self._purged.popitem(last=False)[1]
        return self._drop(key)

    def purged_since(self, key: bytes, generation: int) -> bool:
        """Whether that object was purged, or may have been, after the store had that generation."""
        return max(self._purged.get(key, 0), self._forgotten) > generation

    def __iter__(self) -> Iterator[Entry]:
        """Every stored response; the store must not change meanwhile."""
        for key in self._objects:
            yield from self._stored(key)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def vary(self, key: bytes) -> tuple[bytes, ...]:
        """The names of the request fields that tell this object's variants apart; empty if it has none."""
        found = self._objects.get(key)
        return found.names if type(found) is _Variants else ()

    def _names(self, key: bytes, vary: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """The names for an object's second keys: all that its responses named, so that none hides another.

        When they change, the old variants can be found no more, and ``restore`` drops them.
        """
        names = tuple(sorted({*self.vary(key), *vary}))
        return vary if len(names) > VARY_NAMES_MAX else names

    def _make_place(self, key: bytes, variant: bytes) -> None:
        """Removes the predecessor, else the oldest of too many variants."""
        stored = self._stored(key)
        for entry in stored:
            if entry.variant == variant:
                self._remove(entry)
                return
        if len(stored) >= VARIANTS_MAX:
            self._remove(stored[0])

    def _drop(self, key: bytes) -> int:
        gone = self._stored(key)
        for entry in gone:
            self._remove(entry)
        return len(gone)

    def _stored(self, key: bytes) -> list[Entry]:
        found = self._objects.get(key)
        if found is None:
            return []
        return list(found.entries.values()) if type(found) is _Variants else [found]

    def _remove(self, entry: Entry) -> None:
        group = self._objects[entry.key]
        if type(group) is _Variants:
            del group.entries[entry.variant]
        if type(group) is not _Variants or not group.entries:
            del self._objects[entry.key]
        self.used_bytes -= entry.size_bytes
        self._eviction.remove(entry)
