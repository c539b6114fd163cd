"""What may be done with a stored response when a request comes: reuse, validation, update, invalidation.

RFC 9111 sections 4, 4.3 and 4.4, RFC 9110 section 13, RFC 5861. Pure; times are seconds since 1970.
"""

import re
from enum import Enum
from functools import lru_cache
from urllib.parse import urljoin, urlsplit

from msgspec.structs import replace

from nearmile.cache.dates import format_date, parse_date
from nearmile.cache.directives import FIELDS_MEMO_SIZE, Fields, RequestDirectives, values_of
from nearmile.cache.policy import Storable, connection_fields, names_freshness
from nearmile.cache.ranges import in_bytes

SAFE_METHODS = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE"))
# Only the origin can answer these: preconditions on its own state (RFC 9111 section 4.3.2), and upgrades. A body
# makes the answer depend on more than the key.
_FORWARDED = frozenset((b"if-match", b"if-unmodified-since", b"upgrade", b"content-length", b"transfer-encoding"))
CONDITIONS = frozenset((b"if-none-match", b"if-modified-since"))
"""Request fields that the cache evaluates itself, and replaces by its own ``validators`` towards the origin."""
# What describes the stored body is not changed by a response without one (RFC 9111 section 3.2).
_KEPT = frozenset((b"content-encoding", b"content-length", b"content-range"))
_ENTITY_TAG = re.compile(rb'(?:W/)?"[^"]*"|[^\s,"]+')


class Verdict(Enum):
    """What to do with a stored response."""

    FRESH = "serve it (it is fresh, or not staler than the client's max-stale)"
    STALE_WHILE_REVALIDATE = "serve it, and ask the origin meanwhile (RFC 5861 section 3)"
    VALIDATE = "ask the origin first"
    UNAVAILABLE = "answer 504: the client wants nothing but what is stored (RFC 9111 section 5.2.1.7)"


@lru_cache(FIELDS_MEMO_SIZE)
def reusable(method: bytes, fields: Fields) -> bool:
    """Whether a request may be answered from the store; if not, it is forwarded and its response not stored."""
    if method != b"GET" and method != b"HEAD":
        return False
    if method == b"GET" and not in_bytes(fields):
        return False
    found = [pair for pair in fields if pair[0] in _FORWARDED]
    return all(pair == (b"content-length", b"0") for pair in found)


def verdict(kept: Storable, asked: RequestDirectives, now_s: float) -> Verdict:
    """RFC 9111 section 4.2 with what the client asks (section 5.2.1)."""
    age_s = now_s - kept.born_at_s
    refused = kept.no_cache or asked.no_cache or (asked.max_age_s is not None and age_s > asked.max_age_s)
    if not refused:
        stale_s = now_s - kept.fresh_until_s
        if stale_s < 0 and -stale_s >= asked.min_fresh_s:
            return Verdict.FRESH
        # A client that names what it accepts gets stale only within what it names.
        takes_any = asked.max_age_s is None and not asked.min_fresh_s
        if takes_any and 0 <= stale_s < kept.stale_while_revalidate_s:
            return Verdict.STALE_WHILE_REVALIDATE
        # What was never fresh may be a user's own page, which another's wish must not get.
        for_all = not kept.must_revalidate and shareable(kept, kept.born_at_s)
        if 0 <= stale_s < asked.max_stale_s and not asked.min_fresh_s and for_all:
            return Verdict.FRESH
    return Verdict.UNAVAILABLE if asked.only_if_cached else Verdict.VALIDATE


def shareable(kept: Storable, now_s: float) -> bool:
    """Whether it may answer others than the client that it came for, unasked (RFC 9111 sections 4, 5.2.2.4)."""
    return not kept.no_cache and now_s < kept.fresh_until_s + kept.stale_while_revalidate_s


def late_for(kept: Storable, asked: RequestDirectives, now_s: float) -> bool:
    """Whether what took longer to come than it is fresh is too old for a request that has waited for it.

    One answer may satisfy all that came meanwhile (RFC 9111 section 4), though its age counts from when it was
    asked for (section 4.2.3): asked for by each, it would take as long again, and be as old. Not where its origin
    forbids in so many words that it is used stale (section 4.2.4).
    """
    refused = asked.no_cache or (asked.max_age_s is not None and now_s - kept.born_at_s > asked.max_age_s)
    return bool(refused or asked.min_fresh_s) or kept.must_revalidate or not shareable(kept, kept.born_at_s)


def hinted(kept: Storable, links: tuple[bytes, ...]) -> Storable:
    """The same with what was hinted at before it came, unless that, too, may be for who asked alone."""
    return replace(kept, links=links) if links and shareable(kept, kept.born_at_s) else kept


def usable_on_error(kept: Storable, now_s: float) -> bool:
    """Whether it may stand in for an origin that cannot be reached or answers 5xx (RFC 9111 4.2.4, RFC 5861 4)."""
    return not kept.no_cache and now_s < kept.fresh_until_s + kept.stale_if_error_s


def no_fresher(kept: Storable | None, until_s: float) -> Storable | None:
    """The same, fresh until then at most."""
    return kept if kept is None or kept.fresh_until_s <= until_s else replace(kept, fresh_until_s=until_s)


def age_s(kept: Storable, now_s: float) -> int:
    """The Age field of a response served from the store (RFC 9111 section 5.1)."""
    return max(0, int(now_s - kept.born_at_s))


def not_modified(fields: Fields, kept: Storable, now_s: float) -> bool:
    """Whether the client's copy is the stored one: answer 304 (RFC 9110 sections 13.1.2, 13.1.3 and 13.2.2).

    If-None-Match compares weakly and makes If-Modified-Since mean nothing. Only a successful response can be
    unmodified.
    """
    if not 200 <= kept.status <= 299:
        return False
    if tags := values_of(fields, b"if-none-match"):
        mine = kept.etag
        if mine is not None and tags == (mine,) and mine.startswith(b'"'):
            return True  # As almost always: the one tag that we gave.
        joined = b",".join(tags)
        if joined.strip() == b"*":
            return True
        return mine is not None and any(_opaque(tag) == _opaque(mine) for tag in _ENTITY_TAG.findall(joined))
    since = values_of(fields, b"if-modified-since")
    since_s = parse_date(since[0], now_s) if len(since) == 1 else None
    return since_s is not None and kept.modified_at_s <= since_s


def validators(kept: Storable) -> Fields:
    """The conditions that ask the origin whether it is still good (RFC 9111 section 4.3.1)."""
    etag = () if kept.etag is None else ((b"if-none-match", kept.etag),)
    modified = () if kept.last_modified is None else ((b"if-modified-since", kept.last_modified),)
    return etag + modified


def updated_by_304(kept: Storable, stored: Fields, new: Fields, response_time_s: float) -> Fields | None:
    """The stored fields updated by those of a 304 (RFC 9111 section 3.2), to be decided on and stored anew.

    None if the 304 speaks of another representation (section 4.3.4): forget the stored one and ask again.
    """
    tag = next(iter(values_of(new, b"etag")), None)
    if tag is not None and kept.etag is not None:
        weak = tag.startswith(b"W/")
        if _opaque(tag) != _opaque(kept.etag) if weak else tag != kept.etag:
            return None
    skipped = connection_fields(new) | _KEPT
    if not names_freshness(new):
        skipped |= {b"set-cookie"}  # as with a 200: unless it is said to be for all, it is for who asked alone
    update = tuple((name, value) for name, value in new if name not in skipped)
    if not values_of(update, b"date"):
        update += ((b"date", format_date(int(response_time_s))),)
    replaced = {name for name, _ in update}
    return tuple(field for field in stored if field[0] not in replaced) + update


def confirmed_by_head(kept: Storable, stored: Fields, new: Fields) -> bool | None:
    """Whether the 200 that answers a HEAD speaks of what is stored (RFC 9111 section 4.3.5), as a 304 does.

    None where it has no validator to compare, though the RFC would let it pass: then whatever asks by HEAD now and
    then, as monitors do, would keep an old body fresh for ever.
    """
    validators_of = {b"etag": kept.etag, b"last-modified": kept.last_modified}
    length = next(iter(values_of(stored, b"content-length")), None)
    compared = {**validators_of, b"content-length": length}
    if any(value != compared[name] for name, value in new if name in compared):
        return False
    return True if any(name in validators_of for name, _ in new) else None


def answers_get(method: bytes, status: int, fields: Fields, host: bytes, target: bytes) -> bool:
    """Whether the response to a POST is what a GET of the same target would get (RFC 9110 section 9.3.3)."""
    named = values_of(fields, b"content-location")
    return (
        method == b"POST" and status == 200 and len(named) == 1 and _same_origin(named[0], host, target) == target
    )


def invalidated(method: bytes, status: int, fields: Fields, host: bytes, target: bytes) -> tuple[bytes, ...]:
    """The targets to purge after a response to an unsafe method, unless it is an error (RFC 9111 section 4.4).

    The request's own, and those that Location and Content-Location name on the same ``host``, given as in the
    request's Host field.
    """
    if method in SAFE_METHODS or not 200 <= status <= 399:
        return ()
    named = values_of(fields, b"location") + values_of(fields, b"content-location")
    same = (_same_origin(reference, host, target) for reference in named)
    return tuple(dict.fromkeys((target, *(found for found in same if found is not None))))


def _same_origin(reference: bytes, host: bytes, target: bytes) -> bytes | None:
    """The target that a reference names on this host, or None if it names another host or nothing."""
    base = "//" + host.decode("latin-1") + target.decode("latin-1")
    try:
        parts = urlsplit(urljoin(base, reference.decode("latin-1")))
    except ValueError:
        return None
    if parts.netloc.lower() != host.decode("latin-1").lower():
        return None
    query = "?" + parts.query if parts.query or b"?" in reference.partition(b"#")[0] else ""
    return ((parts.path or "/") + query).encode("latin-1")


def _opaque(tag: bytes) -> bytes:
    return tag.removeprefix(b"W/")
