"""Reusing: freshness with what the client asks, conditions, updates by 304, invalidation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearmile.cache.dates import format_date
from nearmile.cache.directives import DELTA_MAX_S, Fields, RequestDirectives, request_directives
from nearmile.cache.policy import Storable
from nearmile.cache.reuse import (
    Verdict,
    age_s,
    answers_get,
    confirmed_by_head,
    invalidated,
    not_modified,
    reusable,
    updated_by_304,
    usable_on_error,
    validators,
    verdict,
)

BORN_S = 1_795_000_000.0
MODIFIED_S = 1_700_000_000


def kept(
    lifetime_s: float = 100,
    status: int = 200,
    while_revalidating_s: int = 0,
    on_error_s: int = 0,
    no_cache: bool = False,
    must_revalidate: bool = False,
    etag: bytes | None = b'"a"',
) -> Storable:
    return Storable(
        status=status,
        born_at_s=BORN_S,
        fresh_until_s=BORN_S + lifetime_s,
        stale_while_revalidate_s=while_revalidating_s,
        stale_if_error_s=on_error_s,
        no_cache=no_cache,
        must_revalidate=must_revalidate,
        vary=(),
        etag=etag,
        last_modified=format_date(MODIFIED_S),
        modified_at_s=MODIFIED_S,
    )


PLAIN, SWR = kept(), kept(while_revalidating_s=50)
NEVER_FRESH = kept(0)
STRICT, ALWAYS = kept(must_revalidate=True), kept(no_cache=True)


@pytest.mark.parametrize(
    ("stored", "asked", "at_s", "expected"),
    [
        pytest.param(PLAIN, b"", 99, Verdict.FRESH, id="4.2-fresh"),
        pytest.param(PLAIN, b"", 100, Verdict.VALIDATE, id="4.2-stale-when-age-reaches-lifetime"),
        pytest.param(ALWAYS, b"", 1, Verdict.VALIDATE, id="5.2.2.4-no-cache"),
        pytest.param(ALWAYS, b"max-stale", 1, Verdict.VALIDATE, id="5.2.2.4-no-cache-beats-max-stale"),
        pytest.param(PLAIN, b"no-cache", 1, Verdict.VALIDATE, id="5.2.1.4-no-cache"),
        pytest.param(PLAIN, b"max-age=0", 1, Verdict.VALIDATE, id="5.2.1.1-reload"),
        pytest.param(PLAIN, b"max-age=9", 9, Verdict.FRESH, id="5.2.1.1-not-older"),
        pytest.param(PLAIN, b"max-age=9", 10, Verdict.VALIDATE, id="5.2.1.1-older"),
        pytest.param(PLAIN, b"min-fresh=50", 50, Verdict.FRESH, id="5.2.1.3-fresh-enough"),
        pytest.param(PLAIN, b"min-fresh=50", 51, Verdict.VALIDATE, id="5.2.1.3-not-enough"),
        pytest.param(PLAIN, b"max-stale=10", 109, Verdict.FRESH, id="5.2.1.2-within"),
        pytest.param(PLAIN, b"max-stale=10", 110, Verdict.VALIDATE, id="5.2.1.2-beyond"),
        pytest.param(PLAIN, b"max-stale", 10**6, Verdict.FRESH, id="5.2.1.2-any"),
        pytest.param(NEVER_FRESH, b"max-stale", 1, Verdict.VALIDATE, id="5.2.1.2-what-may-be-a-users-own"),
        pytest.param(STRICT, b"max-stale", 101, Verdict.VALIDATE, id="5.2.2.2-must-revalidate"),
        pytest.param(PLAIN, b"only-if-cached", 99, Verdict.FRESH, id="5.2.1.7-stored"),
        pytest.param(PLAIN, b"only-if-cached", 101, Verdict.UNAVAILABLE, id="5.2.1.7-stale"),
        pytest.param(SWR, b"", 149, Verdict.STALE_WHILE_REVALIDATE, id="RFC5861-3-within"),
        pytest.param(SWR, b"", 150, Verdict.VALIDATE, id="RFC5861-3-after"),
        pytest.param(SWR, b"max-age=200", 120, Verdict.VALIDATE, id="5.2.1.1-wants-no-stale"),
        pytest.param(SWR, b"min-fresh=1", 120, Verdict.VALIDATE, id="5.2.1.3-wants-no-stale"),
        pytest.param(SWR, b"no-cache", 120, Verdict.VALIDATE, id="5.2.1.4-wants-no-stale"),
    ],
)
def test_the_verdict(stored: Storable, asked: bytes, at_s: float, expected: Verdict) -> None:
    directives = request_directives(((b"cache-control", asked),))
    assert verdict(stored, directives, BORN_S + at_s) is expected


SECONDS = st.integers(0, 1000)


@given(
    st.builds(kept, SECONDS, while_revalidating_s=SECONDS, no_cache=st.booleans(), must_revalidate=st.booleans()),
    st.builds(
        RequestDirectives,
        max_age_s=st.none() | SECONDS,
        min_fresh_s=SECONDS,
        max_stale_s=SECONDS | st.just(DELTA_MAX_S),
        no_cache=st.booleans(),
        only_if_cached=st.booleans(),
    ),
    st.floats(0, 3000),
)
def test_nothing_is_fresh_past_its_end_unless_the_client_takes_it(
    stored: Storable, asked: RequestDirectives, at_s: float
) -> None:
    now_s = BORN_S + at_s
    if verdict(stored, asked, now_s) is Verdict.FRESH:
        assert not stored.no_cache and not asked.no_cache
        staleness_s = now_s - stored.fresh_until_s
        assert staleness_s < 0 or (staleness_s < asked.max_stale_s and not stored.must_revalidate)
    if verdict(stored, asked, now_s) is Verdict.STALE_WHILE_REVALIDATE:
        assert 0 <= now_s - stored.fresh_until_s < stored.stale_while_revalidate_s


@pytest.mark.parametrize(("at_s", "expected"), [(99, True), (149, True), (150, False)])
def test_standing_in_for_a_failed_origin(at_s: float, expected: bool) -> None:
    assert usable_on_error(kept(on_error_s=50), BORN_S + at_s) is expected
    assert not usable_on_error(kept(on_error_s=50, no_cache=True), BORN_S + at_s)


def test_age_is_whole_seconds_and_never_negative() -> None:
    assert age_s(PLAIN, BORN_S + 3.9) == 3
    assert age_s(PLAIN, BORN_S - 5) == 0


@pytest.mark.parametrize(
    ("method", "fields", "expected"),
    [
        (b"GET", (), True),
        (b"HEAD", ((b"if-none-match", b"*"), (b"content-length", b"0")), True),
        (b"POST", (), False),
        (b"get", (), False),
        (b"GET", ((b"range", b"bytes=0-1"), (b"if-range", b'"a"')), True),
        (b"GET", ((b"range", b"bytes=0-1,3-4"),), True),
        (b"GET", ((b"range", b"bytes=0-1"), (b"range", b"bytes=3-4")), False),
        (b"GET", ((b"range", b"lines=0-1"),), False),
        (b"HEAD", ((b"range", b"bytes=0-1,3-4"),), True),
        (b"GET", ((b"if-match", b'"a"'),), False),
        (b"GET", ((b"if-unmodified-since", b"x"),), False),
        (b"GET", ((b"content-length", b"1"),), False),
        (b"GET", ((b"transfer-encoding", b"chunked"),), False),
        (b"GET", ((b"upgrade", b"websocket"),), False),
    ],
)
def test_which_requests_the_store_may_answer(method: bytes, fields: Fields, expected: bool) -> None:
    assert reusable(method, fields) is expected


def inm(*values: bytes) -> Fields:
    return tuple((b"if-none-match", value) for value in values)


def ims(offset_s: int) -> Fields:
    return ((b"if-modified-since", format_date(MODIFIED_S + offset_s)),)


@pytest.mark.parametrize(
    ("fields", "etag", "expected"),
    [
        pytest.param(inm(b'"a"'), b'"a"', True, id="13.1.2-equal"),
        pytest.param(inm(b'"b"'), b'"a"', False, id="13.1.2-different"),
        pytest.param(inm(b'W/"a"'), b'"a"', True, id="13.1.2-weak-comparison"),
        pytest.param(inm(b'"a"'), b'W/"a"', True, id="13.1.2-weak-comparison-reversed"),
        pytest.param(inm(b'"x,y", "a"'), b'"a"', True, id="13.1.2-list"),
        pytest.param(inm(b'"x"', b'"a"'), b'"a"', True, id="13.1.2-lines"),
        pytest.param(inm(b'"x, "a""'), b'"x, "', True, id="8.8.3-comma-inside"),
        pytest.param(inm(b"a"), b'"a"', False, id="8.8.3-unquoted-differs"),
        pytest.param(inm(b"*"), b'"a"', True, id="13.1.2-any"),
        pytest.param(inm(b"*"), None, True, id="13.1.2-any-without-tag"),
        pytest.param(inm(b'"a"'), None, False, id="13.1.2-no-tag"),
        pytest.param(inm(b'"b"') + ims(0), b'"a"', False, id="13.2.2-precedence"),
        pytest.param(ims(0), b'"a"', True, id="13.1.3-same"),
        pytest.param(ims(10), None, True, id="13.1.3-later"),
        pytest.param(ims(-1), None, False, id="13.1.3-earlier"),
        pytest.param(ims(0) + ims(5), None, False, id="13.1.3-twice-is-ignored"),
        pytest.param(((b"if-modified-since", b"x"),), None, False, id="13.1.3-invalid-is-ignored"),
        pytest.param((), b'"a"', False, id="13-unconditional"),
    ],
)
def test_not_modified(fields: Fields, etag: bytes | None, expected: bool) -> None:
    assert not_modified(fields, kept(etag=etag), BORN_S) is expected


def test_only_success_can_be_unmodified() -> None:
    assert not not_modified(inm(b'"a"'), kept(status=404), BORN_S)


def test_the_origin_is_asked_with_every_validator() -> None:
    assert validators(PLAIN) == ((b"if-none-match", b'"a"'), (b"if-modified-since", format_date(MODIFIED_S)))


STORED = ((b"a", b"1"), (b"a", b"2"), (b"b", b"3"), (b"content-length", b"5"), (b"date", format_date(MODIFIED_S)))


def test_a_304_replaces_fields() -> None:
    new = (
        (b"a", b"4"),
        (b"content-length", b"0"),
        (b"content-encoding", b"gzip"),
        (b"connection", b"x-hop"),
        (b"x-hop", b"1"),
        (b"date", format_date(MODIFIED_S + 9)),
    )
    updated = updated_by_304(PLAIN, STORED, new, BORN_S)
    assert updated is not None
    assert sorted(updated) == [
        (b"a", b"4"),
        (b"b", b"3"),
        (b"content-length", b"5"),
        (b"date", format_date(MODIFIED_S + 9)),
    ]


@pytest.mark.parametrize(
    ("more", "for_all"),
    [
        ((), False),
        (((b"cache-control", b"no-cache"),), False),
        (((b"cache-control", b"max-age=9"),), True),
        (((b"expires", b"0"),), True),
    ],
)
def test_a_cookie_of_a_304_is_not_for_others_unless_it_says_so(more: Fields, for_all: bool) -> None:
    updated = updated_by_304(PLAIN, STORED, ((b"set-cookie", b"session=1"), *more), BORN_S)
    assert updated is not None and ((b"set-cookie", b"session=1") in updated) is for_all


def test_a_304_without_date_is_dated_by_its_arrival() -> None:
    updated = updated_by_304(PLAIN, STORED, (), BORN_S)
    assert updated is not None and (b"date", format_date(int(BORN_S))) in updated


@pytest.mark.parametrize(
    ("stored", "new", "fits"),
    [
        (b'"a"', b'"a"', True),
        (b'"a"', b'"b"', False),
        (b'"a"', b'W/"a"', True),
        (b'"a"', b'W/"b"', False),
        (b'W/"a"', b'"a"', False),
        (None, b'"a"', True),
    ],
)
def test_a_304_about_something_else_is_refused(stored: bytes | None, new: bytes, fits: bool) -> None:
    assert (updated_by_304(kept(etag=stored), STORED, ((b"etag", new),), BORN_S) is not None) is fits


@pytest.mark.parametrize(
    ("method", "status", "fields", "expected"),
    [
        pytest.param(b"POST", 200, (), (b"/p/q",), id="4.4-post"),
        pytest.param(b"M-SEARCH", 204, (), (b"/p/q",), id="4.4-unknown-method"),
        pytest.param(b"PUT", 303, (), (b"/p/q",), id="4.4-redirect"),
        pytest.param(b"DELETE", 404, (), (), id="4.4-failed"),
        pytest.param(b"GET", 200, ((b"location", b"/x"),), (), id="4.4-safe"),
        pytest.param(b"POST", 201, ((b"location", b"new?x=1#f"),), (b"/p/q", b"/p/new?x=1"), id="4.4-location"),
        pytest.param(
            b"POST", 201, ((b"content-location", b"http://Site:80/z"),), (b"/p/q", b"/z"), id="4.4-absolute"
        ),
        pytest.param(b"POST", 201, ((b"location", b"http://other/z"),), (b"/p/q",), id="4.4-other-origin"),
        pytest.param(b"POST", 201, ((b"location", b"http://[x/"),), (b"/p/q",), id="4.4-no-uri"),
        pytest.param(b"POST", 201, ((b"location", b"/p/q"),), (b"/p/q",), id="4.4-once"),
        pytest.param(b"POST", 201, ((b"location", b"/p/q?#f"),), (b"/p/q", b"/p/q?"), id="4.4-empty-query"),
    ],
)
def test_invalidation(method: bytes, status: int, fields: Fields, expected: tuple[bytes, ...]) -> None:
    assert invalidated(method, status, fields, b"site:80", b"/p/q") == expected


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_no_bytes_raise(value: bytes, other: bytes) -> None:
    not_modified(inm(value, other), PLAIN, BORN_S)
    invalidated(b"POST", 200, ((b"location", value),), b"h", b"/" + other)
    invalidated(b"POST", 200, ((b"location", b"//[" + value),), other, b"/")
    updated_by_304(PLAIN, STORED, ((b"etag", value), (b"connection", other)), BORN_S)


KEPT_FIELDS = ((b"etag", b'"a"'), (b"x", b"old"), (b"content-length", b"5"))


@pytest.mark.parametrize(
    ("new", "taken"),
    [
        pytest.param(((b"x", b"new"), (b"content-length", b"5")), None, id="4.3.5-no-validator"),
        pytest.param(((b"etag", b'"a"'), (b"content-length", b"5"), (b"x", b"new")), True, id="4.3.5-all-match"),
        pytest.param(
            ((b"last-modified", format_date(MODIFIED_S)), (b"x", b"new")), True, id="4.3.5-modified-then"
        ),
        pytest.param(((b"etag", b'"b"'), (b"x", b"new")), False, id="4.3.5-other-tag"),
        pytest.param(((b"last-modified", format_date(MODIFIED_S + 1)),), False, id="4.3.5-modified-since"),
        pytest.param(((b"content-length", b"6"),), False, id="4.3.5-other-length"),
    ],
)
def test_a_head_confirms_what_it_speaks_of(new: Fields, taken: bool | None) -> None:
    assert confirmed_by_head(PLAIN, KEPT_FIELDS, new) is taken


@pytest.mark.parametrize(
    ("method", "status", "fields", "expected"),
    [
        (b"POST", 200, ((b"content-location", b"/a?b"),), True),
        (b"POST", 200, ((b"content-location", b"http://www.example.com/a?b"),), True),
        (b"POST", 200, ((b"content-location", b"?b"),), True),
        (b"POST", 200, ((b"content-location", b"http://other.example.com/a?b"),), False),
        (b"POST", 200, ((b"content-location", b"/a"),), False),
        (b"POST", 200, (), False),
        (b"POST", 201, ((b"content-location", b"/a?b"),), False),
        (b"PUT", 200, ((b"content-location", b"/a?b"),), False),
    ],
)
def test_which_posts_answer_a_get(method: bytes, status: int, fields: Fields, expected: bool) -> None:
    assert answers_get(method, status, fields, b"www.example.com", b"/a?b") is expected
