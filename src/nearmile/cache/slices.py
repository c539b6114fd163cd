"""Large objects in slices: each of one size, stored by itself, and only where somebody wanted it.

Under the object's own key stands a response without a body: its terms, its fields, and ``Slices``, which says how
long it is and what its slices are called. Freshness is the object's alone: a slice is good as long as the object
has the entity tag that the slice came with. The names hold a token that is made with that record, so that whatever
ends the record (a purge, another version) also ends its slices; they are then found no more, and evicted.
"""

from collections.abc import Iterator
from hashlib import blake2b

from msgspec import Struct

from nearmile.cache.parts import Part

# A range of a few bytes costs one slice from the origin, and in the middle of it a client waits for what comes
# before: 0.2 s at 100 Mbit/s. One that reads on has two on the way, as much as 100 Mbit/s carry in 0.3 s.
SLICE_BYTES = 2 << 20
TOKEN_BYTES = 8
# No target has this byte: no other object has such a key. What begins the object's key begins its slices' too.
_MARK = b"\x00"


class Slices(Struct, frozen=True, gc=False):
    """How an object of ``complete`` bytes is stored."""

    complete: int
    slice_bytes: int
    token: bytes

    def part(self, number: int) -> Part:
        """Where that slice lies; only the last may be shorter than the others."""
        first = number * self.slice_bytes
        return Part(first, min(first + self.slice_bytes, self.complete) - 1, self.complete)

    def numbers(self, start: int, end: int) -> range:
        """The slices that have the bytes from ``start`` to before ``end``."""
        return range(start // self.slice_bytes, -(-end // self.slice_bytes) if start < end else 0)

    def split(self, at: int, piece: bytes) -> Iterator[tuple[int, int, bytes]]:
        """A piece of the body, which begins at ``at``, by slices: the slice, where in it, and the bytes."""
        end = at + len(piece)
        for number in self.numbers(at, end):
            first = number * self.slice_bytes
            low, high = max(first, at), min(first + self.slice_bytes, end)
            yield number, low - first, piece[low - at : high - at]

    def key(self, key: bytes, number: int) -> bytes:
        """What the slice of the object ``key`` is stored under."""
        return b"%b%b%b%d" % (key, _MARK, self.token, number)


def place_key(key: bytes, number: int) -> bytes:
    """By which the slice's owner is chosen: the same in all servers, whose tokens differ."""
    return b"%b%b%d" % (key, _MARK, number)


def token_of(etag: bytes, now_s: float, generation: int) -> bytes:
    """Another one after each purge, and after each restart."""
    return blake2b(b"%b %r %d" % (etag, now_s, generation), digest_size=TOKEN_BYTES).digest()
