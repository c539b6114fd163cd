"""What HTTP/2 consists of (RFC 9113): frames, their flags, errors, settings."""

import struct
from collections.abc import Iterator

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 0x01
END_HEADERS, PADDED, PRIORITIZED = 0x04, 0x08, 0x20
# Section 7.
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR = 0x0, 0x1, 0x2, 0x3
STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL = 0x5, 0x6, 0x7, 0x8
COMPRESSION_ERROR, ENHANCE_YOUR_CALM = 0x9, 0xB
# Section 6.5.2, RFC 8441 section 3, and RFC 9218 section 2.1.
ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 0x2, 0x3, 0x4, 0x5
MAX_HEADER_LIST_SIZE, ENABLE_CONNECT_PROTOCOL, NO_RFC7540_PRIORITIES = 0x6, 0x8, 0x9

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # section 3.4
FRAME_BYTES_MAX = 16_384
"""Of a payload, section 4.2: what everybody takes, and we ask for no more."""
WINDOW_BYTES = 65_535
"""What a window is at first, section 6.9.2."""
WINDOW_BYTES_MAX = (1 << 31) - 1

# Section 4.1: the length and the type, the flags, the stream.
HEAD = struct.Struct(">IBI")
_SETTING = struct.Struct(">HI")


class Fault(Exception):
    """A rule is broken that a connection cannot outlive."""

    def __init__(self, code: int) -> None:
        super().__init__(f"HTTP/2 error {code:#x}")
        self.code = code


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame as it is sent."""
    return HEAD.pack(len(payload) << 8 | kind, flags, stream) + payload


def settings(values: dict[int, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*pair) for pair in values.items()))


def read_settings(payload: bytes) -> Iterator[tuple[int, int]]:
    """What a client sets; raises Fault where it must not (section 6.5)."""
    if len(payload) % _SETTING.size:
        raise Fault(FRAME_SIZE_ERROR)
    for name, value in _SETTING.iter_unpack(payload):
        if name == INITIAL_WINDOW_SIZE and value > WINDOW_BYTES_MAX:
            raise Fault(FLOW_CONTROL_ERROR)
        if name in (ENABLE_PUSH, NO_RFC7540_PRIORITIES) and value > 1:
            raise Fault(PROTOCOL_ERROR)
        if name == MAX_FRAME_SIZE and not FRAME_BYTES_MAX <= value < 1 << 24:
            raise Fault(PROTOCOL_ERROR)
        yield name, value


def unpadded(payload: bytes, flags: int) -> bytes:
    """A payload without its padding; raises Fault where that is longer than the frame (section 6.1)."""
    if not flags & PADDED:
        return payload
    if not payload:
        raise Fault(FRAME_SIZE_ERROR)
    if payload[0] >= len(payload):
        raise Fault(PROTOCOL_ERROR)
    return payload[1 : len(payload) - payload[0]]


def unprioritized(payload: bytes, flags: int) -> bytes:
    """A payload of HEADERS without the fields of priority, which mean nothing any more (section 5.3.2)."""
    if not flags & PRIORITIZED:
        return payload
    if len(payload) < 5:
        raise Fault(FRAME_SIZE_ERROR)
    return payload[5:]
