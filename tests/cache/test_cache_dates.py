"""HTTP dates: the three forms, what is none, and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearmile.cache.dates import format_date, parse_date

NOW_S = 1_795_000_000.0  # 2026
EXAMPLE_S = 784_111_777  # RFC 9110 section 5.6.7


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(b"Sun, 06 Nov 1994 08:49:37 GMT", EXAMPLE_S, id="imf-fixdate"),
        pytest.param(b"Sunday, 06-Nov-94 08:49:37 GMT", EXAMPLE_S, id="rfc850"),
        pytest.param(b"Sun Nov  6 08:49:37 1994", EXAMPLE_S, id="asctime"),
        pytest.param(b"Sun, 06 NOV 1994 08:49:37 gMT", EXAMPLE_S, id="any-case"),
        pytest.param(b"Thu, 06 Nov 1994 08:49:37 GMT", EXAMPLE_S, id="wrong-weekday"),
        pytest.param(b"Thursday, 18-Aug-50 02:01:18 GMT", 2_544_400_878, id="rfc850-24-years-ahead"),
        pytest.param(b"Thursday, 18-Aug-77 02:01:18 GMT", 240_717_678, id="rfc850-51-years-ahead-is-past"),
        pytest.param(b"Sat, 31 Dec 2016 23:59:60 GMT", 1_483_228_800, id="leap-second"),
        pytest.param(b"Thu, 01 Jan 0050 00:00:00 GMT", -60_589_296_000, id="year-50-has-four-digits"),
    ],
)
def test_a_date_is_read(value: bytes, expected: int) -> None:
    assert parse_date(value, NOW_S) == expected


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"0",
        b"-1",
        b"Thu, 18 Aug 2050 02:01:18 UTC",
        b"Thu, 18 Aug 2050 02:01:18 AEST",
        b"Thu, 18 Aug 50 02:01:18 GMT",
        b"Thu 18 Aug 2050 02:01:18 GMT",
        b"Thu, 18  Aug  2050 02:01:18 GMT",
        b"Thu, 18-Aug-2050 02:01:18 GMT",
        b"Thu, 18 Aug 2050 02.01.18 GMT",
        b"Thu, 18 Aug 2050 2:01:18 GMT",
        b"Thu, 31 Feb 2050 02:01:18 GMT",
        b"Thu, 18 Aug 0000 02:01:18 GMT",
        b"Thu, 18 Aug 2050 24:00:00 GMT",
        b"Thu, 18 Aug 2050 02:01:61 GMT",
        b"Thu, 18 Aug 2050 02:01:18 GMT, x",
    ],
)
def test_anything_else_is_no_date(value: bytes) -> None:
    assert parse_date(value, NOW_S) is None


@given(st.integers(0, 253_402_300_799))
def test_a_written_date_reads_back(seconds: int) -> None:
    assert parse_date(format_date(seconds), NOW_S) == seconds


@given(st.binary(max_size=40))
def test_no_bytes_raise(value: bytes) -> None:
    parse_date(value, NOW_S)
