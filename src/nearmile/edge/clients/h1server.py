"""A client's connection of HTTP/1.1: its requests in order, and the hit path.

``Connection.receive`` is the hit path: from bytes to the answer from memory in one function. What it cannot answer
becomes an ``Exchange``, a coroutine, while further requests of the connection wait.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from math import inf
from typing import cast

from nearmile.cache.pages import Body, raw
from nearmile.edge import limits
from nearmile.edge.backlog import Backlog, delivery, free, handshake_ms
from nearmile.edge.clients.door import Door
from nearmile.edge.clients.h2server import H2Connection
from nearmile.edge.clients.incoming import Incoming
from nearmile.edge.clients.pace import Pace
from nearmile.edge.clients.rounds import InRound
from nearmile.edge.clients.tlsserver import TlsTransport
from nearmile.edge.errand import Errand
from nearmile.edge.exchange import Exchange
from nearmile.edge.messages import page
from nearmile.http.body import OpenBody, request_body
from nearmile.http.fields import BadMessage, Fields
from nearmile.http.h2frames import PREFACE
from nearmile.http.head import parse_request
from nearmile.http.limits import HEAD_BYTES_MAX, REPEATED_BYTES_MAX
from nearmile.reports.hit import Cache

log = logging.getLogger("nearmile.edge")

HIT, ERROR = int(Cache.HIT), int(Cache.ERROR)
PREFACE_START = PREFACE[: PREFACE.find(b"\r\n\r\n") + 4]  # what looks like a head of HTTP/1.1
# A head and a small body are copied together: one write of one piece takes uvloop and the kernel less.
# Joined, larger ones would cost 6 % more of the CPU time of a hit.
JOINED_BYTES_MAX = 4096
BYTES = frozenset((bytes,))
METHOD_BYTES, LINE_END = len(b"GET "), b" HTTP/1.1\r\n"
SPACE = ord(" ")  # a number is looked for in a tenth of the time that bytes are
# Enough to be told of room again; what is copied for it costs nothing beside the telling.
NUDGE_BYTES = 4096


class Connection(InRound, asyncio.Protocol):
    """One client's connection: hits answered at once, one exchange at a time, requests in order."""

    multiplexed = False

    def __init__(self, door: Door, secure: bool = False) -> None:
        super().__init__(door.round)
        self.door, self.node = door, door.node
        self.secure = secure
        self.peer, self.trusted = "", False
        self.handed_bytes = 0
        self._transport: asyncio.Transport
        self._write: Callable[[Sequence[bytes | memoryview]], None]
        self._write_last: Callable[[bytes], None]
        self._place = 0
        self._ready = True
        """The next request may be answered now."""
        self._held = b""
        self._quiet_sweeps = 0
        self._lingering = self._switched = False
        self._reading = True
        self._exchange: Errand | None = None
        self._body: Incoming | None = None
        # The transport's high-water mark is 0: it says "pause" whenever the kernel did not take all.
        self._full = False
        self._rest: deque[Body] = deque()
        """Pages to send, and what follows them, once the kernel takes more."""
        self._backlog = Backlog()
        self._pace = Pace()
        self._room: asyncio.Future[None] | None = None
        self._last: Sequence[bytes] = ()
        """A hit's answer, to be written at the end of the round."""
        self._unrecorded: tuple[int, int, int, int, int, int, bool] | None = None
        self._lines, self._fields = b"", Fields(pairs=())
        """What the last request said after its first line, and its meaning: most often the next says the same."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=0, low=0)
        self._write = self._transport.writelines
        if self.secure:
            self._write_last = cast(TlsTransport, transport).write_last
        self.peer = transport.get_extra_info("peername")[0]
        visitors = self.node.visitors
        self.trusted = visitors.trusts(self.peer)
        self._place = visitors.place_id(self.peer)
        self.door.opened(self)
        if not self.secure:
            self.door.shaken(self, partial(handshake_ms, self._transport))

    def connection_lost(self, exc: Exception | None) -> None:
        """Of asyncio."""
        self._ready = False
        self.door.closed(self)
        unsent_bytes, here = sum(map(len, self._rest)), self._transport
        if self._full:
            unsent_bytes += here.get_write_buffer_size() if self.secure else self._backlog.unsent_bytes(here)
        self._rest.clear()
        self.handed_bytes -= unsent_bytes
        if self._unrecorded is not None:
            now_ms, serial, place, status, cache, size_bytes, _ = self._unrecorded
            self.node.record(now_ms, serial, place, status, cache, size_bytes - unsent_bytes, False)
        if self._exchange is not None:
            self._exchange.cancel()

    def receive(self, data: bytes) -> None:
        """See InRound. The hit path: answers requests from memory, in order, until one needs more than that."""
        if not self._ready:
            self._wait_with(data)
            return
        data = self._held + data if self._held else data
        node, store, trusted = self.node, self.node.store, self.trusted
        sites, hit_end = (node.secure_sites, node.secure_hit_end) if self.secure else (node.sites, node.hit_end)
        at, end, whole = 0, 0, len(data)
        while at < whole and self._ready:
            target_end = data.find(LINE_END, at)
            target, lines_at = data[at + METHOD_BYTES : target_end], target_end + len(LINE_END)
            # With no space in the target, this is where the first line ends. It needs no look but at its slash, as
            # keys have more before theirs: only what was checked before it was stored is a key.
            if target_end < 0 or SPACE in target or not data.startswith(b"GET /", at):
                break
            if not at and whole - lines_at == len(self._lines) and data.endswith(self._lines):
                end, fields = whole, self._fields
            elif (found := self._parse(data, at, lines_at)) is not None:
                end, fields = found
            else:
                break
            host = fields.host
            site = node.site_of_trusted(self.secure, fields) if trusted else sites.get(host) or sites.of(host)
            entry = None if site is None else store.get(site.prefix + target, fields.pairs)
            now_s = node.now_s()
            if site is None or entry is None or now_s >= entry.fresh_until_s:
                break
            if site.guarded and not node.allows(site, self.peer, trusted, fields.pairs, target, now_s):
                break
            kept, head, body, status = entry.kept, entry.head, entry.body, entry.kept.status
            if fields.conditions:
                if (narrow := node.narrow.answer(fields.conditions, entry, now_s)) is None:
                    break
                status, head, body = narrow
            age_s = now_s - kept.born_at_s
            head = b"%bage: %d\r\n%b" % (head, age_s if age_s > 0 else 0, hit_end)
            size_bytes = len(head) + len(body)
            place = node.visitors.place_of_trusted(self.peer, fields.pairs) if trusted else self._place
            self._unrecorded = (int(now_s * 1000), site.serial, place, status, HIT, size_bytes, True)
            node.counter.requests += 1
            if at or end < whole or type(body) is not bytes:
                self._hand((head, body))
                self.conclude()
            elif self.secure:
                self._write_last(head + body)
            else:
                self._last = (head + body,) if size_bytes < JOINED_BYTES_MAX else (head, body)
                if self.round.serving:
                    self.round.served.append(self)
                else:
                    self.conclude()
            at = end
        if at:
            self._quiet_sweeps = 0
        if at < whole:
            (self._begin if self._ready else self._hold)(data[at:])
        else:
            self._held = b""

    def conclude(self) -> None:
        """Writes a hit's answer, if that is still to be done, and records it once the kernel has all of it."""
        if self._last:
            last, self._last = self._last, ()
            self._write(last)
        if self._unrecorded is None:
            return
        if self._full:
            self._backlog.written_bytes += self._unrecorded[-2]
            self._ready = False
        else:
            self.node.record(*self._unrecorded)
            self._unrecorded = None

    def _wait_with(self, data: bytes) -> None:
        """Takes what comes while a response is on its way: the request's body, or further requests."""
        if not self._lingering:
            if self._body is not None and not self._body.done:
                self._quiet_sweeps = 0
                data = self._body.take(data)
            self._held += data
            self._mind_reading()

    def _hold(self, data: bytes) -> None:
        """Keeps what waits: the beginning of a head, or requests behind a response on its way."""
        if not self._held:
            self._quiet_sweeps = 0  # a head's time begins, whatever was idle before
        self._held = data
        if len(data) > HEAD_BYTES_MAX and self._ready:
            self._refuse(BadMessage("the head of the request is too large", 431))

    def _parse(self, data: bytes, at: int, lines_at: int) -> tuple[int, Fields] | None:
        """Where the head of the request at that place ends, and its fields, if they are good for the hit path."""
        end = data.find(b"\r\n\r\n", at) + 4
        if not 4 < end <= at + HEAD_BYTES_MAX:
            return None
        try:
            fields = self.node.memo.parse(lines := data[lines_at:end])
        except BadMessage:
            return None
        if len(lines) <= REPEATED_BYTES_MAX and fields.plain:
            self._lines, self._fields = lines, fields
        return (end, fields) if fields.plain else None

    def _begin(self, data: bytes) -> None:
        """Parses the request at the start of ``data`` strictly, and starts its exchange."""
        if data.startswith(PREFACE_START) and self._speaks_h2():
            self._become_h2(data)
            return
        # RFC 9112 section 2.2: one empty line before a request is forgiven.
        start = 2 if data.startswith(b"\r\n") else 0
        end = data.find(b"\r\n\r\n", start) + 4
        if end < 4:
            self._hold(data)
            return
        self._ready, self._held = False, b""
        try:
            if end > HEAD_BYTES_MAX:
                raise BadMessage("the head of the request is too large", 431)
            line, _, lines = data[start:end].partition(b"\r\n")
            request = parse_request(line, self.node.memo.parse(lines))
        except BadMessage as error:
            self._refuse(error)
            return
        loop = self.door.loop
        self._held = data[end:]
        if request.fields.chunked or request.fields.length:
            self._body = Incoming(request_body(request), loop.create_future)
            self._held = self._body.take(self._held)
        self._pace = Pace()
        self._mind_reading()
        exchange = Exchange(self.node, self, request)
        self._exchange = Errand(loop, exchange.run(), partial(self._answered, exchange))

    def _speaks_h2(self) -> bool:
        """Whether to believe that the client knew before that we speak HTTP/2 (RFC 9113 section 3.3): without TLS
        only proxies and servers of the network itself do."""
        return not self.secure and (self.trusted or self.node.visitors.is_server(self.peer))

    def _become_h2(self, data: bytes) -> None:
        """Hands the connection over, as it began."""
        self.door.closed(self)
        connection = H2Connection(self.door, secure=False)
        self._transport.set_protocol(connection)
        connection.connection_made(self._transport)
        connection.receive(data)

    def _answered(self, exchange: Exchange, error: Exception | None) -> None:
        """The exchange is over: on to the next request, or the end."""
        self._exchange = None
        self._quiet_sweeps = 0
        if error is not None and not isinstance(error, ConnectionError):
            log.error("a request failed unexpectedly", exc_info=error)
        if error is not None or not exchange.complete:
            # The client must not take what it got for a whole response.
            self._transport.abort()
        elif not exchange.reply.keep_alive or self.door.closing:
            self._part()
        else:
            self._body = None
            self._go_on()

    def _go_on(self) -> None:
        """The last response has been handed over: answers what came meanwhile."""
        if self.door.closing:
            self._part()
            return
        self._ready = True
        if self._held:
            held, self._held = self._held, b""
            self.receive(held)
        self._mind_reading()

    def _refuse(self, error: BadMessage) -> None:
        """Tells the client that its request is none, and parts: what follows cannot be trusted."""
        now_s = self.node.now_s()
        start, body = page(error.status, f"bad request: {error}", now_s)
        out = start + self.node.via + b"connection: close\r\n\r\n" + body
        self._transport.write(out)
        self.node.record(int(now_s * 1000), 0, self._place, error.status, ERROR, len(out), not self._full)
        self._linger()

    def _part(self) -> None:
        """Ends the connection after its last response."""
        if self.body_read:
            self._ready, self._held = False, b""
            self._transport.close()
        else:
            self._linger()

    def _linger(self) -> None:
        """Ends our side; hears out a client still sending, since a reset would cost it the response
        (RFC 9112 section 9.6). What it sends is dropped, and earns it no more time."""
        self._ready, self._held, self._lingering = False, b"", True
        self._quiet_sweeps = 0
        self._transport.write_eof()
        self._mind_reading()

    def _mind_reading(self) -> None:
        """Pauses reading while enough waits here, resumes it when not."""
        body = self._body
        enough = len(self._held) > limits.PIPELINE_BYTES_MAX or (body is not None and body.full)
        wanted = self._lingering or self._ready or not enough
        if wanted != self._reading and not self._transport.is_closing():
            self._reading = wanted
            (self._transport.resume_reading if wanted else self._transport.pause_reading)()

    # --- what an exchange needs of its client (edge.reply.Client)

    async def write(self, pieces: Sequence[Body]) -> None:
        """See Client."""
        if self._transport.is_closing():
            raise ConnectionAbortedError("the client is gone")
        size_bytes = sum(map(len, pieces))
        self._hand(pieces)
        self._quiet_sweeps = 0
        self._backlog.written_bytes += size_bytes
        self.handed_bytes += size_bytes
        if self._full:
            self._room = self.door.loop.create_future()
            await self._room
            self._room = None

    def body(self) -> AsyncIterator[list[bytes]]:
        """See Client."""
        assert self._body is not None
        return self._body.read(self._mind_reading)

    def switch(self) -> AsyncIterator[list[bytes]]:
        """See Client."""
        self._switched = True
        self._body = Incoming(OpenBody(), self.door.loop.create_future, inf)
        self._held = self._body.take(self._held) if self._held else b""
        self._mind_reading()
        return self._body.read(self._mind_reading)

    @property
    def body_read(self) -> bool:
        """See Client."""
        return self._body is None or self._body.done

    def pause_writing(self) -> None:
        """Of asyncio."""
        self._full = True
        if not self.secure:
            self._backlog.pause(self._transport)

    def _hand(self, pieces: Sequence[Body]) -> None:
        """Writes bytes and pages, in their order."""
        if BYTES.issuperset(map(type, pieces)):
            self._write(pieces)  # type: ignore[arg-type]
        elif self.secure:
            self._write([raw(piece) for piece in pieces])
        else:
            self._rest.extend(pieces)
            self._push()

    def _push(self) -> None:
        """Hands over what is left, until the kernel takes no more, or others are to have a turn."""
        rest, transport, turn_bytes = self._rest, self._transport, limits.PAGES_TURN_BYTES
        while rest and not self._full and not transport.is_closing():
            piece = rest.popleft()
            if isinstance(piece, bytes):
                self._write((piece,))
                continue
            try:
                sent_bytes = piece.send(transport.get_extra_info("socket").fileno(), turn_bytes)
            except OSError:
                rest.appendleft(piece)
                self._full = True  # for good
                transport.abort()
                return
            if (left := piece[sent_bytes:]) and sent_bytes < turn_bytes:
                # The socket takes no more: what its transport cannot write makes that one say when there is room.
                self._write((bytes(left[:NUDGE_BYTES]),))
                left = left[NUDGE_BYTES:]
            if left:
                rest.appendleft(left)
            turn_bytes -= sent_bytes
            if rest and not turn_bytes:
                self.pause_writing()
                self.door.loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        if not self._transport.is_closing():
            self.resume_writing()

    def resume_writing(self) -> None:
        """Of asyncio."""
        self._full = False
        self._push()
        if self._full or self._rest:
            return
        self.door.drained(self, partial(delivery, self._transport))
        if self._room is not None:
            if not self._room.done():
                self._room.set_result(None)
        elif self._unrecorded is not None:
            self.node.record(*self._unrecorded)
            self._unrecorded = None
            self._go_on()

    def sweep(self) -> None:
        """Called every SWEEP_S: ends what makes no progress, or too little."""
        self._quiet_sweeps += 1
        moved_bytes: int | None = None
        if self._full:
            moved_bytes = self._backlog.moved(self._transport, sum(map(len, self._rest)))
            limit_s = limits.STALLED_TIMEOUT_S
        elif self._lingering:
            limit_s = limits.LINGER_S
        elif self._exchange is not None:
            if self.body_read or not self._reading or self._switched:
                # It waits for the origin, which has limits of its own; so has what they say to each other.
                self._quiet_sweeps = 0
            elif self._body is not None:
                moved_bytes = self._body.moved()
            limit_s = limits.STALLED_TIMEOUT_S
        else:
            limit_s = limits.HEAD_TIMEOUT_S if self._held else limits.IDLE_TIMEOUT_S
        if moved_bytes:
            self._quiet_sweeps = 0
        too_slow = moved_bytes is not None and self._pace.too_slow(moved_bytes)
        if too_slow or self._quiet_sweeps * limits.SWEEP_S > limit_s:
            if self._full:
                free(self._transport)
            self._transport.abort()

    def turn_away(self) -> None:
        """Ends the connection at once."""
        self._transport.abort()

    def stop(self) -> None:
        """The server ends: an idle connection goes now, a busy one after its response."""
        if self._ready:
            self._transport.close()
