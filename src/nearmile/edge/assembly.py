"""Bodies that are put together of what is stored and what comes.

    segment stored? -> it; on its way? -> join; else -> ask for it, for all who wait -> of that version? keep it

A response is of one version: what comes of another ends it short of its length, and the next one begins anew.
"""

from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from msgspec.structs import replace

from nearmile.cache.entry import Damaged, Entry, fields_of, response_head
from nearmile.cache.pages import Body, cut_body
from nearmile.edge.fill import Reader, Verdict
from nearmile.edge.node import Node, ObjectFill
from nearmile.edge.segments import Parted, Segment, Sliced, Source
from nearmile.edge.sites import Site
from nearmile.edge.visitors import Hop
from nearmile.http.fields import Pairs
from nearmile.http.head import Request

# A segment that breaks off is asked for again; an origin that breaks off twice in a row is broken.
TRIES = 2


class _Piece:
    """One segment of a response: stored, or coming. ``close`` must be called in the end."""

    def __init__(self, source: Source, segment: Segment) -> None:
        self.source, self.segment = source, segment
        self._entry = segment.entry
        self._fill: ObjectFill | None = None
        self._reader: Reader | None = None

    async def open(self) -> bool:
        """Finds it, or begins to fetch it; returns whether it was stored."""
        segment = self.segment
        if self._entry is None and segment.key:
            found = await self.source.node.store.find(segment.key, ())
            self._entry = found if found is not None and found.kept.part == segment.part else None
        if self._entry is not None:
            return True
        self.join()
        return False

    def join(self) -> None:
        """Waits with all others for what the origin sends."""
        self.close()
        self._entry, self._fill = None, self.source.fetch(self.segment)
        if self._fill is not None:
            self._reader = self._fill.join()

    @property
    def refused(self) -> bool:
        """The origin has no such part of that version: asking again would not change it."""
        return self._entry is None and (self._fill is None or self._fill.verdict is Verdict.FAILED)

    def close(self) -> None:
        """It is not needed any more."""
        if self._fill is not None and self._reader is not None:
            self._fill.leave(self._reader)
        self._fill = self._reader = None

    def read(self, start: int, end: int) -> AsyncGenerator[Body, None]:
        """Those bytes of it, counted from its beginning; fewer where it breaks off. May raise Damaged."""
        if self._entry is None:
            return self._coming(start, end)
        if self._entry.elsewhere is None:
            return _at_hand(cut_body(self._entry.body, start, end))
        return self._entry.elsewhere.pieces(start, end)

    async def sure(self) -> None:
        """Returns when its bytes are there or begin to come. Raises Damaged."""
        while self._fill is not None and self._fill.verdict is Verdict.PENDING:
            await self._fill.news.wait()
        if self.refused:
            raise Damaged

    async def _coming(self, start: int, end: int) -> AsyncGenerator[Body, None]:
        await self.sure()
        fill, reader, at = self._fill, self._reader, 0
        assert fill is not None and reader is not None
        while at < end:
            if chunks := fill.read(reader):
                for chunk in chunks:
                    if piece := chunk[max(0, start - at) : max(0, end - at)]:
                        yield piece
                    at += len(chunk)
            elif fill.over:
                return
            else:
                await fill.news.wait()


class Assembly:
    """A body made of segments (cache.entry.Elsewhere)."""

    def __init__(self, source: Source, length: int) -> None:
        self.source, self.length = source, length
        self.fetched = False
        """Some of what was asked for was not stored."""

    async def pieces(self, start: int, end: int) -> AsyncGenerator[Body, None]:
        """The bytes from ``start`` to before ``end``, all of one version. Raises Damaged."""
        segments, opened = self.source.segments(start, end), deque[_Piece]()
        try:
            while True:
                while len(opened) < self.source.ahead and (segment := next(segments, None)) is not None:
                    opened.append(_Piece(self.source, segment))
                    if not await opened[-1].open():
                        self.fetched = True
                if not opened:
                    return
                if self.source.careful:
                    for one in opened:
                        await one.sure()
                part = opened[0].segment.part
                low, high = max(start, part.first) - part.first, min(end, part.last + 1) - part.first
                async with aclosing(_tried(opened[0], low, high)) as pieces:
                    async for piece in pieces:
                        yield piece
                opened.popleft().close()
        finally:
            for one in opened:
                one.close()


async def _at_hand(body: Body) -> AsyncGenerator[Body, None]:
    yield body


async def _tried(one: _Piece, start: int, end: int) -> AsyncGenerator[Body, None]:
    """Those bytes of a segment; where it breaks off, what is missing from the origin. Raises Damaged."""
    for turn in range(TRIES):
        if turn:
            one.join()
        with suppress(Damaged):
            async with aclosing(one.read(start, end)) as pieces:
                async for piece in pieces:
                    start += len(piece)
                    yield piece
        if start == end:
            return
        if one.refused:
            break
    raise Damaged


def assembled(node: Node, site: Site, request: Request, record: Entry, forwarded: Pairs, hop: Hop) -> Entry:
    """The whole object, of a large one's record or of a ``completable`` part."""
    kept, head = record.kept, record.head
    kind: type[Source] = Sliced
    if kept.slices is not None:
        length = kept.slices.complete
    else:
        assert kept.part is not None and kept.part.complete is not None
        kind, length = Parted, kept.part.complete
        kept, head = replace(kept, status=200, part=None), response_head(200, fields_of(head), length)
    whole = Entry(record.key, record.variant, kept, head, b"", 0)
    whole.elsewhere = Assembly(kind(node, site, request, record, forwarded, hop), length)
    return whole
