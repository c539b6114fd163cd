"""A request that the hit path could not answer at once: misses, validation, pass-through, refusals.

    refuse? -> not for the cache? pass -> stored and usable? serve -> wait for a fill, one for all -> stream it

``Exchange.run`` is one coroutine for one request; it ends when the response has been handed over or given up.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from os import urandom
from typing import Literal

from msgspec.structs import replace

from nearmile.cache.coding import for_origin
from nearmile.cache.directives import RequestDirectives, request_directives
from nearmile.cache.entry import Entry, not_modified_head, renewing_head, response_head
from nearmile.cache.purge import APPLIED, write_position
from nearmile.cache.ranges import Uncut, wanted
from nearmile.cache.reuse import SAFE_METHODS, age_s, not_modified, reusable, shareable, usable_on_error, verdict
from nearmile.cache.reuse import Verdict as Use
from nearmile.edge import limits
from nearmile.edge.assembly import assembled
from nearmile.edge.fetch import MISDIRECTED, Fetch, failure_of, outdone
from nearmile.edge.fill import Reader, Verdict
from nearmile.edge.lesson import Lesson
from nearmile.edge.messages import (
    CONTINUE,
    counted,
    dated,
    forwarded_request,
    forwarded_response,
    forwarding,
    forwards_left,
    has_passed,
    response_start,
)
from nearmile.edge.node import Node, ObjectFill
from nearmile.edge.origins import websocket
from nearmile.edge.origins.peer import Busy, Question, UpstreamError
from nearmile.edge.reply import Client, Reply
from nearmile.edge.rules.redirects import To
from nearmile.edge.rules.site import CHALLENGES, Asked, Refuse
from nearmile.edge.segments import completable
from nearmile.edge.sites import Site
from nearmile.edge.stored import cut_for, send_stored
from nearmile.edge.trailers import passed_on
from nearmile.edge.tunnel import tunnel
from nearmile.edge.visitors import SHAPE, Hop
from nearmile.edge.wake import turn
from nearmile.http.fields import BadMessage, Pairs
from nearmile.http.head import Request
from nearmile.mapping.beacons import block_of
from nearmile.reports.hit import Cache

TOO_MANY = "too many requests wait for this site's origin"
# Ranges of one request that are answered from slices: each may cost one of them from the origin, so that a request
# of a kilobyte could cost a hundred megabytes. The origin itself answers longer lists.
SLICED_RANGES_MAX = 4
NO_MORE: frozenset[bytes] = frozenset()
# A page of any site may make a beacon; there is nothing to read, and nothing to keep.
BEACON = response_head(204, ((b"access-control-allow-origin", b"*"), (b"cache-control", b"no-store")), 0)


class Exchange:
    """One request and its response."""

    def __init__(self, node: Node, client: Client, request: Request) -> None:
        self.node, self.client, self.request = node, client, request
        self.pairs = request.fields.pairs
        self.hop = node.visitors.hop(client.peer, self.pairs)
        self.internal = self.hop is not Hop.CLIENT
        believed = client.trusted or self.internal
        self.site = node.site(request.host, node.visitors.secure(believed, client.secure, self.pairs))
        self.reply = Reply(node, client, request, self.internal)
        if self.internal and node.position is not None:
            # Of now: whatever is found or begun from here on was not purged by then.
            self.reply.for_neighbour = b"%b: %b\r\n" % (APPLIED, write_position(node.position))
        self.plain = False
        """The answer must not be in a coding of our own."""
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
            await self._fail(error if fault is None else UpstreamError(str(fault), fault.status))
        finally:
            self._record()

    async def _answer(self) -> None:
        request, site = self.request, self.site
        if request.host.endswith(self.node.beacon_end):
            name = request.host.removesuffix(self.node.beacon_end)
            self.node.beacons.note(name, *block_of(self._client()))
            await self.reply.whole(204, BEACON, b"fwd=bypass; detail=edge", None)
            return
        if site is None:
            await self.reply.page(421, "no site of that name is served here")
            return
        self.serial = site.serial
        self.reply.rules, self.reply.early_hints = site.rules, site.early_hints
        if site.acme and request.target.startswith(CHALLENGES) and request.method == b"GET":
            answer = await self.node.challenge(request.target[len(CHALLENGES) :])
            if answer is not None:
                head = response_head(200, ((b"content-type", b"application/octet-stream"),), len(answer))
                await self.reply.whole(200, head, b"fwd=bypass; detail=edge", None, answer)
                return
        if (instead := self._refusal(site) or self._by_rules(site)) is not None:
            await self.reply.page(*instead)
        elif forwards_left(request) == 0:
            await self.reply.page(200, "the request asks to go no further than this server")
        # Other protocols may be passed over (RFC 9110 section 7.8), and curl offers h2c with every request.
        elif websocket.wants(request.fields) and not self.internal:
            await self._websocket(site)
        elif not request.fields.chunked and reusable(request.method, self.pairs):
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

    def _refusal(self, site: Site) -> tuple[int, str] | None:
        fields = self.request.fields
        if fields.length is not None and fields.length > limits.REQUEST_BODY_BYTES_MAX:
            return 413, "the body is too large"
        if self.request.target == b"*" or self.request.method == b"TRACE":
            return 501, "that is not served here"
        if not self.internal and has_passed(self.pairs, site.loop):
            return 508, "the request has been here before: the origin leads back to this network"
        return None

    async def _from_cache(self, site: Site, key: bytes) -> None:
        asked = request_directives(self.pairs)
        if self.internal:
            # How stale it takes it is between a client and its own server: others may keep what this one gets.
            asked = replace(asked, max_stale_s=0)
        # Parts are of what the origin sent, so that those of two answers fit together.
        self.plain = self.internal or asked.no_transform or bool(wanted(self.request.method, self.pairs))
        entry = await self.node.coder.find(key, self.pairs, self.plain)
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
            await self._pass(site, b"uri-miss" if entry is None else b"stale", entry)
        elif asked.no_store or self.node.unstorable.has(key, self.node.now_s()):
            await self._pass(site, b"bypass", entry)
        else:
            await self._shared(site, key, entry)

    def _fill(self, site: Site, key: bytes, stale: Entry | None) -> tuple[ObjectFill | None, bool]:
        """The fill of this object, and whether it was begun for this request; None where there are too many."""
        node = self.node
        # What is stored whole is renewed whole; of what is not, no more is fetched than the client wants.
        whole = stale is not None and stale.kept.slices is None
        ranged = not whole and bool(wanted(self.request.method, self.pairs))
        fill_key = node.fill_key(key, self.pairs, ranged)
        # What each client is to ask for itself, he asks for alone: each may be told something else.
        joinable = stale is None or shareable(stale.kept, stale.kept.born_at_s)
        # Another server may know that what began before is out of date by now.
        anew = self.internal and request_directives(self.pairs).no_cache
        fill = node.fills.get(fill_key) if joinable and not anew else None
        if fill is not None and fill.head is not None and not fill.head.suits(self.pairs, node.now_s(), False):
            fill = None  # its body takes longer to come than it is fresh
        if fill is not None or not node.fetching.take(site.serial):
            return fill, False
        fetch = Fetch(node, fill_key, self.request, site, stale, self._forwarding(site), self.hop, ranged)
        return fetch.start(joinable), True

    def _lacks(self, entry: Entry) -> bool:
        """Whether it is a part, and not all that is wanted."""
        return cut_for(self.request, entry) is Uncut.ELSEWHERE

    def _to_complete(self, part: Entry, asked: RequestDirectives) -> bool:
        """Whether to fetch no more than what that part lacks (RFC 9111 section 3.4)."""
        request, node, now_s = self.request, self.node, self.node.now_s()
        one = request.method == b"GET" and len(wanted(request.method, self.pairs)) <= 1
        fresh = verdict(part.kept, asked, now_s) is Use.FRESH
        fits = completable(part, node.object_bytes_max) and not node.unsliceable.has(part.key, now_s)
        return one and fresh and fits

    async def _shared(self, site: Site, key: bytes, entry: Entry | None) -> None:
        """Serves what the origin has, once for all who ask for the object."""
        await self._queued(site, entry, partial(self._awaited, site, key, entry))

    async def _queued(self, site: Site, entry: Entry | None, work: Callable[[], Awaitable[None]]) -> None:
        """Has the origin asked, if not too many of the site's requests wait for it; ``entry``: in its stead."""
        waiting = self.node.waiting
        try:
            if not waiting.take(site.serial):
                raise Busy(TOO_MANY)
            try:
                await work()
            finally:
                waiting.give(site.serial)
        except UpstreamError as error:
            if entry is None or self.reply.status:
                raise
            await self._instead(site, entry, error)

    async def _awaited(self, site: Site, key: bytes, entry: Entry | None) -> None:
        """Waits for the one fetch of an object, and serves what comes of it."""
        why = b"stale" if entry is not None else b"vary-miss" if self.node.store.vary(key) else b"uri-miss"
        fill, mine = self._fill(site, key, entry)
        if fill is None:
            await self._forward(site, why, entry)
            return
        reader, waited = fill.join(), fill.verdict is Verdict.PENDING
        try:
            if entry is not None and fill.verdict is Verdict.PENDING:
                await self.reply.hint_again(entry.kept.links)
            while True:
                # Only to the one that asks the origin: for whom else they are right is not known yet.
                while mine and fill.hints:
                    await self.reply.hint(fill.hints.popleft())
                if fill.verdict is not Verdict.PENDING:
                    break
                await fill.news.wait()
            head = fill.head
            assert head is not None
            for_me = mine or head.suits(self.pairs, self.node.now_s(), waited)
            collapsed = b"" if mine else b"; collapsed"
            if fill.verdict is Verdict.RENEWED and for_me:
                assert head.entry is not None
                cache = Cache.STALE if head.stands_in else Cache.REVALIDATED
                if await self._stored(site, head.entry, cache, b"fwd=stale; fwd-status=304" + collapsed):
                    return
            elif head.error is not None:
                await self._instead(site, entry, head.error)
                return
            elif for_me:
                await self._stream(fill, reader, why + collapsed, mine)
                return
        finally:
            fill.leave(reader)
        await self._forward(site, why, entry)

    async def _stream(self, fill: ObjectFill, reader: Reader, why: bytes, mine: bool) -> None:
        """A fill's response, as it comes."""
        head, now_s = fill.head, self.node.now_s()
        assert head is not None
        kept = head.kept
        self.cache = Cache.PASS if kept is None else Cache.MISS
        how = b"fwd=" + why + (b"; stored" if fill.storing else b"")
        age = None if kept is None else age_s(kept, now_s)
        if kept is not None:
            self.reply.tell_neighbour(kept, head.stands_in)
        if kept is not None and self.request.fields.conditions and not_modified(self.pairs, kept, now_s):
            start = (renewing_head if self.internal else not_modified_head)(head.start)
            await self.reply.whole(304, start, how, age, b"")
            return
        self.reply.begin(head.status, head.own_start if mine else head.start, how, age, head.length)
        if not mine and (head.length is None or head.length > limits.AT_ONCE_BYTES):
            # Of a thousand who waited, all get their first bytes before the first gets many.
            await self.reply.send(())
            await turn()
        while True:
            if pieces := fill.read(reader):
                await self.reply.send(pieces)
            elif fill.broken:
                raise UpstreamError("the origin broke off")
            elif fill.complete:
                break
            else:
                await fill.news.wait()
        await self.reply.end(fill.trailers)

    async def _stored(self, site: Site, stored: Entry, cache: Cache, how: bytes) -> bool:
        """A stored response; where its body is damaged, or of an old version, before it begins: the origin's.

        False if it is there in a coding alone that the client may not know.
        """
        entry = await self.node.coder.suited(stored, self.pairs, self.plain)
        if entry is None:
            return False
        self.cache = cache
        if self.internal:
            await self.reply.hint_again(entry.kept.links)  # for a neighbour to keep with it
        if made := entry.kept.slices is not None or self._lacks(entry):
            entry = assembled(self.node, site, self.request, entry, self._forwarding(site), self.hop)
        if await send_stored(self.reply, self.request, entry, how, cache is Cache.STALE):
            if entry.elsewhere is not None and entry.elsewhere.fetched:
                self.cache = Cache.MISS
        elif made:
            await self._shared(site, entry.key, None)
        else:
            await self._pass(site, b"uri-miss")
        return True

    async def _instead(self, site: Site, entry: Entry | None, error: UpstreamError) -> None:
        """The origin failed: what is stored where it may stand in, else a page that says so."""
        if entry is not None and usable_on_error(entry.kept, self.node.now_s()):
            await self._stored(site, entry, Cache.STALE, b"hit")
        else:
            await self._tell(error)

    async def _tell(self, error: UpstreamError) -> None:
        """That there is no answer; another server is to ask elsewhere, if this one has too much to do."""
        status = MISDIRECTED if self.internal and isinstance(error, Busy) else error.status
        await self.reply.page(status, str(error), error.fields)

    async def _pass(self, site: Site, why: bytes, entry: Entry | None = None) -> None:
        """Forwards the request; ``entry`` may stand in for an origin that fails."""
        await self._queued(site, entry, partial(self._forward, site, why, entry))

    async def _websocket(self, site: Site) -> None:
        """Passes on a handshake, and after it whatever the two say to each other."""
        if self.client.multiplexed:
            self.request = websocket.keyed(self.request, urandom(websocket.KEY_BYTES))
            self.pairs = self.request.fields.pairs
        if (refuse := websocket.fault(self.request)) is not None:
            await self.reply.page(refuse.status, refuse.why, refuse.fields)
        elif site.websockets_max == 0:
            await self.reply.page(501, "WebSocket is not served here")
        elif not self.node.tunnels.take(site.serial, site.websockets_max):
            raise Busy("too many WebSocket connections")
        else:
            try:
                await self._forward(site, b"bypass", switches=True)
            finally:
                self.node.tunnels.give(site.serial)

    async def _forward(self, site: Site, why: bytes, entry: Entry | None = None, switches: bool = False) -> None:
        """Forwards the request and its response, both as they come; not an error, where ``entry`` is better."""
        request, fields, node = self.request, self.request.fields, self.node
        framing: int | Literal["chunked"] | None = "chunked" if fields.chunked else fields.length
        body = self._body(site.rules.body_bytes_max) if framing else None
        safe = request.method in SAFE_METHODS
        pairs = counted(self.pairs if safe else for_origin(self.pairs), forwards_left(request))
        pairs = forwarded_request(pairs, NO_MORE, self._forwarding(site), node.name, Hop.CLIENT)
        question = Question(
            method=request.method,
            target=request.target,
            host=site.origin.host or request.host,
            pairs=site.to_origin(pairs) + (websocket.HANDSHAKE if switches else ()),
            framing=framing,
            switches=switches,
            reading=site.rules.reading(request.target) if safe else None,
        )
        lesson = Lesson(node, site, request)
        origin = site.origin.without_http2() if switches else site.origin
        answer = await node.origins.ask(origin, question, body, self.reply.hint)
        try:
            now_s = node.now_s()
            if outdone(answer, site.rules, entry, now_s):
                raise failure_of(answer)
            await lesson.answered(answer.head)
            self.cache = Cache.PASS
            edited = site.rules.to_client.apply(
                dated(forwarded_response(answer.fields.pairs, self.internal), now_s)
            )
            if switches and websocket.opens(answer.status, self.client.multiplexed):
                await tunnel(self.reply, request, answer, edited)
                return
            start = response_start(answer.status, edited)
            self.reply.begin(answer.status, start, b"fwd=" + why, None, answer.fields.length)
            while pieces := await answer.pieces():
                lesson.take(pieces)
                await self.reply.send(pieces)
            lesson.end()
            await self.reply.end(passed_on(answer.fields.pairs, answer.trailers, site.rules.to_client.gone))
        finally:
            lesson.close()
            answer.close()

    async def _body(self, body_bytes_max: int) -> AsyncIterator[bytes]:
        """The request's body."""
        body_bytes = 0
        try:
            if self.request.minor == 1 and (self.request.fields.get(b"expect") or b"").lower() == b"100-continue":
                await self.client.write((CONTINUE,))
            async for pieces in self.client.body():
                body_bytes += sum(map(len, pieces))
                if body_bytes > body_bytes_max:
                    raise BadMessage("the body is too large", 413)
                for piece in pieces:
                    yield piece
        except BadMessage as error:
            # The sending side ends the origin's connection; the answering side learns the reason here.
            self._fault = error
            raise

    def _client(self) -> str:
        """The address of who asks."""
        return self.node.visitors.client(self.client.trusted, self.client.peer, self.pairs)

    def _forwarding(self, site: Site) -> Pairs:
        host = site.host or self.request.host
        return forwarding(self.request, site.scheme, host, self.client.peer, self.client.trusted, self.internal)

    async def _fail(self, error: UpstreamError) -> None:
        """A page, where no response has begun; where one has, the connection must end short of it."""
        if self.reply.status == 0:
            self.cache = Cache.ERROR
            await self._tell(error)
            self.complete = True

    def _record(self) -> None:
        if self.internal or self.reply.status == 0:
            return
        node, client = self.node, self.client
        place = node.visitors.place_id(self._client())
        now_ms = int(node.now_s() * 1000)
        node.record(now_ms, self.serial, place, self.reply.status, self.cache, client.handed_bytes, self.complete)
        node.counter.requests += 1
