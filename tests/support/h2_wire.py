"""Frames of HTTP/2 as a client would send them, and as a server did."""

import hpack

from nearmile.http import h2frames as codes
from nearmile.http.h2 import Session
from nearmile.http.h2frames import HEAD, PREFACE, frame
from nearmile.http.prefixed import Strings

SETTINGS = codes.settings({})
FIRST = [(":method", "GET"), (":scheme", "https"), (":authority", "a.example"), (":path", "/")]
WRITE_BYTES = 128 << 10


def session(*pieces: bytes) -> Session:
    """One that has been greeted, and said what it says to all."""
    made = Session(Strings())
    made.feed(PREFACE + SETTINGS + b"".join(pieces))
    made.out(WRITE_BYTES)
    return made


def block(*more: tuple[str, str], method: str = "GET") -> bytes:
    """Of a request, without the table."""
    encoder = hpack.Encoder()
    encoder.header_table_size = 0
    return bytes(encoder.encode([(":method", method), *FIRST[1:], *more])[1:])


def asks(number: int, payload: bytes, flags: int = 5) -> bytes:
    return frame(codes.HEADERS, flags, number, payload)


def said(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """Kind, flags, stream and payload of frames."""
    found = []
    while data:
        word, flags, number = HEAD.unpack_from(data)
        size = word >> 8
        found.append((word & 0xFF, flags, number, data[9 : 9 + size]))
        data = data[9 + size :]
    return found
