"""Ranges: every cut is the bytes that it says it is; the ids name the section of RFC 9110."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearmile.cache.dates import format_date
from nearmile.cache.directives import Fields
from nearmile.cache.parts import Part
from nearmile.cache.policy import Storable
from nearmile.cache.ranges import Cut, Uncut, Wanted, cut, wanted

BORN_S = 1_795_000_000
MODIFIED = format_date(BORN_S - 60)
OBJECT = b"0123456789"


def kept(status: int = 200, part: Part | None = None, etag: bytes | None = b'"a"', age_s: int = 60) -> Storable:
    modified_s = BORN_S - age_s
    return Storable(
        status, BORN_S, BORN_S + 9, 0, 0, False, False, (), etag, format_date(modified_s), modified_s, part
    )


def asking(value: bytes, *more: tuple[bytes, bytes]) -> Fields:
    return ((b"range", value), *more)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(b"bytes=0-1", Wanted(0, 1), id="14.1.2"),
        pytest.param(b"Bytes= 5- ", Wanted(5, None), id="14.1-unit-in-any-case"),
        pytest.param(b"bytes=-5", Wanted(None, 5), id="14.1.2-suffix"),
        pytest.param(b"bytes=-", None, id="14.1.2-neither"),
        pytest.param(b"bytes=5-4", None, id="14.1.1-last-before-first"),
        pytest.param(b"bytes=0-1,3-4", None, id="a-list"),
        pytest.param(b"lines=0-1", None, id="14.1-other-unit"),
        pytest.param(b"bytes=" + b"9" * 19 + b"-", None, id="too-large"),
        pytest.param(b"bytes=a-b", None, id="14.1.1-no-number"),
    ],
)
def test_what_is_asked(value: bytes, expected: Wanted | None) -> None:
    assert wanted(b"GET", asking(value)) == expected
    assert wanted(b"HEAD", asking(value)) is None
    assert wanted(b"GET", asking(value) * 2) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(b"bytes=0-1", Cut(0, 2, b"bytes 0-1/10"), id="14.1.2"),
        pytest.param(b"bytes=8-99", Cut(8, 10, b"bytes 8-9/10"), id="14.1.2-last-beyond-the-end"),
        pytest.param(b"bytes=8-", Cut(8, 10, b"bytes 8-9/10"), id="14.1.2-open"),
        pytest.param(b"bytes=-3", Cut(7, 10, b"bytes 7-9/10"), id="14.1.2-suffix"),
        pytest.param(b"bytes=-99", Cut(0, 10, b"bytes 0-9/10"), id="14.1.2-suffix-longer-than-all"),
        pytest.param(b"bytes=10-", Uncut.UNSATISFIABLE, id="15.5.17-behind-the-end"),
        pytest.param(b"bytes=-0", Uncut.UNSATISFIABLE, id="15.5.17-empty-suffix"),
        pytest.param(b"bytes=5-4", Uncut.WHOLE, id="14.2-ignored"),
    ],
)
def test_cuts_of_the_whole(value: bytes, expected: Cut | Uncut) -> None:
    assert cut(b"GET", asking(value), kept(), 10) == expected


MIDDLE, END = Part(4, 6, 10), Part(4, 9, 10)


@pytest.mark.parametrize(
    ("part", "value", "expected"),
    [
        pytest.param(MIDDLE, b"bytes=4-6", Cut(0, 3, b"bytes 4-6/10"), id="all-of-it"),
        pytest.param(MIDDLE, b"bytes=5-5", Cut(1, 2, b"bytes 5-5/10"), id="inside"),
        pytest.param(Part(4, 6, None), b"bytes=5-5", Cut(1, 2, b"bytes 5-5/*"), id="14.4-complete-length-unknown"),
        pytest.param(MIDDLE, b"bytes=3-5", Uncut.ELSEWHERE, id="begins-before"),
        pytest.param(MIDDLE, b"bytes=5-7", Uncut.ELSEWHERE, id="ends-behind"),
        pytest.param(MIDDLE, b"bytes=5-", Uncut.ELSEWHERE, id="open"),
        pytest.param(MIDDLE, b"bytes=-1", Uncut.ELSEWHERE, id="suffix"),
        pytest.param(MIDDLE, b"bytes=8-", Uncut.ELSEWHERE, id="behind"),
        pytest.param(END, b"bytes=6-", Cut(2, 6, b"bytes 6-9/10"), id="open-to-the-end"),
        pytest.param(END, b"bytes=6-99", Cut(2, 6, b"bytes 6-9/10"), id="beyond-the-end"),
        pytest.param(END, b"bytes=-1", Cut(5, 6, b"bytes 9-9/10"), id="suffix-of-the-end"),
        pytest.param(END, b"bytes=-7", Uncut.ELSEWHERE, id="suffix-too-long"),
        pytest.param(END, b"bytes=5-4", Uncut.ELSEWHERE, id="no-range"),
    ],
)
def test_cuts_of_a_part(part: Part, value: bytes, expected: Cut | Uncut) -> None:
    size = min(part.last, 9) - part.first + 1
    assert cut(b"GET", asking(value), kept(206, part), size) == expected


@pytest.mark.parametrize(
    ("if_range", "etag", "age_s", "holds"),
    [
        pytest.param(b'"a"', b'"a"', 60, True, id="13.1.5-same-tag"),
        pytest.param(b'"b"', b'"a"', 60, False, id="13.1.5-other-tag"),
        pytest.param(b'W/"a"', b'W/"a"', 60, False, id="13.1.5-weak"),
        pytest.param(MODIFIED, None, 60, True, id="13.1.5-same-date"),
        pytest.param(format_date(BORN_S), None, 60, False, id="13.1.5-later-date"),
        pytest.param(format_date(BORN_S), None, 0, False, id="8.8.2.2-weak-date"),
    ],
)
def test_if_range(if_range: bytes, etag: bytes | None, age_s: int, holds: bool) -> None:
    fields = asking(b"bytes=0-1", (b"if-range", if_range))
    found = cut(b"GET", fields, kept(etag=etag, age_s=age_s), 10)
    assert found == (Cut(0, 2, b"bytes 0-1/10") if holds else Uncut.WHOLE)


def test_only_a_get_of_a_200_has_ranges() -> None:
    asked = asking(b"bytes=0-1")
    assert cut(b"HEAD", asked, kept(), 10) is Uncut.WHOLE
    assert cut(b"GET", asked, kept(404), 10) is Uncut.WHOLE
    assert cut(b"GET", asked, kept(), 0) is Uncut.WHOLE
    assert cut(b"GET", (), kept(206, MIDDLE), 3) is Uncut.ELSEWHERE


SPAN = st.tuples(st.integers(0, 9), st.integers(0, 9)).map(lambda pair: (min(pair), max(pair)))
RANGE = st.one_of(
    SPAN.map(lambda span: b"bytes=%d-%d" % span),
    st.integers(0, 12).map(lambda first: b"bytes=%d-" % first),
    st.integers(0, 12).map(lambda last: b"bytes=-%d" % last),
)


@given(SPAN, RANGE, st.booleans())
def test_a_part_answers_as_the_whole_would(span: tuple[int, int], value: bytes, known: bool) -> None:
    first, last = span
    whole = cut(b"GET", asking(value), kept(), 10)
    found = cut(b"GET", asking(value), kept(206, Part(first, last, 10 if known else None)), last - first + 1)
    if isinstance(found, Cut):
        assert isinstance(whole, Cut)
        assert OBJECT[first : last + 1][found.start : found.end] == OBJECT[whole.start : whole.end]
        assert found.content_range.rpartition(b"/")[0] == whole.content_range.rpartition(b"/")[0]
