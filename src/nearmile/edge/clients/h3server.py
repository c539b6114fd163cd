"""A client's connection of HTTP/3: as ``h2server`` for HTTP/2, but on datagrams, by way of ``udpserver``.

``H3Connection._serve`` is the hit path: what was asked for before is known by the bytes of the request, and the
answer is put together of bytes that are known too.
"""

import asyncio
import contextlib
import logging
import math
from typing import Protocol

from qh3.quic.events import ConnectionIdIssued, ConnectionIdRetired, ConnectionTerminated

from nearmile.cache.pages import raw
from nearmile.edge import limits
from nearmile.edge.backlog import DELIVERED_BYTES_MIN
from nearmile.edge.clients.door import Door
from nearmile.edge.clients.multiplex import AGE_BYTES, HIT, Codes, Multiplexed, Stream
from nearmile.http import h3frames, qpack
from nearmile.http.fields import BadMessage
from nearmile.http.h3 import BodyCame, Event, Requested, Session, StreamEnded
from nearmile.http.limits import H3_BURST_BYTES
from nearmile.http.quic import Address, Run
from nearmile.http.streams import PSEUDO, check_fields
from nearmile.mapping.downloads import Delivery

log = logging.getLogger("nearmile.edge")


class Post(Protocol):
    """The socket, which all connections share."""

    full: bool
    hit_lines: bytes
    """What ends the field section of every hit."""
    sections: qpack.Sections

    def now_s(self) -> float:
        """The time of QUIC's clock."""
        ...

    def send(self, connection: "H3Connection", runs: list[Run]) -> None:
        """Sends what the kernel takes; keeps the rest, and is ``full`` then."""
        ...

    def wait(self, connection: "H3Connection") -> None:
        """Flushes the connection when there is room again."""
        ...

    def name(self, connection: "H3Connection", cid: bytes) -> None:
        """The connection has one more name."""
        ...

    def unname(self, cid: bytes) -> None:
        """A name is not used any more."""
        ...

    def leave(self, connection: "H3Connection") -> None:
        """The connection has ended."""
        ...


class H3Connection(Multiplexed):
    """One client's connection."""

    codes = Codes(h3frames.INTERNAL_ERROR, h3frames.REQUEST_CANCELLED, h3frames.MESSAGE_ERROR)

    def __init__(self, door: Door, post: Post, session: Session, peer: str) -> None:
        super().__init__(door, secure=True)
        self.post = post
        self.session: Session = session
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = 0.0
        """For which time it is set."""
        self._serving = self.over = self._shaken = False
        self._age_sweeps = self._datagrams = 0
        self._rtt_ms = 0.0
        """The least that was looked at; 0 for none."""
        self._meet(peer)
        door.opened(self)

    def take(self, datagrams: list[bytes], address: Address) -> None:
        """What the client has sent."""
        if self.over:  # by what came just before
            return
        try:
            self._handle(self.session.feed(datagrams, address, self.post.now_s()))
            if not self._shaken and self.session.shaken:
                self._shaken = True
                self.door.shaken(self, self._round_trip_ms)
        except BaseException as error:
            self._give_up(error)
        self.flush()

    def _handle(self, events: list[Event]) -> None:
        self._serving = True
        for event in events:
            if isinstance(event, Requested):
                self._serve(event.stream_id, event.section, event.end_stream)
            else:
                self._take(event)
        self._serving = False

    def _serve(self, number: int, section: bytes, ended: bool) -> None:
        """The hit path: answers a request from memory, or hands it on."""
        node, sections = self.node, self.post.sections
        known = sections.requests.get(section) if ended else None
        if known is None:
            self._understand(number, section, ended)
            return
        path, fields = known
        site = node.site_of_trusted(True, fields) if self.trusted else node.site(fields.host, True)
        # As over HTTP/1.1: only what was checked before it was stored is a key.
        entry = None if site is None else node.store.get(site.prefix + path, fields.pairs)
        now_s = node.now_s()
        if (
            site is None
            or entry is None
            or now_s >= entry.fresh_until_s
            or (site.guarded and not node.allows(site, self.peer, self.trusted, fields.pairs, path, now_s))
        ):
            self._begin(number, sections.headers(section), ended)
            return
        kept, head, body, status = entry.kept, entry.head, entry.body, entry.kept.status
        if fields.conditions:
            if (found := node.narrow.answer(fields.conditions, entry, now_s)) is None:
                self._begin(number, sections.headers(section), ended)
                return
            status, head, body = found
        age_s = now_s - kept.born_at_s
        age = b"%d" % (age_s if age_s > 0 else 0)
        lines = sections.heads.get(head) or sections.learn_head(head)
        self.session.answer(
            number, b"%b%b%c%b%b" % (lines, qpack.AGE, len(age), age, self.post.hit_lines), raw(body)
        )
        self._quiet_sweeps = 0
        node.counter.requests += 1
        place = node.visitors.place_of_trusted(self.peer, fields.pairs) if self.trusted else self._place
        size_bytes = len(head) + AGE_BYTES + len(age) + len(node.secure_hit_end) + len(body)
        if len(body) <= limits.H2_AT_ONCE_BYTES:
            node.record(int(now_s * 1000), site.serial, place, status, HIT, size_bytes, True)
            return
        stream = self.streams[number] = Stream(self, number, True)
        stream.unrecorded = (int(now_s * 1000), site.serial, place, status)
        stream.handed_bytes, stream.waiting_bytes = size_bytes - len(body), len(body)
        stream.finished = True

    def _understand(self, number: int, section: bytes, ended: bool) -> None:
        """Reads a request that is not known by its bytes; learns it where it may be a hit another time."""
        sections = self.post.sections
        try:
            headers = sections.headers(section)
            check_fields(headers, ended)
        except h3frames.Fault as fault:
            self.session.close(fault.code)
            return
        except BadMessage as error:
            self._refuse(Stream(self, number, ended), error)
            return
        authority = dict(headers[:PSEUDO]).get(b":authority")
        fields = self.node.streams.requests.get((authority, headers[PSEUDO:])) if ended else None
        if (
            fields is not None
            and fields.plain
            and (b":method", b"GET") in headers[:PSEUDO]
            and sections.learn_request(section, dict(headers[:PSEUDO])[b":path"], fields)
        ):
            self._serve(number, section, ended)
        else:
            self._begin(number, headers, ended)

    def _take(self, event: Event) -> None:
        """Whatever a client says besides requests."""
        if isinstance(event, BodyCame):
            self._came(event.stream_id, event.data, event.end_stream)
            if any(stream.full for stream in self.streams.values()):
                self.session.hold()
        elif isinstance(event, StreamEnded):
            if (stream := self.streams.get(event.stream_id)) is not None:
                self._count_spoiled()
                self._forget(stream)
        elif isinstance(event, ConnectionIdIssued):
            self.post.name(self, event.connection_id)
        elif isinstance(event, ConnectionIdRetired):
            self.post.unname(event.connection_id)
        elif isinstance(event, ConnectionTerminated):
            self._leave()

    def _count_spoiled(self) -> None:
        """See H2Connection."""
        self._spoiled += 1
        if self._spoiled > limits.H2_SPOILED_MAX:
            self.session.close(h3frames.EXCESSIVE_LOAD)

    def flush(self) -> None:
        """Sends what windows and kernel take, and tells the streams that waited for it."""
        if self._serving or self.over:
            return
        try:
            self._send()
        except BaseException as error:
            self._give_up(error)
            with contextlib.suppress(Exception):
                self.post.send(self, self.session.out(self.post.now_s()))
            self._leave()

    def _send(self) -> None:
        session, burst_bytes, again = self.session, 0, True
        while again and burst_bytes < H3_BURST_BYTES and not self.post.full and not self.over:
            runs = session.out(self.post.now_s())
            self._datagrams += sum(len(run.pieces) for run in runs)
            burst_bytes += sum(len(run.pieces) * len(run.pieces[0]) for run in runs)
            self.post.send(self, runs)
            self.full = self.post.full
            for stream in tuple(self.streams.values()):
                stream.mind_waiting()
                if stream.over:
                    if stream.handed_bytes >= DELIVERED_BYTES_MIN:
                        self.door.drained(self, self._delivery)
                    # It may have its answer without the rest of the request (RFC 9114 section 4.1).
                    session.stop(stream.number, h3frames.NO_ERROR)
                    self._forget(stream)
            again = bool(runs) and session.backlogged
            if session.held and not any(stream.full for stream in self.streams.values()):
                session.let_go()
                self._handle(session.events())
                again = True
        if self.over:
            return
        if again or self.post.full:
            self.post.wait(self)
        self._mind_timer()

    def _round_trip_ms(self) -> float:
        if (path := self.session.path) is not None:
            self._rtt_ms = min(self._rtt_ms or math.inf, 1000 * path.rtt_s)
        return self._rtt_ms

    def _delivery(self) -> Delivery | None:
        """How the connection's bytes arrive, as QUIC has it, which does not say what set the rate."""
        rtt_ms, path, sent = self._round_trip_ms(), self.session.path, self._datagrams
        if path is None:
            return None
        return Delivery(rtt_ms, path.window_bytes / path.rtt_s, True, sent, path.lost / sent)

    def _mind_timer(self) -> None:
        """QUIC's timer moves with every datagram, mostly away: the loop's is moved only when it were late."""
        deadline_s = self.session.deadline_s
        if deadline_s is None or (self._timer is not None and self._timer_s <= deadline_s):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_s = deadline_s
        self._timer = self.loop.call_later(max(deadline_s - self.post.now_s(), 0), self._ring)

    def _ring(self) -> None:
        self._timer = None
        now_s, deadline_s = self.post.now_s(), self.session.deadline_s
        try:
            if deadline_s is not None and deadline_s <= now_s:
                self._handle(self.session.tick(now_s))
        except BaseException as error:
            self._give_up(error)
        self.flush()

    def _give_up(self, error: BaseException) -> None:
        """Whatever the library did not foresee is this connection's end, and no other's.

        What it calls a panic is no ``Exception``.
        """
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise error
        self._serving = False
        log.debug("a connection of QUIC fails", exc_info=error)
        with contextlib.suppress(Exception):
            self.session.close(h3frames.INTERNAL_ERROR)

    def sweep(self) -> None:
        """Called every SWEEP_S: ends what makes no progress."""
        if self.session.over:
            self._leave()
            return
        self._age_sweeps += 1
        self._hurry()
        self._quiet_sweeps = 0 if self.streams else self._quiet_sweeps + 1
        late = not self.session.shaken and self._age_sweeps * limits.SWEEP_S > limits.HANDSHAKE_TIMEOUT_S
        if late or self._quiet_sweeps * limits.SWEEP_S > limits.IDLE_TIMEOUT_S:
            self.session.close(h3frames.NO_ERROR)
        self.flush()

    def turn_away(self) -> None:
        """Ends the connection at once."""
        self.session.close(h3frames.EXCESSIVE_LOAD)
        self.flush()
        self._leave()

    def stop(self) -> None:
        """The server ends: no more requests; the connection goes with its last response."""
        if self.streams:
            self.session.go_away()
            self.flush()
        else:
            self._end_soon()

    def _end_soon(self) -> None:
        self.session.close(h3frames.NO_ERROR)
        self.flush()
        self._leave()

    def _leave(self) -> None:
        if self.over:
            return
        self.over = True
        if self._timer is not None:
            self._timer.cancel()
        self.door.closed(self)
        for stream in tuple(self.streams.values()):
            self._forget(stream)
        self.post.leave(self)
        self.session.transport.forget()
