"""What bodies are put together of: a large one of its slices, a small one of a stored part and what that lacks.

What is missing is asked for with If-Range, once for all who wait. What comes with another entity tag is not used,
and what is stored of the object goes with it (RFC 9110 section 13.1.5, RFC 9111 section 3.4).
"""

from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from nearmile.cache.entry import Entry
from nearmile.cache.pages import Body
from nearmile.cache.parts import Part, part_of, strong
from nearmile.cache.policy import PARTIAL
from nearmile.cache.reuse import updated_by_304
from nearmile.cache.slices import place_key
from nearmile.edge.fetch import RANGES, SERVER_ERRORS, Fetch
from nearmile.edge.joining import put_part
from nearmile.edge.node import FillHead, FillKey, Node, ObjectFill
from nearmile.edge.origins.client import Answer, Asked
from nearmile.edge.origins.peer import UpstreamError
from nearmile.edge.sites import Site
from nearmile.edge.slicer import put_slice
from nearmile.edge.visitors import Hop
from nearmile.http.fields import Pairs, field
from nearmile.http.head import Request

# These are between the client and the object, not its segments.
_WISHES = frozenset((b"cache-control", b"pragma"))


class Segment(Struct, frozen=True):
    """Bytes of an object that are stored, or fetched, together."""

    part: Part
    key: bytes = b""
    """Under which it is stored by itself, and looked for; empty where it is not."""
    entry: Entry | None = None
    """Its bytes, if they are at hand."""
    place: bytes = b""
    """By which its owner is chosen."""


class Source:
    """A stored object as one request finds it. ``forwarded`` and ``hop`` are as a Fetch has them."""

    ahead: int
    """Segments that a response has on their way, the one being sent among them."""
    careful: bool
    """Nothing is sent before it is known that they are of the version that is stored."""

    def __init__(
        self, node: Node, site: Site, request: Request, record: Entry, forwarded: Pairs, hop: Hop
    ) -> None:
        self.node, self.site, self.request, self.record = node, site, request, record
        self.forwarded, self.hop = forwarded, hop
        assert record.kept.etag is not None
        self.etag: bytes = record.kept.etag

    def segments(self, start: int, end: int) -> Iterator[Segment]:
        """What the bytes from ``start`` to before ``end`` are made of, in order."""
        raise NotImplementedError

    async def keep(self, fetch: "SegmentFetch", body: Body) -> None:
        """A segment has come."""
        raise NotImplementedError

    def forget(self) -> None:
        """There is another version now, or none. Servers behind one name may each give a tag of their own."""
        node, key, now_s = self.node, self.record.key, self.node.now_s()
        known = node.store.get(key, self.request.fields.pairs)
        if known is None or known.kept.etag != self.etag:
            return  # Others saw it first, and what replaces it may be under way.
        node.purge_key(key)
        if node.changed.has(key, now_s):
            node.unsliceable.add(key, now_s)
        node.changed.add(key, now_s)

    def fetch(self, segment: Segment) -> ObjectFill | None:
        """The fill of a segment, which may be under way; None where there are too many."""
        part, gone = segment.part, RANGES | _WISHES
        pairs = tuple(pair for pair in self.request.fields.pairs if pair[0] not in gone)
        pairs += ((b"range", b"bytes=%d-%d" % (part.first, part.last)), (b"if-range", self.etag))
        request = replace(self.request, fields=replace(self.request.fields, pairs=pairs))
        key = (segment.key, b"")
        if not segment.key:
            # Not to be taken for a client's own question, whose answer may be of another version.
            whole, variant = self.node.fill_key(self.record.key, pairs, ranged=True)
            key = (whole, b"+" + variant)
        fill = self.node.fills.get(key)
        if fill is None and self.node.fetching.take(self.site.serial):
            fill = SegmentFetch(self, segment, request, key).start()
        return fill


class Sliced(Source):
    """A large object's record, and its slices."""

    ahead, careful = 2, False

    def segments(self, start: int, end: int) -> Iterator[Segment]:
        """See Source."""
        slices, key = self.record.kept.slices, self.record.key
        assert slices is not None
        for number in slices.numbers(start, end):
            yield Segment(slices.part(number), slices.key(key, number), place=place_key(key, number))

    async def keep(self, fetch: "SegmentFetch", body: Body) -> None:
        """See Source."""
        segment = fetch.segment
        put_slice(self.node, segment.key, self.record.kept, segment.part, body, fetch.generation)


class Parted(Source):
    """A part of an object, which grows by what is fetched."""

    ahead, careful = 3, True  # what is before it, itself, and what is behind it

    def segments(self, start: int, end: int) -> Iterator[Segment]:
        """See Source."""
        part, key = self.record.kept.part, self.record.key
        assert part is not None
        if start < part.first:
            yield Segment(Part(start, min(end, part.first) - 1, part.complete), place=key)
        if start <= part.last and end > part.first:
            yield Segment(part, entry=self.record, place=key)
        if end > part.last + 1:
            yield Segment(Part(max(start, part.last + 1), end - 1, part.complete), place=key)

    async def keep(self, fetch: "SegmentFetch", body: Body) -> None:
        """See Source. What came with If-Range need not have the fields that the stored part has."""
        record, now_s = self.record, self.node.now_s()
        fields = updated_by_304(record.kept, record.fields(), fetch.came, now_s)
        placed = [pair for pair in fetch.came if pair[0] == b"content-range"]
        if fields is not None and (kept := fetch.terms(PARTIAL, (*fields, *placed), now_s)) is not None:
            await put_part(self.node, self.site, fetch, kept, fetch.edited(kept, fields, now_s), body)


class SegmentFetch(Fetch):
    """The making of one segment's fill."""

    def __init__(self, source: Source, segment: Segment, request: Request, key: FillKey) -> None:
        super().__init__(source.node, key, request, source.site, None, source.forwarded, source.hop, ranged=True)
        self.source, self.segment, self.place_key = source, segment, segment.place
        self.body_bytes = segment.part.last + 1 - segment.part.first
        self.came: Pairs = ()
        """The fields of the response."""

    async def _answer(self, asked: Asked | None) -> Answer | None:
        answer = await self._ask(None, asked)
        self.came = self._said(answer)
        if self._fits(answer):
            head = FillHead(status=answer.status, kept=self.source.record.kept)
            self._share(head, self.body_bytes, self.node.may_store(self.site.serial, self.body_bytes))
            return answer
        answer.close()
        if answer.status == 200 and field(self.came, b"etag") == self.source.etag:
            self.node.unsliceable.add(self.source.record.key, self.node.now_s())
        if answer.status not in SERVER_ERRORS:
            self.source.forget()
        raise UpstreamError("the origin has no such part")

    def _takes(self, answer: Answer) -> bool:
        # A neighbour may have another version, or fail: the origin has the last word.
        return self._fits(answer)

    def _fits(self, answer: Answer) -> bool:
        """Whether it is what was asked for, of the version that is wanted."""
        pairs, length = answer.fields.pairs, answer.fields.length
        return (
            answer.status == 206
            and field(pairs, b"etag") == self.source.etag
            and part_of(pairs) == self.segment.part
            and length in (None, self.body_bytes)
        )

    async def _store(self) -> None:
        body = self.fill.body()
        if len(body) != self.body_bytes:
            raise UpstreamError("the part is not as long as it says")
        await self.source.keep(self, body)


def completable(record: Entry, object_bytes_max: int) -> bool:
    """Whether a stored part can become the whole, of no more than that (RFC 9111 section 3.4)."""
    part = record.kept.part
    return (
        part is not None
        and part.complete is not None
        and part.complete <= object_bytes_max
        and strong(record.kept.etag)
        and record.body_bytes == part.last + 1 - part.first
    )
