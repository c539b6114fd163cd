"""Accept-Encoding (RFC 9110 section 12.5.3) in the few forms that matter here.

Browsers and programs write it in hundreds of ways; what a response can depend on is which of three codings a
client takes, and which it likes best. So stored variants, and what origins are asked, stay few.
"""

import re
from functools import lru_cache

from msgspec import Struct

from nearmile.cache.directives import FIELDS_MEMO_SIZE, Fields, values_of
from nearmile.cache.remembered import remembered

ACCEPT_ENCODING = b"accept-encoding"
CODINGS = (b"br", b"zstd", b"gzip")
"""What is told apart, in the order in which it is chosen where a client likes several equally: smallest first."""
IDENTITY = b"identity"
# A few hundred spellings are in use.
MEMO_SIZE = 512
_MEMBER = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9a-z]+)(?:[ \t]*;[ \t]*q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?", re.IGNORECASE
)
_ALIASES = {b"x-gzip": b"gzip"}  # RFC 9110 section 8.4.1.3


class Accepted(Struct, frozen=True):
    """The codings of ``CODINGS`` that a client takes, in that order, and the one to choose (empty: none)."""

    codings: tuple[bytes, ...]
    best: bytes


NONE = Accepted((), b"")


def accepted(fields: Fields) -> Accepted:
    """What a request's fields accept. Without the field that is no coding at all, though any would be allowed."""
    values = values_of(fields, ACCEPT_ENCODING)
    return _accepted(values) if values else NONE


@remembered(MEMO_SIZE)
def _accepted(values: tuple[bytes, ...]) -> Accepted:
    weights: dict[bytes, float] = {}
    for member in b",".join(values).split(b","):
        # A member that cannot be read names nothing; of two the first counts.
        if (found := _MEMBER.fullmatch(member.strip(b" \t"))) is not None:
            name = found[1].lower()
            weights.setdefault(_ALIASES.get(name, name), 1.0 if found[2] is None else float(found[2]))
    others, plain = weights.get(b"*", 0.0), weights.get(IDENTITY, 0.0)
    taken = {coding: weight for coding in CODINGS if (weight := weights.get(coding, others)) > 0}
    # Who likes no coding better than some gets none of those.
    codings = tuple(coding for coding, weight in taken.items() if weight >= plain)
    return Accepted(codings, max(codings, key=taken.__getitem__, default=b""))


@lru_cache(FIELDS_MEMO_SIZE)
def normal_accept(fields: Fields) -> Fields:
    """The fields with Accept-Encoding, if it is there, in its normal form: the accepted codings in our order."""
    if not values_of(fields, ACCEPT_ENCODING):
        return fields
    value = b", ".join(accepted(fields).codings) or IDENTITY
    return (*(field for field in fields if field[0] != ACCEPT_ENCODING), (ACCEPT_ENCODING, value))
