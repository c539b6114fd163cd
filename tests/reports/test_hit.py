"""The hit's record: the struct and the array row are the same 32 bytes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nearmile.reports.hit import CACHE_WORDS, PACKER, RECORD, RECORD_BYTES, Cache, written

FIELDS = ("sent_bytes", "serial", "place", "status", "cache", "flags", "time_ms")


@given(
    st.tuples(*(st.integers(0, (1 << bits) - 1) for bits in (64, 32, 32, 16, 8, 8)), st.integers(1, (1 << 64) - 1))
)
def test_struct_and_array_agree(values: tuple[int, ...]) -> None:
    packed = PACKER.pack(*values)
    (row,) = np.frombuffer(packed, RECORD)
    assert tuple(int(row[name]) for name in FIELDS) == values


def test_the_time_is_written_last() -> None:
    assert RECORD_BYTES == RECORD.itemsize == 32
    assert RECORD.fields is not None
    assert RECORD.fields["time_ms"][1] == RECORD_BYTES - 8


def test_records_end_where_no_time_is_written() -> None:
    one = PACKER.pack(10, 7, 0, 200, Cache.HIT, 1, 1000)
    torn = PACKER.pack(10, 7, 0, 200, Cache.HIT, 1, 0)
    assert len(written(b"")) == 0
    assert len(written(bytes(RECORD_BYTES * 3))) == 0
    assert len(written(one * 2 + torn + one)) == 2
    assert len(written(one * 3)) == 3


def test_cache_words() -> None:
    assert CACHE_WORDS == ("hit", "miss", "revalidated", "stale", "pass", "error")
