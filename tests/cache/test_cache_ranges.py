"""Ranges: every cut is the bytes that it says it is; the ids name the section of RFC 9110."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearmile.cache.dates import format_date
from nearmile.cache.directives import Fields
from nearmile.cache.parts import Part
from nearmile.cache.policy import Storable
from nearmile.cache.ranges import GAP_BYTES, RANGES_MAX, Cut, Uncut, Wanted, coalesced, cut, wanted

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
        pytest.param(b"bytes=0-1", [(0, 1)], id="14.1.2"),
        pytest.param(b"Bytes= 5- ", [(5, None)], id="14.1-unit-in-any-case"),
        pytest.param(b"bytes=-5", [(None, 5)], id="14.1.2-suffix"),
        pytest.param(b"bytes=-", [], id="14.1.2-neither"),
        pytest.param(b"bytes=5-4", [], id="14.1.1-last-before-first"),
        pytest.param(b"bytes=3-4, ,\t0-1,-1", [(3, 4), (0, 1), (None, 1)], id="14.1.2-a-list"),
        pytest.param(b"bytes=0-1,4-3", [], id="14.1.1-one-of-a-list"),
        pytest.param(b"bytes=,", [], id="14.1.1-an-empty-list"),
        pytest.param(b"bytes=" + b"0-0," * RANGES_MAX, [(0, 0)] * RANGES_MAX, id="14.2-as-many-as-may-be"),
        pytest.param(b"bytes=" + b"0-0," * (RANGES_MAX + 1), [], id="14.2-too-many"),
        pytest.param(b"lines=0-1", [], id="14.1-other-unit"),
        pytest.param(b"bytes=" + b"9" * 19 + b"-", [], id="too-large"),
        pytest.param(b"bytes=a-b", [], id="14.1.1-no-number"),
    ],
)
def test_what_is_asked(value: bytes, expected: list[tuple[int | None, int | None]]) -> None:
    assert wanted(b"GET", asking(value)) == tuple(Wanted(*pair) for pair in expected)
    assert wanted(b"HEAD", asking(value)) == ()
    assert wanted(b"GET", asking(value) * 2) == ()


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
    assert cut(b"GET", asking(value), kept(), 10) == (expected if isinstance(expected, Uncut) else (expected,))


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
    found = cut(b"GET", asking(value), kept(206, part), size)
    assert found == (expected if isinstance(expected, Uncut) else (expected,))


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
    assert found == ((Cut(0, 2, b"bytes 0-1/10"),) if holds else Uncut.WHOLE)


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
    if not isinstance(found, Uncut):
        assert not isinstance(whole, Uncut)
        (part,), (other,) = found, whole
        assert OBJECT[first : last + 1][part.start : part.end] == OBJECT[other.start : other.end]
        assert part.content_range.rpartition(b"/")[0] == other.content_range.rpartition(b"/")[0]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(b"0-9,5000-5009", [(0, 10), (5000, 5010)], id="15.3.7.2-two"),
        pytest.param(b"5000-5009,0-9", [(5000, 5010), (0, 10)], id="15.3.7.2-in-the-order-asked-for"),
        pytest.param(b"0-9,5-20", [(0, 21)], id="14.2-overlapping"),
        pytest.param(b"0-9,100-109", [(0, 110)], id="15.3.7.2-a-gap-smaller-than-a-part"),
        pytest.param(
            b"5000-5009,0-9,4000-5000", [(4000, 5010), (0, 10)], id="15.3.7.2-joined-where-the-first-was"
        ),
        pytest.param(b"0-9,10000-", [(0, 10)], id="14.1.2-one-is-satisfiable"),
        pytest.param(b"10000-,-0", Uncut.UNSATISFIABLE, id="15.5.17-none-is"),
        pytest.param(b"0-4900,5050-9999", Uncut.WHOLE, id="more-than-the-whole"),
        pytest.param(b",".join(b"%d-%d" % (n, n) for n in range(0, 9000, 150)), None, id="17.15-many-tiny-ones"),
    ],
)
def test_several_cuts(value: bytes, expected: list[tuple[int, int]] | Uncut | None) -> None:
    found = cut(b"GET", asking(b"bytes=" + value), kept(), 10_000)
    if isinstance(expected, Uncut):
        assert found is expected
        return
    assert not isinstance(found, Uncut)
    if expected is None:
        assert sum(one.end - one.start + GAP_BYTES for one in found) < 10_000
        return
    assert found == tuple(Cut(start, end, b"bytes %d-%d/10000" % (start, end - 1)) for start, end in expected)


def test_several_cuts_of_a_part() -> None:
    part = Part(1000, 9999, 10_000)
    found = cut(b"GET", asking(b"bytes=1000-1000,-1"), kept(206, part), 9000)
    assert found == (Cut(0, 1, b"bytes 1000-1000/10000"), Cut(8999, 9000, b"bytes 9999-9999/10000"))
    assert cut(b"GET", asking(b"bytes=0-1,-1"), kept(206, part), 9000) is Uncut.ELSEWHERE


SPANS = st.lists(
    st.tuples(st.integers(0, 4000), st.integers(1, 500)).map(lambda two: (two[0], sum(two))), max_size=9
)


@given(SPANS)
def test_joined_ranges_cover_what_was_asked_for_and_little_more(spans: list[tuple[int, int]]) -> None:
    found = coalesced(spans)
    asked = {at for start, end in spans for at in range(start, end)}
    sent = [at for start, end in found for at in range(start, end)]
    assert asked <= set(sent) and len(sent) == len(set(sent)) <= len(asked) + GAP_BYTES * len(spans)
    ordered = sorted(found)
    assert all(start - end > GAP_BYTES for (_, end), (start, _) in pairwise(ordered))
