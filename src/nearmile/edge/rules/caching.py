"""A site's own word on caching: it stands in an answer in place of the origin's, before anybody reads that.

For the edges as CDN-Cache-Control, which goes before all else (RFC 9213); for clients as Cache-Control. Where a
path can be read in several ways, or an answer is for one user alone, the origin's word stays.
"""

from collections.abc import Callable, Sequence
from functools import partial

from msgspec import Struct
from msgspec.structs import replace

from nearmile.cache.directives import Said, directives_of, grouped
from nearmile.cache.target import clear
from nearmile.cache.targeted import TARGETED
from nearmile.config.caching import CacheRule
from nearmile.http.head import ResponseHead

OK = 200
# Of something that had it: hardly anything else has validators, or parts.
OF_OK = frozenset((206, 304))
TOLD = frozenset((b"cache-control", b"expires", b"pragma"))
Reading = Callable[[ResponseHead], ResponseHead]
"""What a head is taken to say."""
COOKIE = b"set-cookie"
# Even where the answer is for all, a cookie is for who asked.
COOKIE_WITHHELD = b', no-cache="set-cookie"'


class Word(Struct, frozen=True):
    """One rule."""

    begin: bytes
    end: bytes | None
    """Of the paths, where something may stand between the two; None: ``begin`` is the path."""
    statuses: frozenset[int]
    edges: bytes
    clients: bytes | None
    over_private: bool

    def fits(self, path: bytes) -> bool:
        """Whether it is about that path."""
        begin, end = self.begin, self.end
        if end is None:
            return path == begin
        return len(path) >= len(begin) + len(end) and path.startswith(begin) and path.endswith(end)

    def put(self, head: ResponseHead) -> ResponseHead:
        """An answer's head that says so."""
        pairs = head.fields.pairs
        told = grouped(pairs)
        if not self.over_private and _private(told):
            return head
        said = [(TARGETED, self.edges + COOKIE_WITHHELD if COOKIE in told else self.edges)]
        gone = {TARGETED}
        if self.clients is not None:
            said.append((b"cache-control", self.clients))
            gone |= TOLD
        kept = (pair for pair in pairs if pair[0] not in gone)
        return replace(head, fields=replace(head.fields, pairs=(*kept, *said)))


def words_of(rules: Sequence[CacheRule]) -> tuple[Word, ...]:
    """What a site's document says."""
    return tuple(map(_word, rules))


def reading(words: Sequence[Word], target: bytes) -> Reading | None:
    """See ``Rules.reading``."""
    if not words or not clear(target):
        return None
    path = target.partition(b"?")[0]
    fitting = [word for word in words if word.fits(path)]
    return partial(_read, fitting) if fitting else None


def _read(words: Sequence[Word], head: ResponseHead) -> ResponseHead:
    status = OK if head.status in OF_OK else head.status
    word = next((word for word in words if status in word.statuses), None)
    return head if word is None else word.put(head)


def _private(said: Said) -> bool:
    """Whether the origin means an answer for who asked alone."""
    return COOKIE in said or (allowed := directives_of(said)).private or allowed.no_store


def _word(rule: CacheRule) -> Word:
    begin, star, end = rule.path.encode().partition(b"*")
    clients = None if rule.clients is None else rule.clients.encode()
    return Word(
        begin, end if star else None, frozenset(rule.statuses), rule.edges.encode(), clients, rule.over_private
    )
