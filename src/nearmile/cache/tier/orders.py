"""The diary beside the records: which purges of many they have to be held against, and up to which order.

A start, with all that was known then, and what came after it, each behind its length and a check. What cannot be
read ends it: orders after that are asked for again from the log.
"""

from collections.abc import Iterator
from struct import Struct as Layout
from zlib import crc32

import msgspec
from msgspec import Struct

from nearmile.cache.purge import MARKS_MAX, KnownMark, Marks, Position

VERSION = 5
# Notes after which the diary is begun anew: it stays within some megabytes.
NOTES_MAX = 2 * MARKS_MAX
_FRAME = Layout("<II")


class Start(Struct, frozen=True, tag=0, array_like=True):
    """The beginning. ``boot`` names the run of the machine: what it wrote is whole unless another one began."""

    version: int
    boot: str
    position: Position | None
    generation: int
    forgotten: int
    marks: tuple[KnownMark, ...]


class Marked(Struct, frozen=True, tag=1, array_like=True):
    """A mark was made."""

    mark: bytes
    soft_at_s: float | None


class Reached(Struct, frozen=True, tag=2, array_like=True):
    """All orders up to there have been carried out."""

    position: Position


class Closed(Struct, frozen=True, tag=3, array_like=True):
    """Everything is on the disk itself."""


Note = Start | Marked | Reached | Closed
_decoder: msgspec.msgpack.Decoder[Note] = msgspec.msgpack.Decoder(Note)


def write_note(note: Note) -> bytes:
    """As the diary has it."""
    data = msgspec.msgpack.encode(note)
    return _FRAME.pack(len(data), crc32(data)) + data


def start_of(boot: str, position: Position | None, marks: Marks) -> Start:
    """The beginning of a diary that knows these marks."""
    return Start(VERSION, boot, position, marks.generation, marks.forgotten, tuple(marks))


def read_diary(data: bytes, boot: str) -> tuple[Position | None, Marks] | None:
    """What a diary says; None where what it is about cannot be relied on."""
    position, marks, closed, at_boot = None, Marks(), False, None
    for note in _notes(data):
        match note:
            case Start():
                if note.version != VERSION:
                    return None
                position, at_boot = note.position, note.boot
                marks.resume(note.marks, note.generation, note.forgotten)
            case Marked():
                marks.add(note.mark, note.soft_at_s)
                if len(marks) > MARKS_MAX:
                    marks.drop_oldest()
            case Reached():
                position = note.position
            case Closed():
                closed = True
    known = at_boot is not None and (closed or (at_boot == boot and boot != ""))
    return (position, marks) if known else None


def _notes(data: bytes) -> Iterator[Note]:
    at = 0
    while at + _FRAME.size <= len(data):
        length, check = _FRAME.unpack_from(data, at)
        at += _FRAME.size
        payload = data[at : at + length]
        if len(payload) != length or crc32(payload) != check:
            return
        try:
            yield _decoder.decode(payload)
        except msgspec.MsgspecError:
            return
        at += length
