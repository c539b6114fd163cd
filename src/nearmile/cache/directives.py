"""Cache-Control (RFC 9111 section 5.2) read as a tolerant recipient must: any case, any order, quoted or not.

What cannot be read never makes a response fresher: an invalid or contradictory number of seconds counts as 0
(RFC 9111 section 4.2.1), and an unknown directive is ignored.
"""

import re
from collections.abc import Mapping
from functools import lru_cache

from msgspec import Struct

from nearmile.cache.remembered import remembered
from nearmile.cache.targeted import TARGETED, dictionary

Fields = tuple[tuple[bytes, bytes], ...]
"""Header fields in order: lower-case names, stripped values."""
Said = Mapping[bytes, tuple[bytes, ...]]
"""Header fields by name, for who asks for many of them: the values of each in order."""

# RFC 9111 section 1.2.2: what is too large to represent counts as 2^31.
DELTA_MAX_S = 2**31
# Sites use a handful of Cache-Control values, browsers two or three.
MEMO_SIZE = 256
# Lists of fields that clients repeat with each request: a few megabytes at worst.
FIELDS_MEMO_SIZE = 64

# Possessive, so that no input costs more than linear time.
_QUOTED = rb'"(?:[^"\\]|\\.)*+"'
_MEMBER = re.compile(rb'(?:[^,"]|' + _QUOTED + rb")++", re.DOTALL)
_BALANCED = re.compile(rb'(?:[^"]|' + _QUOTED + rb")*+", re.DOTALL)
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)


class RequestDirectives(Struct, frozen=True):
    """What a client asks of a cache (RFC 9111 section 5.2.1)."""

    max_age_s: int | None = None
    min_fresh_s: int = 0
    max_stale_s: int = 0
    no_cache: bool = False
    no_store: bool = False
    only_if_cached: bool = False
    no_transform: bool = False


class ResponseDirectives(Struct, frozen=True):
    """What an origin allows a cache (RFC 9111 section 5.2.2, RFC 5861).

    ``no_cache`` and ``private`` are the forms that speak of the whole response; fields that the other form names
    are in ``withheld``.
    """

    max_age_s: int | None = None
    s_maxage_s: int | None = None
    stale_while_revalidate_s: int = 0
    stale_if_error_s: int | None = None
    no_store: bool = False
    no_cache: bool = False
    private: bool = False
    public: bool = False
    must_revalidate: bool = False
    proxy_revalidate: bool = False
    must_understand: bool = False
    withheld: frozenset[bytes] = frozenset()
    targeted: bool = False
    """Said to networks like this one alone: Cache-Control and Expires mean nothing here (RFC 9213 section 2.1)."""


NO_REQUEST_DIRECTIVES = RequestDirectives()


def values_of(fields: Fields, name: bytes) -> tuple[bytes, ...]:
    """All values of a field, in order."""
    return tuple([value for field, value in fields if field == name])


def grouped(fields: Fields) -> Said:
    """The fields by name."""
    found: dict[bytes, tuple[bytes, ...]] = {}
    for name, value in fields:
        found[name] = (*found[name], value) if name in found else (value,)
    return found


@lru_cache(FIELDS_MEMO_SIZE)
def request_directives(fields: Fields) -> RequestDirectives:
    """The Cache-Control of a request."""
    values = values_of(fields, b"cache-control")
    return _request(values) if values else NO_REQUEST_DIRECTIVES


def directives_of(said: Said) -> ResponseDirectives:
    """What a response's CDN-Cache-Control says, else its Cache-Control."""
    targeted = said.get(TARGETED)
    if targeted is not None and (found := _targeted(targeted)) is not None:
        return found
    return _response(said.get(b"cache-control", ()))


def list_members(values: tuple[bytes, ...]) -> list[bytes]:
    """The members of a comma-separated list over several lines (RFC 9110 section 5.6.1), empty ones dropped.

    A value with an unclosed quote is split at every comma, so that no directive hides in it.
    """
    members: list[bytes] = []
    for value in values:
        quoted = b'"' in value and _BALANCED.fullmatch(value)
        members += _MEMBER.findall(value) if quoted else value.split(b",")
    return [stripped for member in members if (stripped := member.strip())]


def delta_seconds(value: bytes) -> int | None:
    """A number of seconds, at most ``DELTA_MAX_S`` (RFC 9111 section 1.2.2), or None if it is none."""
    if not value.isdigit():
        return None
    digits = value.lstrip(b"0") or b"0"
    return DELTA_MAX_S if len(digits) > 10 else min(int(digits), DELTA_MAX_S)


_Found = dict[bytes, list[bytes | None]]


@remembered(MEMO_SIZE)
def _request(values: tuple[bytes, ...]) -> RequestDirectives:
    found = _directives(values)
    return RequestDirectives(
        max_age_s=_delta(found, b"max-age"),
        min_fresh_s=_delta(found, b"min-fresh") or 0,
        max_stale_s=DELTA_MAX_S if found.get(b"max-stale") == [None] else _delta(found, b"max-stale") or 0,
        no_cache=b"no-cache" in found,
        no_store=b"no-store" in found,
        only_if_cached=b"only-if-cached" in found,
        no_transform=b"no-transform" in found,
    )


@remembered(MEMO_SIZE)
def _response(values: tuple[bytes, ...]) -> ResponseDirectives:
    return _meaning(_directives(values), targeted=False)


@remembered(MEMO_SIZE)
def _targeted(values: tuple[bytes, ...]) -> ResponseDirectives | None:
    found = dictionary(values)
    return None if found is None else _meaning({key: [value] for key, value in found.items()}, targeted=True)


def _meaning(found: _Found, targeted: bool) -> ResponseDirectives:
    return ResponseDirectives(
        max_age_s=_delta(found, b"max-age"),
        s_maxage_s=_delta(found, b"s-maxage"),
        stale_while_revalidate_s=_delta(found, b"stale-while-revalidate") or 0,
        stale_if_error_s=_delta(found, b"stale-if-error"),
        no_store=b"no-store" in found,
        no_cache=_speaks_of_all(found, b"no-cache"),
        private=_speaks_of_all(found, b"private"),
        public=b"public" in found,
        must_revalidate=b"must-revalidate" in found,
        proxy_revalidate=b"proxy-revalidate" in found,
        must_understand=b"must-understand" in found,
        withheld=frozenset(
            name.lower()
            for directive in (b"no-cache", b"private")
            for argument in found.get(directive, ())
            for name in list_members((argument or b"",))
        ),
        targeted=targeted,
    )


def _directives(values: tuple[bytes, ...]) -> _Found:
    """Each directive's arguments; None stands for a directive without one."""
    found: _Found = {}
    for member in list_members(values):
        name, equals, argument = member.partition(b"=")
        found.setdefault(name.rstrip().lower(), []).append(_argument(name, argument) if equals else None)
    return found


def _argument(name: bytes, argument: bytes) -> bytes:
    if len(argument) >= 2 and argument[:1] == argument[-1:] == b'"':
        argument = _ESCAPE.sub(rb"\1", argument[1:-1])
    # No white space may stand before the equals sign: keep it, so that the number is invalid.
    return argument if name == name.rstrip() else b" " + argument


def _delta(found: _Found, name: bytes) -> int | None:
    arguments = found.get(name)
    if not arguments:
        return None
    # Several values that differ, or anything but digits: stale (RFC 9111 section 4.2.1).
    if any(other != arguments[0] for other in arguments):
        return 0
    return delta_seconds(arguments[0] or b"") or 0


def _speaks_of_all(found: _Found, name: bytes) -> bool:
    """Without an argument, or with an empty one, a directive speaks of the whole response: the strict reading."""
    return any(not argument or not argument.strip() for argument in found.get(name, ()))
