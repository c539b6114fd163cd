"""What a shared cache may store, and for how long: RFC 9111 sections 3, 4.2 and 5 as one pure decision.

A response is turned into a ``Storable``: everything that later decisions about it need, as plain numbers and
flags. Times are seconds since 1970. Deliberate choices where the RFC leaves some: contradictory or unreadable
freshness counts as stale; a response with Set-Cookie is stored only when the origin itself names a freshness for
it.
"""

from math import floor

from msgspec import Struct

from nearmile.cache.dates import format_date, parse_date
from nearmile.cache.directives import (
    Fields,
    ResponseDirectives,
    Said,
    delta_seconds,
    directives_of,
    grouped,
    list_members,
    request_directives,
    values_of,
)
from nearmile.cache.key import CODED
from nearmile.cache.parts import Part, part_of
from nearmile.cache.purge import TAG_FIELDS, UNTOLD, tags_of
from nearmile.cache.remembered import remembered
from nearmile.cache.slices import Slices

STORED_METHODS = frozenset((b"GET", b"POST"))
# RFC 9110 section 15.1.
HEURISTIC_STATUSES = frozenset((200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501))
PARTIAL = 206
# Never stored: they are about another response, or about this request alone.
UNSTORABLE_STATUSES = frozenset((304, 416))
# For must-understand (RFC 9111 section 5.2.2.3): the final statuses of RFC 9110 section 15.
UNDERSTOOD_STATUSES = frozenset(
    (*range(200, 207), *range(300, 304), 305, 307, 308, *range(400, 418), 421, 422, 426, *range(500, 506))
)
# A tenth of the time since the last change (RFC 9111 section 4.2.2); a day bounds the harm of a wrong guess.
HEURISTIC_FRACTION = 0.1
HEURISTIC_MAX_S = 86_400
# How long what is at hand answers for an unreachable origin (RFC 9111 section 4.2.4), unless told otherwise.
STALE_IF_ERROR_S = 86_400
# A Vary of more fields than this fits no second request anyway.
VARY_NAMES_MAX = 16
# Most responses that vary do so in one of a few ways.
MEMO_SIZE = 256

HOP_BY_HOP = frozenset(
    (
        b"alt-svc",
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
"""Fields of one connection, never stored or forwarded (RFC 9110 section 7.6.1, RFC 9111 section 3.1).

And Alt-Svc: where else the origin can be reached (RFC 7838) is not where we can.
"""
_NOT_STORED = HOP_BY_HOP | UNTOLD | {b"age"}


class Storable(Struct, frozen=True, gc=False):
    """The terms under which a response is kept."""

    status: int
    born_at_s: float
    """When its age was 0 (the response time less the corrected initial age, RFC 9111 section 4.2.3)."""
    fresh_until_s: float
    stale_while_revalidate_s: int
    stale_if_error_s: int
    """How long after its freshness it may stand in for an origin that fails."""
    no_cache: bool
    """Never used without validation."""
    must_revalidate: bool
    """Never used stale on a client's wish (must-revalidate, proxy-revalidate or s-maxage)."""
    vary: tuple[bytes, ...]
    """The names of request fields that the response depends on: lower-case, sorted, each once."""
    etag: bytes | None
    last_modified: bytes | None
    modified_at_s: int
    """Last-Modified, else Date: what If-Modified-Since is compared with (RFC 9111 section 4.3.2)."""
    part: Part | None = None
    """Where the body lies, if it is not the whole (a 206)."""
    tags: tuple[bytes, ...] = ()
    """What else it can be purged by: sorted, each once."""
    slices: Slices | None = None
    """Of an object too large to be stored whole: how its body is kept, which is not with it."""
    links: tuple[bytes, ...] = ()
    """What its origin hinted at before it came, see ``cache.hints``."""

    @property
    def whole(self) -> bool:
        """The body that is stored with it is the object's."""
        return self.part is None and self.slices is None

    @property
    def coding(self) -> bytes:
        """How the edge has coded the body itself; empty: it is as the origin sent it, whatever that is.

        It stands in ``vary``, in a tuple that many share: a field of its own would cost every response room.
        """
        return next((name.removeprefix(CODED) for name in self.vary if name.startswith(CODED)), b"")

    @property
    def validatable(self) -> bool:
        """Whether the origin can be asked if it is still good."""
        return self.etag is not None or self.last_modified is not None


def decide_store(
    method: bytes,
    request_fields: Fields,
    status: int,
    response_fields: Fields,
    default_ttl_s: int,
    request_time_s: float,
    response_time_s: float,
    said: Said | None = None,
    stands_in: bool = False,
) -> Storable | None:
    """Whether and how a final response to a forwarded request may be stored; None if not.

    A POST's is stored for later GETs, if its caller saw that it ``answers_get`` (RFC 9110 section 9.3.3).
    ``default_ttl_s`` is the site's freshness for responses that name none; the two times are those when the
    request was sent and the response's head arrived; ``said`` are its fields where they are grouped already;
    ``stands_in``: it is all there is, stale as it may be. Never raises, whatever the fields hold.
    """
    said = grouped(response_fields) if said is None else said
    allowed = directives_of(said)
    if method not in STORED_METHODS or not _may_store(request_fields, status, allowed):
        return None
    part = part_of(response_fields) if status == PARTIAL else None
    if status == PARTIAL and (part is None or not values_of(request_fields, b"range")):
        return None
    vary = vary_names(said.get(b"vary", ()))
    if vary is None:
        return None
    date_s = _date(said, b"date", response_time_s)
    if date_s is None:
        date_s = floor(response_time_s)
    modified_s = _date(said, b"last-modified", response_time_s)
    lifetime_s: float | None = _explicit_lifetime(said, allowed, date_s, response_time_s)
    if b"set-cookie" not in allowed.withheld and b"set-cookie" in said and not lifetime_s:
        return None
    if lifetime_s is None:
        if method != b"GET" or (status not in HEURISTIC_STATUSES and not allowed.public):
            return None
        lifetime_s = _implied_lifetime(allowed, default_ttl_s, date_s, modified_s)
    born_at_s = response_time_s - _initial_age(said, date_s, request_time_s, response_time_s)
    strict = allowed.must_revalidate or allowed.proxy_revalidate
    storable = Storable(
        status=status,
        born_at_s=born_at_s,
        fresh_until_s=born_at_s + lifetime_s,
        stale_while_revalidate_s=0 if strict else allowed.stale_while_revalidate_s,
        stale_if_error_s=_stale_if_error(allowed, strict, lifetime_s),
        no_cache=allowed.no_cache,
        must_revalidate=strict or allowed.s_maxage_s is not None,
        vary=vary,
        etag=said[b"etag"][0] if b"etag" in said else None,
        last_modified=None if modified_s is None else said[b"last-modified"][0],
        modified_at_s=date_s if modified_s is None else modified_s,
        part=part,
        tags=() if TAG_FIELDS.isdisjoint(said) else tags_of(response_fields),
    )
    worth_it = stands_in or storable.validatable or _usable_later(storable, allowed)
    return storable if worth_it else None


def stored_fields(response_fields: Fields, response_time_s: float, said: Said | None = None) -> Fields:
    """The fields to keep with a response, in order (RFC 9111 section 3.1); ``said`` as above.

    Left out: those of one connection, those that no-cache or private name, tags, which are part of the terms, and
    Age, which is computed anew. A Date that is missing, left out or unreadable is set (RFC 9110 section 6.6.1).
    """
    said, dropped = grouped(response_fields) if said is None else said, _NOT_STORED
    if withheld := directives_of(said).withheld:
        dropped |= withheld
    if b"connection" in said:
        dropped |= connection_fields(response_fields)
    added: Fields = ()
    if b"date" in dropped or _date(said, b"date", response_time_s) is None:
        dropped |= {b"date"}
        added = ((b"date", format_date(int(response_time_s))),)
    return tuple([field for field in response_fields if field[0] not in dropped]) + added


def names_freshness(fields: Fields) -> bool:
    """Whether a response says by itself how long it is fresh, whatever it says."""
    said = grouped(fields)
    return _explicit_lifetime(said, directives_of(said), 0, 0) is not None


def connection_fields(fields: Fields) -> frozenset[bytes]:
    """The names that concern this connection only: the known ones and those that Connection lists."""
    named = values_of(fields, b"connection")
    return HOP_BY_HOP | {name.lower() for name in list_members(named)} if named else HOP_BY_HOP


@remembered(MEMO_SIZE)
def vary_names(values: tuple[bytes, ...]) -> tuple[bytes, ...] | None:
    """The names in Vary, sorted, in a tuple that many responses share.

    None if nothing can match (``*``, RFC 9111 section 4.1), or too many.
    """
    if not values:
        return ()
    names = {name.lower() for name in list_members(values)}
    return None if b"*" in names or len(names) > VARY_NAMES_MAX else tuple(sorted(names))


def _may_store(request_fields: Fields, status: int, allowed: ResponseDirectives) -> bool:
    """The refusals of RFC 9111 section 3 that do not depend on time."""
    if not 200 <= status <= 599 or status in UNSTORABLE_STATUSES or allowed.private:
        return False
    if allowed.must_understand and status not in UNDERSTOOD_STATUSES:
        return False
    if allowed.no_store and not allowed.must_understand:
        return False
    if request_directives(request_fields).no_store:
        return False
    if values_of(request_fields, b"authorization"):
        # RFC 9111 section 3.5.
        return allowed.public or allowed.must_revalidate or allowed.s_maxage_s is not None
    return True


def _explicit_lifetime(said: Said, allowed: ResponseDirectives, date_s: int, now_s: float) -> int | None:
    """What the origin says, for a shared cache (RFC 9111 section 4.2.1); None if it says nothing."""
    if allowed.s_maxage_s is not None:
        return allowed.s_maxage_s
    if allowed.max_age_s is not None:
        return allowed.max_age_s
    if allowed.targeted:
        return None
    expires = said.get(b"expires")
    if expires is None:
        return None
    # Unreadable, or several that differ: already expired (RFC 9111 section 5.3).
    expires_s = parse_date(expires[0], now_s) if len(set(expires)) == 1 else None
    return 0 if expires_s is None else max(0, expires_s - date_s)


def _implied_lifetime(
    allowed: ResponseDirectives, default_ttl_s: int, date_s: int, modified_s: int | None
) -> float:
    """A heuristic lifetime (RFC 9111 section 4.2.2), or the site's default."""
    if allowed.no_cache:
        return 0
    if modified_s is not None:
        return min(HEURISTIC_MAX_S, max(0, date_s - modified_s) * HEURISTIC_FRACTION)
    return default_ttl_s


def _initial_age(said: Said, date_s: int, request_time_s: float, response_time_s: float) -> float:
    """The corrected initial age (RFC 9111 section 4.2.3); Date's whole seconds are compared with whole seconds."""
    apparent_age_s = max(0, floor(response_time_s) - date_s)
    return max(apparent_age_s, _age(said) + max(0.0, response_time_s - request_time_s))


def _age(said: Said) -> int:
    """The first member of Age, or 0 if it is no number (RFC 9111 section 5.1)."""
    members = list_members(said.get(b"age", ()))
    return (delta_seconds(members[0]) or 0) if members else 0


def _stale_if_error(allowed: ResponseDirectives, strict: bool, lifetime_s: float) -> int:
    """Nothing is implied by a response that was for nobody but who asked, which may be a user's own page."""
    if strict or allowed.no_cache:
        return 0
    if allowed.stale_if_error_s is not None:
        return allowed.stale_if_error_s
    return STALE_IF_ERROR_S if allowed.s_maxage_s is None and lifetime_s > 0 else 0


def _usable_later(storable: Storable, allowed: ResponseDirectives) -> bool:
    """Without a validator, only a response that somebody may get unasked is worth its room.

    At the least those may who waited for it, however late it came.
    """
    stale_s = 0 if allowed.stale_if_error_s is None else storable.stale_if_error_s
    usable_until_s = storable.fresh_until_s + max(stale_s, storable.stale_while_revalidate_s)
    return not storable.no_cache and storable.born_at_s < usable_until_s


def _date(said: Said, name: bytes, now_s: float) -> int | None:
    values = said.get(name)
    return None if values is None else parse_date(values[0], now_s)
