"""One connection of HTTP/2 to an origin: many requests at a time, each a ``H2Exchange`` in place of a ``Link``.

A stalled response holds its own window's worth of bytes and nobody up. All times are the event loop's.
"""

import asyncio
from collections.abc import Callable
from typing import cast

from nearmile.edge import limits
from nearmile.edge.origins.answer import Answer
from nearmile.edge.origins.peer import BrokenOff, Died, Peer, Question, Refused, UpstreamError
from nearmile.http import h2client as h2
from nearmile.http.fields import BadMessage, Pairs


class H2Link(asyncio.Protocol):
    """``on_lost`` is told when it has ended."""

    def __init__(self, peer: Peer, loop: asyncio.AbstractEventLoop, on_lost: Callable[["H2Link"], None]) -> None:
        self.peer, self.loop = peer, loop
        self.session = h2.ClientSession()
        self.streams: dict[int, H2Exchange] = {}
        self.reused = False
        """It has carried a request before."""
        self._on_lost = on_lost
        self._idle_at_s = loop.time()
        self._full = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio."""
        self._transport = cast(asyncio.Transport, transport)
        self.flush()

    @property
    def usable(self) -> bool:
        """Whether a request can be sent on it."""
        return not self._transport.is_closing() and self.session.takes_more

    @property
    def has_room(self) -> bool:
        """Whether the peer takes one more at once."""
        return self.usable and len(self.streams) < self.session.streams_max

    def abort(self) -> None:
        """Ends the connection at once."""
        self._transport.abort()

    def expire(self, now_s: float) -> None:
        """Called by the sweep."""
        for stream in tuple(self.streams.values()):
            stream.expire(now_s)
        if not self.streams and (not self.usable or now_s - self._idle_at_s > limits.LINK_IDLE_S):
            self.session.go_away()
            self.flush()
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Of asyncio."""
        try:
            self._take(self.session.feed(data))
        except BadMessage as error:
            self._end(UpstreamError(f"the origin sent {error}"))
            self.abort()
            return
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """Of asyncio."""
        self._end(None)
        self._on_lost(self)

    def pause_writing(self) -> None:
        """Of asyncio."""
        self._full = True

    def resume_writing(self) -> None:
        """Of asyncio."""
        self._full = False
        self.flush()

    def flush(self) -> None:
        """Sends what can be sent."""
        while not self._full and not self._transport.is_closing():
            data = self.session.out(limits.H2_WRITE_BYTES)
            self._take(self.session.events())
            if not data:
                break
            self._transport.write(data)
        for stream in tuple(self.streams.values()):
            stream.sent()

    def ended(self, stream: int) -> None:
        """A stream is over."""
        self.streams.pop(stream, None)
        self._idle_at_s = self.loop.time()

    def _take(self, events: list[object]) -> None:
        for event in events:
            if isinstance(event, h2.Ended):
                self._end(None)
                self._transport.close()
            elif (stream := self.streams.get(getattr(event, "stream_id", 0))) is not None:
                stream.take(event)

    def _end(self, error: UpstreamError | None) -> None:
        for stream in tuple(self.streams.values()):
            stream.lost(error)
        self.streams.clear()


class H2Exchange(Answer):
    """One request and its response; has what ``client`` uses of a Link."""

    def __init__(self, link: H2Link) -> None:
        super().__init__(link.loop)
        self.link = link
        self.reused, link.reused = link.reused, True
        self.deadline_s = 0.0
        self._number = 0
        self._pieces: list[bytes] = []
        self.trailers: Pairs = ()
        """See Link.trailers."""
        self._whole = False
        """The response's end has come."""
        self._bodiless = False
        self._body_bytes = 0
        self._closed = False

    def begin(self, question: Question) -> None:
        """Sends a request's head."""
        link, framing = self.link, question.framing
        scheme = b"http" if link.peer.trust is None else b"https"
        headers = [(b":method", question.method), (b":scheme", scheme), (b":authority", question.host)]
        headers.append((b":path", question.target))
        headers += question.pairs
        if framing is not None and framing != "chunked":
            headers.append((b"content-length", b"%d" % framing))
        self.deadline_s = self.loop.time() + link.peer.first_byte_timeout_s
        number = link.session.ask(tuple(headers), end=not framing)
        if number is None:
            self._fail(Refused("the origin takes no more requests"))
            return
        self._number, self._bodiless = number, question.method == b"HEAD"
        link.streams[number] = self
        link.flush()

    async def send(self, data: bytes, end: bool = False) -> None:
        """Sends a part of the request's body, or its ``end``, and waits for room; raises UpstreamError."""
        link = self.link
        if self.error is not None:
            raise self.error.anew()
        link.session.send(self._number, (data,) if data else (), end)
        self.deadline_s = self.loop.time() + link.peer.first_byte_timeout_s
        link.flush()
        if not self._closed and link.session.queued_bytes(self._number) > limits.REQUEST_BUFFER_BYTES_MAX:
            await self._room()

    async def pieces(self) -> list[bytes]:
        """See Link.pieces."""
        while not self._pieces:
            if self._whole:
                return []
            await self._news()
        pieces, self._pieces = self._pieces, []
        self.deadline_s = self.loop.time() + self.link.peer.between_bytes_timeout_s
        self.link.session.consumed(self._number, sum(map(len, pieces)))
        self.link.flush()
        return pieces

    def finish(self, _request_sent: bool) -> None:
        """The user is done with the exchange: what is not over is cancelled; the connection goes on."""
        self.abort()

    def break_off(self) -> None:
        """See Link.break_off."""
        self._fail(BrokenOff("the request broke off"))
        self.abort()

    def abort(self) -> None:
        """Ends the exchange."""
        if self._closed or not self._number:
            return
        self._closed = True
        session = self.link.session
        session.consumed(self._number, sum(map(len, self._pieces)))
        session.reset(self._number, h2.NO_ERROR if self._whole else h2.CANCEL)
        self.link.ended(self._number)
        self.link.flush()

    def expire(self, now_s: float) -> None:
        """Called by the sweep. While something waits to be read, the peer is not waited for."""
        if now_s >= self.deadline_s and not self._pieces and not self._whole:
            self._fail(UpstreamError("the origin is silent", 504))
            self.abort()

    def take(self, event: object) -> None:
        """Something came."""
        self.deadline_s = self.loop.time() + self.link.peer.between_bytes_timeout_s
        try:
            if isinstance(event, h2.BodyCame):
                if event.data:
                    self._pieces.append(event.data)
                    self._body_bytes += len(event.data)
                self._come(event.end_stream)
            elif isinstance(event, h2.Responded):
                self._head = h2.response_of(event.headers)
                self._come(event.end_stream)
            elif isinstance(event, h2.Informed):
                self._inform(h2.response_of(event.headers))
            elif isinstance(event, h2.TrailersCame):
                self.trailers = h2.trailers_of(event.headers)
                self._come(True)
            elif isinstance(event, h2.StreamEnded):
                self._end(event.error_code)
        except BadMessage as error:
            self._fail(UpstreamError(f"the origin sent {error}"))
            self.abort()
        self._wake()

    def lost(self, error: UpstreamError | None) -> None:
        """The connection ended."""
        self._closed = True
        if not self._whole:
            kind = Died if self._head is None else UpstreamError
            self._fail(error or kind("the origin ended the connection early"))
        self._wake()

    def sent(self) -> None:
        """Something may have gone: whoever waits for room may have it."""
        session = self.link.session
        if self._writer is not None and session.queued_bytes(self._number) <= limits.REQUEST_BUFFER_BYTES_MAX:
            self._release()

    def _come(self, end: bool) -> None:
        """A part of the response, perhaps the last: as long as it says (RFC 9113 section 8.1.1)."""
        head = self._head
        said = None if head is None or self._bodiless or head.status in (204, 304) else head.fields.length
        if end and said not in (None, self._body_bytes):
            raise BadMessage("a body of another length than it says")
        self._whole = end

    def _end(self, code: int) -> None:
        self._closed = True
        self.link.ended(self._number)
        if not self._whole:
            what = "the origin refused the request" if code == h2.REFUSED else "the origin broke the response off"
            self._fail((Refused if code == h2.REFUSED and self._head is None else UpstreamError)(what))

    def _wake(self) -> None:
        super()._wake()
        if self._closed or self.error is not None:
            self._release()
