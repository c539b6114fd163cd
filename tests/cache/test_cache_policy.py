"""Storing: each rule of RFC 9111 sections 3 and 4.2 as a row; the ids name the section."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearmile.cache.dates import format_date
from nearmile.cache.directives import Fields
from nearmile.cache.parts import Part
from nearmile.cache.policy import (
    HEURISTIC_MAX_S,
    STALE_IF_ERROR_S,
    Storable,
    decide_store,
    stored_fields,
    vary_names,
)
from nearmile.cache.reuse import shareable

NOW_S = 1_795_000_000.5
ETAG = (b"etag", b'"a"')


def date(offset_s: int) -> bytes:
    return format_date(int(NOW_S) + offset_s)


def cc(value: bytes) -> tuple[bytes, bytes]:
    return b"cache-control", value


def decide(
    *response: tuple[bytes, bytes],
    method: bytes = b"GET",
    request: Fields = (),
    status: int = 200,
    default_ttl_s: int = 0,
    sent_s: float = NOW_S,
) -> Storable | None:
    return decide_store(method, request, status, response, default_ttl_s, sent_s, NOW_S)


@pytest.mark.parametrize(
    ("response", "lifetime_s"),
    [
        pytest.param([cc(b"max-age=60")], 60, id="4.2.1-max-age"),
        pytest.param([cc(b"max-age=60, s-maxage=600")], 600, id="4.2.1-s-maxage-longer"),
        pytest.param([cc(b"s-maxage=6"), cc(b"max-age=60")], 6, id="4.2.1-s-maxage-shorter"),
        pytest.param([cc(b"max-age=60"), (b"expires", b"0")], 60, id="5.3-max-age-over-expires"),
        pytest.param([cc(b"max-age=0"), (b"expires", date(60)), ETAG], 0, id="5.3-max-age-0-over-expires"),
        pytest.param([(b"expires", date(60)), (b"date", date(0))], 60, id="4.2.1-expires"),
        pytest.param([(b"expires", date(60)), (b"date", b"foo")], 60, id="4.2.1-expires-without-date"),
        pytest.param([(b"expires", date(40)), (b"date", date(-20))], 60, id="4.2.1-expires-less-date"),
        pytest.param([(b"expires", date(-60)), ETAG], 0, id="4.2.1-expires-past"),
        pytest.param([(b"expires", b"0"), ETAG], 0, id="5.3-expires-invalid"),
        pytest.param([(b"expires", date(60)), (b"expires", date(70)), ETAG], 0, id="4.2.1-expires-twice"),
        pytest.param(
            [cc(b"no-store"), (b"cdn-cache-control", b"max-age=60"), (b"expires", b"0")],
            60,
            id="9213-2.1-targeted",
        ),
        pytest.param(
            [(b"cdn-cache-control", b"foo"), cc(b"max-age=60"), (b"expires", date(60)), ETAG],
            0,
            id="9213-2.1-nothing-else-counts",
        ),
        pytest.param([(b"last-modified", date(-1000)), (b"date", date(0))], 100, id="4.2.2-a-tenth"),
        pytest.param([(b"last-modified", date(-(10**8)))], HEURISTIC_MAX_S, id="4.2.2-capped"),
        pytest.param([(b"last-modified", date(60))], 0, id="4.2.2-modified-in-the-future"),
        pytest.param([cc(b"no-cache"), (b"last-modified", date(-1000))], 0, id="5.2.2.4-no-heuristic"),
        pytest.param([ETAG], 0, id="3-heuristic-status-with-validator"),
    ],
)
def test_the_lifetime(response: list[tuple[bytes, bytes]], lifetime_s: int) -> None:
    kept = decide(*response)
    assert kept is not None
    assert kept.fresh_until_s - kept.born_at_s == pytest.approx(lifetime_s)


def test_the_sites_default_is_for_silent_origins_only() -> None:
    silent = decide(default_ttl_s=30)
    assert silent is not None and silent.fresh_until_s == NOW_S + 30
    assert decide(cc(b"max-age=0"), default_ttl_s=30) is None
    assert decide(status=502, default_ttl_s=30) is None
    assert decide((b"set-cookie", b"a=1"), default_ttl_s=30) is None


FRESH = cc(b"max-age=60")


@pytest.mark.parametrize(
    "response",
    [
        pytest.param([], id="3-nothing-allows-it"),
        pytest.param([cc(b"no-store"), FRESH, ETAG], id="5.2.2.5-no-store"),
        pytest.param([cc(b"private"), FRESH, ETAG], id="5.2.2.7-private"),
        pytest.param([FRESH, (b"vary", b"*")], id="4.1-vary-star"),
        pytest.param([FRESH, (b"vary", b"a, *")], id="4.1-vary-star-among-others"),
        pytest.param([FRESH, (b"vary", b""), (b"vary", b"*")], id="4.1-vary-star-on-another-line"),
        pytest.param([FRESH, (b"vary", b",".join(b"%d" % n for n in range(99)))], id="4.1-vary-of-too-much"),
        pytest.param([cc(b"max-age=0")], id="3-never-fresh-nor-validatable"),
        pytest.param([cc(b"no-cache, max-age=60")], id="5.2.2.4-never-validatable"),
        pytest.param([(b"set-cookie", b"a=1"), (b"last-modified", date(-1000))], id="7.3-cookie-by-guess"),
        pytest.param([(b"set-cookie", b"a=1"), cc(b"no-cache"), ETAG], id="7.3-cookie-without-freshness"),
        pytest.param([(b"set-cookie", b"a=1"), cc(b"max-age=0"), ETAG], id="7.3-cookie-never-fresh"),
    ],
)
def test_what_is_not_stored(response: list[tuple[bytes, bytes]]) -> None:
    assert decide(*response) is None


def test_a_cookie_with_freshness_is_stored_as_the_origin_says() -> None:
    assert decide((b"set-cookie", b"a=1"), FRESH) is not None
    assert decide((b"set-cookie", b"a=1"), cc(b'no-cache="Set-Cookie"'), ETAG) is not None


@pytest.mark.parametrize("method", [b"HEAD", b"PUT", b"get", b"M-SEARCH", b""])
def test_only_answers_to_get_and_post_are_stored(method: bytes) -> None:
    assert decide(FRESH, method=method) is None


def test_a_post_needs_explicit_freshness() -> None:
    modified = (b"last-modified", date(-1000))
    assert decide(FRESH, method=b"POST") is not None
    assert decide(modified, method=b"POST", default_ttl_s=30) is None


def test_a_part_is_stored_with_its_place_if_a_range_was_asked_for() -> None:
    asked, place = ((b"range", b"bytes=4-6"),), (b"content-range", b"bytes 4-6/10")
    kept = decide(FRESH, place, request=asked, status=206)
    assert kept is not None and kept.part == Part(4, 6, 10)
    assert decide(FRESH, place, status=206) is None
    assert decide(FRESH, request=asked, status=206) is None
    whole = decide(FRESH, place, request=asked)
    assert whole is not None and whole.part is None


@pytest.mark.parametrize(
    ("status", "explicit", "heuristic"),
    [
        *((status, True, True) for status in (200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501)),
        *((status, True, False) for status in (202, 299, 302, 303, 307, 400, 403, 499, 500, 502, 503, 504, 599)),
        *((status, False, False) for status in (100, 103, 206, 304, 416, 0, 600, 999)),
    ],
)
def test_statuses(status: int, explicit: bool, heuristic: bool) -> None:
    modified = (b"last-modified", date(-1000))
    assert (decide(FRESH, status=status) is not None) == explicit
    assert (decide(modified, status=status) is not None) == heuristic
    assert (decide(modified, cc(b"public"), status=status) is not None) == explicit, "4.2.2: public allows it"


@pytest.mark.parametrize(
    ("status", "value", "stored"),
    [(200, b"no-store, must-understand", True), (599, b"must-understand", False), (599, b"no-store", False)],
)
def test_must_understand(status: int, value: bytes, stored: bool) -> None:
    assert (decide(FRESH, cc(value), status=status) is not None) == stored


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        pytest.param(b"max-age=60", False, id="3.5-freshness-is-not-enough"),
        pytest.param(b"max-age=60, public", True, id="3.5-public"),
        pytest.param(b"max-age=60, must-revalidate", True, id="3.5-must-revalidate"),
        pytest.param(b"s-maxage=60", True, id="3.5-s-maxage"),
        pytest.param(b"max-age=60, proxy-revalidate", False, id="3.5-not-proxy-revalidate"),
    ],
)
def test_authorized_requests(value: bytes, stored: bool) -> None:
    assert (decide(cc(value), request=((b"authorization", b"x"),)) is not None) == stored


def test_a_request_may_forbid_storing() -> None:
    assert decide(FRESH, request=(cc(b"no-store"),)) is None


@pytest.mark.parametrize(
    ("response", "delay_s", "age_s"),
    [
        pytest.param([], 0, 0, id="4.2.3-new"),
        pytest.param([(b"date", date(-30))], 0, 30, id="4.2.3-apparent-age"),
        pytest.param([(b"date", date(30))], 0, 0, id="4.2.3-date-in-the-future"),
        pytest.param([(b"age", b"20")], 5, 25, id="4.2.3-age-and-delay"),
        pytest.param([(b"age", b"20"), (b"date", date(-30))], 5, 30, id="4.2.3-the-greater"),
        pytest.param([(b"age", b"20, 0")], 0, 20, id="5.1-first-member"),
        pytest.param([(b"age", b"0"), (b"age", b"20")], 0, 0, id="5.1-first-line"),
        pytest.param([(b"age", b"abc")], 0, 0, id="5.1-no-number"),
        pytest.param([(b"age", b"20.0")], 0, 0, id="5.1-decimal"),
        pytest.param([(b"age", b"-1")], 0, 0, id="5.1-negative"),
        pytest.param([(b"age", b"2147483648")], 0, 2**31, id="1.2.2-large"),
        pytest.param([(b"age", b"9" * 5000)], 0, 2**31, id="1.2.2-beyond"),
    ],
)
def test_the_initial_age(response: list[tuple[bytes, bytes]], delay_s: int, age_s: int) -> None:
    kept = decide(FRESH, ETAG, *response, sent_s=NOW_S - delay_s)
    assert kept is not None and NOW_S - kept.born_at_s == age_s


@pytest.mark.parametrize(
    ("value", "while_revalidating_s", "on_error_s", "must"),
    [
        pytest.param(b"max-age=1", 0, STALE_IF_ERROR_S, False, id="4.2.4-default"),
        pytest.param(b"max-age=1, stale-while-revalidate=5, stale-if-error=6", 5, 6, False, id="RFC5861"),
        pytest.param(b"max-age=1, stale-if-error=0", 0, 0, False, id="RFC5861-4-none"),
        pytest.param(b"max-age=0", 0, 0, False, id="never-fresh"),
        pytest.param(b"public", 0, 0, False, id="never-said-to-be-fresh"),
        pytest.param(b"max-age=1, must-revalidate, stale-if-error=6", 0, 0, True, id="5.2.2.2-must-revalidate"),
        pytest.param(
            b"max-age=1, proxy-revalidate, stale-while-revalidate=5", 0, 0, True, id="5.2.2.8-proxy-revalidate"
        ),
        pytest.param(b"s-maxage=1", 0, 0, True, id="5.2.2.10-s-maxage"),
        pytest.param(b"s-maxage=1, stale-while-revalidate=5", 5, 0, True, id="5.2.2.10-unless-explicit"),
        pytest.param(b"no-cache, stale-if-error=6", 0, 0, False, id="5.2.2.4-no-cache"),
    ],
)
def test_staleness(value: bytes, while_revalidating_s: int, on_error_s: int, must: bool) -> None:
    kept = decide(cc(value), ETAG)
    assert kept is not None
    assert (kept.stale_while_revalidate_s, kept.stale_if_error_s) == (while_revalidating_s, on_error_s)
    assert kept.must_revalidate == must


def test_stale_if_error_alone_is_worth_storing() -> None:
    assert decide(cc(b"max-age=0, stale-if-error=60")) is not None


def test_what_is_stale_as_it_comes_is_kept_for_who_waited() -> None:
    for kept in (decide(FRESH, (b"age", b"60")), decide(FRESH, sent_s=NOW_S - 60)):
        assert kept is not None and not shareable(kept, NOW_S) and shareable(kept, kept.born_at_s)


def test_validators_are_kept() -> None:
    kept = decide(ETAG, (b"last-modified", date(-9)), (b"date", date(-1)))
    assert kept is not None
    assert (kept.etag, kept.last_modified, kept.modified_at_s) == (b'"a"', date(-9), int(NOW_S) - 9)
    undated = decide(ETAG, (b"last-modified", b"yesterday"), (b"date", date(-1)))
    assert undated is not None
    assert (undated.last_modified, undated.modified_at_s) == (None, int(NOW_S) - 1)


def test_vary_is_a_sorted_set() -> None:
    assert vary_names((b"Foo, bar,,", b"FOO")) == (b"bar", b"foo")
    assert vary_names(()) == ()


def test_fields_of_one_connection_are_not_stored() -> None:
    response = (
        (b"connection", b"X-Hop, close"),
        (b"x-hop", b"1"),
        (b"keep-alive", b"5"),
        (b"transfer-encoding", b"chunked"),
        (b"proxy-authenticate", b"x"),
        (b"age", b"5"),
        (b"x-end", b"2"),
        (b"date", date(0)),
    )
    assert stored_fields(response, NOW_S) == ((b"x-end", b"2"), (b"date", date(0)))


def test_fields_withheld_by_name_are_not_stored() -> None:
    response = (cc(b'no-cache="a", private=b'), (b"a", b"1"), (b"b", b"2"), (b"c", b"3"), (b"date", date(0)))
    assert [name for name, _ in stored_fields(response, NOW_S)] == [b"cache-control", b"c", b"date"]


@pytest.mark.parametrize(
    "response",
    [(), ((b"date", b"soon"),), (cc(b'no-cache="date"'), (b"date", date(-5))), ((b"connection", b"date"),)],
)
def test_a_date_is_added_where_none_can_be_read(response: Fields) -> None:
    kept = [field for field in stored_fields(response, NOW_S) if field[0] != b"cache-control"]
    assert kept == [(b"date", date(0))]


NAMES = st.sampled_from(
    (
        b"cache-control",
        b"expires",
        b"date",
        b"age",
        b"vary",
        b"last-modified",
        b"etag",
        b"connection",
        b"set-cookie",
    )
)
VALUES = st.binary(max_size=40) | st.sampled_from(
    (b"max-age=60", b"max-age", b's-maxage="5"', b"no-cache=a", b"*", date(60), date(-60), b"7", b'"t"', b"public")
)
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=8).map(tuple)


@settings(max_examples=300)
@given(FIELDS, FIELDS, st.integers(-1, 1000), st.integers(0, 100), st.floats(0, 50))
def test_whatever_comes_is_decided(
    request: Fields, response: Fields, status: int, default_ttl_s: int, delay_s: float
) -> None:
    kept = decide(*response, request=request, status=status, default_ttl_s=default_ttl_s, sent_s=NOW_S - delay_s)
    stored_fields(response, NOW_S)
    if kept is not None:
        assert kept.born_at_s <= NOW_S and kept.fresh_until_s >= kept.born_at_s
        assert b"*" not in kept.vary
