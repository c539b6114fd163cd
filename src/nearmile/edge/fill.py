"""A fill: one response on its way from the origin, and everyone who reads it as it comes.

While it is being stored every chunk is kept, so a reader may join late and start from the beginning; those of a
large body are kept in the pages that will be stored. When it is not, chunks are dropped as soon as the slowest
reader has them, and the fetch waits for that reader (``lags``).
"""

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from typing import Generic, TypeVar

from nearmile.cache.pages import Body, Pages, raw
from nearmile.edge.limits import LAG_BYTES_MAX
from nearmile.edge.wake import Future, Signal
from nearmile.http.fields import Pairs
from nearmile.http.head import ResponseHead

H = TypeVar("H")


class Verdict(Enum):
    """What has become of a fill."""

    PENDING = "no response yet"
    SHARED = "the response may be shared by all who wait"
    OWN = "the response is for the request alone that fetched it"
    RENEWED = "the origin confirmed what is stored"
    FAILED = "there is no response"


class Reader:
    """Where one reader stands: the number of its next chunk."""

    __slots__ = ("position",)

    def __init__(self, position: int) -> None:
        self.position = position


class Fill(Generic[H]):
    """``H`` is what the head of the response is to the users of this class."""

    def __init__(self, new_future: Callable[[], Future]) -> None:
        self.verdict = Verdict.PENDING
        self.head: H | None = None
        self.storing = False
        self.complete = False
        self.broken = False
        """The response ended before its end: readers must not think it complete."""
        self.hints: deque[ResponseHead] = deque()
        """Interim responses that nobody has told the client yet; their number is bounded where they are read."""
        self.trailers: Pairs = ()
        """What goes behind the body, once that is complete."""
        self.news = Signal(new_future)
        self.room = Signal(new_future)
        self.kept_bytes = 0
        self._chunks: deque[Body] = deque()
        self._pages: Pages | None = None
        """For the body, of which all chunks so far are."""
        self._first = 0
        self._readers: dict[Reader, None] = {}

    @property
    def over(self) -> bool:
        """Nothing more will come."""
        return self.complete or self.broken

    @property
    def read_by_nobody(self) -> bool:
        """No reader is left."""
        return not self._readers

    @property
    def joinable(self) -> bool:
        """Whether a reader that comes now would still get the whole."""
        return self._first == 0 and not self.broken

    def join(self) -> Reader:
        """A new reader, at the beginning."""
        assert self.joinable
        reader = Reader(0)
        self._readers[reader] = None
        return reader

    def leave(self, reader: Reader) -> None:
        """That reader is gone."""
        if self._readers.pop(reader, self) is None:
            self._trim()
            self.room.fire()

    async def hint(self, head: ResponseHead) -> None:
        """An interim response came."""
        self.hints.append(head)
        self.news.fire()

    def decide(self, verdict: Verdict, head: H | None, storing: bool = False, pages: Pages | None = None) -> None:
        """The head has come, or will not; ``pages`` are for a body of known length."""
        self.verdict, self.head, self.storing, self._pages = verdict, head, storing, pages
        self.news.fire()

    def feed(self, chunk: bytes) -> None:
        """The next part of the body."""
        self._chunks.append(chunk if self._pages is None else self._written(self._pages, chunk))
        self.kept_bytes += len(chunk)
        if not self._readers:
            self._trim()
        self.news.fire()

    def finish(self, complete: bool) -> None:
        """The body ended, as it should have or before."""
        self.complete, self.broken = complete, not complete
        self.news.fire()

    def give_up_storing(self) -> None:
        """From now on chunks are kept only for the readers there are."""
        self.storing, self._pages = False, None
        self._trim()
        # A cut of the pages would keep all of them.
        self._chunks = deque(map(bytes, self._chunks))

    def read(self, reader: Reader) -> list[Body]:
        """All chunks that the reader has not had."""
        if not self.storing:
            # What it had before is on its way now; what it gets counts as kept until it comes again.
            self._trim()
            self.room.fire()
        skip = reader.position - self._first
        chunks = list(self._chunks) if skip == 0 else [self._chunks[n] for n in range(skip, len(self._chunks))]
        reader.position += len(chunks)
        return chunks

    def body(self) -> Body:
        """The body so far, of a fill that is being stored."""
        assert self.storing and self._first == 0
        if self._pages is not None and len(self._pages) == self.kept_bytes:
            return self._pages
        return b"".join(map(raw, self._chunks))

    def _written(self, pages: Pages, chunk: bytes) -> Body:
        """A chunk as it is to be kept: in its place, if there is one for it."""
        if self.kept_bytes + len(chunk) <= len(pages):
            with suppress(OSError):
                return pages.write(self.kept_bytes, chunk)
        self._pages = None
        return chunk

    def lags(self, followed: bool = False) -> bool:
        """The fetch should wait for ``room``: nobody stores this and its slowest reader is far behind.

        ``followed``: who waits for its slices is held up as further readers would be.
        """
        lag_bytes_max = LAG_BYTES_MAX if followed or len(self._readers) > 1 else 0
        return not self.storing and self.kept_bytes > lag_bytes_max

    def _trim(self) -> None:
        if self.storing:
            return
        end = self._first + len(self._chunks)
        slowest = min((reader.position for reader in self._readers), default=end)
        while self._first < slowest:
            self.kept_bytes -= len(self._chunks.popleft())
            self._first += 1
