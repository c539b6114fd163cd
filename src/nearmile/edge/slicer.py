"""Making a large object of a response on its way: its record, and the slices that the body has whole."""

from msgspec.structs import replace

from nearmile.cache.entry import response_head
from nearmile.cache.key import site_of
from nearmile.cache.pages import Body
from nearmile.cache.parts import Part, strong
from nearmile.cache.policy import Storable
from nearmile.cache.slices import Slices, token_of
from nearmile.edge.fill import Fill, Verdict
from nearmile.edge.limits import FILLS_MAX
from nearmile.edge.node import FillHead, Node, ObjectFill
from nearmile.http.fields import Pairs, field, members


class Slicer:
    """Of one response. Its slices are fills while they come, so that others can read along.

    The one that is coming and the next are always there to be joined, as one who reads on asks for the next early.
    """

    def __init__(
        self, node: Node, key: bytes, kept: Storable, slices: Slices, part: Part, generation: int
    ) -> None:
        self.node, self.key, self.kept, self.generation = node, key, kept, generation
        self._slices, self._part, self._at = slices, part, part.first
        self._fills: dict[int, ObjectFill] = {}

    def take(self, piece: bytes) -> None:
        """The next of the body; what is longer than it should be is left out."""
        for number, at, some in self._slices.split(self._at, piece[: self._part.last + 1 - self._at]):
            if at == 0:
                self._begin(number)
                self._begin(number + 1)
            if (fill := self._fills.get(number)) is not None:
                fill.feed(some)
                self._hold(len(some))
                if self._at + len(some) > self._slices.part(number).last:
                    self._finish(number, fill)
            self._at += len(some)

    def wait(self) -> None:
        """The response waits for a slow client: who reads along must not, and fetches for himself."""
        for number, fill in tuple(self._fills.items()):
            self._leave(number, fill)
            if not fill.read_by_nobody:
                self._drop(number, fill)

    def close(self) -> None:
        """Nothing more will come."""
        for number, fill in tuple(self._fills.items()):
            self._drop(number, fill)

    def _begin(self, number: int) -> None:
        node, part = self.node, self._slices.part(number)
        key = self._slices.key(self.key, number)
        known = number in self._fills or (key, b"") in node.fills or node.store.get(key, ()) is not None
        if known or part.last > self._part.last or part.first > part.last:
            return
        if len(node.fills) >= FILLS_MAX or not node.may_store(site_of(self.key), part.last + 1 - part.first):
            return
        fill: ObjectFill = Fill(node.loop.create_future)
        self._fills[number] = node.fills[key, b""] = fill
        pages = node.store.shelf.room(part.last + 1 - part.first)
        fill.decide(Verdict.SHARED, FillHead(status=206, kept=self.kept), storing=True, pages=pages)

    def _finish(self, number: int, fill: ObjectFill) -> None:
        key, body = self._slices.key(self.key, number), fill.body()
        put_slice(self.node, key, self.kept, self._slices.part(number), body, self.generation)
        fill.finish(True)
        self._drop(number, fill)

    def _drop(self, number: int, fill: ObjectFill) -> None:
        self._leave(number, fill)
        del self._fills[number]
        self._hold(-fill.kept_bytes)
        if not fill.over:
            fill.finish(False)

    def _leave(self, number: int, fill: ObjectFill) -> None:
        """Nobody may join it any more."""
        key = (self._slices.key(self.key, number), b"")
        if self.node.fills.get(key) is fill:
            del self.node.fills[key]

    def _hold(self, grown_bytes: int) -> None:
        self.node.fill_more(site_of(self.key), grown_bytes)


def begin_slices(
    node: Node, key: bytes, asked: Pairs, kept: Storable, fields: Pairs, length: int | None, generation: int
) -> Slicer | None:
    """Stores the record of a large object of which a response has come; None where it is none to be sliced.

    ``fields`` are those to be stored, ``length`` is the body's, ``generation`` the store's before the origin was
    asked.
    """
    part = kept.part
    if part is None and (length is None or length <= node.object_bytes_max):
        return None
    complete = _whole_bytes(kept, fields, length)
    if (
        complete is None
        or kept.etag is None
        or complete <= node.object_bytes_max
        or node.unsliceable.has(key, node.now_s())
    ):
        return None
    if node.store.purged_since(key, generation, kept.tags):
        return None
    known = node.store.get(key, asked)
    slices = None if known is None or known.kept.etag != kept.etag else known.kept.slices
    if slices is None or slices.complete != complete:
        slices = Slices(complete, node.slice_bytes, token_of(kept.etag, node.now_s(), node.store.generation))
    whole = replace(kept, status=200, part=None, slices=slices)
    head = response_head(200, tuple(pair for pair in fields if pair[0] != b"content-range"), complete)
    if node.store.put(key, asked, whole, head, b"", generation) is None:
        return None
    return Slicer(node, key, whole, slices, part or Part(0, complete - 1, complete), generation)


def put_slice(node: Node, key: bytes, kept: Storable, part: Part, body: Body, generation: int) -> None:
    """Stores a slice under its own ``key``; ``kept`` are the terms of its object's record."""
    terms = replace(kept, status=206, part=part, slices=None, vary=())
    node.store.put(key, (), terms, response_head(206, (), len(body)), body, generation)


def _whole_bytes(kept: Storable, fields: Pairs, length: int | None) -> int | None:
    """How long the object is, if slices of it can be asked for and told from those of another version."""
    if not strong(kept.etag):
        return None
    if kept.part is not None:
        return kept.part.complete
    return length if kept.status == 200 and b"bytes" in members(field(fields, b"accept-ranges") or b"") else None
