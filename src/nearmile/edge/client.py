"""Connections to origins and to the other servers of a region: kept alive, bounded, timed out, tried again.

``Origins.fetch`` sends one request and returns the ``Answer`` once its head has come; the body is pulled from it
piece by piece, and while nobody pulls, the connection is paused. All times are the event loop's.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import cast

from nearmile.edge import limits
from nearmile.edge.peer import Peer, UpstreamError
from nearmile.http.body import Decoder, response_body
from nearmile.http.fields import BadMessage
from nearmile.http.head import ResponseHead, parse_response
from nearmile.http.limits import RESPONSE_HEAD_BYTES_MAX

Hint = Callable[[ResponseHead], Awaitable[None]]
"""Takes an interim response (RFC 9110 section 15.2), which may come before the final one."""


class _Died(UpstreamError):
    """The connection ended before any byte of the answer."""


class Link(asyncio.Protocol):
    """One connection, with at most one request on it."""

    def __init__(self, pool: "Pool") -> None:
        self.pool = pool
        self.loop = pool.loop
        self.deadline_s = 0.0
        """When the sweep ends what goes on, or the idleness."""
        self.reused = False
        self.error: UpstreamError | None = None
        self._transport: asyncio.Transport
        self._method = b""
        self._busy = False
        self._held = b""
        self._head: ResponseHead | None = None
        self._decoder: Decoder | None = None
        self._pieces: deque[bytes] = deque()
        self._pieces_bytes = 0
        self._paused = False
        self._full = False
        self._interim = 0
        self._hints: deque[ResponseHead] = deque()
        self._spoiled = False
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio."""
        self._transport = cast(asyncio.Transport, transport)

    @property
    def usable(self) -> bool:
        """Whether a request can be sent on it."""
        return not self._transport.is_closing()

    def begin(self, method: bytes, head: bytes) -> None:
        """Sends a request's head."""
        self._method, self._busy, self._interim = method, True, 0
        self._held, self._head, self._decoder = b"", None, None
        self._hints.clear()
        self.deadline_s = self.loop.time() + limits.FIRST_BYTE_TIMEOUT_S
        self._transport.write(head)

    async def send(self, data: bytes) -> None:
        """Sends a part of the request's body once there is room; raises UpstreamError."""
        if self.error is not None:
            raise self.error
        self._transport.write(data)
        self.deadline_s = self.loop.time() + limits.FIRST_BYTE_TIMEOUT_S
        if self._full:
            self._writer = self.loop.create_future()
            await self._writer

    async def head(self, hint: Hint) -> ResponseHead:
        """The final response's head; ``hint`` is told of those before it. Raises UpstreamError."""
        while True:
            while self._hints:
                await hint(self._hints.popleft())
            if self._head is not None:
                return self._head
            await self._news()

    async def pieces(self) -> list[bytes]:
        """The next parts of the body; empty at its end. Raises UpstreamError where it ended too early."""
        decoder = self._decoder
        assert decoder is not None
        while not self._pieces:
            if decoder.done:
                return []
            await self._news()
        pieces = list(self._pieces)
        self._pieces.clear()
        self._pieces_bytes = 0
        if self._paused:
            self._paused = False
            self.deadline_s = self.loop.time() + limits.BETWEEN_BYTES_TIMEOUT_S
            self._transport.resume_reading()
        return pieces

    def finish(self, request_sent: bool) -> None:
        """The user is done with the exchange: keeps the connection if it is at a message's end, else ends it."""
        clean = (
            self._decoder is not None and self._decoder.done and self._head is not None and self._head.keep_alive
        )
        if (
            clean
            and request_sent
            and not self._spoiled
            and self.error is None
            and not self._pieces
            and not self._paused
        ):
            self._busy, self.reused = False, True
            self.deadline_s = self.loop.time() + limits.LINK_IDLE_S
            self.pool.give_back(self)
        else:
            self.abort()

    def abort(self) -> None:
        """Ends the connection at once."""
        self._transport.abort()

    def expire(self, now_s: float) -> None:
        """Called by the sweep. A connection paused by its readers waits for them, not for the peer."""
        if now_s < self.deadline_s or (self._busy and self._paused):
            return
        if self._busy:
            self._fail(UpstreamError("the origin is silent", 504))
        self.abort()

    def data_received(self, data: bytes) -> None:
        """Of asyncio."""
        if not self._busy:
            # Nobody asked: whatever it is, it must not become the answer to the next request.
            self.abort()
            return
        self.deadline_s = self.loop.time() + limits.BETWEEN_BYTES_TIMEOUT_S
        try:
            self._take(data)
        except BadMessage as error:
            self._fail(UpstreamError(f"the origin sent {error}"))
            self.abort()

    def eof_received(self) -> None:
        """Of asyncio."""
        if self._decoder is not None and not self._decoder.done:
            self._decoder.end()

    def connection_lost(self, exc: Exception | None) -> None:
        """Of asyncio."""
        if self._busy and (self._decoder is None or not self._decoder.done):
            nothing = self._head is None and not self._held
            self._fail((_Died if nothing else UpstreamError)("the origin ended the connection early"))
        self._wake()
        self.pool.lost(self)

    def pause_writing(self) -> None:
        """Of asyncio."""
        self._full = True

    def resume_writing(self) -> None:
        """Of asyncio."""
        self._full = False
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)

    def _take(self, data: bytes) -> None:
        while self._decoder is None:
            self._held += data
            end = self._held.find(b"\r\n\r\n") + 4
            if end < 4 or end > RESPONSE_HEAD_BYTES_MAX:
                if len(self._held) > RESPONSE_HEAD_BYTES_MAX:
                    raise BadMessage("a head that is too large")
                return
            head = parse_response(self._held[:end])
            data, self._held = self._held[end:], b""
            if head.status >= 200:
                self._head, self._decoder = head, response_body(self._method, head)
            elif head.status == 101 or self._interim >= limits.INTERIM_MAX:
                raise BadMessage("interim responses that nobody asked for")
            else:
                self._interim += 1
                if head.status != 100:  # which answers an expectation that is never passed on
                    self._hints.append(head)
                    self._wake()
        pieces, rest = self._decoder.feed(data) if data and not self._decoder.done else ([], data)
        # Whatever follows the response is nobody's answer: it goes with the connection.
        self._spoiled = bool(rest)
        self._pieces.extend(pieces)
        self._pieces_bytes += sum(map(len, pieces))
        if self._pieces_bytes > limits.LINK_BUFFER_BYTES_MAX and not self._paused and not self._decoder.done:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    async def _news(self) -> None:
        if self.error is not None:
            raise self.error
        self._reader = self.loop.create_future()
        await self._reader

    def _wake(self) -> None:
        for future in (self._reader, self._writer):
            if future is not None and not future.done():
                future.set_result(None)

    def _fail(self, error: UpstreamError) -> None:
        if self.error is None:
            self.error = error
        self._wake()


class Pool:
    """The connections to one peer."""

    def __init__(self, peer: Peer, loop: asyncio.AbstractEventLoop) -> None:
        self.peer, self.loop = peer, loop
        self.links: set[Link] = set()
        self._idle: list[Link] = []
        self._opening = 0
        self._waiters: deque[asyncio.Future[Link | None]] = deque()

    @property
    def unused(self) -> bool:
        """Nothing is lost when the pool is forgotten."""
        return not self.links and not self._opening

    async def take(self, fresh: bool) -> Link:
        """An idle connection (the latest used, so that others may go), or a new one; raises UpstreamError."""
        while not fresh and self._idle:
            if (link := self._idle.pop()).usable:
                return link
        if len(self.links) + self._opening >= limits.LINKS_PER_ORIGIN_MAX:
            if self._idle:
                self._idle.pop(0).abort()
                return await self._open()
            freed = await self._wait()
            if freed is not None:
                return freed
        return await self._open()

    def give_back(self, link: Link) -> None:
        """The connection has no request on it any more."""
        if not self._wake(link):
            self._idle.append(link)

    def lost(self, link: Link) -> None:
        """The connection is gone."""
        self.links.discard(link)
        with contextlib.suppress(ValueError):
            self._idle.remove(link)
        self._wake(None)

    def _wake(self, link: Link | None) -> bool:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(link)
                return True
        return False

    async def _wait(self) -> Link | None:
        if len(self._waiters) >= limits.LINK_WAITERS_MAX:
            raise UpstreamError("too many requests wait for this origin", 503)
        waiter: asyncio.Future[Link | None] = self.loop.create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(limits.FIRST_BYTE_TIMEOUT_S):
                return await waiter
        except TimeoutError:
            raise UpstreamError("no connection to this origin became free", 503) from None
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                link = waiter.result()
                if link is None or link.error is not None or not self._wake(link):
                    self._wake(None)
            raise

    async def _open(self) -> Link:
        peer = self.peer
        self._opening += 1
        try:
            async with asyncio.timeout(peer.connect_timeout_s):
                _, link = await self.loop.create_connection(
                    lambda: Link(self), peer.host, peer.port, local_addr=(peer.local, 0) if peer.local else None
                )
        except TimeoutError:
            raise UpstreamError("the origin takes no connection in time", 504) from None
        except OSError as error:
            raise UpstreamError(f"the origin takes no connection ({error})") from None
        finally:
            self._opening -= 1
        self.links.add(link)
        return link


class Answer:
    """A response whose head has come; ``close`` must be called in the end."""

    def __init__(self, link: Link, head: ResponseHead, sending: "asyncio.Task[None] | None") -> None:
        self.head = head
        self.status, self.fields = head.status, head.fields
        self._link, self._sending = link, sending

    async def pieces(self) -> list[bytes]:
        """See Link.pieces."""
        return await self._link.pieces()

    def close(self) -> bool:
        """Ends the exchange; returns whether the whole request had been sent."""
        sent = self._sending is None or (self._sending.done() and not self._sending.cancelled())
        if self._sending is not None:
            self._sending.cancel()
        self._link.finish(sent)
        return sent


class Origins:
    """All pools of an edge server."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._pools: dict[Peer, Pool] = {}

    async def fetch(
        self,
        peer: Peer,
        method: bytes,
        head: bytes,
        body: AsyncIterator[bytes] | None,
        repeatable: bool,
        hint: Hint,
    ) -> Answer:
        """Sends a request and waits for the head of its response; raises UpstreamError.

        ``hint`` is told of the interim responses before it, at most INTERIM_MAX.

        A kept connection may have been closed by the peer as we sent (RFC 9112 section 9.3.1): where nothing came
        back and the request is safe to repeat, a fresh connection is tried, once.
        """
        link = await self._pool(peer).take(fresh=body is not None or not repeatable)
        try:
            return await self._exchange(link, method, head, body, hint)
        except _Died:
            if not (link.reused and repeatable and body is None):
                raise
        return await self._exchange(await self._pool(peer).take(fresh=True), method, head, None, hint)

    def sweep(self, now_s: float) -> None:
        """Ends what is overdue; called about once a second."""
        for pool in self._pools.values():
            for link in tuple(pool.links):
                link.expire(now_s)

    def close(self) -> None:
        """Ends all connections."""
        for pool in self._pools.values():
            for link in tuple(pool.links):
                link.abort()

    async def _exchange(
        self, link: Link, method: bytes, head: bytes, body: AsyncIterator[bytes] | None, hint: Hint
    ) -> Answer:
        sending = None
        try:
            link.begin(method, head)
            if body is not None:
                sending = self.loop.create_task(_send(link, body))
            return Answer(link, await link.head(hint), sending)
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
            pool = self._pools[peer] = Pool(peer, self.loop)
        return pool


async def _send(link: Link, body: AsyncIterator[bytes]) -> None:
    """The request's body. A client that breaks off, or breaks the rules, must not look like its end."""
    try:
        async for piece in body:
            await link.send(piece)
    except UpstreamError:
        pass  # The origin answered early or died: the reading side tells.
    except Exception:
        link.abort()
