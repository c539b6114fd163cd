"""A request that the hit path could not answer at once: misses, validation, pass-through, refusals.

    refuse? -> not for the cache? pass -> stored and usable? serve -> wait for a fill, one for all -> stream it

``Exchange.run`` is one coroutine for one request; it ends when the response has been handed over or given up.
"""

from collections.abc import AsyncIterator

from nearmile.cache.directives import RequestDirectives, request_directives
from nearmile.cache.entry import Entry, not_modified_head
from nearmile.cache.key import variant_key
from nearmile.cache.policy import Storable
from nearmile.cache.purge import APPLIED, write_position
from nearmile.cache.ranges import Uncut, wanted
from nearmile.cache.reuse import Verdict as Use
from nearmile.cache.reuse import age_s, not_modified, reusable, usable_on_error, verdict
from nearmile.edge import limits
from nearmile.edge.assembly import assembled
from nearmile.edge.fetch import Fetch
from nearmile.edge.fill import Reader, Verdict
from nearmile.edge.lesson import Lesson
from nearmile.edge.messages import (
    CONTINUE,
    forwarded_request,
    forwarded_response,
    forwarding,
    interim_head,
    request_head,
    response_start,
)
from nearmile.edge.node import Node, ObjectFill
from nearmile.edge.peer import UpstreamError
from nearmile.edge.reply import CHUNKED, Client, Reply
from nearmile.edge.rules.redirects import To
from nearmile.edge.rules.site import Asked, Refuse
from nearmile.edge.segments import completable
from nearmile.edge.sites import Site
from nearmile.edge.stored import cut_for, send_stored
from nearmile.edge.visitors import SHAPE
from nearmile.http.body import LAST_CHUNK, encode_chunk
from nearmile.http.fields import BadMessage, Pairs, members
from nearmile.http.head import Request, ResponseHead
from nearmile.reports.hit import Cache

REPEATABLE = frozenset((b"GET", b"HEAD", b"OPTIONS"))  # safe (RFC 9110 section 9.2.1)
# Ranges of one request that are answered from slices: each may cost one of them from the origin, so that a request
# of a kilobyte could cost a hundred megabytes. The origin itself answers longer lists.
SLICED_RANGES_MAX = 4
NO_MORE: frozenset[bytes] = frozenset()


class Exchange:
    """One request and its response."""

    def __init__(self, node: Node, client: Client, request: Request) -> None:
        self.node, self.client, self.request = node, client, request
        self.pairs = request.fields.pairs
        self.internal = node.visitors.internal(client.peer, self.pairs)
        believed = client.trusted or self.internal
        self.site = node.site(request.host, node.visitors.secure(believed, client.secure, self.pairs))
        self.reply = Reply(node, client, request, self.internal)
        if self.internal and node.position is not None:
            # Of now: whatever is found or begun from here on was not purged by then.
            self.reply.for_neighbour = b"%b: %b\r\n" % (APPLIED, write_position(node.position))
        self.serial = 0
        self.cache = Cache.ERROR
        self.complete = False
        self._fault: BadMessage | None = None

    async def run(self) -> None:
        """Answers. Afterwards ``complete`` says whether the connection can be relied on."""
        try:
            await self._answer()
            self.complete = True
        except UpstreamError as error:
            fault = self._fault
            await self._fail(*((error.status, str(error)) if fault is None else (fault.status, str(fault))))
        finally:
            self._record()

    async def _answer(self) -> None:
        request = self.request
        site = self.site
        if site is None:
            await self.reply.page(421, "no site of that name is served here")
            return
        self.serial = site.serial
        self.reply.rules = site.rules
        if (instead := self._refusal() or self._by_rules(site)) is not None:
            await self.reply.page(*instead)
        elif reusable(request.method, self.pairs):
            await self._from_cache(site, site.prefix + self.request.target)
        else:
            await self._pass(site, b"request" if request.method in (b"GET", b"HEAD") else b"method")

    def _by_rules(self, site: Site) -> tuple[int, str, Pairs] | None:
        """Brings the request into the form that the site's objects have, or says what to answer instead of it."""
        rules, request, node = site.rules, self.request, self.node
        if self.internal:
            # Who asks has applied the rules, if they are those that are known here.
            if (request.fields.get(SHAPE) or b"") != site.shape.encode():
                return 421, "the site's rules are others here", ()
            target = rules.target(request.target)
        elif rules.plain:
            return None
        else:
            length = request.fields.length
            asked = Asked(
                request.method, request.target, length, self._client(), node.visitors.country, request.host
            )
            found = rules.check(asked, node.now_s(), node.limiter)
            if isinstance(found, Refuse):
                return found.status, found.why, found.fields
            if isinstance(found, To):
                return found.status, "it is elsewhere", ((b"location", found.location),)
            target = found.target
        if not rules.plain:
            self.request = rules.shaped(request, target)
            self.pairs = self.request.fields.pairs
        return None

    def _refusal(self) -> tuple[int, str] | None:
        fields = self.request.fields
        # Other protocols may be passed over (RFC 9110 section 7.8), and curl offers h2c with every request.
        if b"upgrade" in fields.connection and b"websocket" in members(fields.get(b"upgrade") or b""):
            return 501, "protocol upgrades are not served here"
        if fields.length is not None and fields.length > limits.REQUEST_BODY_BYTES_MAX:
            return 413, "the body is too large"
        if self.request.target == b"*" or self.request.method == b"TRACE":
            return 501, "that is not served here"
        via = fields.get(b"via")
        if via is not None and b"1.1 " + self.node.name in [part.strip() for part in via.split(b",")]:
            return 508, "the request has been here before: the origin leads back to this network"
        return None

    async def _from_cache(self, site: Site, key: bytes) -> None:
        asked = request_directives(self.pairs)
        entry = await self.node.store.find(key, self.pairs)
        if entry is not None and self._lacks(entry) and not self._to_complete(entry, asked):
            entry = None
        if entry is not None:
            if entry.kept.slices is not None and len(wanted(self.request.method, self.pairs)) > SLICED_RANGES_MAX:
                await self._pass(site, b"request")
                return
            now_s = self.node.now_s()
            use = verdict(entry.kept, asked, now_s)
            if use is Use.STALE_WHILE_REVALIDATE:
                self._fill(site, key, entry)
            if use is Use.FRESH or use is Use.STALE_WHILE_REVALIDATE:
                cache = Cache.STALE if now_s >= entry.kept.fresh_until_s else Cache.HIT
                await self._stored(site, entry, cache, b"hit")
                return
        if asked.only_if_cached:
            await self.reply.page(504, "not stored here")
        elif self.request.method == b"HEAD":
            await self._pass(site, b"uri-miss")
        elif asked.no_store or self.node.unstorable.has(key, self.node.now_s()):
            await self._pass(site, b"bypass")
        else:
            await self._shared(site, key, entry)

    def _fill(self, site: Site, key: bytes, stale: Entry | None) -> tuple[ObjectFill | None, bool]:
        """The fill of this object, and whether it was begun for this request; None where there are too many."""
        node = self.node
        # What is stored whole is renewed whole; of what is not, no more is fetched than the client wants.
        whole = stale is not None and stale.kept.slices is None
        ranged = not whole and bool(wanted(self.request.method, self.pairs))
        fill_key = node.fill_key(key, self.pairs, ranged)
        fill = node.fills.get(fill_key)
        if fill is not None or len(node.fills) >= limits.FILLS_MAX:
            return fill, False
        fetch = Fetch(node, fill_key, self.request, site, stale, self._forwarding(site), self.internal, ranged)
        return fetch.start(), True

    def _lacks(self, entry: Entry) -> bool:
        """Whether it is a part, and not all that is wanted."""
        return cut_for(self.request, entry) is Uncut.ELSEWHERE

    def _to_complete(self, part: Entry, asked: RequestDirectives) -> bool:
        """Whether to fetch no more than what that part lacks (RFC 9111 section 3.4)."""
        request, node, now_s = self.request, self.node, self.node.now_s()
        one = request.method == b"GET" and len(wanted(request.method, self.pairs)) <= 1
        fresh = verdict(part.kept, asked, now_s) is Use.FRESH
        return (
            one
            and fresh
            and completable(part, node.object_bytes_max)
            and not node.unsliceable.has(part.key, now_s)
        )

    async def _shared(self, site: Site, key: bytes, entry: Entry | None) -> None:
        """Waits for the one fetch of an object, and serves what comes of it."""
        why = b"stale" if entry is not None else b"vary-miss" if self.node.store.vary(key) else b"uri-miss"
        fill, mine = self._fill(site, key, entry)
        if fill is None:
            await self._pass(site, why)
            return
        reader = fill.join()
        try:
            while fill.verdict is Verdict.PENDING:
                await fill.news.wait()
                # Only to the one that asks the origin: for whom else they are right is not known yet.
                while mine and fill.hints:
                    await self._hint(fill.hints.popleft())
            head = fill.head
            assert head is not None
            if fill.verdict is Verdict.RENEWED:
                assert head.entry is not None
                await self._stored(site, head.entry, Cache.REVALIDATED, b"fwd=stale; fwd-status=304")
                return
            if fill.verdict is Verdict.FAILED:
                await self._instead(site, entry, head.status, head.why)
                return
            if mine or (fill.verdict is Verdict.SHARED and self._same_variant(head.kept, head.asked)):
                await self._stream(fill, reader, why + (b"" if mine else b"; collapsed"), mine)
                return
        finally:
            fill.leave(reader)
        await self._pass(site, why)

    def _same_variant(self, kept: Storable | None, asked: tuple[tuple[bytes, bytes], ...]) -> bool:
        """Whether the response to a request with the fields ``asked`` suits this one (RFC 9111 section 4.1)."""
        if kept is None or not kept.vary:
            return True
        return variant_key(kept.vary, self.pairs) == variant_key(kept.vary, asked)

    async def _stream(self, fill: ObjectFill, reader: Reader, why: bytes, mine: bool) -> None:
        """A fill's response, as it comes."""
        head, now_s = fill.head, self.node.now_s()
        assert head is not None
        kept = head.kept
        self.cache = Cache.PASS if kept is None else Cache.MISS
        how = b"fwd=" + why + (b"; stored" if fill.storing else b"")
        age = None if kept is None else age_s(kept, now_s)
        if kept is not None:
            self.reply.tell_tags(kept)
        if kept is not None and not_modified(self.pairs, kept, now_s):
            await self.reply.whole(304, not_modified_head(head.start), how, age, b"")
            return
        self.reply.begin(head.status, head.own_start if mine else head.start, how, age, head.length)
        while True:
            if pieces := fill.read(reader):
                await self.reply.send(pieces)
            elif fill.broken:
                raise UpstreamError("the origin broke off")
            elif fill.complete:
                break
            else:
                await fill.news.wait()
        await self.reply.end()

    async def _stored(self, site: Site, entry: Entry, cache: Cache, how: bytes) -> None:
        """A stored response; where its body is damaged, or of an old version, before it begins: the origin's."""
        self.cache = cache
        if made := entry.kept.slices is not None or self._lacks(entry):
            entry = assembled(self.node, site, self.request, entry, self._forwarding(site), self.internal)
        if cache is Cache.STALE:
            how += b"; ttl=%d" % (entry.kept.fresh_until_s - self.node.now_s())
        if await send_stored(self.reply, self.request, entry, how):
            if entry.elsewhere is not None and entry.elsewhere.fetched:
                self.cache = Cache.MISS
        elif made:
            await self._shared(site, entry.key, None)
        else:
            await self._pass(site, b"uri-miss")

    async def _instead(self, site: Site, entry: Entry | None, status: int, why: str) -> None:
        """The origin failed: what is stored where it may stand in, else a page that says so."""
        if entry is not None and usable_on_error(entry.kept, self.node.now_s()):
            await self._stored(site, entry, Cache.STALE, b"hit")
        else:
            await self.reply.page(status, why)

    async def _pass(self, site: Site, why: bytes) -> None:
        """Forwards the request and its response, both as they come."""
        request, fields, node = self.request, self.request.fields, self.node
        framing = CHUNKED if fields.chunked else b""
        if fields.length is not None:
            framing = b"content-length: %d\r\n" % fields.length
        body = self._body(site.rules.body_bytes_max) if fields.chunked or fields.length else None
        pairs = forwarded_request(self.pairs, NO_MORE, self._forwarding(site), node.name, hop=False)
        pairs = site.rules.to_origin.apply(pairs)
        head = request_head(request.method, site.base + request.target, request.host, pairs, framing)
        repeatable = body is None and request.method in REPEATABLE
        lesson = Lesson(node, site, request)
        answer = await node.origins.fetch(site.origin, request.method, head, body, repeatable, self._hint)
        try:
            lesson.answered(answer.head)
            self.cache = Cache.PASS
            edited = site.rules.to_client.apply(forwarded_response(answer.fields.pairs, self.internal))
            start = response_start(answer.status, edited)
            self.reply.begin(answer.status, start, b"fwd=" + why, None, answer.fields.length)
            while pieces := await answer.pieces():
                lesson.take(pieces)
                await self.reply.send(pieces)
            lesson.end()
            await self.reply.end()
        finally:
            lesson.close()
            answer.close()

    async def _hint(self, head: ResponseHead) -> None:
        """An interim response of the origin; older clients know none (RFC 9110 section 15.2)."""
        if self.request.minor == 1:
            await self.client.write((interim_head(head.status, head.fields.pairs),))

    async def _body(self, body_bytes_max: int) -> AsyncIterator[bytes]:
        """The request's body, framed for the origin."""
        fields, body_bytes = self.request.fields, 0
        try:
            if self.request.minor == 1 and (fields.get(b"expect") or b"").lower() == b"100-continue":
                await self.client.write((CONTINUE,))
            async for pieces in self.client.body():
                body_bytes += sum(map(len, pieces))
                if body_bytes > body_bytes_max:
                    raise BadMessage("the body is too large", 413)
                for piece in pieces:
                    yield encode_chunk(piece) if fields.chunked else piece
            if fields.chunked:
                yield LAST_CHUNK
        except BadMessage as error:
            # The sending side ends the origin's connection; the answering side learns the reason here.
            self._fault = error
            raise

    def _client(self) -> str:
        """The address of who asks."""
        return self.node.visitors.client(self.client.trusted, self.client.peer, self.pairs)

    def _forwarding(self, site: Site) -> Pairs:
        return forwarding(self.request, site.scheme, self.client.peer, self.client.trusted, self.internal)

    async def _fail(self, status: int, why: str) -> None:
        """A page, where no response has begun; where one has, the connection must end short of it."""
        if self.reply.status == 0:
            self.cache = Cache.ERROR
            await self.reply.page(status, why)
            self.complete = True

    def _record(self) -> None:
        if self.internal or self.reply.status == 0:
            return
        node, client = self.node, self.client
        place = node.visitors.place_id(self._client())
        now_ms = int(node.now_s() * 1000)
        node.record(now_ms, self.serial, place, self.reply.status, self.cache, client.handed_bytes, self.complete)
        node.counter.requests += 1
