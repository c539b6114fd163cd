"""What a server says on a connection of HTTP/2: streams, their windows, and whose turn it is (RFC 9113).

A response that the windows take is put together at once, and its stream is over: most hits are. What is longer
waits by reference, and goes frame by frame, stream by stream in turn, as windows and the writer let it.
"""

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from nearmile.http import h2frames as h2
from nearmile.http import hpack
from nearmile.http.fields import Pairs
from nearmile.http.h2frames import FRAME_BYTES_MAX, HEAD, frame
from nearmile.http.limits import H2_HELD_BYTES_MAX, H2_REMEMBERED_MAX, H2_STREAM_WINDOW_BYTES


class StreamEnded(NamedTuple):
    """A stream is over: of NO_ERROR, all of its response was let out."""

    stream_id: int
    error_code: int


class Ended(NamedTuple):
    """The connection is over, and all was said."""


class Stream:
    """One that is not over. Most have nothing but defaults: they are answered at once."""

    ended = False
    """The client has sent all of its request."""
    room_bytes = H2_STREAM_WINDOW_BYTES
    """What the client may send of it."""
    owed_bytes = 0
    """Used of its body, for which the client was not told so yet."""
    granted_bytes = 0
    """Of the window for its response: granted less sent, beside what every stream has at first."""
    pieces: deque[bytes | memoryview] | None = None
    queued_bytes = 0
    """In ``pieces``."""
    trailers = b""
    finished = False
    """Nothing will be added to the response."""
    sending = False
    """It waits for its turn."""
    answered = False
    """The end of its response was let out."""


class Asked(Stream):
    """A whole request, to which nothing was said yet."""

    ended = True


class Sender:
    """Streams are named by their number. Orders for streams that have ended meanwhile are no errors."""

    def __init__(self, greeting: bytes) -> None:
        self._events: list[object] = []
        self._over_soon: list[object] = []
        """Those of streams whose last bytes are in ``_out``."""
        self._streams: dict[int, Stream] = {}
        self._last = -1
        """The last stream that the client has opened."""
        self._given_up: dict[int, None] = {}
        """Streams that we reset while the client may have been sending (section 5.1)."""
        self._out: list[bytes | memoryview] = [greeting]
        self._out_bytes = len(greeting)
        self._acks = 0
        """In ``_out``."""
        self._barren = 0
        """Frames of the client since something was moved."""
        self._table_told = False
        self._window_bytes = self._first_window_bytes = h2.WINDOW_BYTES
        self._at_once_bytes = 0
        """What one frame and the window of a new stream take; 0 until ``_table_told``."""
        self._turns: deque[int] = deque()
        """Streams with something to send."""
        self._parting = self._left = self._over = self._ended = False
        """We take no more streams; the client says that it goes; no more is taken or sent; that was told."""

    def answer(self, stream: int, lines: bytes, body: bytes | memoryview, at_once: bool) -> int | None:
        """A whole response, its head as ``hpack.lines`` has it; ``at_once`` if that may count as let out. Returns
        how many bytes of the body wait; None where the stream is over."""
        one, size_bytes = self._streams.get(stream), len(body)
        if (
            at_once
            and type(one) is Asked
            and 0 < size_bytes <= self._at_once_bytes
            and size_bytes <= self._window_bytes
            and (head_bytes := len(lines)) <= FRAME_BYTES_MAX
            and self._out_bytes < H2_HELD_BYTES_MAX
        ):
            del self._streams[stream]
            self._window_bytes -= size_bytes
            pack = HEAD.pack
            # HEADERS with END_HEADERS, DATA with END_STREAM.
            self._out += (pack(head_bytes << 8 | 1, 4, stream), lines, pack(size_bytes << 8, 1, stream), body)
            self._out_bytes += head_bytes + size_bytes
            return 0
        if one is None:
            return None
        self._say_block(stream, lines, h2.END_STREAM if not body else 0)
        if body:
            self.send(stream, (body,), True)
        else:
            self._answered(stream, one)
        return size_bytes

    def answer_alone(self, stream: int, lines: bytes, body: bytes | memoryview) -> bytes:
        """As ``answer``, to the only request under way (Session.alone), and then ``out``: returns the bytes to
        send; none where the windows do not take all at once, and then nothing is done."""
        size_bytes, head_bytes = len(body), len(lines)
        if not 0 < size_bytes <= min(self._at_once_bytes, self._window_bytes) or head_bytes > FRAME_BYTES_MAX:
            return b""
        del self._streams[stream]
        self._window_bytes -= size_bytes
        pack = HEAD.pack
        return b"".join((pack(head_bytes << 8 | 1, 4, stream), lines, pack(size_bytes << 8, 1, stream), body))

    def respond(self, stream: int, headers: Pairs, end: bool) -> bool:
        """Sends the head of a response, `:status` first; returns whether the stream could still take it."""
        if (one := self._streams.get(stream)) is None:
            return False
        self._say_block(stream, hpack.lines(headers), h2.END_STREAM if end else 0)
        if end:
            self._answered(stream, one)
        return True

    def interim(self, stream: int, headers: Pairs) -> None:
        """Sends an interim response (RFC 9110 section 15.2)."""
        self.respond(stream, headers, end=False)

    def send(self, stream: int, pieces: Iterable[bytes | memoryview], end: bool) -> None:
        """Queues parts of a body; they are kept by reference until the windows let them go."""
        if (one := self._streams.get(stream)) is not None:
            if one.pieces is None:
                one.pieces = deque()
            for piece in pieces:
                if piece:
                    one.pieces.append(piece)
                    one.queued_bytes += len(piece)
            one.finished = end
            self._queue(stream, one)

    def trail(self, stream: int, trailers: Pairs) -> None:
        """Ends a body with trailer fields."""
        if (one := self._streams.get(stream)) is not None:
            one.trailers, one.finished = hpack.lines(trailers), True
            self._queue(stream, one)

    def queued_bytes(self, stream: int) -> int:
        """What of a stream's body waits."""
        one = self._streams.get(stream)
        return 0 if one is None else one.queued_bytes

    def reset(self, stream: int, error: int) -> None:
        """Ends a stream at once, and forgets what of it waits."""
        if (one := self._streams.pop(stream, None)) is not None:
            if not one.ended:
                self._give_up(stream)
            self._refuse(stream, error)

    def _refuse(self, stream: int, error: int) -> None:
        self._say(frame(h2.RST_STREAM, 0, stream, error.to_bytes(4, "big")))
        if error not in (h2.NO_ERROR, h2.INTERNAL_ERROR):
            self._events.append(StreamEnded(stream, error))

    def _give_up(self, stream: int) -> None:
        """What still comes for it is no error."""
        if len(self._given_up) >= H2_REMEMBERED_MAX:
            del self._given_up[next(iter(self._given_up))]
        self._given_up[stream] = None

    def go_away(self, error: int, at_once: bool) -> None:
        """Takes no more streams; ``at_once`` ends those that there are (section 6.8)."""
        if self._over or (self._parting and not at_once):
            return
        self._say(frame(h2.GOAWAY, 0, 0, max(self._last, 0).to_bytes(4, "big") + error.to_bytes(4, "big")))
        self._parting, self._over = True, at_once

    @property
    def pending(self) -> bool:
        """``out`` has something, whatever the windows are."""
        return bool(self._out)

    def out(self, size_bytes: int) -> bytes:
        """Bytes to send now, about as many as that; empty when windows or streams have no more."""
        if self._turns and not self._over:
            self._take_turns(size_bytes)
        if self._over_soon:
            self._events += self._over_soon
            self._over_soon.clear()
        if not self._out:
            return b""
        data = b"".join(self._out)
        self._out.clear()
        self._out_bytes = self._acks = 0
        if self._over or ((self._parting or self._left) and not self._streams):
            self._mind_over()
        return data

    def _mind_over(self) -> None:
        if not self._ended:
            self._ended = True
            self._events.append(Ended())

    def _say(self, said: bytes) -> None:
        self._out.append(said)
        self._out_bytes += len(said)

    def _say_block(self, stream: int, block: bytes, flags: int) -> None:
        """HEADERS, and CONTINUATION where one frame is too small."""
        if not self._table_told:
            block, self._table_told = hpack.NO_TABLE + block, True
            self._at_once_bytes = min(self._first_window_bytes, FRAME_BYTES_MAX)
        kind = h2.HEADERS
        while len(block) > FRAME_BYTES_MAX:
            self._say(frame(kind, flags, stream, block[:FRAME_BYTES_MAX]))
            block, kind, flags = block[FRAME_BYTES_MAX:], h2.CONTINUATION, 0
        self._say(frame(kind, flags | h2.END_HEADERS, stream, block))

    def _set_first_window(self, size_bytes: int) -> None:
        """Section 6.9.2."""
        self._first_window_bytes = size_bytes
        if self._table_told:
            self._at_once_bytes = min(size_bytes, FRAME_BYTES_MAX)
        if any(size_bytes + one.granted_bytes > h2.WINDOW_BYTES_MAX for one in self._streams.values()):
            raise h2.Fault(h2.FLOW_CONTROL_ERROR)

    def _queue(self, number: int, stream: Stream) -> None:
        if not stream.sending:
            stream.sending = True
            self._turns.append(number)

    def _take_turns(self, size_bytes: int) -> None:
        """Every stream lets out a frame, in turn, until none can, or there is no room for one more."""
        turns, idle = self._turns, 0
        while idle < len(turns) and self._out_bytes + FRAME_BYTES_MAX + HEAD.size <= size_bytes:
            number = turns.popleft()
            stream = self._streams.get(number)
            if stream is None:
                continue
            before_bytes = self._out_bytes
            self._take_turn(number, stream)
            idle = idle + 1 if self._out_bytes == before_bytes else 0
            if stream.queued_bytes or (stream.finished and not stream.answered):
                turns.append(number)
            else:
                stream.sending = False

    def _take_turn(self, number: int, stream: Stream) -> None:
        """One frame of a stream, if it may."""
        window_bytes = self._first_window_bytes + stream.granted_bytes
        size_bytes = min(stream.queued_bytes, window_bytes, self._window_bytes, FRAME_BYTES_MAX)
        if stream.queued_bytes and size_bytes <= 0:
            return
        if stream.trailers and not stream.queued_bytes:
            self._say_block(number, stream.trailers, h2.END_STREAM)
            self._answered(number, stream)
            return
        last = stream.finished and size_bytes == stream.queued_bytes and not stream.trailers
        if not (size_bytes or last):
            return
        self._say(HEAD.pack(size_bytes << 8 | h2.DATA, h2.END_STREAM if last else 0, number))
        stream.queued_bytes -= size_bytes
        stream.granted_bytes -= size_bytes
        self._window_bytes -= size_bytes
        self._out_bytes += size_bytes
        self._barren = 0
        pieces = stream.pieces
        while size_bytes and pieces:
            piece = pieces.popleft()
            if len(piece) > size_bytes:
                piece = memoryview(piece)
                pieces.appendleft(piece[size_bytes:])
                piece = piece[:size_bytes]
            self._out.append(piece)
            size_bytes -= len(piece)
        if last:
            self._answered(number, stream)

    def _answered(self, number: int, stream: Stream) -> None:
        stream.answered = True
        self._mind_end(number, stream)

    def _mind_end(self, number: int, stream: Stream) -> None:
        """Both sides have said all: the stream is over (section 5.1)."""
        if stream.answered and stream.ended and self._streams.pop(number, None) is not None:
            self._over_soon.append(StreamEnded(number, h2.NO_ERROR))
