"""Content coding by the edge (RFC 9110 section 8.4): which stored responses, and what that does to their terms.

A response is stored as its origin sent it, and once more in each coding that a client liked best. All of them are
renewed by what the origin says of the first: so a coded response can be read back as the origin's, and a strong
entity tag, which must not be that of other bytes (section 8.8.3.3), tells the coding in a way that can be undone.
A weak one stays: it means the same in every coding.
"""

import re
from functools import lru_cache

from msgspec import Struct
from msgspec.structs import replace

from nearmile.cache.accept import ACCEPT_ENCODING, CODINGS
from nearmile.cache.directives import Fields, list_members, values_of
from nearmile.cache.key import CODED, CODING, names_of
from nearmile.cache.policy import Storable

# What a site has is served, and some pages of errors are as long.
STATUSES = frozenset((200, 404, 410))
# Of the bytes as the origin sent them, or about parts of these.
_OF_BYTES = frozenset((
    b"accept-ranges", b"content-digest", b"content-encoding", b"content-length", b"content-md5", b"digest",
    b"repr-digest",
))  # fmt: skip
# As no origin is known to end its tags.
_TAGGED = re.compile(rb";nm-(?:" + b"|".join(CODINGS) + rb')"')
OURS = (b"vary", b"Accept-Encoding")
"""The field line that tells caches behind us. Beside an origin's own Vary on Accept-Encoding there is none."""


class Codable(Struct, frozen=True):
    """What a site wants to have coded."""

    types: "re.Pattern[bytes]"
    bytes_min: int
    bytes_max: int
    """What is larger is not stored in one piece."""

    def takes(self, kept: Storable, fields: Fields) -> bool:
        """Whether a response is coded for clients that like that, where its origin has not done it."""
        if kept.status not in STATUSES or not kept.whole or values_of(fields, b"content-encoding"):
            return False
        media, length = values_of(fields, b"content-type"), values_of(fields, b"content-length")
        known = bool(length) and length[0].isdigit()
        if len(media) != 1 or (known and not self.bytes_min <= int(length[0]) <= self.bytes_max):
            return False
        said = list_members(values_of(fields, b"cache-control"))
        return self.types.fullmatch(media[0].partition(b";")[0].strip().lower()) is not None and not any(
            directive.lower() == b"no-transform" for directive in said
        )


# Thousands of sites that say nothing of it want the same, and it took half of the time to take up their documents.
@lru_cache(256)
def codable(types: tuple[str, ...], bytes_min: int, bytes_max: int) -> Codable:
    """``types`` are media types, in which a ``*`` stands for anything."""
    patterns = (re.escape(name.encode()).replace(rb"\*", rb"[^/]*") for name in types)
    return Codable(re.compile(b"|".join(patterns)), bytes_min, bytes_max)


def keyed(kept: Storable) -> Storable:
    """The terms of a response that is coded for who likes that."""
    return replace(kept, vary=_keyed(kept.vary))


# One for all responses that vary so.
@lru_cache(256)
def _keyed(vary: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return tuple(sorted({*vary, CODING}))


@lru_cache(256)
def _in(vary: tuple[bytes, ...], coding: bytes) -> tuple[bytes, ...]:
    return tuple(sorted({*vary, CODED + coding}))


def told(kept: Storable, fields: Fields) -> Fields:
    """A response's fields as clients get them, whatever the coding."""
    return (*fields, OURS) if is_ours(kept) else fields


def untold(kept: Storable, fields: Fields) -> Fields:
    """The reverse, and of a coded response that of ``coded`` too, but for what was left out there."""
    if is_ours(kept):
        fields = without_ours(fields)
    if not kept.coding:
        return fields
    kept_fields = (field for field in fields if field[0] not in _OF_BYTES)
    return tuple((name, plain_tag(value)) if name == b"etag" else (name, value) for name, value in kept_fields)


def is_ours(kept: Storable) -> bool:
    """Whether the response depends on Accept-Encoding since the edge codes it, not as its origin says."""
    return CODING in kept.vary and ACCEPT_ENCODING not in kept.vary


def without_ours(fields: Fields) -> Fields:
    """Fields without what ``told`` added."""
    return tuple(field for field in fields if field != OURS)


def coded(kept: Storable, fields: Fields, coding: bytes) -> tuple[Storable, Fields]:
    """Terms and fields of a response as the origin sent it, brought into a coding; the length is another, too."""
    etag = None if kept.etag is None else tag_in(kept.etag, coding)
    rest = (field for field in fields if field[0] not in _OF_BYTES)
    shown = tuple((name, tag_in(value, coding)) if name == b"etag" else (name, value) for name, value in rest)
    return replace(kept, etag=etag, vary=_in(kept.vary, coding)), (*shown, (b"content-encoding", coding))


def plain(kept: Storable) -> Storable:
    """The terms as the origin knows them."""
    if not kept.coding:
        return kept
    return replace(kept, etag=None if kept.etag is None else plain_tag(kept.etag), vary=names_of(kept.vary))


def tag_in(etag: bytes, coding: bytes) -> bytes:
    """The entity tag of a response in that coding."""
    strong = len(etag) > 1 and etag.startswith(b'"') and etag.endswith(b'"')
    return etag[:-1] + b';nm-%b"' % coding if strong else etag


def plain_tag(value: bytes) -> bytes:
    """An entity tag, or a list of them, as the origin gave it."""
    return _TAGGED.sub(b'"', value)


def for_origin(fields: Fields) -> Fields:
    """A request's fields with preconditions on the origin's state (RFC 9110 section 13.1.1) as it knows them.

    Only of a method that changes that: to a GET, the origin would answer for bytes that the client does not have.
    """
    conditions = (b"if-match", b"if-none-match")
    return tuple((name, plain_tag(value)) if name in conditions else (name, value) for name, value in fields)
