"""Segments: what an edge tells the collector, some thousand hits at a time, and how a stranger reads it.

A segment holds its raw records and their rollup: one row per second, site, place, status and cache word.
Layout, little-endian: magic, CRC-32 of all that follows, bytes of the header; the header (msgpack);
the rollup; the records. ``decode`` believes nothing: a damaged or hostile segment is refused by a value.
"""

from collections.abc import Generator, Iterator, Sequence
from struct import Struct as Packer
from typing import NamedTuple, TypeVar, cast
from zlib import crc32

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from nearmile.config.layout import SERIAL_MAX
from nearmile.reports.hit import COMPLETE, RECORD, RECORD_BYTES, Cache, Records

SEGMENT_RECORDS_MAX = 8192
PLACES_MAX = 8192  # about twice the first-level subdivisions that exist
COUNTRY_BYTES_MAX, STATE_BYTES_MAX = 8, 40  # in UTF-8; longer names are cut
# Worst case: 8192 records in as many rollup rows and places. It travels in one message of the bus.
SEGMENT_BYTES_MAX = 1_000_000
TIME_MS_MAX = (1 << 32) * 1000 - 1  # its second fits 32 bits: the year 2106
SENT_BYTES_MAX = 1 << 48  # so that the sums of a segment stay far inside 64 bits
STATUS_MAX = 999
LOST_MAX = 1 << 62

_PREFIX = Packer("<4sII")
_MAGIC = b"NMH1"
ROLLUP = np.dtype(
    [
        ("second", "<u4"),
        ("serial", "<u4"),
        ("place", "<u4"),
        ("status", "<u2"),
        ("cache", "u1"),
        ("pad", "u1"),
        ("hits", "<u4"),
        ("complete", "<u4"),
        ("sent_bytes", "<u8"),
    ]
)
Rollup = npt.NDArray[np.void]
"""A one-dimensional array of ``ROLLUP``."""
# What a client has to wait for at most where others have their turn between pieces: 0.02 to 0.05 ms.
PIECE_BYTES = 1 << 16
T = TypeVar("T")
Steps = Generator[None, None, T]
"""Work of an event loop that lets others have their turn after each step."""


class Header(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose hits these are. (server, epoch, seq) is the segment's identity, for ever.

    ``lost`` counts hits of this server that no segment will ever bring. ``places`` names the place numbers used
    here: number -> (country, state).
    """

    server: str
    region: str
    epoch: int
    seq: int
    lost: int
    rollup_rows: int
    hits: int
    places: dict[int, tuple[str, str]]


class Segment(Struct, frozen=True):
    """A segment that was checked."""

    header: Header
    rollup: Rollup
    records: Records


class Damaged(Struct, frozen=True):
    """Why these bytes are no segment."""

    reason: str


class Draft(NamedTuple):
    """Records and their rollup: a segment that nobody can read yet."""

    records: Records
    rollup: Rollup


def roll_up(records: Records) -> Rollup:
    """The records' sums per second, serial, place, status and cache word; exact (64-bit integers)."""
    return to_end(rolling_up(records))


def to_end(steps: Steps[T]) -> T:
    """All steps in a row."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return cast(T, end.value)


def rolling_up(records: Records) -> Steps[Rollup]:
    """``roll_up`` in steps of 0.05 to 0.2 ms.

    Who and when fit one integer, and integers are what NumPy sorts fastest: SERIAL_MAX, PLACES_MAX, STATUS_MAX and
    Cache's words take 24, 13, 10 and 3 bits. There are SEGMENT_RECORDS_MAX records at most, so seconds that are
    further apart than its 13 bits can be numbered instead.
    """
    if not len(records):
        return np.zeros(0, ROLLUP)
    second = records["time_ms"] // np.uint64(1000)
    when = second - second.min()
    if when.max() >= SEGMENT_RECORDS_MAX:
        when = np.unique(second, return_inverse=True)[1].astype(np.uint64)
    yield
    key = records["serial"].astype(np.uint64)
    for part, bits in ((records["place"], 13), (records["status"], 10), (records["cache"], 3), (when, 13)):
        key = key << np.uint64(bits) | part
    yield
    order = np.argsort(key)
    yield
    key = key[order]
    starts = np.flatnonzero(np.append(True, key[1:] != key[:-1]))
    first = order[starts]
    rows = np.zeros(len(first), ROLLUP)
    for name in ("serial", "place", "status", "cache"):
        rows[name] = records[name][first]
    rows["second"] = second[first]
    yield
    rows["hits"] = np.diff(starts, append=len(records))
    rows["complete"] = np.add.reduceat(records["flags"][order] & COMPLETE, starts, dtype=np.uint32)
    yield
    rows["sent_bytes"] = np.add.reduceat(records["sent_bytes"][order], starts)
    return rows


def drafting(records: Records, places_count: int) -> Steps[Draft]:
    """Rolls the records up. A place number from ``places_count`` on, which has no name, becomes 0 (unknown)."""
    if (records["place"] >= places_count).any():
        records = records.copy()
        records["place"][records["place"] >= places_count] = 0
    return Draft(records, (yield from rolling_up(records)))


def encoding(
    drafted: Draft, server: str, region: str, epoch: int, seq: int, lost: int, places: list[tuple[str, str]]
) -> Iterator[bytes | memoryview]:
    """A sealed segment in pieces, for who lets others have their turn after each. The checksum's are empty.

    ``places`` is the whole table by place number.
    """
    records, rollup = drafted
    used = np.unique(rollup["place"]).tolist()
    header = Header(
        server=server,
        region=region,
        epoch=epoch,
        seq=seq,
        lost=lost,
        rollup_rows=len(rollup),
        hits=len(records),
        places={number: places[number] for number in used},
    )
    packed = msgspec.msgpack.encode(header)
    pieces: list[bytes | memoryview] = [packed, *_pieces(rollup), *_pieces(records)]
    checksum = 0
    for piece in pieces:
        checksum = crc32(piece, checksum)
        yield b""
    yield _PREFIX.pack(_MAGIC, checksum, len(packed))
    yield from pieces


def _pieces(rows: Rollup | Records) -> list[memoryview]:
    data = rows.view(np.uint8).data
    return [data[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES)]


def damage(data: bytes) -> str:
    """Why these are not the bytes of a segment as somebody sealed it; empty where they are."""
    if not _PREFIX.size <= len(data) <= SEGMENT_BYTES_MAX:
        return f"{len(data)} bytes are no segment"
    magic, checksum, _ = _PREFIX.unpack_from(data)
    if magic != _MAGIC:
        return "not a segment, or of another version"
    return "" if crc32(memoryview(data)[_PREFIX.size :]) == checksum else "checksum differs"


def decode(data: bytes) -> Segment | Damaged:
    """The segment, or what is wrong with it. Never raises."""
    if reason := damage(data):
        return Damaged(reason)
    start = _PREFIX.size + _PREFIX.unpack_from(data)[2]
    try:
        header = _DECODER.decode(memoryview(data)[_PREFIX.size : start])
    except (msgspec.MsgspecError, ValueError) as error:
        return Damaged(f"header: {error}")
    reason = _judge_header(header)
    if reason:
        return Damaged(reason)
    if len(data) != start + header.rollup_rows * ROLLUP.itemsize + header.hits * RECORD_BYTES:
        return Damaged("its length differs from what its header says")
    rollup = np.frombuffer(data, ROLLUP, header.rollup_rows, start)
    records = np.frombuffer(data, RECORD, header.hits, start + header.rollup_rows * ROLLUP.itemsize)
    reason = _judge_rows(header, rollup, records)
    return Damaged(reason) if reason else Segment(header, rollup, records)


def hits_by_place(
    data: bytes, since_s: float, apart: Sequence[int] = ()
) -> tuple[dict[tuple[str, str], int], dict[tuple[str, str], int]]:
    """Hits from that time on by country and state, and those of the serials ``apart``.

    The segment is an own one without ``damage``, which is not checked further.
    """
    header_bytes = _PREFIX.unpack_from(data)[2]
    header = _DECODER.decode(memoryview(data)[_PREFIX.size : _PREFIX.size + header_bytes])
    rollup = np.frombuffer(data, ROLLUP, header.rollup_rows, _PREFIX.size + header_bytes)
    recent = rollup[rollup["second"] >= since_s]
    theirs = np.isin(recent["serial"], apart) if apart else np.zeros(len(recent), dtype=np.bool_)
    return _by_place(header, recent[~theirs]), _by_place(header, recent[theirs])


def _by_place(header: Header, rows: Rollup) -> dict[tuple[str, str], int]:
    hits = np.bincount(rows["place"], weights=rows["hits"], minlength=1)
    return {header.places[place]: int(hits[place]) for place in np.flatnonzero(hits).tolist()}


_DECODER = msgspec.msgpack.Decoder(Header)


def _judge_header(header: Header) -> str:
    if not 0 < header.hits <= SEGMENT_RECORDS_MAX or not 0 < header.rollup_rows <= header.hits:
        return "impossible number of hits"
    if not 0 <= header.epoch <= TIME_MS_MAX or not 0 <= header.seq < 1 << 62 or not 0 <= header.lost < LOST_MAX:
        return "impossible identity"
    if not header.server or any(len(name) > 64 for name in (header.server, header.region)):
        return "impossible name"
    if any(
        not 0 <= number < PLACES_MAX or len(country) > COUNTRY_BYTES_MAX or len(state) > STATE_BYTES_MAX
        for number, (country, state) in header.places.items()
    ):
        return "impossible place"
    return ""


def _judge_rows(header: Header, rollup: Rollup, records: Records) -> str:
    """Every value has to fit the report store, and the two tables must agree."""
    times, sizes = records["time_ms"], records["sent_bytes"]
    if times.min() == 0 or times.max() > TIME_MS_MAX or sizes.max() > SENT_BYTES_MAX:
        return "impossible time or size"
    known = list(header.places)
    for rows in (rollup, records):
        if rows["serial"].max() > SERIAL_MAX:
            return "impossible serial"
        if rows["status"].max() > STATUS_MAX or rows["cache"].max() > max(Cache):
            return "impossible status or cache word"
        if not np.isin(rows["place"], known).all():
            return "a place without a name"
    if not np.array_equal(roll_up(records), rollup):
        return "rollup and records differ"
    return ""
