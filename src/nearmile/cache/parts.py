"""Parts of objects: what a 206 holds (RFC 9110 section 15.3.7), and two of them joined (RFC 9111 section 3.4)."""

import re

from msgspec import Struct

from nearmile.cache.directives import Fields, values_of

# No object has more bytes than a number of 18 digits can say.
_CONTENT_RANGE = re.compile(rb"(?i:bytes) ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")


class Part(Struct, frozen=True, gc=False):
    """Where a body lies in its object: first and last byte, and how many there are in all, if that is known."""

    first: int
    last: int
    complete: int | None

    @property
    def reaches_end(self) -> bool:
        """Nothing comes after it."""
        return self.complete is not None and self.last == self.complete - 1


def part_of(fields: Fields) -> Part | None:
    """Where the Content-Range of a 206 says that its body lies; None if that means nothing (section 14.4)."""
    values = values_of(fields, b"content-range")
    found = _CONTENT_RANGE.fullmatch(values[0]) if len(values) == 1 else None
    if found is None:
        return None
    first, last, complete = int(found[1]), int(found[2]), None if found[3] == b"*" else int(found[3])
    return None if last < first or (complete is not None and last >= complete) else Part(first, last, complete)


def strong(etag: bytes | None) -> bool:
    """Whether equal tags mean equal bytes (RFC 9110 section 8.8.1); only then may parts be joined."""
    return etag is not None and etag.startswith(b'"')


def joined(one: Part, one_body: bytes, other: Part, other_body: bytes) -> tuple[Part, bytes] | None:
    """Two parts of the same bytes as one; None where a gap lies between them, or one is not what it says."""
    if one.complete != other.complete or not (_honest(one, one_body) and _honest(other, other_body)):
        return None
    if other.first < one.first:
        one, one_body, other, other_body = other, other_body, one, one_body
    if other.first > one.last + 1:
        return None
    if other.last <= one.last:
        return one, one_body
    return Part(one.first, other.last, one.complete), one_body + other_body[one.last + 1 - other.first :]


def _honest(part: Part, body: bytes) -> bool:
    return len(body) == part.last - part.first + 1
