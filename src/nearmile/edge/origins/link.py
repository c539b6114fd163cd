"""One connection of HTTP/1.1 to an origin or to another server, with at most one request on it at a time.

The body of a response is pulled from it piece by piece; while nobody pulls, the connection is paused. All times
are the event loop's.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import cast

from nearmile.edge import limits
from nearmile.edge.backlog import unread
from nearmile.edge.messages import request_head
from nearmile.edge.origins.answer import Answer
from nearmile.edge.origins.peer import BrokenOff, Died, Peer, Question, UpstreamError
from nearmile.http.body import LAST_CHUNK, ChunkedBody, Decoder, OpenBody, encode_chunk, response_body
from nearmile.http.fields import BadMessage, Pairs
from nearmile.http.head import ResponseHead, parse_response
from nearmile.http.limits import RESPONSE_HEAD_BYTES_MAX


class Link(Answer, asyncio.Protocol):
    """``on_lost`` is told when it has ended, ``on_free`` when it can take another request."""

    def __init__(
        self,
        peer: Peer,
        loop: asyncio.AbstractEventLoop,
        on_free: Callable[["Link"], None],
        on_lost: Callable[["Link"], None],
    ) -> None:
        super().__init__(loop)
        self.peer = peer
        self._on_free, self._on_lost = on_free, on_lost
        self.deadline_s = loop.time() + limits.LINK_IDLE_S
        """When the sweep ends what goes on, or the idleness."""
        self.reused = False
        self._transport: asyncio.Transport
        self._method = b""
        self._chunked = False
        self._may_switch = self._switched = False
        self._busy = False
        self._held = b""
        self._decoder: Decoder | None = None
        self._pieces: deque[bytes] = deque()
        self._paused = False
        self._full = False
        self._spoiled = False
        self._told: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio."""
        self._transport = cast(asyncio.Transport, transport)

    @property
    def usable(self) -> bool:
        """Whether a request can be sent on it: nothing has come that would be taken for the answer to it."""
        if not self._transport.is_closing() and unread(self._transport):
            self.abort()
        return not self._transport.is_closing()

    @property
    def _silence_s(self) -> float:
        """How long nothing may come of what has begun to come."""
        return self.peer.idle_timeout_s if self._switched else self.peer.between_bytes_timeout_s

    def begin(self, question: Question) -> None:
        """Sends a request's head."""
        self._method, self._busy, self._interim = question.method, True, 0
        self._chunked = question.framing == "chunked"
        self._may_switch = question.switches
        self._held, self._head, self._decoder = b"", None, None
        self._hints.clear()
        self.deadline_s = self.loop.time() + self.peer.first_byte_timeout_s
        self._transport.write(request_head(question))

    def tell(self, come: Callable[[], None]) -> None:
        """Calls back, once and in a later turn, when something has come in answer, or nothing will."""
        self._told = come

    @property
    def come(self) -> ResponseHead | None:
        """The head of a response that is here, with all of its body and nothing else."""
        decoder = self._decoder
        return self._head if decoder is not None and decoder.done and not self._hints else None

    def take(self) -> list[bytes]:
        """What has come of the body since it was last taken."""
        pieces = list(self._pieces)
        self._pieces.clear()
        return pieces

    async def send(self, data: bytes, end: bool = False) -> None:
        """Sends a part of the request's body, or its ``end``, and waits for room; raises UpstreamError.

        Who ends what another protocol has switched to has no answer to wait for.
        """
        if self.error is not None:
            raise self.error.anew()
        if end and self._switched:
            self.eof_received()
            self._transport.close()
            self._wake()
            return
        if self._chunked:
            data = LAST_CHUNK if end else encode_chunk(data)
        self._transport.write(data)
        peer = self.peer
        self.deadline_s = self.loop.time() + (peer.idle_timeout_s if self._switched else peer.first_byte_timeout_s)
        if self._full:
            await self._room()

    async def pieces(self) -> list[bytes]:
        """The next parts of the body; empty at its end. Raises UpstreamError where it ended too early."""
        decoder = self._decoder
        assert decoder is not None
        while not self._pieces:
            if decoder.done:
                return []
            if self._paused:
                self._paused = False
                self.deadline_s = self.loop.time() + self._silence_s
                self._transport.resume_reading()
            await self._news()
        return self.take()

    @property
    def trailers(self) -> Pairs:
        """The fields behind the body, once that has ended."""
        return self._decoder.trailers if isinstance(self._decoder, ChunkedBody) else ()

    def finish(self, request_sent: bool) -> None:
        """The user is done with the exchange: keeps the connection if it is at a message's end, else ends it."""
        clean = (
            self._decoder is not None and self._decoder.done and self._head is not None and self._head.keep_alive
        )
        if (
            clean
            and request_sent
            and not self._spoiled
            and not self._switched
            and self.error is None
            and not self._pieces
            and not self._paused
        ):
            self._busy, self.reused = False, True
            self.deadline_s = self.loop.time() + limits.LINK_IDLE_S
            self._on_free(self)
        else:
            self.abort()

    def break_off(self) -> None:
        """The request will not be whole: ends the connection, lest it looks like its end."""
        self._fail(BrokenOff("the request broke off"))
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
        self.deadline_s = self.loop.time() + self._silence_s
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
            self._fail((Died if nothing else UpstreamError)("the origin ended the connection early"))
        self._wake()
        self._on_lost(self)

    def pause_writing(self) -> None:
        """Of asyncio."""
        self._full = True

    def resume_writing(self) -> None:
        """Of asyncio."""
        self._full = False
        self._release()

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
            elif head.status == 101 and self._may_switch:
                self._head, self._decoder, self._switched = head, OpenBody(), True
                self.deadline_s = self.loop.time() + self.peer.idle_timeout_s
            elif head.status == 101:
                raise BadMessage("a switch of protocols that nobody asked for")
            else:
                self._inform(head)
        pieces, rest = self._decoder.feed(data) if data and not self._decoder.done else ([], data)
        # Whatever follows the response is nobody's answer: it goes with the connection.
        self._spoiled = bool(rest)
        self._pieces.extend(pieces)
        # What was read at once is enough to wait for its readers: the kernel reads ahead.
        if self._pieces and not self._paused and not self._decoder.done:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def _wake(self) -> None:
        if self._told is not None:
            self.loop.call_soon(self._told)
            self._told = None
        super()._wake()
        self._release()
