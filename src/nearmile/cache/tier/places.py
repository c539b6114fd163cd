"""Where each record is, by name, in 27 bytes of memory for each; a dictionary of numbers takes five times as much.

Records are packed into buckets of some dozens, which are searched as fast as bytes are compared. For each so many
new records one bucket is split into two, in turn, so that nobody waits while all are moved (linear hashing;
Litwin, VLDB 1980). Names are hashes, so their low bits choose the bucket; the variants of an object share these.
"""

from collections.abc import Iterator
from struct import Struct as Layout
from typing import NamedTuple

# The bits of a name that all variants of an object share; objects where they are equal push each other out.
OBJECT_BITS, NAME_BYTES = 48, 8
OBJECT_MASK = (1 << OBJECT_BITS) - 1
# Records for each bucket, on average.
BUCKET_RECORDS = 32
# Name; segment and site (40 and 24 bits); offset and flags (26 and 6); length.
_LAYOUT, _REST = Layout("<QQII"), Layout("<QII")
# The flags are in the lowest byte of theirs.
RECORD_BYTES, FLAGS_AT = _LAYOUT.size, 16
SITE_BITS, FLAG_BITS = 24, 6
_SITE, _FLAGS = (1 << SITE_BITS) - 1, (1 << FLAG_BITS) - 1


class Place(NamedTuple):
    """A record's."""

    segment: int
    offset: int
    length: int

    @property
    def end(self) -> tuple[int, int]:
        """Segment and offset of what is behind it."""
        return self.segment, self.offset + self.length


Record = tuple[Place, int, int]
"""What is known of a record: its place, its site's serial, and flags."""


class Places:
    """Records by name; those of one object in the order in which they came."""

    def __init__(self) -> None:
        self._buckets = [bytearray()]
        self._mask = self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Record]:
        for bucket in self._buckets:
            for _, *packed in _LAYOUT.iter_unpack(bucket):
                yield _unpacked(*packed)

    def get(self, name: int) -> Record | None:
        """The record of that name."""
        bucket, at = self._find(name)
        if at < 0:
            return None
        return _unpacked(*_REST.unpack_from(bucket, at + NAME_BYTES))

    def add(self, name: int, record: Record) -> None:
        """There is a new record, of a name that none has."""
        bucket = self._bucket(name)
        bucket += _LAYOUT.pack(name, *_packed(record))
        self._count += 1
        if self._count > BUCKET_RECORDS * len(self._buckets):
            self._split()

    def change(self, name: int, record: Record) -> None:
        """The record of that name, which there is, is another now."""
        bucket, at = self._find(name)
        _REST.pack_into(bucket, at + NAME_BYTES, *_packed(record))

    def flag(self, name: int, cleared: int, added: int) -> None:
        """The record of that name, if there is one, has other flags now."""
        bucket, at = self._find(name)
        if at >= 0:
            bucket[at + FLAGS_AT] = bucket[at + FLAGS_AT] & ~cleared | added

    def drop(self, name: int) -> None:
        """Forgets the record of that name, which there is."""
        bucket, at = self._find(name)
        del bucket[at : at + RECORD_BYTES]
        self._count -= 1

    def names_of(self, object_name: int) -> list[int]:
        """The names of all records of an object, the oldest first."""
        bucket, wanted = self._bucket(object_name), object_name & OBJECT_MASK
        names = (name for name, *_ in _LAYOUT.iter_unpack(bucket))
        return [name for name in names if name & OBJECT_MASK == wanted]

    def flags_of(self, object_name: int) -> int | None:
        """Those of one of the object's records; None where it has none."""
        bucket, at = self._find(object_name & OBJECT_MASK, OBJECT_BITS >> 3)
        return None if at < 0 else bucket[at + FLAGS_AT] & _FLAGS

    def _bucket(self, name: int) -> bytearray:
        buckets, at = self._buckets, name & self._mask
        return buckets[at] if at < len(buckets) else buckets[at & self._mask >> 1]

    def _find(self, name: int, name_bytes: int = NAME_BYTES) -> tuple[bytearray, int]:
        """The bucket where it belongs, and where in it the record is; negative where there is none."""
        bucket, wanted = self._bucket(name), name.to_bytes(name_bytes, "little")
        at = bucket.find(wanted)
        while at > 0 and at % RECORD_BYTES:
            at = bucket.find(wanted, at + 1)
        return bucket, at

    def _split(self) -> None:
        new = len(self._buckets)
        self._mask = (1 << new.bit_length()) - 1
        old = new & self._mask >> 1
        kept, moved = bytearray(), bytearray()
        for one in _LAYOUT.iter_unpack(self._buckets[old]):
            (moved if one[0] & self._mask == new else kept).extend(_LAYOUT.pack(*one))
        self._buckets[old] = kept
        self._buckets.append(moved)


def _packed(record: Record) -> tuple[int, int, int]:
    (segment, offset, length), site, flags = record
    return segment << SITE_BITS | site, offset << FLAG_BITS | flags, length


def _unpacked(where: int, what: int, length: int) -> Record:
    return Place(where >> SITE_BITS, what >> FLAG_BITS, length), where & _SITE, what & _FLAGS
