"""Message bodies on the wire (RFC 9112 sections 6 and 7): how long they are, and chunked coding both ways."""

import re
from collections.abc import Callable
from typing import Protocol

from nearmile.http.fields import TOKEN, BadMessage, Pairs, parse_pairs
from nearmile.http.head import Request, ResponseHead
from nearmile.http.limits import (
    CHUNK_FREE_BYTES,
    CHUNK_LINE_BYTES_MAX,
    CHUNK_SIZE_DIGITS_MAX,
    CHUNK_WASTE_BYTES_MAX,
    FIELDS_MAX,
    TRAILER_BYTES_MAX,
)

# RFC 9112 section 7.1.1; extensions are ignored, but must be what the grammar says: what a sloppier reader takes
# for the line's end, or for a part of the size, is never passed over.
_QUOTED = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*+"'
_EXTENSION = rb"[ \t]*+;[ \t]*+%b(?:[ \t]*+=[ \t]*+(?:%b|%b))?+" % (TOKEN.pattern, TOKEN.pattern, _QUOTED)
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]+)(?:%b)*+" % _EXTENSION)
LAST_CHUNK = b"0\r\n\r\n"


class Decoder(Protocol):
    """Turns wire bytes into body bytes."""

    done: bool
    """The body is complete; what ``feed`` returned as rest belongs to the next message."""

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """Returns (pieces of the body, rest): the rest is not empty only when done. Raises BadMessage."""
        ...

    def end(self) -> bool:
        """The connection ended; returns whether the body is complete."""
        ...


class SizedBody:
    """A body of known length."""

    def __init__(self, length: int) -> None:
        self.left = length
        self.done = length == 0

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """See Decoder."""
        size = len(data)
        if size < self.left:
            self.left -= size
            return [data], b""
        piece, rest = (data, b"") if size == self.left else (data[: self.left], data[self.left :])
        self.left, self.done = 0, True
        return ([piece] if piece else []), rest

    def end(self) -> bool:
        """See Decoder."""
        return self.done


class OpenBody:
    """A response's body that lasts until the connection ends (RFC 9112 section 6.3, case 8)."""

    done = False

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """See Decoder."""
        return [data], b""

    def end(self) -> bool:
        """See Decoder."""
        self.done = True
        return True


class ChunkedBody:
    """A chunked body; ``trailers`` are the fields behind it, once it is done."""

    def __init__(self) -> None:
        self.done = False
        self.trailers: Pairs = ()
        self._held = b""
        # Of the class: what points at itself is not freed when it is dropped.
        self._step: Callable[[ChunkedBody, bytes, int, list[bytes]], int | None] = ChunkedBody._size_line
        self._left = 0
        self._waste_bytes = 0
        self._trailer_bytes = 0

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """See Decoder."""
        pieces: list[bytes] = []
        data = self._held + data if self._held else data
        position: int | None = 0
        while position is not None and not self.done:
            start = position
            position = self._step(self, data, start, pieces)
        self._held = b"" if self.done else data[start:]
        # Joined, since a body of tiny chunks would otherwise weigh many times its bytes while it waits.
        return [b"".join(pieces)] if len(pieces) > 1 else pieces, data[position:] if self.done else b""

    def end(self) -> bool:
        """See Decoder."""
        return self.done

    # Each step returns the position after what it used, or None when it needs more bytes.

    def _size_line(self, data: bytes, at: int, _pieces: list[bytes]) -> int | None:
        line, after = _line(data, at, CHUNK_LINE_BYTES_MAX)
        if line is None:
            return None
        match = _CHUNK_LINE.fullmatch(line)
        if match is None or len(match[1]) > CHUNK_SIZE_DIGITS_MAX:
            raise BadMessage("a malformed chunk size")
        self._left = int(match[1], 16)
        self._waste_bytes = max(0, self._waste_bytes + len(line) - CHUNK_FREE_BYTES - self._left)
        if self._waste_bytes > CHUNK_WASTE_BYTES_MAX:
            raise BadMessage("a chunked body with more around it than in it")
        self._step = ChunkedBody._data if self._left else ChunkedBody._trailer
        return after

    def _data(self, data: bytes, at: int, pieces: list[bytes]) -> int | None:
        if at == len(data):
            return None
        piece = data[at : at + self._left]
        pieces.append(piece)
        self._left -= len(piece)
        if self._left == 0:
            self._step = ChunkedBody._data_end
        return at + len(piece)

    def _data_end(self, data: bytes, at: int, _pieces: list[bytes]) -> int | None:
        end = data[at : at + 2]
        if not b"\r\n".startswith(end):
            raise BadMessage("a chunk does not end where it says")
        if len(end) < 2:
            return None
        self._step = ChunkedBody._size_line
        return at + 2

    def _trailer(self, data: bytes, at: int, _pieces: list[bytes]) -> int | None:
        line, after = _line(data, at, TRAILER_BYTES_MAX)
        if line is None:
            return None
        self._trailer_bytes += after - at
        if self._trailer_bytes > TRAILER_BYTES_MAX:
            raise BadMessage("the trailer is too large", 431)
        if line:
            self.trailers += parse_pairs(line + b"\r\n")
            if len(self.trailers) > FIELDS_MAX:
                raise BadMessage(f"more than {FIELDS_MAX} trailer fields", 431)
        else:
            self.done = True
        return after


def _line(data: bytes, at: int, limit: int) -> tuple[bytes | None, int]:
    end = data.find(b"\r\n", at)
    if end < 0:
        # One more than the limit: the last byte may be the CR of the line's end.
        if len(data) - at > limit + 1:
            raise BadMessage("a line of a chunked body is too long")
        return None, at
    if end - at > limit:
        raise BadMessage("a line of a chunked body is too long")
    return data[at:end], end + 2


def request_body(request: Request) -> Decoder:
    """How to read the body of a request (RFC 9112 section 6.3)."""
    return ChunkedBody() if request.fields.chunked else SizedBody(request.fields.length or 0)


def response_body(method: bytes, head: ResponseHead) -> Decoder:
    """How to read the body of the response to a request of that method (RFC 9112 section 6.3)."""
    if method == b"HEAD" or head.status in (204, 304) or head.status < 200:
        return SizedBody(0)
    if head.fields.chunked:
        return ChunkedBody()
    return OpenBody() if head.fields.length is None else SizedBody(head.fields.length)


def encode_chunk(data: bytes) -> bytes:
    """One chunk; ``data`` must not be empty, since an empty chunk ends the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)
