"""Segments: exact sums, and no bytes that crash their reader or count when they should not."""

from collections import Counter
from struct import pack
from zlib import crc32

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nearmile.config.layout import SERIAL_MAX
from nearmile.reports.hit import PACKER, Records, written
from nearmile.reports.segment import (
    COUNTRY_BYTES_MAX,
    PLACES_MAX,
    SEGMENT_BYTES_MAX,
    SEGMENT_RECORDS_MAX,
    SENT_BYTES_MAX,
    STATE_BYTES_MAX,
    TIME_MS_MAX,
    Damaged,
    Segment,
    decode,
    drafting,
    encoding,
    hits_by_place,
    roll_up,
    to_end,
)

PLACES = [("", ""), ("DE", "Hessen"), ("US", "Ohio")]
Row = tuple[int, int, int, int, int, int, int]
ROWS = st.lists(
    st.tuples(
        st.integers(0, SENT_BYTES_MAX),
        st.sampled_from((1, 7, SERIAL_MAX)),
        st.integers(0, len(PLACES) - 1),
        st.sampled_from((200, 404, 999)),
        st.integers(0, 5),
        st.integers(0, 1),
        st.one_of(st.integers(1, 5000), st.integers(1, TIME_MS_MAX)),
    ),
    min_size=1,
    max_size=60,
)


def records_of(rows: list[Row]) -> Records:
    return written(b"".join(PACKER.pack(*row) for row in rows))


def sealed(rows: list[Row], lost: int = 0) -> bytes:
    drafted = to_end(drafting(records_of(rows), len(PLACES)))
    return b"".join(encoding(drafted, "fra-1", "fra", 1_700_000_000_000, 3, lost, PLACES))


LARGEST: Row = (SENT_BYTES_MAX, SERIAL_MAX, PLACES_MAX - 1, 999, 5, 1, TIME_MS_MAX)


@given(ROWS)
@example([LARGEST, (*LARGEST[:6], 1), (1, 1, *LARGEST[2:]), (1, 1, 0, 200, 0, 0, 1), LARGEST])
@settings(max_examples=50)
def test_the_rollup_is_the_sum_of_the_records(rows: list[Row]) -> None:
    expected: Counter[tuple[int | str, ...]] = Counter()
    for sent_bytes, serial, place, status, cache, flags, time_ms in rows:
        key = time_ms // 1000, serial, place, status, cache
        expected += Counter({(*key, "hits"): 1, (*key, "complete"): flags, (*key, "sent_bytes"): sent_bytes})
    found: Counter[tuple[int | str, ...]] = Counter()
    for row in roll_up(records_of(rows)):
        second, serial, place, status, cache = row.item()[:5]
        key = second, serial, place, status, cache
        for name in ("hits", "complete", "sent_bytes"):
            found[(*key, name)] += int(row[name])
    assert +found == expected


@given(ROWS, st.integers(0, 1 << 40))
@settings(max_examples=30)
def test_what_was_encoded_is_decoded(rows: list[Row], lost: int) -> None:
    segment = decode(sealed(rows, lost))
    assert isinstance(segment, Segment)
    header = segment.header
    assert (header.server, header.region, header.epoch, header.seq) == ("fra-1", "fra", 1_700_000_000_000, 3)
    assert (header.lost, header.hits) == (lost, len(rows))
    assert np.array_equal(segment.records, records_of(rows))
    assert header.places == {number: PLACES[number] for number in {row[2] for row in rows}}


def test_a_place_without_a_name_counts_as_unknown() -> None:
    segment = decode(sealed([(10, 7, 4000, 200, 0, 1, 5000)]))
    assert isinstance(segment, Segment)
    assert segment.records["place"].tolist() == [0]


def test_the_largest_segment_is_within_the_bus_s_limit() -> None:
    rows: list[Row] = [
        (SENT_BYTES_MAX, number, number, 999, 5, 1, TIME_MS_MAX - number * 1000)
        for number in range(SEGMENT_RECORDS_MAX)
    ]
    places = [("Q" * COUNTRY_BYTES_MAX, f"{n:0{STATE_BYTES_MAX}}") for n in range(PLACES_MAX)]
    server = "s" * 64
    drafted = to_end(drafting(records_of(rows), len(places)))
    data = b"".join(encoding(drafted, server, server, TIME_MS_MAX, (1 << 62) - 1, (1 << 62) - 1, places))
    assert len(data) < SEGMENT_BYTES_MAX
    assert isinstance(decode(data), Segment)


@given(ROWS, st.data())
@settings(max_examples=100)
def test_damage_is_refused(rows: list[Row], data: st.DataObject) -> None:
    whole = bytearray(sealed(rows))
    at = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        whole[at] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del whole[at:]
    assert isinstance(decode(bytes(whole)), Damaged)


@given(st.binary(max_size=300), st.booleans(), st.integers(0, 400))
@settings(max_examples=100)
def test_bytes_with_a_valid_checksum_do_not_crash(body: bytes, magic: bool, header_bytes: int) -> None:
    prefix = pack("<4sII", b"NMH1" if magic else b"NMH2", crc32(body), header_bytes)
    assert isinstance(decode(prefix + body), Damaged)


def forged(rows: list[Row], rollup: list[Row] | None = None, **changes: object) -> bytes:
    """A segment that says what an honest edge never would, with a checksum that is right."""
    records, summed = records_of(rows), roll_up(records_of(rollup if rollup is not None else rows))
    header = {"server": "a", "region": "a", "epoch": 1, "seq": 0, "lost": 0}
    header |= {"rollup_rows": len(summed), "hits": len(records), "places": {0: ("", "")}}
    packed = msgspec.msgpack.encode(header | changes)
    body = packed + summed.tobytes() + records.tobytes()
    return pack("<4sII", b"NMH1", crc32(body), len(packed)) + body


GOOD: Row = (10, 7, 0, 200, 0, 1, 5000)


@pytest.mark.parametrize(
    "data",
    [
        forged([GOOD], hits=2),
        forged([GOOD], hits=0, rollup_rows=0),
        forged([GOOD], hits=-1),
        forged([GOOD], hits=1 << 62),
        forged([GOOD], rollup_rows=0),
        forged([GOOD], server=""),
        forged([GOOD], server="x" * 65),
        forged([GOOD], server=5),
        forged([GOOD], epoch=-1),
        forged([GOOD], seq=1 << 62),
        forged([GOOD], lost=-5),
        forged([GOOD], extra=1),
        forged([GOOD], places={}),
        forged([GOOD], places={0: ("", "x" * 41)}),
        forged([GOOD], places={PLACES_MAX: ("", ""), 0: ("", "")}),
        forged([(SENT_BYTES_MAX + 1, *GOOD[1:])]),
        forged([(*GOOD[:6], TIME_MS_MAX + 1)]),
        forged([(10, SERIAL_MAX + 1, *GOOD[2:])]),
        forged([(*GOOD[:3], 1000, *GOOD[4:])]),
        forged([(*GOOD[:4], 6, *GOOD[5:])]),
        forged([GOOD, GOOD], [GOOD]),
        forged([GOOD], [(11, *GOOD[1:])]),
    ],
)
def test_a_forged_segment_is_refused(data: bytes) -> None:
    assert isinstance(decode(data), Damaged)


def test_the_forger_can_also_be_honest() -> None:
    assert isinstance(decode(forged([GOOD])), Segment)


def test_recent_hits_are_counted_by_place() -> None:
    rows: list[Row] = [(5, 7, 1, 200, 0, 1, 9000), (5, 7, 1, 200, 0, 1, 9500), (5, 9, 2, 200, 0, 1, 9999)]
    data = sealed([*rows, (5, 7, 2, 200, 0, 1, 4000)])
    assert hits_by_place(data, 8.5) == ({("DE", "Hessen"): 2, ("US", "Ohio"): 1}, {})
    assert hits_by_place(data, 8.5, (7, 8)) == ({("US", "Ohio"): 1}, {("DE", "Hessen"): 2})
    assert hits_by_place(data, 99.0) == ({}, {})
