"""Answers from memory to requests with conditions or a range: that nothing has changed, or one cut of the body.

Clients repeat themselves: the same tag, the same first kilobytes. What such a request gets of a stored response is
decided once, and remembered as long as the response is stored on the same terms.
"""

from nearmile.cache.entry import Entry, not_modified_head, partial_head
from nearmile.cache.pages import Body, cut_body
from nearmile.cache.policy import Storable
from nearmile.cache.ranges import Uncut, cut, in_bytes, wanted
from nearmile.cache.reuse import not_modified
from nearmile.http.fields import Pairs
from nearmile.http.limits import MEMO_BLOCK_BYTES_MAX

# Decisions: a kilobyte or two each. Forgetting all at once costs each client one, an order of use every hit.
KNOWN_MAX = 1024
Decision = tuple[int, bytes, int, int]
"""Status, head, and which bytes of the body."""


def decide(conditions: Pairs, entry: Entry, now_s: float) -> Decision | None:
    """What a GET with those conditions (see Fields) gets of a fresh response in memory.

    None where that takes more than one piece of it, or one of another coding, or is not ours to say.
    """
    if not in_bytes(conditions):
        return None
    kept, head, body_bytes = entry.kept, entry.head, len(entry.body)
    if not_modified(conditions, kept, now_s):
        return 304, not_modified_head(head), 0, 0
    if kept.coding and wanted(b"GET", conditions):
        return None
    found = cut(b"GET", conditions, kept, body_bytes)
    if found is Uncut.WHOLE:
        return kept.status, head, 0, body_bytes
    if isinstance(found, Uncut) or len(found) > 1:
        return None
    (one,) = found
    return 206, partial_head(head, one.content_range, one.end - one.start), one.start, one.end


class Narrow:
    """``decide`` with a memory of bounded size."""

    def __init__(self) -> None:
        self._known: dict[tuple[Pairs, bytes], tuple[Storable, Decision]] = {}

    def answer(self, conditions: Pairs, entry: Entry, now_s: float) -> tuple[int, bytes, Body] | None:
        """Status, head and body; None where the hit path cannot say."""
        known = self._known.get((conditions, entry.head))
        # The same head on the same terms, and no others that are only equal: so it is the same response.
        if known is None or known[0] is not entry.kept:
            decision = decide(conditions, entry, now_s)
            if decision is None:
                return None
            self._learn(conditions, entry, decision)
        else:
            decision = known[1]
        status, head, start, end = decision
        return status, head, cut_body(entry.body, start, end) if end else b""

    def _learn(self, conditions: Pairs, entry: Entry, decision: Decision) -> None:
        if any(name == b"if-modified-since" and b"-" in value for name, value in conditions):
            return  # The year of such a date depends on when it is read (RFC 9110 section 5.6.7).
        if sum(len(value) for _, value in conditions) + len(entry.head) > MEMO_BLOCK_BYTES_MAX:
            return  # A client may send 30 KB of tags, an origin a head of 60 KB.
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        self._known[conditions, entry.head] = entry.kept, decision
