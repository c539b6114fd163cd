"""What HTTP/3 consists of (RFC 9114): numbers, frames, errors, and the streams that clients open beside requests.

Three of those at most mean something: a client's settings, and QPACK's two, which have nothing to say to a server
without a dynamic table.
"""

from nearmile.http.limits import H3_CONTROL_BYTES_MAX

# RFC 9114 section 8.1, RFC 9204 section 6.
NO_ERROR, INTERNAL_ERROR, STREAM_CREATION_ERROR = 0x100, 0x102, 0x103
CLOSED_CRITICAL_STREAM, FRAME_UNEXPECTED, FRAME_ERROR, EXCESSIVE_LOAD = 0x104, 0x105, 0x106, 0x107
SETTINGS_ERROR, MISSING_SETTINGS, REQUEST_CANCELLED = 0x109, 0x10A, 0x10C
REQUEST_INCOMPLETE, MESSAGE_ERROR = 0x10D, 0x10E
QPACK_FAILED, QPACK_ENCODER_ERROR, QPACK_DECODER_ERROR = 0x200, 0x201, 0x202

DATA, HEADERS, SETTINGS, PUSH_PROMISE, GOAWAY = 0x0, 0x1, 0x4, 0x5, 0x7
# Never on a request's stream: what is for the control stream, and what HTTP/2 had (section 7.2.8).
NOT_IN_REQUESTS = frozenset((0x2, 0x3, SETTINGS, PUSH_PROMISE, 0x6, GOAWAY, 0x8, 0x9, 0xD))
_NOT_IN_CONTROL = frozenset((DATA, HEADERS, 0x2, PUSH_PROMISE, 0x6, 0x8, 0x9))
_SETTINGS_OF_HTTP2 = frozenset((0x0, 0x2, 0x3, 0x4, 0x5))
CONTROL, PUSH, ENCODER, DECODER = 0x0, 0x1, 0x2, 0x3
OUR_CONTROL = 3  # the first stream of one direction that a server opens


class Fault(Exception):
    """A rule is broken that a connection cannot outlive."""

    def __init__(self, code: int) -> None:
        super().__init__(f"HTTP/3 error {code:#x}")
        self.code = code


def varint(number: int) -> bytes:
    """RFC 9000 section 16."""
    if number < 0x40:
        return bytes((number,))
    if number < 0x4000:
        return (number | 0x4000).to_bytes(2, "big")
    if number < 0x40000000:
        return (number | 0x80000000).to_bytes(4, "big")
    return (number | 0xC000000000000000).to_bytes(8, "big")


def read_varint(data: bytes | bytearray, at: int) -> tuple[int, int]:
    """A number and where it ends; IndexError where there is more of it to come."""
    size = 1 << (data[at] >> 6)
    if at + size > len(data):
        raise IndexError
    return int.from_bytes(data[at : at + size], "big") & ((1 << (8 * size - 2)) - 1), at + size


class OneWay:
    """The streams of one direction that a client opens."""

    def __init__(self) -> None:
        self._kinds: dict[int, int] = {}
        """What the streams are that may be opened once."""
        self._held: dict[int, bytes] = {}
        """Of each stream, what is not whole yet."""
        self._unknown: set[int] = set()
        """Streams of no kind that we know, until the client has heard that it can stop."""
        self._settled = False

    def read(self, number: int, data: bytes, end: bool) -> bool:
        """Data of a stream; returns whether more of it is wanted. Raises Fault."""
        if number in self._unknown:
            if end:
                self._unknown.discard(number)
            return True
        data = self._held.pop(number, b"") + data
        kind = self._kinds.get(number)
        if kind is None:
            try:
                kind, start = read_varint(data, 0)
            except IndexError:
                self._held[number] = data
                return True
            data = data[start:]
            if kind == PUSH or kind in self._kinds.values():
                raise Fault(STREAM_CREATION_ERROR)
            if kind not in (CONTROL, ENCODER, DECODER):
                if not end:
                    self._unknown.add(number)
                return False  # section 6.2
            self._kinds[number] = kind
        if end:
            raise Fault(CLOSED_CRITICAL_STREAM)
        if kind == CONTROL:
            self._held[number] = self._control(data)
        elif kind == DECODER:
            self._held[number] = _cancellations(data)
        elif data.strip(b"\x20"):
            # RFC 9204 section 4.3.1: nothing can be said of a table without room, but that it has none.
            raise Fault(QPACK_ENCODER_ERROR)
        return True

    def ended(self, number: int) -> None:
        """The client has reset a stream. Raises Fault where it must not."""
        if number in self._kinds:
            raise Fault(CLOSED_CRITICAL_STREAM)
        self._held.pop(number, None)
        self._unknown.discard(number)

    def _control(self, data: bytes) -> bytes:
        """Frames of the control stream; returns what is not whole."""
        at = 0
        while at < len(data):
            try:
                kind, start = read_varint(data, at)
                size, start = read_varint(data, start)
            except IndexError:
                break
            if (kind == SETTINGS) == self._settled or kind in _NOT_IN_CONTROL:
                raise Fault(FRAME_UNEXPECTED if self._settled else MISSING_SETTINGS)
            if size > H3_CONTROL_BYTES_MAX:
                raise Fault(EXCESSIVE_LOAD)
            if start + size > len(data):
                break
            at = start + size
            if kind == SETTINGS:
                _check_settings(data[start:at])
                self._settled = True
        return data[at:]


def _check_settings(data: bytes) -> None:
    """Nothing that a client says concerns us; but it must be well said (RFC 9114 section 7.2.4)."""
    seen: set[int] = set()
    at = 0
    try:
        while at < len(data):
            name, at = read_varint(data, at)
            _, at = read_varint(data, at)
            if name in seen or name in _SETTINGS_OF_HTTP2:
                raise Fault(SETTINGS_ERROR)
            seen.add(name)
    except IndexError:
        raise Fault(FRAME_ERROR) from None


def _cancellations(data: bytes) -> bytes:
    """The only instruction to an encoder without a table (RFC 9204 section 4.4); returns what is not whole."""
    at = 0
    while at < len(data):
        if data[at] >> 6 != 1:
            raise Fault(QPACK_DECODER_ERROR)
        end = at + 1
        if data[at] & 0x3F == 0x3F:
            while end < len(data) and data[end] & 0x80:
                end += 1
            if end - at > 10:
                raise Fault(QPACK_DECODER_ERROR)
            end += 1
            if end > len(data):
                break
        at = end
    return data[at:]
