"""Whole responses kept ready for who asks the same again, in whatever capitals (some resolvers' guard against
forged answers: each of theirs is new).

A query is found by all its bytes but the number: as it is, since most resolvers write small letters, and if not
so, with small letters up to the end of its name. In the header these change AD at most (RFC 6840, section 5.7), on
which no response here depends. The name, in one place in query and response, comes back as it was asked. Neither
has its number here.
"""

from collections.abc import Sequence

from nearmile.dns.memo import Memo
from nearmile.dns.wire import HEADER_BYTES

# Half a kilobyte each.
PREPARED_MAX = 65_536
# A name, a question and a client subnet; there is no room for so many records that their count is a letter.
QUERY_BYTES_MAX = 320
NUMBER_BYTES = 2
_NAME_AT = HEADER_BYTES - NUMBER_BYTES
_NAME_END = b"\0"

Ready = tuple[int, bytes]
"""A small number, the same for all that is counted together, and the response."""


class Prepared:
    """Bounded in memory."""

    def __init__(self) -> None:
        self._known: Memo[bytes, Ready] = Memo(PREPARED_MAX)

    def __len__(self) -> int:
        return len(self._known)

    def find(self, queries: Sequence[bytes]) -> list[Ready | None]:
        """For each query its response, where that is known."""
        found = self._known.young(queries)
        if all(found):
            return found
        find = self._known.get
        for at, query in enumerate(queries):
            if found[at] is None:
                # Of what a stranger made up, where a zero is no name's end, less is taken for letters, not more.
                end = query.find(_NAME_END, _NAME_AT)
                ready = find(query[:end].lower() + query[end:])
                if ready is not None:
                    kind, response = ready
                    found[at] = kind, response[:_NAME_AT] + query[_NAME_AT:end] + response[end:]
        return found

    def keep(self, query: bytes, response: bytes, kind: int) -> None:
        """Keeps the whole response to a well-formed query, if that is as short as nearly all are."""
        if len(query) > QUERY_BYTES_MAX:
            return
        end = query.find(_NAME_END, _NAME_AT)
        small = query[:end].lower() + query[end:]
        self._known.put(small, (kind, response[:_NAME_AT] + small[_NAME_AT:end] + response[end:]))
