"""What a stored object is called.

An object is named by its site, its scheme, its hostname where the site has several, and its target (path and
query, byte for byte): so what an origin answers by http alone, such as a redirect to https, or by one name alone,
is not what others get. Purges concern both schemes. Objects whose responses vary are told apart by a second key,
made from the request fields that Vary names (RFC 9111 section 4.1), and from the coding that the edge made.
"""

import re
from functools import lru_cache
from hashlib import blake2b

from nearmile.cache.accept import ACCEPT_ENCODING, CODINGS, accepted
from nearmile.cache.directives import Fields, values_of

SERIAL_BYTES = 3
VARIANT_BYTES = 16
# Enough for the encodings and languages of a page; a Vary on User-Agent must not make a list without end.
VARIANTS_MAX = 64
# Between serial and target where the scheme is https; a target begins with "/".
_SECURE = b"s"
CODING = b":coding"
"""Among the names that a response varies by: the edge codes it as a client likes best. Among a request's fields,
and then instead of Accept-Encoding: the coding that is wanted (empty: none). No client can send such a field."""
CODED = CODING + b"="
"""Before a coding, among the names that a response varies by: it is in that."""
# Most requests for what varies come with one of a few values of Accept-Encoding.
MEMO_SIZE = 512
# Lists whose letters' case means nothing, nor the order of members of the same weight (RFC 9110 sections 12.5.2
# and 12.5.4).
_PREFERENCES = frozenset((b"accept-charset", b"accept-language"))
# RFC 9110 section 12.4.2. It begins where white space does, so that a long run of that is looked at once, not from
# each of its bytes: 30 KB of it took 3.5 s.
_WEIGHT = re.compile(rb"(?<![ \t])[ \t]*+;[ \t]*+q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\Z")


def object_key(serial: int, target: bytes, secure: bool = False) -> bytes:
    """The key of a site's object; ``serial`` is the site's (1 to 16777215), ``target`` the path and query.

    Before these is ``host_space``, where hostnames are told apart. ``secure``: as it is by https.
    """
    return serial.to_bytes(SERIAL_BYTES, "big") + (_SECURE if secure else b"") + target


def host_space(host: bytes) -> bytes:
    """What the targets of one hostname begin with, in a site that tells its hostnames apart."""
    return b"//" + host


def site_of(key: bytes) -> int:
    """The serial of the site whose object that is."""
    return int.from_bytes(key[:SERIAL_BYTES], "big")


def object_keys(serial: int, target: bytes) -> tuple[bytes, bytes]:
    """The keys of that target by http and by https."""
    return object_key(serial, target), object_key(serial, target, secure=True)


def variant_key(names: tuple[bytes, ...], fields: Fields) -> bytes:
    """The secondary key: equal for requests that any origin must treat alike in the named fields.

    An absent field differs from an empty one; lines are joined and white space around commas is dropped, unless
    the value has a quoted string, where white space counts. Lists of preferences are equal if their weights are;
    Accept-Encoding if it is as origins are asked. With CODING, the key ends with the name of the coding.
    """
    wanted = (*names, ACCEPT_ENCODING) if CODING in names else names
    return _variant_key(names, tuple([field for field in fields if field[0] in wanted]))


def same_variant(names: tuple[bytes, ...], one: Fields, other: Fields) -> bool:
    """Whether the response to one request, which varies by those fields, suits the other (RFC 9111 section 4.1).

    That is the origin's, which we have not coded yet.
    """
    return not names or variant_key(names, uncoded(one)) == variant_key(names, uncoded(other))


def wanted_coding(fields: Fields) -> bytes:
    """The coding that a request likes best; empty: none."""
    wanted = values_of(fields, CODING)
    return wanted[-1] if wanted else accepted(fields).best


def uncoded(fields: Fields) -> Fields:
    """A request's fields, of one that wants the body as the origin sent it."""
    return (*fields, (CODING, b""))


@lru_cache(MEMO_SIZE)
def names_of(vary: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """What tells the variants of such a response apart."""
    return tuple(name for name in vary if not name.startswith(CODED)) if CODING in vary else vary


def codings_of(variant: bytes) -> list[bytes]:
    """The second keys of the same response in each of the edge's own codings."""
    return [variant[:VARIANT_BYTES] + coding for coding in CODINGS]


@lru_cache(MEMO_SIZE)
def _variant_key(names: tuple[bytes, ...], fields: Fields) -> bytes:
    digest = blake2b(digest_size=VARIANT_BYTES)
    for name in names:
        if name == CODING:
            continue
        values = values_of(fields, name)
        if not values:
            digest.update(b"\x00")
            continue
        joined = b",".join(values)
        if b'"' not in joined:
            joined = b",".join(part.strip() for part in joined.split(b","))
        if name in _PREFERENCES:
            joined = _preferences(joined.lower())
        elif name == ACCEPT_ENCODING:
            joined = b",".join(accepted(fields).codings)
        digest.update(b"\x01" + len(joined).to_bytes(4, "big") + joined)
    if CODING not in names:
        return digest.digest()
    return digest.digest() + wanted_coding(fields)


def _preferences(joined: bytes) -> bytes:
    """A list of weighted members in one of its equal forms: empty members dropped, weights shortest, sorted."""
    members = (_WEIGHT.sub(_weight, member) for member in joined.split(b","))
    return b",".join(sorted(member for member in members if member))


def _weight(found: re.Match[bytes]) -> bytes:
    value = found[1]
    if b"." in value:
        value = value.rstrip(b"0").rstrip(b".")
    return b"" if value == b"1" else b";q=" + value
