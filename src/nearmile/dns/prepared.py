"""Whole responses kept ready for who asks the same again, in whatever capitals (some resolvers' guard against
forged answers: each of theirs is new).

A query is found by all its bytes but the number, with small letters: one call for a whole packet. As it takes
other bytes for letters too, what follows the name is compared as it is; and the end of a subnet is part of the key
as it is, so that two subnets that look alike in small letters rarely push each other out. Queries are given
without their number here. What many responses have in common (subnets, addresses) is kept once: of what memory is
touched for an answer, most would not be in the processor's cache.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from nearmile.dns.memo import Memo
from nearmile.dns.wire import HEADER_BYTES

# 400 bytes each.
PREPARED_MAX = 65_536
NUMBER_BYTES, KEY_TAIL_BYTES = 2, 4
# One question, and at most the OPT record: these counts are no letters.
_COUNTS = slice(4 - NUMBER_BYTES, HEADER_BYTES - NUMBER_BYTES)
_COUNTED = (b"\0\1\0\0\0\0\0\0", b"\0\1\0\0\0\0\0\1")


@dataclass(frozen=True, slots=True)
class Ready:
    """What becomes of a query when it is made its response: the number and the name stay as they are.

    (Of all kinds of values the attributes of this one are read fastest.)
    """

    asked: bytes
    """The query after its name."""
    kind: int
    """The hash of what is counted together."""
    header: bytes
    """Flags and counts."""
    name_end: int
    """Where the name ends in the whole packet, and ``rest`` begins."""
    rest: bytes
    size: int
    """The response's."""


class Prepared:
    """Bounded in memory."""

    def __init__(self) -> None:
        self._known: Memo[bytes, Ready] = Memo(PREPARED_MAX)
        self._parts: Memo[bytes, bytes] = Memo(PREPARED_MAX)

    def __len__(self) -> int:
        return len(self._known)

    def find(self, queries: Sequence[bytes]) -> list[Ready | None]:
        """For each query what may be its response: if the query ends as ``asked`` says."""
        return self._known.get_each([query.lower() + query[-KEY_TAIL_BYTES:] for query in queries])

    def keep(self, query: bytes, name_end: int, response: bytes, kind: int) -> None:
        """Keeps the whole response to a well-formed query."""
        if query[_COUNTS] in _COUNTED:
            asked, header = query[name_end - NUMBER_BYTES :], response[NUMBER_BYTES:HEADER_BYTES]
            rest = self._once(response[name_end:])
            ready = Ready(self._once(asked), kind, self._once(header), name_end, rest, len(response))
            self._known.put(query.lower() + query[-KEY_TAIL_BYTES:], ready)

    def _once(self, part: bytes) -> bytes:
        known = self._parts.get(part)
        if known is None:
            self._parts.put(part, part)
        return known or part
