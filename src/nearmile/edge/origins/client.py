"""Asking origins and other servers: connections kept alive, bounded, timed out; the next origin where one fails.

``Origins.ask`` sends one request and returns the ``Answer`` once its head has come. Everything is counted by peer,
and each site has peers of its own: a site whose origin stalls fills its own queue, and nobody else's.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterable
from itertools import chain
from typing import NamedTuple

from nearmile.edge import limits
from nearmile.edge.origins.answer import Hint
from nearmile.edge.origins.health import turns
from nearmile.edge.origins.link import Link
from nearmile.edge.origins.peer import (
    BrokenOff,
    Died,
    Origin,
    Peer,
    Question,
    Refused,
    Trust,
    Unsent,
    UpstreamError,
)
from nearmile.edge.origins.pool import Channel, Pool, new_context, system_authorities
from nearmile.http.fields import Pairs
from nearmile.http.head import ResponseHead

Terms = tuple[str | None, str, tuple[float, ...]]
"""What one context of TLS is for: whom to trust, of which state of the system, and whether HTTP/2 is spoken."""
FAILING = frozenset((500, 502, 503, 504))  # RFC 5861 section 4


class Answer:
    """A response whose head has come; ``close`` must be called in the end."""

    def __init__(
        self,
        pool: Pool,
        link: Channel,
        question: Question,
        head: ResponseHead,
        sending: "asyncio.Task[None] | None",
    ) -> None:
        self.head = head = head if question.reading is None else question.reading(head)
        self.status, self.fields = head.status, head.fields
        self._pool, self._link, self._sending = pool, link, sending
        self._left = False
        self.pieces = link.pieces
        """See Link.pieces."""

    @property
    def trailers(self) -> Pairs:
        """See Link.trailers."""
        return self._link.trailers

    async def send(self, data: bytes, end: bool = False) -> None:
        """Sends on a connection that has switched to another protocol, or ends it; see Link.send."""
        await self._link.send(data, end)

    def switch(self) -> None:
        """The peer answered 101: from now on this counts no more among the requests under way."""
        self._pool.leave()
        self._left = True

    def close(self) -> bool:
        """Ends the exchange; returns whether the whole request had been sent."""
        sent = self._sending is None or (self._sending.done() and not self._sending.cancelled())
        if self._sending is not None:
            self._sending.cancel()
        self._link.finish(sent)
        if not self._left:
            self._pool.leave()
        return sent


class Asked(NamedTuple):
    """A question that has been sent on an idle connection, to whom it is to be put first."""

    question: Question
    pool: Pool
    link: Link

    def answer(self) -> Answer:
        """The answer, where its head has come."""
        head = self.link.come
        assert head is not None
        self.pool.answered()
        return Answer(self.pool, self.link, self.question, head, None)


class Origins:
    """All pools of an edge server."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._pools: dict[Peer, Pool] = {}
        self._contexts: dict[Terms, ssl.SSLContext] = {}
        self._system = system_authorities()
        self._probed: tuple[Peer, ...] = ()
        self._probing: set[asyncio.Task[None]] = set()

    def watch(self, peers: Iterable[Peer]) -> None:
        """All peers from now on: those that say how are probed."""
        peers = tuple(peers)
        self._probed = tuple({peer: None for peer in peers if peer.probe is not None})
        self._system = system_authorities()
        used = {self._terms(peer.trust, peer.http2) for peer in peers if peer.trust is not None}
        self._contexts = {terms: context for terms, context in self._contexts.items() if terms in used}

    def ask_at_once(self, origin: Origin, question: Question) -> Asked | None:
        """Sends a request without a body, if all it takes is an idle connection to the first of the peers.

        If its response is not there when the connection tells, ``ask`` goes on from there.
        """
        pool = self._pool(origin.peers[0])
        link = pool.enter_idle()
        if link is None:
            return None
        link.begin(question)
        return Asked(question, pool, link)

    async def ask(
        self,
        origin: Origin,
        question: Question,
        body: AsyncIterator[bytes] | None,
        hint: Hint,
        asked: Asked | None = None,
    ) -> Answer:
        """Sends a request, if it is not ``asked`` already, and waits for the head of its response.

        Raises UpstreamError. ``hint`` is told of the interim responses before it, at most INTERIM_MAX. The next
        peer is asked where that is safe: nothing was sent to the one before, or the request may be repeated (RFC
        9110 section 9.2.2).
        """
        failure: UpstreamError | None = None
        failing: Answer | None = None
        first = () if asked is None else (asked.pool,)
        others = [(pool, pool.health) for pool in map(self._pool, origin.peers) if pool not in first]
        for pool in chain(first, turns(others, self.loop.time(), origin.last_resort)):
            try:
                answer = await self._ask(pool, question, body, hint, asked if pool in first else None)
            except UpstreamError as error:
                failure = error
                unread = isinstance(error, Unsent) or (isinstance(error, Refused) and body is None)
                if not (unread or question.repeatable):
                    break
                continue
            except BaseException:
                if failing is not None:
                    failing.close()
                raise
            if not (origin.over_errors and answer.status in FAILING):
                pool.answered()
                if failing is not None:
                    failing.close()
                return answer
            pool.failed(f"it answers {answer.status}")
            if not question.repeatable:
                return answer
            if failing is None:
                failing = answer
            else:
                answer.close()
        if failing is not None:
            return failing
        try:
            raise failure or Unsent("it is not asked now")
        finally:
            del failure  # whose frames are this one's, too: neither would be freed

    async def _ask(
        self,
        pool: Pool,
        question: Question,
        body: AsyncIterator[bytes] | None,
        hint: Hint,
        asked: Asked | None = None,
    ) -> Answer:
        """Asks one peer.

        A kept connection may have been closed by the peer as we sent (RFC 9112 section 9.3.1): where nothing came
        back and the request is safe to repeat, or was refused unread, a fresh connection is tried, once.
        """
        if asked is None:
            await pool.enter()
        try:
            repeatable = question.repeatable
            fresh = not repeatable and not pool.multiplexed
            link: Channel = await pool.channel(fresh) if asked is None else asked.link
            try:
                return await self._exchange(pool, link, question, body, hint, begun=asked is not None)
            except Died:
                if not (link.reused and repeatable):
                    raise
            except Refused:
                if body is not None:
                    raise
            return await self._exchange(pool, await pool.channel(fresh=True), question, None, hint)
        except UpstreamError as error:
            pool.leave()
            if not isinstance(error, BrokenOff):
                pool.failed(error.detail or str(error))
            raise
        except BaseException:
            pool.leave()
            raise

    def sweep(self, now_s: float) -> None:
        """Ends what is overdue, and probes; called about once a second."""
        for pool in self._pools.values():
            for link in tuple(pool.links):
                link.expire(now_s)
        for peer in self._probed:
            pool = self._pool(peer)
            if peer.probe is not None and now_s >= pool.probe_at_s:
                pool.probe_at_s = now_s + peer.probe.interval_s
                task = self.loop.create_task(self._probe(pool, peer.probe.host, peer.probe.target))
                self._probing.add(task)
                task.add_done_callback(self._probing.discard)

    async def _probe(self, pool: Pool, host: bytes, target: bytes) -> None:
        """Asks for what tells whether a peer is well; a Busy one is not known to be unwell."""
        question = Question(method=b"GET", target=target, host=host, pairs=((b"user-agent", b"nearmile"),))
        with contextlib.suppress(UpstreamError):
            answer = await self._ask(pool, question, None, _unheard)
            answer.close()
            if answer.status < 400:
                pool.answered()
            else:
                pool.failed(f"it answers its probe with {answer.status}")

    def close(self) -> None:
        """Ends all connections."""
        for task in self._probing:
            task.cancel()
        for pool in self._pools.values():
            for link in tuple(pool.links):
                link.abort()

    async def _exchange(
        self,
        pool: Pool,
        link: Channel,
        question: Question,
        body: AsyncIterator[bytes] | None,
        hint: Hint,
        begun: bool = False,
    ) -> Answer:
        sending = None
        try:
            if not begun:
                link.begin(question)
            if body is not None:
                sending = self.loop.create_task(_send(link, body))
            return Answer(pool, link, question, await link.head(hint), sending)
        except BaseException:
            if sending is not None:
                sending.cancel()
            link.abort()
            raise

    def _pool(self, peer: Peer) -> Pool:
        pool = self._pools.get(peer)
        if pool is None:
            if len(self._pools) >= limits.POOLS_MAX:
                self._pools = {peer: pool for peer, pool in self._pools.items() if not pool.unused}
            pool = self._pools[peer] = Pool(peer, self.loop, self._context(peer))
        return pool

    def _context(self, peer: Peer) -> ssl.SSLContext | None:
        """One for all who trust the same: the system's authorities take 20 ms to read."""
        if peer.trust is None:
            return None
        terms = self._terms(peer.trust, peer.http2)
        context = self._contexts.get(terms)
        if context is None:
            context = self._contexts[terms] = new_context(peer.trust.authorities, peer.http2)
        return context

    def _terms(self, trust: Trust, http2: str) -> Terms:
        return trust.authorities, http2, self._system


async def _unheard(_head: ResponseHead) -> None:
    """Interim responses that nobody waits for."""


async def _send(link: Channel, body: AsyncIterator[bytes]) -> None:
    """The request's body. A client that breaks off, or breaks the rules, must not look like its end."""
    try:
        async for piece in body:
            await link.send(piece)
        await link.send(b"", end=True)
    except UpstreamError:
        pass  # The origin answered early or died: the reading side tells.
    except Exception:
        link.break_off()
