"""Requests that run side by side on one connection, whatever carries them: streams of HTTP/2 and of HTTP/3.

A stream that is not answered from memory at once becomes a ``Stream`` with an ``Exchange``, which sees in it a
client like any other. ``Multiplexed`` is what their connection does with them.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from math import inf
from typing import NamedTuple, Protocol

from nearmile.cache.pages import Body, raw
from nearmile.edge import limits
from nearmile.edge.clients.door import Door
from nearmile.edge.clients.incoming import Incoming
from nearmile.edge.clients.pace import Pace
from nearmile.edge.exchange import Exchange
from nearmile.edge.messages import page
from nearmile.http.fields import BadMessage, Pairs
from nearmile.http.head import Request
from nearmile.http.streams import PSEUDO, headers_of, request_of
from nearmile.reports.hit import Cache

log = logging.getLogger("nearmile.edge")

HIT, ERROR = int(Cache.HIT), int(Cache.ERROR)
# What Age adds to a response's size beside its digits.
AGE_BYTES = len(b"age: \r\n")
INTERIM = b"HTTP/1.1 1"


class Codes(NamedTuple):
    """The numbers by which a protocol says why a stream ends."""

    internal: int
    cancel: int
    malformed: int


class Session(Protocol):
    """The protocol of a connection, see http.h2.Session."""

    def respond(self, stream: int, headers: Pairs, end: bool) -> bool:
        """Sends the head of a response."""
        ...

    def interim(self, stream: int, headers: Pairs) -> None:
        """Sends an interim response."""
        ...

    def send(self, stream: int, pieces: Iterable[bytes | memoryview], end: bool) -> None:
        """Queues parts of a body."""
        ...

    def trail(self, stream: int, trailers: Pairs) -> None:
        """Ends a body with trailer fields."""
        ...

    def queued_bytes(self, stream: int) -> int:
        """What of a stream's body waits."""
        ...

    def consumed(self, stream: int, size_bytes: int) -> None:
        """So much of a request's body has been used."""
        ...

    def reset(self, stream: int, error: int) -> None:
        """Ends a stream at once."""
        ...


class StreamBody:
    """A request's body as DATA frames bring it (http.body.Decoder)."""

    def __init__(self, done: bool) -> None:
        self.done = done

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """See Decoder. Frames may be empty, but a piece must not be: as a chunk it would end the body."""
        return ([data] if data else []), b""

    def end(self) -> bool:
        """See Decoder."""
        self.done = True
        return True


class Stream:
    """One request that is not answered yet, or whose answer waits for the client's windows (edge.reply.Client)."""

    multiplexed = True

    def __init__(self, connection: "Multiplexed", number: int, ended: bool) -> None:
        self.connection, self.number = connection, number
        self.peer, self.trusted, self.secure = connection.peer, connection.trusted, connection.secure
        self.handed_bytes = 0
        self.waiting_bytes = 0
        self.quiet_sweeps = 0
        self.task: asyncio.Task[None] | None = None
        self.unrecorded: tuple[int, int, int, int] | None = None
        """Of a hit on its way: time, site, place, status."""
        self.owed_bytes: int | None = None
        """Of the request's body; None where it did not say."""
        self._head_sent = self._switched = False
        self.finished = False
        """Nothing will be added to the response."""
        self._held_head: bytes | None = None
        self._room: asyncio.Future[None] | None = None
        self._unread_bytes = 0
        self._taken_bytes = 0
        """By the client, since the last sweep."""
        self.written_bytes = 0
        """In the connection's last write, of which the kernel may not have taken all."""
        self.sent = False
        """So is the response's end."""
        self._pace = Pace()
        self._decoder = StreamBody(ended)
        self._body = Incoming(self._decoder, connection.loop.create_future)

    def switch(self) -> AsyncIterator[list[bytes]]:
        """See Client (RFC 8441, RFC 9220)."""
        self._switched, self._body.bytes_max = True, inf
        self._send_head(end=False)
        self.connection.flush()
        return self._body.read(self._body_read)

    async def write(self, pieces: Sequence[Body]) -> None:
        """See Client. What comes first is a head; it waits for the body's beginning or end."""
        connection = self.connection
        if self.number not in connection.streams:
            raise ConnectionAbortedError("the client is gone")
        data = [raw(piece) for piece in pieces if piece]
        if not self._head_sent and self._held_head is None:
            head, *data = data
            assert isinstance(head, bytes)
            if head.startswith(INTERIM):
                connection.session.interim(self.number, headers_of(head))
                connection.flush()
                return
            self._held_head = head
            self.handed_bytes += len(head)
        if data:
            self._send_head(end=False)
            connection.session.send(self.number, data, end=False)
            self.waiting_bytes += sum(map(len, data))
            connection.flush()
            if not self.mind_waiting():
                self._room = connection.loop.create_future()
                await self._room
                self._room = None

    def body(self) -> AsyncIterator[list[bytes]]:
        """See Client."""
        return self._body.read(self._body_read)

    @property
    def body_read(self) -> bool:
        """See Client."""
        return self._body.done

    @property
    def full(self) -> bool:
        """Enough of the body waits here."""
        return self._body.full

    def came(self, data: bytes, end: bool) -> bool:
        """A part of the request's body; returns whether there is more or less of it than was said."""
        self.quiet_sweeps = 0
        if self.owed_bytes is not None:
            self.owed_bytes -= len(data)
            if self.owed_bytes < 0 or (end and self.owed_bytes):
                return True
        self._unread_bytes += len(data)
        if end:
            self._decoder.done = True
        self._body.take(data)
        return False

    def finish(self, trailers: Pairs) -> None:
        """The whole response has been handed over; its windows may still hold some of it back."""
        if trailers:
            self._send_head(end=False)
            self.connection.session.trail(self.number, trailers)
        elif self._held_head is not None:
            self._send_head(end=True)
        else:
            self.connection.session.send(self.number, (), end=True)
        self.finished = True

    def mind_waiting(self) -> bool:
        """Counts what the client has not taken; returns whether that is nothing."""
        queued_bytes = self.connection.session.queued_bytes(self.number)
        if queued_bytes != self.waiting_bytes:
            went_bytes = self.waiting_bytes - queued_bytes
            self.handed_bytes += went_bytes
            self.written_bytes += went_bytes
            self._taken_bytes += went_bytes
            self.waiting_bytes, self.quiet_sweeps = queued_bytes, 0
        if queued_bytes or self.connection.full:
            return False
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        return True

    @property
    def over(self) -> bool:
        """All of the response is on its way."""
        return self.finished and not self.waiting_bytes and not self.connection.full

    @property
    def overdue(self) -> bool:
        """Called by the sweep: whether the client has let the stream wait for too long, or moves too little."""
        self.quiet_sweeps += 1
        moved_bytes, self._taken_bytes = self._taken_bytes + self._body.moved(), 0
        body = self._body
        if not self.waiting_bytes and (body.done or body.full or self.task is None or self._switched):
            # It waits for the origin, which has limits of its own; so has what they say to each other.
            self.quiet_sweeps = 0
            return False
        return self._pace.too_slow(moved_bytes) or self.quiet_sweeps * limits.SWEEP_S > limits.STALLED_TIMEOUT_S

    def _send_head(self, end: bool) -> None:
        if self._held_head is not None:
            self.connection.session.respond(self.number, headers_of(self._held_head), end)
            self._held_head, self._head_sent = None, True

    def _body_read(self) -> None:
        """The exchange has taken what there was: the client may send as much again."""
        size_bytes, self._unread_bytes = self._unread_bytes, 0
        self.connection.session.consumed(self.number, size_bytes)
        self.connection.flush()


class Multiplexed:
    """One client's connection, and what it does with its streams."""

    session: Session
    codes: Codes

    def __init__(self, door: Door, secure: bool) -> None:
        self.secure = secure
        self.door, self.node, self.loop = door, door.node, door.loop
        self.peer, self.trusted = "", False
        self.streams: dict[int, Stream] = {}
        self.full = False
        """The kernel takes no more for now."""
        self._place = 0
        self._quiet_sweeps = 0
        self._spoiled = 0
        """Streams of this sweep's second that were reset or broke a rule."""

    def flush(self) -> None:
        """Sends what the windows and the kernel take, and tells the streams that waited for it."""
        raise NotImplementedError

    def _end_soon(self) -> None:
        """The server ends, and the last stream has."""
        raise NotImplementedError

    def _meet(self, peer: str) -> None:
        """Who the client is."""
        self.peer = peer
        visitors = self.node.visitors
        self.trusted = visitors.trusts(peer)
        self._place = visitors.place_id(peer)

    def _begin(self, number: int, headers: Pairs, ended: bool) -> None:
        """Reads the request strictly, and starts its exchange."""
        self._quiet_sweeps = 0
        stream = self.streams[number] = Stream(self, number, ended)
        try:
            request = request_of(headers, ended)
        except BadMessage as error:
            self._refuse(stream, error)
            return
        stream.owed_bytes = request.fields.length
        if ended and len(headers) >= PSEUDO and headers[PSEUDO - 1][0].startswith(b":"):
            authority = dict(headers[:PSEUDO]).get(b":authority")
            self.node.streams.learn_request(authority, headers[PSEUDO:], request.fields)
        stream.task = self.loop.create_task(self._answer(stream, request))

    def _refuse(self, stream: Stream, error: BadMessage) -> None:
        """Tells the client that its request is none."""
        self.streams[stream.number] = stream
        now_s = self.node.now_s()
        start, body = page(error.status, f"bad request: {error}", now_s)
        self.session.respond(stream.number, headers_of(start + self.node.via), False)
        self.session.send(stream.number, (body,), True)
        size_bytes = len(start) + len(body)
        self.node.record(int(now_s * 1000), 0, self._place, error.status, ERROR, size_bytes, True)
        stream.finished = True

    async def _answer(self, stream: Stream, request: Request) -> None:
        """One exchange, to its end."""
        exchange = Exchange(self.node, stream, request)
        complete = False
        try:
            await exchange.run()
            complete = exchange.complete
        except ConnectionError:
            pass
        except Exception:
            log.exception("a request failed unexpectedly")
        finally:
            stream.task = None
            if self.streams.get(stream.number) is stream:
                if complete:
                    stream.finish(exchange.reply.trailers)
                else:
                    # The client must not take what it got for a whole response.
                    self._drop(stream, self.codes.internal)
                self.flush()

    def _came(self, number: int, data: bytes, end: bool) -> None:
        """A part of a request's body."""
        stream = self.streams.get(number)
        if stream is None or stream.task is None:
            self.session.consumed(number, len(data))
        elif stream.came(data, end):
            self._drop(stream, self.codes.malformed)

    def _hurry(self) -> None:
        """Called by the sweep: ends streams that make no progress."""
        self._spoiled = 0
        for stream in tuple(self.streams.values()):
            if stream.overdue:
                self._drop(stream, self.codes.cancel)

    def _drop(self, stream: Stream, error: int) -> None:
        self.session.reset(stream.number, error)
        self._forget(stream)

    def _forget(self, stream: Stream) -> None:
        """The stream has ended: well if all of its response went, else before its time."""
        if self.streams.pop(stream.number, None) is None:
            return
        if stream.unrecorded is not None:
            self.node.record(*stream.unrecorded, HIT, stream.handed_bytes, not stream.waiting_bytes)
        if stream.task is not None:
            stream.task.cancel()
        if self.door.closing and not self.streams:
            self._end_soon()
