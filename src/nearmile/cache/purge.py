"""Purging: what an order names, which responses that concerns, and since when.

Every order is a few *marks*: an exact key, a prefix of keys, a tag of a site. ``Marks`` remembers when each was
last made, on a counter that only grows, so that a response can be asked whether it was purged after it was known
to be good: a look into a dictionary for each tag of the response and each length of prefix in use, however many
orders there were.

All servers take orders from one log, in its sequence (``Position``). An answer of one server to another says how
far the first had come when it began to answer; who has come further does not use it. So there need be no second
round for what a server fetched from a neighbour that had not purged yet: at the time the order was carried out
here, everything fetched before is refused or removed, and everything fetched later comes from a server that had
carried it out too, or from the origin.
"""

from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from math import inf
from typing import Literal

from msgspec import Struct

from nearmile.cache.directives import Fields, values_of
from nearmile.cache.hints import KEPT
from nearmile.cache.key import SERIAL_BYTES, object_key, object_keys

Kind = Literal["url", "prefix", "tag", "all"]

TAG_FIELDS = frozenset((b"surrogate-key", b"cache-tag", b"xkey"))
APPLIED = b"nearmile-applied"
"""The field of a server's answer to another: the position up to which it had applied orders."""
VARY = b"nearmile-vary"
"""The field of such an answer that says: Vary names Accept-Encoding since we code, not since the origin does."""
STALE = b"nearmile-stale"
"""The field of such an answer that its origin has not confirmed: for how many seconds it has been stale."""
UNTOLD = TAG_FIELDS | {APPLIED, VARY, KEPT, STALE}
"""Fields that are between the origin and us."""
# Fastly and Cloudflare allow 16 KB of tags for a response, of 1 KB each; Cloudflare at most 1,000.
TAGS_MAX, TAGS_BYTES_MAX = 1_000, 16 << 10
# A response with more tags than that counts as having every tag: rather purged too often than kept too long. The
# same as if its origin had said so.
ANY_TAG = b"*"
# Marks remembered: 250 bytes each. A purge storm of 100 a second fills them in less than two minutes.
MARKS_MAX = 10_000
# Values that one order may have: it must fit a message of the bus.
VALUES_MAX, VALUE_BYTES_MAX = 256, 8 << 10

_KEY, _PREFIX, _TAG = b"=", b"^", b"#"
EVERYTHING = _PREFIX


class Order(Struct, frozen=True, omit_defaults=True):
    """What is to be forgotten of a site: hard (gone), or ``soft``: stale from now on.

    ``values`` are targets (path and query) for the kinds ``url`` and ``prefix``, tags for ``tag``. What is stored
    for http and what is for https are both concerned.
    """

    id: str
    serial: int
    kind: Kind
    values: tuple[str, ...] = ()
    soft: bool = False


class Position(Struct, frozen=True):
    """How far a server has come in the log of orders: ``log`` is that log's identity, should it be made anew."""

    log: str
    seq: int

    def covers(self, other: "Position") -> bool:
        """Whether all orders up to the other position had been applied at this one."""
        return self.log == other.log and self.seq >= other.seq


def believed(said: Position | None, mine: Position | None) -> bool:
    """Whether a server uses the answer of another, which said how far it had come when it began to answer.

    ``mine`` is how far the asking one had come when it asked. Who has not seen the log confirms nothing yet.
    """
    return mine is None or (said is not None and said.covers(mine))


def write_position(position: Position) -> bytes:
    """As the field APPLIED has it."""
    return b"%d %b" % (position.seq, position.log.encode())


def read_position(value: bytes | None) -> Position | None:
    """None where that is none."""
    seq, _, log = (value or b"").partition(b" ")
    return Position(log.decode("latin-1"), int(seq)) if seq.isdigit() and len(seq) < 20 else None


def marks_of(order: Order) -> tuple[bytes, ...]:
    """The marks that an order makes."""
    values = [value.encode() for value in order.values]
    match order.kind:
        case "url":
            return tuple(_KEY + key for value in values for key in object_keys(order.serial, value))
        case "prefix":
            return tuple(_PREFIX + key for value in values for key in object_keys(order.serial, value))
        case "tag":
            return tuple(_TAG + object_key(order.serial, tag) for tag in (*values, ANY_TAG))
        case "all":
            return (_PREFIX + object_key(order.serial, b""),)


def key_mark(key: bytes) -> bytes:
    """The mark that concerns one key."""
    return _KEY + key


def key_of(mark: bytes) -> bytes | None:
    """The one key that a mark concerns; None where there may be many."""
    return mark[1:] if mark.startswith(_KEY) else None


def may_concern(mark: bytes, key: bytes) -> bool:
    """Whether a mark concerns a response of that key whose tags are not known yet."""
    if mark.startswith(_KEY):
        return mark[1:] == key
    return key.startswith(mark[1:] if mark.startswith(_PREFIX) else mark[1 : 1 + SERIAL_BYTES])


def split_tags(text: bytes) -> list[bytes]:
    """White space and commas both separate tags, in every field: who purges `a,b` purges `a` and `b`."""
    return text.replace(b",", b" ").split()


def tags_of(fields: Fields) -> tuple[bytes, ...]:
    """The tags that a response's fields give it, each once."""
    values = [value for name in TAG_FIELDS for value in values_of(fields, name)]
    if not values:
        return ()
    found = {tag for value in values for tag in split_tags(value)}
    return (ANY_TAG,) if len(found) > TAGS_MAX or sum(map(len, found)) > TAGS_BYTES_MAX else tuple(sorted(found))


def tag_fields(tags: tuple[bytes, ...]) -> Fields:
    """The field that gives a response those tags."""
    return ((b"surrogate-key", b" ".join(tags)),) if tags else ()


KnownMark = tuple[bytes, int, int, float]
"""A mark, the generations of its last hard and its last soft making (0: never), and what the soft one said."""


class _Mark:
    """When it was last made, hard and soft; 0 is never."""

    __slots__ = ("hard", "soft", "soft_at_s")

    def __init__(self) -> None:
        self.hard = self.soft = 0
        self.soft_at_s = 0.0


# Before all marks: what began then counts as purged, whatever it is.
NEVER = -1


class Marks:
    """The latest marks, at most MARKS_MAX, in the order of their making."""

    def __init__(self) -> None:
        self.generation = 0
        """Counts marks."""
        self.forgotten = 0
        """The latest generation whose mark is no longer known."""
        self._marks: OrderedDict[bytes, _Mark] = OrderedDict()
        # How many prefixes there are of each length; the lengths in order.
        self._lengths: Counter[int] = Counter()
        self._sorted: list[int] = []

    def __len__(self) -> int:
        return len(self._marks)

    def __iter__(self) -> Iterator[KnownMark]:
        """What ``resume`` takes, oldest first."""
        for name, mark in self._marks.items():
            yield name, mark.hard, mark.soft, mark.soft_at_s

    def resume(self, known: Iterable[KnownMark], generation: int, forgotten: int) -> None:
        """Goes on where others ended."""
        for name, hard, soft, soft_at_s in known:
            self.add(name)
            mark = self._marks[name]
            mark.hard, mark.soft, mark.soft_at_s = hard, soft, soft_at_s
        self.generation, self.forgotten = generation, forgotten

    def add(self, mark: bytes, soft_at_s: float | None = None) -> None:
        """Makes a mark: hard, or soft at that time."""
        self.generation += 1
        found = self._marks.get(mark)
        if found is None:
            found = self._marks[mark] = _Mark()
            self._count(mark, 1)
        self._marks.move_to_end(mark)
        if soft_at_s is None:
            found.hard = self.generation
        else:
            found.soft, found.soft_at_s = self.generation, soft_at_s

    def oldest(self) -> int:
        """The generation of the mark that ``drop_oldest`` would forget."""
        mark = next(iter(self._marks.values()))
        return max(mark.hard, mark.soft)

    def drop_oldest(self) -> None:
        """Forgets the mark that was made longest ago."""
        self.forgotten = self.oldest()
        self._count(self._marks.popitem(last=False)[0], -1)

    def good_until_s(self, key: bytes, tags: tuple[bytes, ...], generation: int, alone: bool = False) -> float:
        """Until when a response that was good at that generation is so, as far as purges go.

        ``inf`` where nothing since concerns it, ``-inf`` where it must not be used at all. Marks of its key alone
        are only looked at where that is wanted.
        """
        good_until_s = inf
        lengths = self._sorted[: bisect_right(self._sorted, len(key))]
        named = [_PREFIX + key[:length] for length in lengths]
        named += [_TAG + key[:SERIAL_BYTES] + tag for tag in tags]
        if alone:
            named.append(key_mark(key))
        for name in named:
            mark = self._marks.get(name)
            if mark is None:
                continue
            if mark.hard > generation:
                return -inf
            if mark.soft > generation:
                good_until_s = min(good_until_s, mark.soft_at_s)
        return good_until_s

    def _count(self, mark: bytes, change: int) -> None:
        if mark.startswith(_PREFIX):
            self._lengths[len(mark) - 1] += change
            self._sorted = sorted(+self._lengths)
