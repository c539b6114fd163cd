"""One HTTP/3 connection's protocol, server side, without IO (RFC 9114): datagrams in, events out; and the reverse.

Whatever a client sends is checked here up to the fields of its requests, which are read as those of HTTP/2 are
(``http.streams``). Bodies wait here by reference; QUIC is handed no more than it can send soon, since it copies.
"""

from collections import deque
from collections.abc import Callable, Iterable
from itertools import chain

from msgspec import Struct
from qh3.quic.connection import QuicConnectionError
from qh3.quic.events import (
    ConnectionIdIssued,
    ConnectionIdRetired,
    ConnectionTerminated,
    HandshakeCompleted,
    StopSendingReceived,
    StreamDataReceived,
    StreamReset,
)

from nearmile.http import quic
from nearmile.http.fields import BadMessage, Pairs
from nearmile.http.h3frames import (
    CLOSED_CRITICAL_STREAM,
    CONTROL,
    DATA,
    EXCESSIVE_LOAD,
    FRAME_ERROR,
    FRAME_UNEXPECTED,
    GOAWAY,
    HEADERS,
    NOT_IN_REQUESTS,
    OUR_CONTROL,
    REQUEST_CANCELLED,
    REQUEST_INCOMPLETE,
    SETTINGS,
    STREAM_CREATION_ERROR,
    Fault,
    OneWay,
    read_varint,
    varint,
)
from nearmile.http.limits import H3_AHEAD_BYTES, H3_PART_BYTES, HEAD_BYTES_MAX
from nearmile.http.qpack import START, Sections


class Requested(Struct, frozen=True):
    """A request; ``section`` is for ``Sections.headers``."""

    stream_id: int
    section: bytes
    end_stream: bool


class BodyCame(Struct, frozen=True):
    """A part of a request's body."""

    stream_id: int
    data: bytes
    end_stream: bool


class StreamEnded(Struct, frozen=True):
    """The client wants no answer any more, or broke a rule of requests."""

    stream_id: int
    error_code: int


Event = Requested | BodyCame | StreamEnded | ConnectionTerminated | ConnectionIdIssued | ConnectionIdRetired


# An end of a stream goes with bytes, if only with those of a reserved frame, which says nothing (RFC 9114 section
# 7.2.8): qh3 2.1 forgets one that goes alone, where it gets lost before all bytes are acknowledged.
END_MARK = memoryview(b"\x21\0")


def _parts(size_bytes: int) -> int:
    """How many datagrams so much data takes."""
    return -(-size_bytes // H3_PART_BYTES)


class _Incoming:
    """A stream that the client has not ended."""

    def __init__(self) -> None:
        self.held = b""
        self.kind: int | None = None
        """Of the frame that is being read."""
        self.left_bytes = 0
        self.asked = self.trailed = self.ignored = False


class _Outgoing:
    """What of a response waits here."""

    def __init__(self) -> None:
        self.pieces: deque[memoryview] = deque()
        self.size_bytes = 0
        self.end = False


class Session:
    """See h2.Session: orders for streams that have ended meanwhile are no errors."""

    def __init__(self, transport: quic.Transport, sections: Sections) -> None:
        self.transport, self.sections = transport, sections
        self._incoming: dict[int, _Incoming] = {}
        self._outgoing: dict[int, _Outgoing] = {}
        self._one_way = OneWay()
        self.over = False
        """Nothing more is understood of what comes."""
        self._next_request = 0
        self._room: int | None = None
        """What of the transport's is left by what it was handed since it last sent; None: nobody has looked."""

    def feed(self, datagrams: list[bytes], address: quic.Address, now_s: float) -> list[Event]:
        """Datagrams from the client; returns what they mean."""
        self.transport.receive_many_datagrams(datagrams, address, now_s)
        return self.events()

    def tick(self, now_s: float) -> list[Event]:
        """The time of ``deadline_s`` has come."""
        self.transport.handle_timer(now_s)
        return self.events()

    @property
    def deadline_s(self) -> float | None:
        """When ``tick`` is to be called."""
        return self.transport.get_timer()

    def events(self) -> list[Event]:
        """What has come about."""
        out: list[Event] = []
        try:
            while (event := self.transport.next_event()) is not None:
                if isinstance(event, StreamDataReceived):
                    if not self.over:
                        self._read(event.stream_id, event.data, event.end_stream, out)
                elif isinstance(event, StreamReset | StopSendingReceived):
                    self._stopped(event.stream_id, event.error_code, isinstance(event, StreamReset), out)
                elif isinstance(event, HandshakeCompleted):
                    self._greet()
                elif isinstance(event, ConnectionTerminated | ConnectionIdIssued | ConnectionIdRetired):
                    self.over = self.over or isinstance(event, ConnectionTerminated)
                    out.append(event)
        except Fault as fault:
            self.close(fault.code)
        return out

    def out(self, now_s: float) -> list[quic.Run]:
        """Datagrams to send now: of each response as much as QUIC is handed at a time. Where any come, and it is
        ``backlogged``, there may be more."""
        if self._outgoing:
            room = self.transport.room
            # None waits for another's end: each has its part, and who had one stands behind the others.
            part = max(room // len(self._outgoing), 1)
            for number in tuple(self._outgoing):
                room -= self._fill(number, min(room, part))
        self._room = None
        return self.transport.runs_to_send(now_s)

    @property
    def backlogged(self) -> bool:
        """Something waits that was not handed to QUIC."""
        return bool(self._outgoing)

    # --- orders

    def answer(self, stream: int, lines: bytes, body: bytes | memoryview) -> None:
        """A whole response, whose field lines are known."""
        size = len(START) + len(lines)
        head = b"%b%b%b%b" % (b"\x01", varint(size), START, lines)
        if not body:
            self._give(stream, head, True)
        elif len(body) < H3_AHEAD_BYTES:
            self._give(stream, b"".join((head, b"\x00", varint(len(body)), body)), True)
        else:
            self._give(stream, head, False)
            self.send(stream, (body,), True)

    def respond(self, stream: int, headers: Pairs, end: bool) -> bool:
        """Sends the head of a response; returns whether the stream could still take it."""
        section = START + self.sections.lines(headers)
        return self._give(stream, varint(HEADERS) + varint(len(section)) + section, end)

    def interim(self, stream: int, headers: Pairs) -> None:
        """Sends an interim response."""
        self.respond(stream, headers, False)

    def send(self, stream: int, pieces: Iterable[bytes | memoryview], end: bool) -> None:
        """Queues parts of a body; they are kept by reference until QUIC can send them."""
        frames = ((varint(DATA) + varint(len(piece)), piece) for piece in pieces if piece)
        self._queue(stream, chain.from_iterable(frames), end)

    def trail(self, stream: int, trailers: Pairs) -> None:
        """Ends a body with trailer fields."""
        section = START + self.sections.lines(trailers)
        self._queue(stream, (varint(HEADERS) + varint(len(section)) + section,), True)

    def queued_bytes(self, stream: int) -> int:
        """What of a stream's body waits."""
        waiting = self._outgoing.get(stream)
        return (0 if waiting is None else waiting.size_bytes) + self.transport.get_send_buffer_size(stream)

    def consumed(self, stream: int, size_bytes: int) -> None:
        """See h2.Session. QUIC's windows follow from what is read of it, see ``hold``."""

    @property
    def shaken(self) -> bool:
        """The handshake is over."""
        return self.transport.shaken

    @property
    def path(self) -> quic.Path | None:
        """See Transport."""
        return self.transport.path

    @property
    def held(self) -> bool:
        """See hold."""
        return self.transport.held

    def hold(self) -> None:
        """Reads no streams for now: those of the client's data that no one takes fill its windows."""
        self.transport.held = True

    def let_go(self) -> None:
        """Reads streams again; ``events`` has what waited."""
        self.transport.let_go()

    def reset(self, stream: int, error: int) -> None:
        """Ends a stream at once, and forgets what of it waits."""
        self._outgoing.pop(stream, None)
        self._try(self.transport.reset_stream, stream, error)
        self.stop(stream, error)

    def stop(self, stream: int, error: int) -> None:
        """Wants no more of a request."""
        incoming = self._incoming.get(stream)
        if incoming is not None and not incoming.ignored:
            incoming.ignored, incoming.held = True, b""
            self._try(self.transport.stop_stream, stream, error)

    def go_away(self) -> None:
        """Takes no more requests (RFC 9114 section 5.2)."""
        number = varint(self._next_request)
        self._hand(OUR_CONTROL, varint(GOAWAY) + varint(len(number)) + number, False)

    def close(self, error: int) -> None:
        """Ends the connection."""
        self.over = True
        self._outgoing.clear()
        self.transport.close(error)

    # --- sending

    def _greet(self) -> None:
        # MAX_FIELD_SECTION_SIZE, and ENABLE_CONNECT_PROTOCOL (RFC 9220); without a word, no dynamic table.
        settings = varint(0x6) + varint(HEAD_BYTES_MAX) + varint(0x8) + varint(1)
        frame = varint(CONTROL) + varint(SETTINGS) + varint(len(settings)) + settings
        self._hand(self.transport.get_next_available_stream_id(is_unidirectional=True), frame, False)

    def _give(self, stream: int, data: bytes, end: bool) -> bool:
        """Hands on what may be sent now; else it waits."""
        if self._room is None:
            self._room = self.transport.room
        parts = _parts(len(data))
        if stream not in self._outgoing and parts <= self._room:
            self._room -= parts
            return self._hand(stream, data, end)
        self._queue(stream, (data,), end)
        return True

    def _queue(self, stream: int, pieces: Iterable[bytes | memoryview], end: bool) -> None:
        waiting = self._outgoing.setdefault(stream, _Outgoing())
        for piece in pieces:
            waiting.pieces.append(memoryview(piece))
            waiting.size_bytes += len(piece)
        waiting.end = end

    def _hand(self, stream: int, data: bytes | memoryview, end: bool) -> bool:
        return self._try(self.transport.send_stream_data, stream, data, end)

    def _try(self, order: Callable[..., None], *arguments: object) -> bool:
        """Orders for streams that are no more are refused in several ways."""
        try:
            order(*arguments)
        except (QuicConnectionError, ValueError, AssertionError):
            return False
        return True

    def _fill(self, stream: int, parts: int) -> int:
        """Hands on so many parts at most: a copy is made of them. Returns how many the stream takes."""
        waiting = self._outgoing[stream]
        kept_bytes = self.transport.get_send_buffer_size(stream)
        room = limit_bytes = min(H3_AHEAD_BYTES, parts * H3_PART_BYTES) - kept_bytes
        if waiting.end and not waiting.pieces:
            waiting.pieces.append(END_MARK)
        handed = True
        while waiting.pieces and room > 0 and handed:
            piece = waiting.pieces.popleft()
            if len(piece) > room:
                waiting.pieces.appendleft(piece[room:])
                piece = piece[:room]
            room -= len(piece)
            handed = self._hand(stream, piece, waiting.end and not waiting.pieces)
        waiting.size_bytes = sum(map(len, waiting.pieces))
        if not handed:
            waiting.pieces.clear()
        if not waiting.pieces:
            del self._outgoing[stream]
        elif room < limit_bytes:
            self._outgoing[stream] = self._outgoing.pop(stream)
        return _parts(kept_bytes + limit_bytes - room)

    # --- reading

    def _read(self, number: int, data: bytes, end: bool, out: list[Event]) -> None:
        if number & 2:
            if not self._one_way.read(number, data, end):
                self._try(self.transport.stop_stream, number, STREAM_CREATION_ERROR)
            return
        incoming = self._incoming.get(number)
        if incoming is None:
            self._next_request = max(self._next_request, number + 4)
            if end and len(data) > 2 and data[0] == HEADERS and self._is_one_frame(data, number, out):
                return
            incoming = self._incoming[number] = _Incoming()
        if not incoming.ignored:
            self._read_request(number, incoming, data, end, out)
        if end:
            self._incoming.pop(number, None)

    def _is_one_frame(self, data: bytes, number: int, out: list[Event]) -> bool:
        """What most requests are: one frame, whole."""
        try:
            size, start = read_varint(data, 1)
        except IndexError:
            return False
        if start + size != len(data) or not 0 < size <= HEAD_BYTES_MAX:
            return False
        out.append(Requested(number, data[start:], True))
        return True

    def _read_request(self, number: int, incoming: _Incoming, data: bytes, end: bool, out: list[Event]) -> None:
        """Frames of a request's stream (RFC 9114 section 4.1)."""
        data, at = incoming.held + data, 0
        before = len(out)
        while at < len(data):
            if incoming.kind is None:
                try:
                    kind, start = read_varint(data, at)
                    incoming.left_bytes, at = read_varint(data, start)
                except IndexError:
                    break
                self._expect(incoming, kind)
                incoming.kind = kind
            piece = data[at : at + incoming.left_bytes]
            if incoming.kind == HEADERS:
                if incoming.left_bytes > HEAD_BYTES_MAX:
                    self.reset(number, EXCESSIVE_LOAD)
                    out.append(StreamEnded(number, EXCESSIVE_LOAD))
                    return
                if len(piece) < incoming.left_bytes:
                    break
                if incoming.asked:
                    self._trail(incoming, piece)
                else:
                    incoming.asked = True
                    out.append(Requested(number, piece, end and at + len(piece) == len(data)))
            elif incoming.kind == DATA and piece:
                out.append(BodyCame(number, piece, False))
            at += len(piece)
            incoming.left_bytes -= len(piece)
            if not incoming.left_bytes:
                incoming.kind = None
        incoming.held = data[at:]
        if end:
            self._end_request(number, incoming, out, len(out) > before and getattr(out[-1], "end_stream", False))

    def _expect(self, incoming: _Incoming, kind: int) -> None:
        late = kind in (DATA, HEADERS) and incoming.trailed
        if kind in NOT_IN_REQUESTS or late or (kind == DATA and not incoming.asked):
            raise Fault(FRAME_UNEXPECTED)

    def _trail(self, incoming: _Incoming, section: bytes) -> None:
        """Trailers of requests are dropped, as those of HTTP/1.1 are."""
        incoming.trailed = True
        try:
            self.sections.headers(section)
        except BadMessage:
            return

    def _end_request(self, number: int, incoming: _Incoming, out: list[Event], told: bool) -> None:
        if incoming.held or incoming.kind is not None:
            raise Fault(FRAME_ERROR)
        if not incoming.asked:
            self.reset(number, REQUEST_INCOMPLETE)
            out.append(StreamEnded(number, REQUEST_INCOMPLETE))
        elif not told:
            out.append(BodyCame(number, b"", True))

    def _stopped(self, number: int, error: int, reset: bool, out: list[Event]) -> None:
        """The client has reset its side of a stream, or wants nothing of ours."""
        if number & 2:
            if number == OUR_CONTROL:
                raise Fault(CLOSED_CRITICAL_STREAM)
            self._one_way.ended(number)
            return
        incoming = self._incoming.pop(number, None) if reset else None
        if incoming is not None and incoming.ignored:
            return  # As it was asked to (``stop``): it has its answer, or what is under way of that.
        self._outgoing.pop(number, None)
        self._try(self.transport.reset_stream, number, REQUEST_CANCELLED)
        out.append(StreamEnded(number, error))
