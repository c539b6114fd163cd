"""Filling: fetching one object, for everyone who waits for it and for the store.

Runs as an errand of its own, so that the client that caused it may go away.
"""

from collections.abc import Awaitable
from functools import partial
from math import inf

from nearmile.cache.accept import normal_accept
from nearmile.cache.coding import plain, without_ours
from nearmile.cache.directives import Said, delta_seconds, directives_of, grouped
from nearmile.cache.entry import Entry, with_length
from nearmile.cache.hints import EARLY_HINTS, links_of
from nearmile.cache.policy import Storable, decide_store, stored_fields
from nearmile.cache.purge import APPLIED, STALE, VARY, believed, read_position
from nearmile.cache.reuse import CONDITIONS, hinted, no_fresher, usable_on_error, validators
from nearmile.edge.fill import Fill, Verdict
from nearmile.edge.joining import put_part
from nearmile.edge.messages import (
    OVERRIDES,
    dated,
    disguises,
    forwarded_request,
    forwarded_response,
    response_start,
)
from nearmile.edge.node import FillHead, FillKey, Node, ObjectFill
from nearmile.edge.origins.client import Answer, Asked
from nearmile.edge.origins.peer import Origin, Question, UpstreamError
from nearmile.edge.race import Racer
from nearmile.edge.renewal import Confirmed, renewed
from nearmile.edge.rules.site import Rules
from nearmile.edge.sites import Site
from nearmile.edge.slicer import Slicer, begin_slices
from nearmile.edge.trailers import passed_on
from nearmile.edge.visitors import SHAPE, Hop
from nearmile.http.fields import Pairs
from nearmile.http.head import Request, ResponseHead

SERVER_ERRORS = frozenset((500, 502, 503, 504))  # RFC 5861 section 4
PASSING = frozenset((408, 425, 429, *range(500, 600)))  # they say nothing of the object
MISDIRECTED = 421
RANGES = frozenset((b"range", b"if-range"))
NO_CACHE = (b"cache-control", b"no-cache")
# Age is rounded down by each server on the way, so that what it stores seems younger by that.
AGE_ROUNDED_S = 3.0
NOT_ASKED = CONDITIONS | OVERRIDES


class Fetch(Racer):
    """The making of one fill. ``stale`` is what the store has, to be validated."""

    def __init__(
        self,
        node: Node,
        key: FillKey,
        request: Request,
        site: Site,
        stale: Entry | None,
        forwarded: Pairs,
        hop: Hop,
        ranged: bool,
    ) -> None:
        self.node, self.key, self.request, self.site = node, key, request, site
        self.rules = site.rules
        self.place_key = key[0]
        """What decides who in the region is asked first."""
        self.stale = stale
        self.forwarded = forwarded
        self.ranged = ranged
        """Of an object that is not stored, the client wants a part: that is asked for, the whole otherwise."""
        asked = request.fields.pairs
        if request.fields.conditions and not ranged:
            asked = tuple([pair for pair in asked if pair[0] not in RANGES])
        # Its generation is noted before the origin is asked: what is purged from here on is unfit for the store.
        super().__init__(node.races, key[0], asked, node.store.generation)
        self.hop = hop
        """Who asks; what another server asks goes fewer ways."""
        self.before: tuple[tuple[Origin, Hop], ...] = ()
        """Whom to ask before the origin, and as what."""
        self.fill: ObjectFill = Fill(node.loop.create_future)
        self.position = node.position
        self.by_neighbour = False
        """The answer is a neighbour's."""
        self.fresh_until_max_s = inf
        """Later than that it is not fresh there."""
        self.links: tuple[bytes, ...] = ()
        """What was hinted at before the answer came."""
        self.stored_fields: Pairs = ()
        self.filling_bytes = 0
        self.slicer: Slicer | None = None

    def start(self, joinable: bool = True) -> ObjectFill:
        """Begins, and lets others join."""
        if joinable:
            self.node.fills[self.key] = self.fill
        self.enter()
        self.before = tuple(self.node.servers_before(self.site, self.place_key, self.hop))
        if self.stale is None and not self.ranged and not self.before:
            self.node.loop.call_soon(self._begin)
        else:
            self.node.spawn(self._run())
        return self.fill

    def _begin(self) -> None:
        """The commonest way, without a coroutine: the origin alone is asked, on a connection that is there."""
        origin = self.site.origin
        self.sent_at_s = self.node.now_s()
        asked = self.node.origins.ask_at_once(origin, self._question(origin, None, Hop.CLIENT))
        if asked is None:
            self.node.spawn(self._run())
        else:
            asked.link.tell(partial(self._come, asked))

    def _come(self, asked: Asked) -> None:
        """All of a small response has come at once; or ``_run`` goes on from what has."""
        head = asked.link.come
        length = None if head is None or head.status != 200 else head.fields.length
        if length is None or length > self.node.object_bytes_max:
            self.node.spawn(self._run(asked))
            return
        answer = asked.answer()
        try:
            pairs = self._said(answer)
            self._decide(answer, pairs, grouped(pairs), self.node.now_s())
            for piece in asked.link.take():
                self.fill.feed(piece)
            if self.fill.storing:
                self._put_whole()
            self._finish(answer)
        finally:
            self._end(answer)

    async def _run(self, asked: Asked | None = None) -> None:
        """The general way; ``asked``: it has begun already."""
        answer = None
        try:
            answer = await self._answer(asked)
            if answer is not None:
                await self._take_body(answer)
        except UpstreamError as error:
            if self.fill.verdict is Verdict.PENDING:
                self.fill.decide(Verdict.FAILED, FillHead(status=error.status, error=error.anew()))
        finally:
            self._end(answer)

    def _end(self, answer: Answer | None) -> None:
        """However it ended."""
        fill = self.fill
        self._close()
        self._release()
        self.leave()
        self.node.fetching.give(self.site.serial)
        if fill.verdict is Verdict.PENDING:
            fill.decide(Verdict.FAILED, FillHead(status=500, error=UpstreamError("the fetch failed", 500)))
        if not fill.over:
            fill.finish(False)
        if answer is not None:
            answer.close()

    async def _answer(self, asked: Asked | None) -> Answer | None:
        """Asks, and decides what the response is; None where its body is of no interest."""
        answer = await self._ask(self.stale, asked)
        stale = self.stale
        if stale is not None and answer.status == 304:
            answer.close()
            if await self._renew(stale, self._said(answer)):
                return None
            # It is not what we have, or may no longer be kept: the whole, please.
            answer = await self._ask(None)
        now_s = self.node.now_s()
        if outdone(answer, self.rules, stale, now_s):
            answer.close()
            raise failure_of(answer)
        pairs = self._said(answer)
        self._decide(answer, pairs, grouped(pairs), now_s)
        return answer

    def terms(self, status: int, fields: Pairs, now_s: float, said: Said | None = None) -> Storable | None:
        """Whether and how a response with those fields may be stored; ``said`` as in ``decide_store``."""
        ttl_s = self.site.default_ttl_s
        kept = decide_store(b"GET", self.asked, status, fields, ttl_s, self.sent_at_s, now_s, said, self.stands_in)
        kept = kept and hinted(kept, self.links)
        return self.site.keyed(no_fresher(kept, self.fresh_until_max_s), fields)

    def edited(self, kept: Storable, fields: Pairs, now_s: float) -> Pairs:
        """The fields to store with it."""
        return self.site.told(kept, stored_fields(fields, now_s))

    async def _ask(self, stale: Entry | None, asked: Asked | None = None) -> Answer:
        """The servers that are to be asked first; if none answers as it should, the origin, if it is not yet."""
        self.by_neighbour, self.fresh_until_max_s = False, inf
        if asked is not None:
            return await self.node.origins.ask(self.site.origin, asked.question, None, self._hint, asked)
        for server, hop in self.before:
            try:
                answer = await self._send(server, stale, hop)
                said, for_s = read_position(answer.fields.get(APPLIED)), answer.fields.get(STALE)
                current = believed(said, self.position) and (for_s is None or not self._changed)
                if current and not self._outdated(answer) and self._takes(answer):
                    self.by_neighbour = True
                    if for_s is not None:
                        self.fresh_until_max_s = self.sent_at_s - (delta_seconds(for_s) or 0)
                    return answer
                # It may not know yet what is purged or changed here, or not the site as it is now; or it is busy.
                answer.close()
            except UpstreamError:
                pass
        return await self._send(self.site.origin, stale, Hop.CLIENT)

    @property
    def _changed(self) -> bool:
        """Whether a request that passed here may have changed the object, which other servers cannot know."""
        return self.node.outdated.has(self.key[0], self.node.now_s())

    @property
    def stands_in(self) -> bool:
        """The answer is what another server has stored, not what the origin has now."""
        return self.fresh_until_max_s < inf

    def _outdated(self, answer: Answer) -> bool:
        """Whether another server's answer is older than what is stored here, stale as that is (RFC 9111 4)."""
        if self.stale is None or answer.status == 304:
            return False
        age_s = delta_seconds(answer.fields.get(b"age") or b"") or 0
        return self.node.now_s() - age_s + AGE_ROUNDED_S < self.stale.kept.born_at_s

    def _takes(self, answer: Answer) -> bool:
        """Whether to use another server's answer."""
        return answer.status != MISDIRECTED

    def _send(self, origin: Origin, stale: Entry | None, hop: Hop) -> Awaitable[Answer]:
        self.sent_at_s, self.links = self.node.now_s(), ()
        return self.node.origins.ask(origin, self._question(origin, stale, hop), None, self._hint)

    async def _hint(self, head: ResponseHead) -> None:
        """An interim response: of early hints, the links are kept with what comes."""
        if head.status == EARLY_HINTS and self.site.early_hints != "off":
            self.links = links_of(head.fields.pairs, self.links)
        await self.fill.hint(head)

    def _question(self, origin: Origin, stale: Entry | None, hop: Hop) -> Question:
        request = self.request
        asked = normal_accept(self.asked)
        if hop and self._changed:
            asked = (*(pair for pair in asked if pair[0] != NO_CACHE[0]), NO_CACHE)
        pairs = forwarded_request(asked, NOT_ASKED, self.forwarded, self.node.name, hop)
        read = None
        if not hop:
            pairs, read = self.site.to_origin(pairs), self.rules.reading(request.target)
        elif self.site.shape:
            pairs += ((SHAPE, self.site.shape.encode()),)
        if stale is not None:
            pairs += validators(plain(stale.kept))
        host = origin.host or request.host
        return Question(method=b"GET", target=request.target, host=host, pairs=pairs, reading=read)

    async def _renew(self, stale: Entry, new: Pairs) -> bool:
        """A 304 came: whether what is stored can be served."""
        entry = await renewed(
            self.node,
            self.site,
            stale,
            Confirmed(self.asked, new, self.links, self.sent_at_s, self.fresh_until_max_s, self.generation),
        )
        if entry is None:
            return False
        if not self.stands_in:
            self.overtake(entry.kept.vary)
        head = FillHead(
            status=entry.kept.status,
            kept=entry.kept,
            asked=self.asked,
            entry=entry,
            stands_in=self.stands_in,
        )
        self.fill.decide(Verdict.RENEWED, head)
        self.fill.finish(True)
        return True

    def _said(self, answer: Answer) -> Pairs:
        """The response's fields as the origin sent them."""
        pairs = answer.fields.pairs
        return without_ours(pairs) if self.by_neighbour and answer.fields.get(VARY) is not None else pairs

    def _decide(self, answer: Answer, pairs: Pairs, said: Said, now_s: float) -> None:
        length, kept = answer.fields.length, self.terms(answer.status, pairs, now_s, said)
        # Who sees another field in one may have answered for another variant than it would be stored as.
        disguised = kept is not None and disguises(self.asked, kept.vary)
        if kept is None or disguised:
            self._close()
            if (
                not (disguised or self.stands_in)
                and answer.status not in PASSING
                and self.request.fields.get(b"authorization") is None
            ):
                self._forget_stale()
                self.overtake()
                if not self.ranged:
                    self.node.unstorable.add(self.key[0], now_s)
            edited = self.rules.to_client.apply(dated(forwarded_response(pairs, bool(self.hop)), now_s))
            start = response_start(answer.status, edited)
            head = FillHead(status=answer.status, start=start, own_start=start, length=length)
            self.fill.decide(Verdict.OWN, head)
            return
        if not self.stands_in:
            self.overtake(kept.vary)
        stored = tuple([pair for pair in stored_fields(pairs, now_s, said) if pair[0] != b"content-length"])
        self.stored_fields = self.site.told(kept, stored)
        start = own_start = response_start(answer.status, self.stored_fields)
        if withheld := directives_of(said).withheld:
            own = tuple([pair for pair in pairs if pair[0] in withheld])
            own_start = response_start(answer.status, self.site.told(kept, stored + own))
        head = FillHead(
            status=answer.status,
            start=start,
            own_start=own_start,
            length=length,
            kept=kept,
            asked=self.asked,
            stands_in=self.stands_in,
        )
        self.slicer = begin_slices(
            self.node, self.key[0], self.asked, kept, self.stored_fields, length, self.generation
        )
        self._share(head, length, self.slicer is None and self.node.may_store(self.site.serial, length or 0))

    def _forget_stale(self) -> None:
        """The origin has answered with something else, which is not stored (RFC 9111 section 4.3.3)."""
        if self.stale is not None:
            self.node.store.delete(self.stale)

    def _share(self, head: FillHead, length: int | None, storing: bool) -> None:
        """The body that comes is for all who wait."""
        pages = self.node.store.shelf.room(length or 0) if storing else None
        self.fill.decide(Verdict.SHARED, head, storing, pages)
        if not storing:
            self._close()
            if self.slicer is None:
                self._forget_stale()

    async def _take_body(self, answer: Answer) -> None:
        """Feeds the fill until the end; raises UpstreamError where the origin breaks off."""
        fill, node = self.fill, self.node
        length = None if fill.head is None else fill.head.length
        while pieces := await answer.pieces():
            for piece in pieces:
                fill.feed(piece)
                if self.slicer is not None:
                    self.slicer.take(piece)
            # What is whole now goes to the store at once.
            if fill.storing and fill.kept_bytes != length:
                grown_bytes = sum(map(len, pieces))
                self.filling_bytes += grown_bytes
                node.fill_more(self.site.serial, grown_bytes)
                if not node.may_store(self.site.serial, fill.kept_bytes):
                    self._stop_storing()
            if not fill.storing:
                if fill.read_by_nobody:
                    return
                while fill.lags(followed=self.slicer is not None):
                    if self.slicer is not None:
                        self.slicer.wait()
                    await fill.room.wait()
        if fill.storing:
            await self._store()
        self._finish(answer)

    def _finish(self, answer: Answer) -> None:
        """All of the body has come."""
        self.fill.trailers = passed_on(answer.fields.pairs, answer.trailers, self.rules.to_client.gone)
        self.fill.finish(True)

    async def _store(self) -> None:
        head = self.fill.head
        assert head is not None and head.kept is not None
        if head.kept.part is not None:
            await put_part(self.node, self.site, self, head.kept, self.stored_fields, self.fill.body())
        else:
            self._put_whole()

    def _put_whole(self) -> None:
        head, body = self.fill.head, self.fill.body()
        assert head is not None and head.kept is not None
        start = with_length(head.start, head.status, len(body))
        self.node.store.put(self.key[0], self.asked, head.kept, start, body, self.generation)

    def _stop_storing(self) -> None:
        self._close()
        self._release()
        self._forget_stale()
        self.fill.give_up_storing()

    def overtaken(self, at_s: float) -> None:
        """See Racer."""
        super().overtaken(at_s)
        self._close()

    def _close(self) -> None:
        """Nobody may join any more."""
        if self.node.fills.get(self.key) is self.fill:
            del self.node.fills[self.key]

    def _release(self) -> None:
        if self.filling_bytes:
            self.node.fill_more(self.site.serial, -self.filling_bytes)
            self.filling_bytes = 0
        if self.slicer is not None:
            self.slicer.close()


def outdone(answer: Answer, rules: Rules, entry: Entry | None, now_s: float) -> bool:
    """Whether the origin fails, and what is stored, or a page of the site's own, is better than what it says."""
    return answer.status in SERVER_ERRORS and (
        answer.status in rules.over_origin or (entry is not None and usable_on_error(entry.kept, now_s))
    )


def failure_of(answer: Answer) -> UpstreamError:
    """What such an answer counts as."""
    again = tuple(pair for pair in answer.fields.pairs if pair[0] == b"retry-after")
    return UpstreamError("the origin fails", answer.status, fields=again)
