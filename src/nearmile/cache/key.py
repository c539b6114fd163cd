"""What a stored object is called.

A site is one object space, whatever of its hostnames and schemes a client used; an object is named by its target
(path and query, byte for byte). Objects whose responses vary are told apart by a second key, made from the
request fields that Vary names (RFC 9111 section 4.1).
"""

from functools import lru_cache
from hashlib import blake2b

from nearmile.cache.directives import Fields, values_of

SERIAL_BYTES = 3
VARIANT_BYTES = 16
# Most requests for what varies come with one of a few values of Accept-Encoding.
MEMO_SIZE = 512
# Lists of tokens whose letters' case means nothing (RFC 9110 sections 12.5.2 to 12.5.4).
_CASELESS = frozenset((b"accept-charset", b"accept-encoding", b"accept-language"))


def object_key(serial: int, target: bytes) -> bytes:
    """The key of a site's object; ``serial`` is the site's (1 to 16777215), ``target`` the path and query."""
    return serial.to_bytes(SERIAL_BYTES, "big") + target


def variant_key(names: tuple[bytes, ...], fields: Fields) -> bytes:
    """The secondary key: equal for requests that any origin must treat alike in the named fields.

    An absent field differs from an empty one; lines are joined and white space around commas is dropped, unless
    the value has a quoted string, where white space counts.
    """
    return _variant_key(names, tuple([field for field in fields if field[0] in names]))


@lru_cache(MEMO_SIZE)
def _variant_key(names: tuple[bytes, ...], fields: Fields) -> bytes:
    digest = blake2b(digest_size=VARIANT_BYTES)
    for name in names:
        values = values_of(fields, name)
        if not values:
            digest.update(b"\x00")
            continue
        joined = b",".join(values)
        if b'"' not in joined:
            joined = b",".join(part.strip() for part in joined.split(b","))
        if name in _CASELESS:
            joined = joined.lower()
        digest.update(b"\x01" + len(joined).to_bytes(4, "big") + joined)
    return digest.digest()
