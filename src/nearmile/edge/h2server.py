"""A client's connection of HTTP/2: as ``h1server.Connection`` for HTTP/1.1, but with many requests at a time.

``H2Connection._serve`` is the hit path: a stream whose answer is in memory is answered in one function. Any other
becomes a ``Stream`` with an ``Exchange``, which sees in it a client like any other.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import cast

from nearmile.edge import limits
from nearmile.edge.backlog import Backlog, free
from nearmile.edge.door import Door
from nearmile.edge.exchange import Exchange
from nearmile.edge.incoming import Incoming
from nearmile.edge.messages import page
from nearmile.edge.pace import Pace
from nearmile.edge.stored import narrowed
from nearmile.http import h2
from nearmile.http.fields import BadMessage
from nearmile.http.head import Request
from nearmile.http.streams import PSEUDO, headers_of, request_of
from nearmile.reports.hit import Cache

log = logging.getLogger("nearmile.edge")

HIT, ERROR = int(Cache.HIT), int(Cache.ERROR)
INTERIM = b"HTTP/1.1 1"


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

    def __init__(self, connection: "H2Connection", number: int, ended: bool) -> None:
        self.connection, self.number = connection, number
        self.peer, self.trusted, self.secure = connection.peer, connection.trusted, connection.secure
        self.handed_bytes = 0
        self.waiting_bytes = 0
        self.quiet_sweeps = 0
        self.task: asyncio.Task[None] | None = None
        self.unrecorded: tuple[int, int, int, int, int] | None = None
        """Of a hit on its way: time, site, place, status, size."""
        self._head_sent = False
        self.finished = False
        """Nothing will be added to the response."""
        self._held_head: bytes | None = None
        self._room: asyncio.Future[None] | None = None
        self._unread_bytes = 0
        self._taken_bytes = 0
        """By the client, since the last sweep."""
        self._pace = Pace()
        self._decoder = StreamBody(ended)
        self._body = Incoming(self._decoder, connection.loop.create_future, self._body_read)

    def switch(self) -> AsyncIterator[list[bytes]]:
        """See Client. A stream has no connection of its own to switch: heads that ask for it are refused."""
        return self._body.read()

    async def write(self, pieces: Sequence[bytes]) -> None:
        """See Client. What comes first is a head; it waits for the body's beginning or end."""
        connection = self.connection
        if self.number not in connection.streams:
            raise ConnectionAbortedError("the client is gone")
        pieces = [piece for piece in pieces if piece]
        if not self._head_sent and self._held_head is None:
            head, *pieces = pieces
            if head.startswith(INTERIM):
                connection.session.interim(self.number, headers_of(head))
                connection.flush()
                return
            self._held_head = head
            self.handed_bytes += len(head)
        if pieces:
            self._send_head(end=False)
            connection.session.send(self.number, pieces, end=False)
            self.handed_bytes += sum(map(len, pieces))
            connection.flush()
            if not self.mind_waiting():
                self._room = connection.loop.create_future()
                await self._room
                self._room = None

    def body(self) -> AsyncIterator[list[bytes]]:
        """See Client."""
        return self._body.read()

    @property
    def body_read(self) -> bool:
        """See Client."""
        return self._body.done

    def came(self, data: bytes, end: bool) -> None:
        """A part of the request's body."""
        self.quiet_sweeps = 0
        self._unread_bytes += len(data)
        if end:
            self._decoder.done = True
        self._body.take(data)

    def finish(self) -> None:
        """The whole response has been handed over; its windows may still hold some of it back."""
        if self._held_head is not None:
            self._send_head(end=True)
        else:
            self.connection.session.send(self.number, (), end=True)
        self.finished = True

    def mind_waiting(self) -> bool:
        """Counts what the client has not taken; returns whether that is nothing."""
        queued_bytes = self.connection.session.queued_bytes(self.number)
        if queued_bytes != self.waiting_bytes:
            self.handed_bytes += self.waiting_bytes - queued_bytes
            self._taken_bytes += max(self.waiting_bytes - queued_bytes, 0)
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
        if not self.waiting_bytes and (self._body.done or self._body.full or self.task is None):
            # It waits for the origin, which has limits of its own.
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


class H2Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, door: Door, secure: bool) -> None:
        self.secure = secure
        self.door, self.node, self.loop = door, door.node, door.loop
        self.peer, self.trusted = "", False
        self.session = h2.Session()
        self.streams: dict[int, Stream] = {}
        self.full = False
        self._transport: asyncio.Transport
        self._place = 0
        self._quiet_sweeps = 0
        self._spoiled = 0
        """Streams of this sweep's second that were reset or broke a rule."""
        self._backlog = Backlog()
        self._pace = Pace()
        self._serving = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=limits.H2_UNSENT_BYTES_MAX, low=0)
        self.peer = transport.get_extra_info("peername")[0]
        visitors = self.node.visitors
        self.trusted = visitors.trusts(self.peer)
        self._place = visitors.place_id(self.peer)
        self.door.opened(self)
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """Of asyncio."""
        self.door.closed(self)
        for stream in tuple(self.streams.values()):
            self._forget(stream)

    def data_received(self, data: bytes) -> None:
        """Of asyncio."""
        try:
            events = self.session.feed(data)
        except h2.Flood as flood:
            self._transport.write(flood.last_words)
            self._transport.close()
            return
        self._serving = True
        for event in events:
            kind = type(event)
            if kind is h2.Requested:
                self._serve(event.stream_id, event.headers, event.end_stream)  # type: ignore[attr-defined]
            else:
                self._take(event)
        self._serving = False
        self.flush()

    def _serve(self, number: int, headers: h2.Headers, ended: bool) -> None:
        """The hit path: answers a request from memory, or hands it on."""
        node = self.node
        memo, pseudo, rest = node.streams, dict(headers[:PSEUDO]), headers[PSEUDO:]
        authority = pseudo.get(b":authority")
        fields = memo.requests.get((authority, rest)) if ended else None
        if fields is None or not fields.plain or pseudo.get(b":method") != b"GET":
            self._begin(number, headers, ended)
            return
        if self.trusted:
            site = node.site_of_trusted(self.secure, fields)
        else:
            site = (node.secure_sites if self.secure else node.sites).get(fields.host)
        # As over HTTP/1.1: only what was checked before it was stored is a key.
        path = pseudo[b":path"]
        entry = None if site is None else node.store.get(site.prefix + path, fields.pairs)
        now_s = node.now_s()
        if site is None or entry is None or now_s >= entry.fresh_until_s:
            self._begin(number, headers, ended)
            return
        if site.guarded and not node.allows(site, self.peer, self.trusted, fields.pairs, path, now_s):
            self._begin(number, headers, ended)
            return
        kept, head, body, status = entry.kept, entry.head, entry.body, entry.kept.status
        if fields.conditional:
            if (found := narrowed(fields.pairs, entry, now_s)) is None:
                self._begin(number, headers, ended)
                return
            status, head, body = found
        age_s = now_s - kept.born_at_s
        answer = memo.responses.get(head) or memo.learn_response(head)
        session = self.session
        session.respond(
            number, (*answer, (b"age", b"%d" % (age_s if age_s > 0 else 0)), *node.hit_fields), not body
        )
        if body:
            session.send(number, (body,), True)
        self._quiet_sweeps = 0
        node.counter.requests += 1
        place = node.visitors.place_of_trusted(self.peer, fields.pairs) if self.trusted else self._place
        size_bytes = len(head) + len(node.hit_end) + len(body)
        if len(body) <= limits.H2_AT_ONCE_BYTES:
            node.record(int(now_s * 1000), site.serial, place, status, HIT, size_bytes, True)
            return
        stream = self.streams[number] = Stream(self, number, True)
        stream.unrecorded = (int(now_s * 1000), site.serial, place, status, size_bytes)
        stream.waiting_bytes, stream.finished = len(body), True

    def _begin(self, number: int, headers: h2.Headers, ended: bool) -> None:
        """Reads the request strictly, and starts its exchange."""
        self._quiet_sweeps = 0
        stream = self.streams[number] = Stream(self, number, ended)
        try:
            request = request_of(headers, ended)
        except BadMessage as error:
            now_s = self.node.now_s()
            start, body = page(error.status, f"bad request: {error}", now_s)
            self.session.respond(number, headers_of(start + self.node.via), False)
            self.session.send(number, (body,), True)
            size_bytes = len(start) + len(body)
            self.node.record(int(now_s * 1000), 0, self._place, error.status, ERROR, size_bytes, True)
            stream.finished = True
            return
        if ended and len(headers) >= PSEUDO and headers[PSEUDO - 1][0].startswith(b":"):
            authority = dict(headers[:PSEUDO]).get(b":authority")
            self.node.streams.learn_request(authority, headers[PSEUDO:], request.fields)
        stream.task = self.loop.create_task(self._answer(stream, request))

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
                    stream.finish()
                else:
                    # The client must not take what it got for a whole response.
                    self._drop(stream, h2.INTERNAL_ERROR)
                self.flush()

    def _take(self, event: object) -> None:
        """Whatever a client says besides requests."""
        if isinstance(event, h2.StreamEnded):
            if event.error_code != h2.NO_ERROR:
                self._count_spoiled()
            if (stream := self.streams.get(event.stream_id)) is not None:
                self._forget(stream)
        elif isinstance(event, h2.BodyCame):
            stream = self.streams.get(event.stream_id)
            if stream is None or stream.task is None:
                self.session.consumed(event.stream_id, len(event.data))
            else:
                stream.came(event.data, event.end_stream)
        elif isinstance(event, h2.TrailersCame):
            # They are dropped, as those of HTTP/1.1 are.
            if (stream := self.streams.get(event.stream_id)) is not None:
                stream.came(b"", True)
        elif isinstance(event, h2.Ended):
            self._transport.close()

    def _count_spoiled(self) -> None:
        """Requests begun only to be given up cost us more than the client (CVE-2023-44487, CVE-2025-8671)."""
        self._spoiled += 1
        if self._spoiled > limits.H2_SPOILED_MAX:
            self.session.go_away(h2.ENHANCE_YOUR_CALM, at_once=True)

    def _drop(self, stream: Stream, error: int) -> None:
        self.session.reset(stream.number, error)
        self._forget(stream)

    def _forget(self, stream: Stream) -> None:
        """The stream has ended: well if all of its response went, else before its time."""
        if self.streams.pop(stream.number, None) is None:
            return
        if stream.unrecorded is not None:
            now_ms, serial, place, status, size_bytes = stream.unrecorded
            left = stream.waiting_bytes
            self.node.record(now_ms, serial, place, status, HIT, size_bytes - left, not left)
        if stream.task is not None:
            stream.task.cancel()
        if self.door.closing and not self.streams and not self._transport.is_closing():
            self._transport.close()

    def flush(self) -> None:
        """Sends what the windows and the kernel take, and tells the streams that waited for it."""
        if self._serving:
            # Once all that has come has been looked at: fewer and larger writes.
            return
        session, transport, again = self.session, self._transport, True
        while again:
            again = False
            more = True
            while more and not self.full and not transport.is_closing():
                data = session.out(limits.H2_WRITE_BYTES)
                more = len(data) == limits.H2_WRITE_BYTES
                if data:
                    transport.write(data)
                    self._backlog.written_bytes += len(data)
            for stream in tuple(self.streams.values()):
                stream.mind_waiting()
                if stream.over and not stream.body_read:
                    # It has its answer without the rest of the request (RFC 9113 section 8.1).
                    self._drop(stream, h2.NO_ERROR)
                    again = True
            for event in session.events():
                self._take(event)
                again = again or not isinstance(event, h2.StreamEnded) or event.error_code != h2.NO_ERROR

    def pause_writing(self) -> None:
        """Of asyncio."""
        self.full = True

    def resume_writing(self) -> None:
        """Of asyncio."""
        self.full = False
        self.flush()

    def sweep(self) -> None:
        """See Guest."""
        self._spoiled = 0
        for stream in tuple(self.streams.values()):
            if stream.overdue:
                self._drop(stream, h2.CANCEL)
        self._quiet_sweeps += 1
        limit_s, too_slow = limits.IDLE_TIMEOUT_S, False
        moved_bytes = self._backlog.moved(self._transport) if self.full else 0
        if self.full:
            limit_s, too_slow = limits.STALLED_TIMEOUT_S, self._pace.too_slow(moved_bytes)
        if moved_bytes or (self.streams and not self.full):
            self._quiet_sweeps = 0
        if too_slow or self._quiet_sweeps * limits.SWEEP_S > limit_s:
            if self.full:
                free(self._transport)
                self._transport.abort()
                return
            self.session.go_away(h2.NO_ERROR, at_once=True)
        self.flush()

    def turn_away(self) -> None:
        """Ends the connection at once."""
        self._transport.abort()

    def stop(self) -> None:
        """The server ends: no more requests; the connection goes with its last response."""
        self.session.go_away(h2.NO_ERROR, at_once=False)
        self.flush()
        if not self.streams:
            self._transport.close()
