"""A client's connection of HTTP/2: as ``h1server.Connection`` for HTTP/1.1, but with many requests at a time.

``H2Connection._serve`` is the hit path: a stream whose answer is in memory is answered in one function. Any other
goes the way of ``multiplex.Multiplexed``.
"""

import asyncio
import math
from collections.abc import Callable
from functools import partial
from typing import cast

from nearmile.cache.pages import raw
from nearmile.edge import limits
from nearmile.edge.backlog import Backlog, delivery, free
from nearmile.edge.clients.door import Door
from nearmile.edge.clients.multiplex import AGE_BYTES, HIT, Codes, Multiplexed, Stream
from nearmile.edge.clients.pace import Pace
from nearmile.edge.clients.rounds import InRound
from nearmile.edge.clients.tlsserver import TlsTransport
from nearmile.http import h2frames as h2
from nearmile.http import hpack
from nearmile.http.fields import Fields
from nearmile.http.h2 import BodyCame, Head, Requested, Session, TrailersCame
from nearmile.http.h2send import Ended, StreamEnded
from nearmile.http.streams import PSEUDO


class H2Connection(InRound, Multiplexed, asyncio.Protocol):
    """One client's connection."""

    codes = Codes(h2.INTERNAL_ERROR, h2.CANCEL, h2.PROTOCOL_ERROR)

    def __init__(self, door: Door, secure: bool) -> None:
        InRound.__init__(self, door.round)
        Multiplexed.__init__(self, door, secure)
        self.session: Session = Session(door.node.streams.strings)
        self._transport: asyncio.Transport
        self._write_last: Callable[[bytes], None]
        self._backlog = Backlog()
        self._written_bytes = 1
        """By the last write."""
        self._pace = Pace()
        self._serving = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio."""
        self._transport = cast(asyncio.Transport, transport)
        # It says "pause" whenever the kernel did not take all.
        self._transport.set_write_buffer_limits(high=0, low=0)
        self._write_last = cast(TlsTransport, transport).write_last if self.secure else self._transport.write
        self._meet(transport.get_extra_info("peername")[0])
        self.door.opened(self)
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """Of asyncio."""
        self.door.closed(self)
        if self.full:
            self._take_back()
        for stream in tuple(self.streams.values()):
            self._forget(stream)

    def _take_back(self) -> None:
        """Of the last write, what the kernel has not taken was not handed over: of each stream its share."""
        transport = self._transport
        unsent = transport.get_write_buffer_size() if self.secure else self._backlog.unsent_bytes(transport)
        share = min(unsent / self._written_bytes, 1)
        for stream in self.streams.values():
            back_bytes = math.ceil(stream.written_bytes * share)
            stream.handed_bytes -= back_bytes
            stream.waiting_bytes += back_bytes

    def receive(self, data: bytes) -> None:
        """See InRound."""
        session, idle = self.session, not (self.streams or self.full or self._transport.is_closing())
        if idle and (alone := session.alone(data)) is not None:
            number, said = alone
            self._serve(number, said, True, True)
            if session.pending:
                self.flush()
            return
        self._serving = True
        for event in session.feed(data, self._serve):
            if isinstance(event, Requested):
                self._serve(event.stream_id, event.head, event.end_stream)
            else:
                self._take(event)
        self._serving = False
        self.flush()

    def _serve(self, number: int, said: Head, ended: bool, alone: bool = False) -> None:
        """The hit path: answers a request from memory, or hands it on. The answer to one that came ``alone`` need
        not wait for others to go with."""
        node = self.node
        fields = said.fields or self._understand(said, ended)
        if fields is None:
            self._begin(number, said.headers, ended)
            return
        secure, path = self.secure, said.path
        if self.trusted:
            site = node.site_of_trusted(secure, fields)
        else:
            sites = node.secure_sites if secure else node.sites
            site = sites.get(fields.host) or sites.of(fields.host)
        # As over HTTP/1.1: only what was checked before it was stored is a key.
        entry = None if site is None else node.store.get(site.prefix + path, fields.pairs)
        now_s = node.now_s()
        if site is None or entry is None or now_s >= entry.fresh_until_s:
            self._begin(number, said.headers, ended)
            return
        if site.guarded and not node.allows(site, self.peer, self.trusted, fields.pairs, path, now_s):
            self._begin(number, said.headers, ended)
            return
        kept, head, body, status = entry.kept, entry.head, entry.body, entry.kept.status
        if fields.conditions:
            if (found := node.narrow.answer(fields.conditions, entry, now_s)) is None:
                self._begin(number, said.headers, ended)
                return
            status, head, body = found
        age_s = now_s - kept.born_at_s
        age = b"%d" % (age_s if age_s > 0 else 0)
        lines = node.streams.heads.get(head) or node.streams.learn_head(head)
        end, end_lines = node.hit_end, node.hit_lines
        if secure:
            end, end_lines = node.secure_hit_end, node.secure_hit_lines
        lines = b"%b%b%c%b%b" % (lines, hpack.AGE, len(age), age, end_lines)
        plain = body if type(body) is bytes else raw(body)
        whole = self.session.answer_alone(number, lines, plain) if alone else b""
        waiting_bytes = 0 if whole else self.session.answer(number, lines, plain, not self.full)
        if waiting_bytes is None:
            return
        self._quiet_sweeps = 0
        node.counter.requests += 1
        place = node.visitors.place_of_trusted(self.peer, fields.pairs) if self.trusted else self._place
        size_bytes = len(head) + AGE_BYTES + len(age) + len(end) + len(body)
        if not (waiting_bytes or self.full):
            node.record(int(now_s * 1000), site.serial, place, status, HIT, size_bytes, True)
            if whole:
                self._let_out(whole)
            return
        stream = self.streams[number] = Stream(self, number, True)
        stream.unrecorded = (int(now_s * 1000), site.serial, place, status)
        stream.handed_bytes, stream.waiting_bytes = size_bytes - waiting_bytes, waiting_bytes
        stream.finished = True

    def _understand(self, said: Head, ended: bool) -> Fields | None:
        """The fields of a request that may be a hit, if they have come before on whatever connection."""
        pseudo, rest = dict(said.headers[:PSEUDO]), said.headers[PSEUDO:]
        fields = self.node.streams.requests.get((pseudo.get(b":authority"), rest)) if ended else None
        if fields is None or not fields.plain or pseudo.get(b":method") != b"GET":
            return None
        said.path, said.fields = pseudo[b":path"], fields
        return fields

    def _take(self, event: object) -> None:
        """Whatever a client says besides requests."""
        if isinstance(event, StreamEnded):
            if event.error_code != h2.NO_ERROR:
                self._count_spoiled()
            if (stream := self.streams.get(event.stream_id)) is not None:
                stream.sent = event.error_code == h2.NO_ERROR
                if not (stream.sent and self.full):
                    self._forget(stream)
        elif isinstance(event, BodyCame):
            self._came(event.stream_id, event.data, event.end_stream)
        elif isinstance(event, TrailersCame):
            # They are dropped, as those of HTTP/1.1 are.
            self._came(event.stream_id, b"", True)
        elif isinstance(event, Ended):
            self._transport.close()

    def _count_spoiled(self) -> None:
        """Requests begun only to be given up cost us more than the client (CVE-2023-44487, CVE-2025-8671)."""
        self._spoiled += 1
        if self._spoiled > limits.H2_SPOILED_MAX:
            self.session.go_away(h2.ENHANCE_YOUR_CALM, at_once=True)

    def _let_out(self, data: bytes) -> None:
        """Writes what belongs to no stream that is still open, at the end of the round."""
        self._written_bytes = len(data)
        self._backlog.written_bytes += len(data)
        self._write_last(data)

    def flush(self) -> None:
        """Sends what the windows and the kernel take, and tells the streams that waited for it."""
        if self._serving:
            # Once all that has come has been looked at: fewer and larger writes.
            return
        session, transport, again = self.session, self._transport, True
        while again:
            again = False
            while not (self.full or transport.is_closing()) and (data := session.out(limits.H2_WRITE_BYTES)):
                if not self.streams:
                    self._let_out(data)
                    break
                self._written_bytes = len(data)
                self._backlog.written_bytes += len(data)
                for stream in self.streams.values():
                    stream.written_bytes = 0
                transport.write(data)
                for stream in self.streams.values():
                    stream.mind_waiting()
            if self.streams:
                again = self._mind_streams()
            for event in session.events():
                self._take(event)
                again = again or not isinstance(event, StreamEnded) or event.error_code != h2.NO_ERROR

    def _mind_streams(self) -> bool:
        """Tells the streams what was sent; returns whether more has come about by that."""
        more = False
        for stream in tuple(self.streams.values()):
            stream.mind_waiting()
            if stream.over and not stream.body_read:
                # It has its answer without the rest of the request (RFC 9113 section 8.1).
                self._drop(stream, h2.NO_ERROR)
                more = True
        return more

    def conclude(self) -> None:
        """See InRound. What was let out counts as handed over as long as the connection lasts."""

    def pause_writing(self) -> None:
        """Of asyncio."""
        self.full = True
        if not self.secure:
            self._backlog.pause(self._transport)

    def resume_writing(self) -> None:
        """Of asyncio."""
        self.full = False
        self.door.drained(self, partial(delivery, self._transport))
        for stream in tuple(self.streams.values()):
            if stream.sent:
                self._forget(stream)
        self.flush()

    def sweep(self) -> None:
        """See Guest."""
        self._hurry()
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

    def _end_soon(self) -> None:
        if not self._transport.is_closing():
            self._transport.close()
