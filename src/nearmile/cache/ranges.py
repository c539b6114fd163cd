"""Byte ranges from the store (RFC 9110 section 14): what of a stored body answers a request.

    Range -> wanted -> (usable, unchanged?) -> cut: one range, several, the whole, 416, or the origin's to answer

Several ranges are bounded against abuse (sections 14.2 and 17.15): what overlaps or nearly touches is sent once, a
list that is too long is passed over, and so is one whose answer would be larger than the whole.
"""

import re
from enum import Enum
from functools import lru_cache

from msgspec import Struct

from nearmile.cache.directives import FIELDS_MEMO_SIZE, Fields, list_members, values_of
from nearmile.cache.key import CODING
from nearmile.cache.parts import Part, strong
from nearmile.cache.policy import Storable
from nearmile.cache.remembered import remembered

_UNIT = re.compile(rb"(?i:bytes)=(.*)")
_RANGE = re.compile(rb"([0-9]{0,18})-([0-9]{0,18})")
# A date is a strong validator once a change in the same second would have shown (RFC 9110 section 8.8.2.2).
STRONG_AFTER_S = 1
# A reader of PDF asks for some dozens at a time. Apache serves 200, the attack of 2011 (CVE-2011-3192) had 1,300.
RANGES_MAX = 64
# Players and downloads ask everybody's first ranges again and again; a list of RANGES_MAX takes 15 KB.
MEMO_SIZE = 256
# What lies between two ranges costs less than a part of its own: boundary and two fields (section 15.3.7.2).
GAP_BYTES = 128


class Wanted(Struct, frozen=True):
    """Bytes ``first`` to ``last``, or to the end without ``last``; without ``first`` the last ``last`` bytes."""

    first: int | None
    last: int | None


class Cut(Struct, frozen=True):
    """The bytes of a stored body that answer a range, and the Content-Range to send them with."""

    start: int
    end: int
    content_range: bytes


class Uncut(Enum):
    """What else to do."""

    WHOLE = "serve what is stored as it is"
    ELSEWHERE = "ask the origin: a part is stored, and not the one that is wanted"
    UNSATISFIABLE = "there is no such range in the object: answer 416"


Cuts = tuple[Cut, ...]
"""One: a 206 with one range. More: a multipart/byteranges."""


@lru_cache(FIELDS_MEMO_SIZE)
def wanted(method: bytes, fields: Fields) -> tuple[Wanted, ...]:
    """The ranges that a request asks for; empty where Range is absent or void (section 14.2), or has too many."""
    values = values_of(fields, b"range") if method == b"GET" else ()
    return _ranges(values[0]) if len(values) == 1 else ()


@remembered(MEMO_SIZE)
def _ranges(value: bytes) -> tuple[Wanted, ...]:
    found = _UNIT.fullmatch(value)
    members = list_members((found[1],)) if found is not None else ()
    if len(members) > RANGES_MAX:
        return ()
    ranges = [one for member in members if (one := _wanted(member)) is not None]
    return tuple(ranges) if len(ranges) == len(members) else ()


def in_bytes(fields: Fields) -> bool:
    """Whether Range, if there is one, speaks of bytes: what is wrong with it is then ours to pass over."""
    values = values_of(fields, b"range")
    return not values or (len(values) == 1 and _UNIT.fullmatch(values[0]) is not None)


def _wanted(text: bytes) -> Wanted | None:
    found = _RANGE.fullmatch(text)
    if found is None or found[1] == found[2] == b"":
        return None
    first, last = (int(number) if number else None for number in found.groups())
    return None if first is not None and last is not None and last < first else Wanted(first, last)


def cut(method: bytes, fields: Fields, kept: Storable, body_bytes: int) -> Cuts | Uncut:
    """What of a stored response of ``body_bytes`` answers a request, once it is known to be usable."""
    asked, part = wanted(method, fields), kept.part
    if not asked or not _unchanged(fields, kept):
        return Uncut.WHOLE if part is None else Uncut.ELSEWHERE
    if part is None:
        if kept.status != 200 or not body_bytes:
            return Uncut.WHOLE
        at, complete = 0, b"%d" % body_bytes
        spans = [_of_whole(one, body_bytes) for one in asked]
    else:
        at, complete = part.first, b"*" if part.complete is None else b"%d" % part.complete
        spans = []
        for one in asked:
            if (span := _of_part(one, part, body_bytes)) is None:
                return Uncut.ELSEWHERE
            spans.append(span)
    found = coalesced([(start, end) for start, end in spans if start < end])
    if not found:
        return Uncut.UNSATISFIABLE
    if part is None and len(found) > 1 and _answer_bytes(found) >= body_bytes:
        return Uncut.WHOLE
    # A list, not a generator: this is on the hit path, almost always for one.
    return tuple([Cut(s, e, b"bytes %d-%d/%b" % (at + s, at + e - 1, complete)) for s, e in found])


def coalesced(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Start and end of each, in the order in which they were asked for, but near ones joined."""
    if len(spans) < 2:
        return spans
    joined: list[tuple[int, int, int]] = []
    for start, end, turn in sorted((start, end, turn) for turn, (start, end) in enumerate(spans)):
        if joined and start - joined[-1][2] <= GAP_BYTES:
            first, at, until = joined.pop()
            turn, start, end = min(first, turn), at, max(until, end)
        joined.append((turn, start, end))
    return [(start, end) for _, start, end in sorted(joined)]


def _answer_bytes(spans: list[tuple[int, int]]) -> int:
    return sum(end - start + GAP_BYTES for start, end in spans)


def _unchanged(fields: Fields, kept: Storable) -> bool:
    """Whether If-Range, if there is one, names what is stored, compared strongly (RFC 9110 section 13.1.5)."""
    values = values_of(fields, b"if-range")
    if not values:
        return True
    if values == (kept.etag,):
        return strong(kept.etag)
    if CODING in kept.vary:
        return False  # A date is the same in every coding.
    # ``born_at_s`` is never later than Date, but for clocks that differ.
    return values == (kept.last_modified,) and kept.modified_at_s + STRONG_AFTER_S <= kept.born_at_s


def _of_whole(asked: Wanted, body_bytes: int) -> tuple[int, int]:
    """Start and end; no less than the end where there is no such range."""
    if asked.first is None:
        return max(0, body_bytes - (asked.last or 0)), body_bytes
    return asked.first, body_bytes if asked.last is None else min(asked.last + 1, body_bytes)


def _of_part(asked: Wanted, part: Part, body_bytes: int) -> tuple[int, int] | None:
    """Counted from the part's first byte, or for a suffix from its last; None where the part does not have it.

    So what is sent is consistent in itself even where a part's length is not what its Content-Range says.
    """
    if asked.first is None:
        size = asked.last or 0
        return (body_bytes - size, body_bytes) if part.reaches_end and 0 < size <= body_bytes else None
    last = part.last if asked.last is None else asked.last
    start, end = asked.first - part.first, min(last + 1 - part.first, body_bytes)
    covered = part.reaches_end or (asked.last is not None and last <= part.last)
    return (start, end) if covered and 0 <= start < end else None
