"""A stored response, shaped so that a hit needs no work: a head to send, a body to send, a time until which to.

The head is the status line and the stored fields as HTTP/1.1 bytes, without the empty line, so that a server
appends Age and what else is new. The fields are not kept beside it (a tuple of small byte strings costs a few
kilobytes); where they are needed, on validation, they are read back from it.
"""

from collections.abc import AsyncGenerator
from http import HTTPStatus
from typing import Protocol, final

from msgspec.structs import replace

from nearmile.cache.coding import untold
from nearmile.cache.directives import Fields
from nearmile.cache.pages import Body, raw
from nearmile.cache.policy import Storable
from nearmile.cache.purge import tag_fields
from nearmile.cache.remembered import remembered
from nearmile.cache.targeted import TARGETED

# Heads of what clients have already, or ask for parts of: a kilobyte each.
MEMO_SIZE = 256
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
# RFC 9110 section 15.4.5: the fields of a 304; the rest the client has.
_NOT_MODIFIED_FIELDS = frozenset(
    (b"cache-control", TARGETED, b"content-location", b"date", b"etag", b"expires", b"vary")
)

_OF_BODY = frozenset((b"content-length", b"content-range"))


class Damaged(Exception):
    """A body that is not in memory cannot be read, or is not what was stored."""


class Elsewhere(Protocol):
    """A body that is not in memory."""

    length: int
    fetched: bool
    """Some of what was read so far had to be fetched."""

    def pieces(self, start: int, end: int) -> AsyncGenerator[Body, None]:
        """The bytes from ``start`` to before ``end``, verified. Raises Damaged."""
        ...


@final
class Entry:
    """One stored response. Everybody but the store and its eviction policy only reads."""

    __slots__ = (
        "body",
        "clean",
        "count",
        "elsewhere",
        "fresh_until_s",
        "head",
        "kept",
        "key",
        "size_bytes",
        "turn",
        "variant",
        "visited",
    )

    def __init__(
        self, key: bytes, variant: bytes, kept: Storable, head: bytes, body: Body, size_bytes: int
    ) -> None:
        self.key = key
        self.variant = variant
        """Its second key, empty if the object has no variants."""
        self.kept = kept
        self.fresh_until_s = 0.0 if kept.no_cache or not kept.whole else kept.fresh_until_s
        """A request without Cache-Control may be served until then without asking anything else."""
        self.head = head
        self.body = body
        self.elsewhere: Elsewhere | None = None
        """Where the body is, of an entry that is not in the memory store; ``body`` is empty then."""
        self.size_bytes = size_bytes
        self.clean = 0
        """The store's: the mark at which it was last found not to be purged."""
        self.visited = 0.0
        """The level of the eviction policy at the last hit, negative once it has looked; 0 if there was none."""
        self.turn = 0.0
        self.count: float = 0
        """The policy's: when it looks again, and how many hits it has seen."""

    @property
    def body_bytes(self) -> int:
        """The length of the body, wherever it is."""
        return len(self.body) if self.elsewhere is None else self.elsewhere.length

    async def whole(self) -> bytes:
        """The body. Raises Damaged."""
        away = self.elsewhere
        return (
            bytes(self.body)
            if away is None
            else b"".join([raw(piece) async for piece in away.pieces(0, away.length)])
        )

    def fields(self) -> Fields:
        """The stored fields as the origin has them, with the tags, which are not sent to clients."""
        return untold(self.kept, fields_of(self.head)) + tag_fields(self.kept.tags)

    def expire(self, at_s: float) -> None:
        """Fresh no longer than until then."""
        if at_s < self.kept.fresh_until_s:
            self.kept = replace(self.kept, fresh_until_s=at_s)
            self.fresh_until_s = min(self.fresh_until_s, at_s)


def response_head(status: int, fields: Fields, body_bytes: int) -> bytes:
    """The head of a stored response with the true Content-Length; each line ends with CR LF, no empty line."""
    lines = [b"%b: %b\r\n" % field for field in fields if field[0] != b"content-length"]
    return with_length(status_line(status) + b"".join(lines), status, body_bytes)


def with_length(start: bytes, status: int, body_bytes: int) -> bytes:
    """The same of status line and fields, without Content-Length, as they are written already."""
    return start if status == 204 else b"%bcontent-length: %d\r\n" % (start, body_bytes)


@remembered(MEMO_SIZE)
def not_modified_head(head: bytes) -> bytes:
    """The head of the 304 for a client that has it already (RFC 9110 section 15.4.5), no empty line either."""
    kept = [line for line in _lines(head) if line[: line.find(b":")] in _NOT_MODIFIED_FIELDS]
    return b"".join((status_line(304), *kept))


@remembered(MEMO_SIZE)
def renewing_head(head: bytes) -> bytes:
    """The same for another server that stores it: all fields may be others since (RFC 9111 section 3.2)."""
    kept = [line for line in _lines(head) if line[: line.find(b":")] not in _OF_BODY]
    return b"".join((status_line(304), *kept))


def partial_head(head: bytes, content_range: bytes, body_bytes: int) -> bytes:
    """The head of a 206 with a cut of that response's body (RFC 9110 section 15.3.7), no empty line either."""
    return b"%bcontent-range: %b\r\ncontent-length: %d\r\n" % (_partial_start(head), content_range, body_bytes)


@remembered(MEMO_SIZE)
def _partial_start(head: bytes) -> bytes:
    """All but what differs from cut to cut."""
    lines = [line for line in _lines(head) if line[: line.find(b":")] not in _OF_BODY]
    return b"".join((status_line(206), *lines))


def multipart_head(head: bytes, boundary: bytes, body_bytes: int) -> bytes:
    """The head of a 206 with several cuts of that response's body (RFC 9110 section 15.3.7.2)."""
    dropped = _OF_BODY | {b"content-type"}
    lines = [line for line in _lines(head) if line[: line.find(b":")] not in dropped]
    own = b"content-type: multipart/byteranges; boundary=%b\r\ncontent-length: %d\r\n" % (boundary, body_bytes)
    return b"".join((status_line(206), *lines, own))


def unsatisfiable_head(head: bytes, body_bytes: int) -> bytes:
    """The head of the 416 for a range outside of that response's body (RFC 9110 section 15.5.17)."""
    date = next(b"date: %b\r\n" % value for name, value in fields_of(head) if name == b"date")
    return b"%b%bcontent-range: bytes */%d\r\ncontent-length: 0\r\n" % (status_line(416), date, body_bytes)


def _lines(head: bytes) -> list[bytes]:
    """The field lines, each with its end."""
    return head.splitlines(keepends=True)[1:]


def fields_of(head: bytes) -> Fields:
    """The fields that ``response_head`` was given, Content-Length last."""
    lines = (line.partition(b": ") for line in head.split(b"\r\n")[1:-1])
    return tuple((name, value) for name, _, value in lines)


def status_line(status: int) -> bytes:
    """Of HTTP/1.1, with the registered reason phrase."""
    return b"HTTP/1.1 %d %b\r\n" % (status, _REASONS.get(status, b""))
