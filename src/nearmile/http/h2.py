"""HTTP/2 on one connection, server side, without IO: bytes in, events out; orders in, bytes out (RFC 9113).

A client that repeats its fields sends the same block of HPACK with each request, once both tables have them. So
such a block is known by its bytes, and a hit costs a look at a frame's head, and frames put together of what was
said before. Whatever breaks a rule ends the stream or the connection before an event is made of it.
"""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from nearmile.http import h2frames as h2
from nearmile.http import hpack
from nearmile.http.fields import BadMessage, Fields, Pairs
from nearmile.http.h2frames import FRAME_BYTES_MAX, HEAD, PREFACE, Fault, frame
from nearmile.http.h2send import Asked, Sender, Stream, StreamEnded
from nearmile.http.limits import (
    FIELDS_MAX,
    H2_BARREN_MAX,
    H2_CONNECTION_WINDOW_BYTES,
    H2_CONTINUATIONS_MAX,
    H2_HELD_ACKS_MAX,
    H2_KNOWN_BYTES_MAX,
    H2_REMEMBERED_MAX,
    H2_STREAM_WINDOW_BYTES,
    H2_STREAMS_MAX,
    H2_UNREAD_BYTES_MAX,
    HEAD_BYTES_MAX,
)
from nearmile.http.prefixed import Strings
from nearmile.http.streams import check_fields, check_trailers

_GREETING = h2.settings(
    {
        h2.MAX_CONCURRENT_STREAMS: H2_STREAMS_MAX,
        h2.INITIAL_WINDOW_SIZE: H2_STREAM_WINDOW_BYTES,
        h2.MAX_HEADER_LIST_SIZE: HEAD_BYTES_MAX,
        h2.ENABLE_CONNECT_PROTOCOL: 1,
        h2.NO_RFC7540_PRIORITIES: 1,
    }
) + frame(h2.WINDOW_UPDATE, 0, 0, (H2_CONNECTION_WINDOW_BYTES - h2.WINDOW_BYTES).to_bytes(4, "big"))
_SETTINGS_TAKEN = frame(h2.SETTINGS, h2.ACK, 0, b"")
_WORD_MAX = FRAME_BYTES_MAX << 8 | 0xFF
"""Of the first four bytes of a frame: its size, and its type."""
_WHOLE = h2.END_HEADERS | h2.END_STREAM
_BLOCK_FLAGS = {_WHOLE: 0, _WHOLE | h2.PRIORITIZED: 5}
"""Where in HEADERS that are a whole request their block begins: priority says nothing (section 5.3.2)."""
# A browser may send each cookie as a field of its own (section 8.2.3); they are joined before they are counted
# strictly.
_LINES_MAX = 4 * FIELDS_MAX


class Head:
    """What a block of fields says, and what the server has made of it: of a request for what may be stored, target
    and fields."""

    __slots__ = ("fields", "headers", "path")

    def __init__(self, headers: Pairs) -> None:
        self.headers = headers
        self.path = b""
        self.fields: Fields | None = None


class Requested(NamedTuple):
    """A stream begins."""

    stream_id: int
    head: Head
    end_stream: bool


class BodyCame(NamedTuple):
    """A part of a request's body; it is to be ``consumed``."""

    stream_id: int
    data: bytes
    end_stream: bool


class TrailersCame(NamedTuple):
    """A request's end, with fields."""

    stream_id: int
    headers: Pairs


Check = Callable[[Pairs, bool], None]
Serve = Callable[[int, Head, bool], None]
"""Takes what Requested has."""


class _Block(NamedTuple):
    """A block that is not whole yet."""

    number: int
    flags: int
    fragments: list[bytes]


class Session(Sender):
    """The server's side."""

    def __init__(self, strings: Strings) -> None:
        super().__init__(_GREETING)
        self._held = b""
        self._greeted = self._settled = False
        """The client has said PREFACE; and SETTINGS."""
        self._reader = hpack.Reader(strings)
        self._known: dict[bytes, Head] = {}
        self._known_bytes = 0
        self._block: _Block | None = None
        self._skipped: deque[range] = deque(maxlen=H2_REMEMBERED_MAX)
        """Streams that were never opened (section 5.1.1)."""
        self._room_bytes = H2_CONNECTION_WINDOW_BYTES
        """What the client may send of all bodies."""
        self._owed_bytes = 0
        """Used of them, for which it was not told so yet."""

    def feed(self, data: bytes, serve: Serve | None = None) -> list[object]:
        """Bytes from the client; returns what they mean. Requests that are known by their bytes are told at once
        to ``serve``, if it is there: an event each would cost a tenth of a hit."""
        if not self._over:
            if self._held:
                data, self._held = self._held + data, b""
            try:
                self._held = data[self._walk(data, serve) :]
            except Fault as fault:
                self.go_away(fault.code, at_once=True)
        return self.events()

    def alone(self, data: bytes) -> tuple[int, Head] | None:
        """Bytes from the client that are one request, known by them, and nothing more, while nothing else is under
        way: its stream and what it says. Of any others None, and they are still to be fed. With one request at a
        time it is what most reads bring, and it need not be looked for."""
        size_bytes = len(data) - HEAD.size
        busy = self._streams or self._out or self._held or self._block or self._parting or self._left
        if busy or size_bytes < 0:
            return None
        word, flags, number = HEAD.unpack_from(data)
        skip = _BLOCK_FLAGS.get(flags)
        if skip is None or number != self._last + 2 or word != size_bytes << 8 | 1:
            return None
        head = self._known.get(data[9 + skip :])
        if head is None:
            return None
        self._last, self._barren = number, 0
        self._streams[number] = Asked()
        return number, head

    def events(self) -> list[object]:
        """What has come about since the last look."""
        if not (events := self._events):
            return []
        self._events = []
        return events

    def _walk(self, data: bytes, serve: Serve | None) -> int:
        """Takes all whole frames; returns where the rest begins."""
        at, end = 0, len(data)
        if not self._greeted:
            if end < len(PREFACE) and PREFACE.startswith(data):
                return 0
            at = self._greet(data)
        known, streams, events = self._known, self._streams, self._events
        unpack_head, least, block_flags = HEAD.unpack_from, end - HEAD.size, _BLOCK_FLAGS
        while at <= least:
            word, flags, number = unpack_head(data, at)
            start = at + 9
            after = start + (word >> 8)
            if after > end or word > _WORD_MAX:
                if word > _WORD_MAX:
                    raise Fault(h2.FRAME_SIZE_ERROR)
                break
            at = after
            # HEADERS of a request that is known by its bytes.
            if number == self._last + 2 and word & 0xFF == 1 and (skip := block_flags.get(flags)) is not None:
                head = known.get(data[start + skip : after])
                if head and not self._block and not self._parting and len(streams) < H2_STREAMS_MAX:
                    self._last, self._barren = number, 0
                    streams[number] = Asked()
                    if serve is None:
                        events.append(Requested(number, head, True))
                    else:
                        serve(number, head, True)
                    continue
            self._take(word & 0xFF, flags, number & 0x7FFFFFFF, data[start:after])
        return at

    def _greet(self, data: bytes) -> int:
        """What a connection begins with (section 3.4)."""
        if not data.startswith(PREFACE):
            raise Fault(h2.PROTOCOL_ERROR)
        self._greeted = True
        return len(PREFACE)

    def _take(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        """One frame."""
        if not self._settled and (kind != h2.SETTINGS or flags & h2.ACK):
            raise Fault(h2.PROTOCOL_ERROR)
        block = self._block
        if (block is None) == (kind == h2.CONTINUATION) or (block is not None and block.number != number):
            raise Fault(h2.PROTOCOL_ERROR)
        self._barren += 1
        if self._barren > H2_BARREN_MAX or self._out_bytes > H2_UNREAD_BYTES_MAX:
            raise Fault(h2.ENHANCE_YOUR_CALM)
        if (taker := _TAKERS.get(kind)) is not None:
            taker(self, flags, number, payload)

    def _take_headers(self, flags: int, number: int, payload: bytes) -> None:
        """Section 6.2."""
        if not number:
            raise Fault(h2.PROTOCOL_ERROR)
        fragment = h2.unprioritized(h2.unpadded(payload, flags), flags)
        self._block = _Block(number, flags, [fragment])
        if flags & h2.END_HEADERS:
            self._take_block()

    def _take_continuation(self, flags: int, number: int, payload: bytes) -> None:
        """Section 6.10."""
        assert self._block is not None
        fragments = self._block.fragments
        fragments.append(payload)
        if len(fragments) > 1 + H2_CONTINUATIONS_MAX:
            raise Fault(h2.ENHANCE_YOUR_CALM)
        if flags & h2.END_HEADERS:
            self._take_block()

    def _take_block(self) -> None:
        """A whole block of fields. It is read even where nobody wants it, for the table (section 4.3)."""
        assert self._block is not None
        (number, flags, fragments), self._block = self._block, None
        block, ended = b"".join(fragments), bool(flags & h2.END_STREAM)
        try:
            headers = self._reader.read(block)
        except ValueError:
            raise Fault(h2.COMPRESSION_ERROR) from None
        except hpack.TooMuch:
            raise Fault(h2.ENHANCE_YOUR_CALM) from None
        if len(headers) > _LINES_MAX:
            raise Fault(h2.ENHANCE_YOUR_CALM)
        if self._reader.changed:
            self._forget()
        stream = self._streams.get(number)
        if number > self._last:
            self._open(number, block, headers, ended)
        elif stream is None or stream.ended:
            if any(number in skipped for skipped in self._skipped):
                raise Fault(h2.PROTOCOL_ERROR)
            self._take_late(number)
        elif self._sound(number, check_trailers, headers, ended):
            stream.ended = True
            self._events.append(TrailersCame(number, headers))
            self._mind_end(number, stream)

    def _open(self, number: int, block: bytes, headers: Pairs, ended: bool) -> None:
        """A request."""
        if number % 2 == 0:
            raise Fault(h2.PROTOCOL_ERROR)
        if number > self._last + 2:
            self._skipped.append(range(self._last + 2, number, 2))
        self._last, self._barren = number, 0
        if self._parting:
            self._give_up(number)
            return
        self._streams[number] = Asked() if ended else Stream()
        if len(self._streams) > H2_STREAMS_MAX:
            self.reset(number, h2.REFUSED_STREAM)
            return
        if self._sound(number, check_fields, headers, ended):
            head = Head(headers)
            if ended and not self._reader.changed:
                self._learn(block, head)
            self._events.append(Requested(number, head, ended))

    def _learn(self, block: bytes, head: Head) -> None:
        self._known_bytes += len(block)
        if self._known_bytes > H2_KNOWN_BYTES_MAX:
            self._forget()
            self._known_bytes = len(block)
        self._known[block] = head

    def _forget(self) -> None:
        self._known.clear()
        self._known_bytes = 0

    def _sound(self, number: int, check: Check, headers: Pairs, ended: bool) -> bool:
        """Whether fields are as they should be; else the stream is over (section 8.1.1)."""
        try:
            check(headers, ended)
        except BadMessage:
            self.reset(number, h2.PROTOCOL_ERROR)
            return False
        return True

    def _take_data(self, flags: int, number: int, payload: bytes) -> None:
        """Section 6.1."""
        if not number:
            raise Fault(h2.PROTOCOL_ERROR)
        data, size_bytes = h2.unpadded(payload, flags), len(payload)
        self._room_bytes -= size_bytes
        if self._room_bytes < 0:
            raise Fault(h2.FLOW_CONTROL_ERROR)
        stream = self._streams.get(number)
        if stream is None or stream.ended:
            self.consumed(0, size_bytes)
            self._take_late(number)
            return
        stream.room_bytes -= size_bytes
        if stream.room_bytes < 0:
            self.consumed(0, size_bytes)
            self.reset(number, h2.FLOW_CONTROL_ERROR)
            return
        self.consumed(number, size_bytes - len(data))
        if data:
            self._barren = 0
        stream.ended = bool(flags & h2.END_STREAM)
        self._events.append(BodyCame(number, data, stream.ended))
        self._mind_end(number, stream)

    def _take_late(self, number: int) -> None:
        """What belongs to a request, on a stream that has none, or that the client had ended (section 5.1)."""
        self._check_opened(number)
        if number in self._streams:
            self.reset(number, h2.STREAM_CLOSED)
        elif number not in self._given_up:
            self._refuse(number, h2.STREAM_CLOSED)

    def _check_opened(self, number: int) -> None:
        """Nothing may be said of a stream that is idle (section 5.1), or that is ours to open."""
        if number > self._last or number % 2 == 0:
            raise Fault(h2.PROTOCOL_ERROR)

    def _take_priority(self, flags: int, number: int, payload: bytes) -> None:
        """Section 6.3; it means nothing any more."""
        if not number:
            raise Fault(h2.PROTOCOL_ERROR)
        if len(payload) != 5:
            raise Fault(h2.FRAME_SIZE_ERROR)

    def _take_reset(self, flags: int, number: int, payload: bytes) -> None:
        """Section 6.4."""
        self._check_opened(number)
        if len(payload) != 4:
            raise Fault(h2.FRAME_SIZE_ERROR)
        self._streams.pop(number, None)
        # Given up without a reason is given up as well; and whoever gives up what was answered at once may do so
        # with all that it asks for.
        self._events.append(StreamEnded(number, int.from_bytes(payload, "big") or h2.CANCEL))

    def _take_settings(self, flags: int, number: int, payload: bytes) -> None:
        """Section 6.5."""
        if number:
            raise Fault(h2.PROTOCOL_ERROR)
        if flags & h2.ACK:
            if payload:
                raise Fault(h2.FRAME_SIZE_ERROR)
            return
        for name, value in h2.read_settings(payload):
            if name == h2.INITIAL_WINDOW_SIZE:
                self._set_first_window(value)
        self._settled = True
        self._acknowledge(_SETTINGS_TAKEN)

    def _take_push(self, flags: int, number: int, payload: bytes) -> None:
        """Section 8.4: a client cannot push."""
        raise Fault(h2.PROTOCOL_ERROR)

    def _take_ping(self, flags: int, number: int, payload: bytes) -> None:
        """Section 6.7."""
        if number:
            raise Fault(h2.PROTOCOL_ERROR)
        if len(payload) != 8:
            raise Fault(h2.FRAME_SIZE_ERROR)
        if not flags & h2.ACK:
            self._acknowledge(frame(h2.PING, h2.ACK, 0, payload))

    def _acknowledge(self, said: bytes) -> None:
        self._acks += 1
        if self._acks > H2_HELD_ACKS_MAX:
            raise Fault(h2.ENHANCE_YOUR_CALM)
        self._say(said)

    def _take_goaway(self, flags: int, number: int, payload: bytes) -> None:
        """Section 6.8."""
        if number:
            raise Fault(h2.PROTOCOL_ERROR)
        if len(payload) < 8:
            raise Fault(h2.FRAME_SIZE_ERROR)
        self._left = True

    def _take_window(self, flags: int, number: int, payload: bytes) -> None:
        """Section 6.9."""
        if len(payload) != 4:
            raise Fault(h2.FRAME_SIZE_ERROR)
        granted_bytes = int.from_bytes(payload, "big") & h2.WINDOW_BYTES_MAX
        if not number:
            self._window_bytes += granted_bytes
            if not granted_bytes:
                raise Fault(h2.PROTOCOL_ERROR)
            if self._window_bytes > h2.WINDOW_BYTES_MAX:
                raise Fault(h2.FLOW_CONTROL_ERROR)
            return
        self._check_opened(number)
        if (stream := self._streams.get(number)) is not None:
            stream.granted_bytes += granted_bytes
            if not granted_bytes:
                self.reset(number, h2.PROTOCOL_ERROR)
            elif self._first_window_bytes + stream.granted_bytes > h2.WINDOW_BYTES_MAX:
                self.reset(number, h2.FLOW_CONTROL_ERROR)

    def consumed(self, stream: int, size_bytes: int) -> None:
        """So much of a body has been used: the client may send as much again (section 6.9). It is told so when it
        is half of a window."""
        self._owed_bytes += size_bytes
        if self._owed_bytes >= H2_CONNECTION_WINDOW_BYTES // 2:
            self._room_bytes += self._owed_bytes
            self._say(frame(h2.WINDOW_UPDATE, 0, 0, self._owed_bytes.to_bytes(4, "big")))
            self._owed_bytes = 0
        if (one := self._streams.get(stream)) is not None and not one.ended:
            one.owed_bytes += size_bytes
            if one.owed_bytes >= H2_STREAM_WINDOW_BYTES // 2:
                one.room_bytes += one.owed_bytes
                self._say(frame(h2.WINDOW_UPDATE, 0, stream, one.owed_bytes.to_bytes(4, "big")))
                one.owed_bytes = 0


_TAKERS: dict[int, Callable[[Session, int, int, bytes], None]] = {
    h2.DATA: Session._take_data,
    h2.HEADERS: Session._take_headers,
    h2.PRIORITY: Session._take_priority,
    h2.RST_STREAM: Session._take_reset,
    h2.SETTINGS: Session._take_settings,
    h2.PUSH_PROMISE: Session._take_push,
    h2.PING: Session._take_ping,
    h2.GOAWAY: Session._take_goaway,
    h2.WINDOW_UPDATE: Session._take_window,
    h2.CONTINUATION: Session._take_continuation,
}
"""By the type of a frame; others are ignored (section 4.1)."""
