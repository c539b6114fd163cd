"""Byte ranges from the store (RFC 9110 section 14): what of a stored body answers a request.

One range at a time: a list of ranges is the origin's to answer.
"""

import re
from enum import Enum

from msgspec import Struct

from nearmile.cache.directives import Fields, values_of
from nearmile.cache.parts import Part, strong
from nearmile.cache.policy import Storable

_RANGE = re.compile(rb"(?i:bytes)=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*")
# A date is a strong validator once a change in the same second would have shown (RFC 9110 section 8.8.2.2).
STRONG_AFTER_S = 1


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


def wanted(method: bytes, fields: Fields) -> Wanted | None:
    """The one range that a request asks for; None where Range is absent, a list, or void (section 14.2)."""
    values = values_of(fields, b"range") if method == b"GET" else ()
    found = _RANGE.fullmatch(values[0]) if len(values) == 1 else None
    if found is None or found[1] == found[2] == b"":
        return None
    first, last = (int(number) if number else None for number in found.groups())
    return None if first is not None and last is not None and last < first else Wanted(first, last)


def cut(method: bytes, fields: Fields, kept: Storable, body_bytes: int) -> Cut | Uncut:
    """What of a stored response of ``body_bytes`` answers a request, once it is known to be usable."""
    asked = wanted(method, fields)
    if asked is None or not _unchanged(fields, kept):
        return Uncut.WHOLE if kept.part is None else Uncut.ELSEWHERE
    if kept.part is not None:
        return _of_part(asked, kept.part, body_bytes)
    if kept.status != 200 or not body_bytes:
        return Uncut.WHOLE
    return _of_whole(asked, body_bytes)


def _unchanged(fields: Fields, kept: Storable) -> bool:
    """Whether If-Range, if there is one, names what is stored, compared strongly (RFC 9110 section 13.1.5)."""
    values = values_of(fields, b"if-range")
    if not values:
        return True
    if values == (kept.etag,):
        return strong(kept.etag)
    # ``born_at_s`` is never later than Date, but for clocks that differ.
    return values == (kept.last_modified,) and kept.modified_at_s + STRONG_AFTER_S <= kept.born_at_s


def _of_whole(asked: Wanted, body_bytes: int) -> Cut | Uncut:
    if asked.first is None:
        start, end = max(0, body_bytes - (asked.last or 0)), body_bytes
    else:
        start, end = asked.first, body_bytes if asked.last is None else min(asked.last + 1, body_bytes)
    if start >= end:
        return Uncut.UNSATISFIABLE
    return Cut(start, end, b"bytes %d-%d/%d" % (start, end - 1, body_bytes))


def _of_part(asked: Wanted, part: Part, body_bytes: int) -> Cut | Uncut:
    """Counted from the part's first byte, or for a suffix from its last.

    So what is sent is consistent in itself even where a part's length is not what its Content-Range says.
    """
    if asked.first is None:
        size = asked.last or 0
        if not part.reaches_end or not 0 < size <= body_bytes:
            return Uncut.ELSEWHERE
        start, end, first = body_bytes - size, body_bytes, part.last + 1 - size
    else:
        last = part.last if asked.last is None else asked.last
        start, end, first = asked.first - part.first, min(last + 1 - part.first, body_bytes), asked.first
        covered = part.reaches_end or (asked.last is not None and last <= part.last)
        if not covered or start < 0 or start >= end:
            return Uncut.ELSEWHERE
    complete = b"*" if part.complete is None else b"%d" % part.complete
    return Cut(start, end, b"bytes %d-%d/%b" % (first, first + end - start - 1, complete))
