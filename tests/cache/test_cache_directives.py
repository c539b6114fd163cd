"""Cache-Control as tolerant recipients read it."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearmile.cache.directives import (
    DELTA_MAX_S,
    Fields,
    ResponseDirectives,
    directives_of,
    grouped,
    list_members,
    request_directives,
)


def response_directives(fields: Fields) -> ResponseDirectives:
    return directives_of(grouped(fields))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([b"max-age=60"], 60, id="5.2.2.1-plain"),
        pytest.param([b"MaX-aGe=60"], 60, id="5.2-case"),
        pytest.param([b'max-age="60"'], 60, id="5.2-quoted-form"),
        pytest.param([b"foobar, max-age=60"], 60, id="5.2.3-extension"),
        pytest.param([b"max-age=0060"], 60, id="1.2.2-leading-zeros"),
        pytest.param([b"max-age=" + b"0" * 5000 + b"1"], 1, id="1.2.2-many-zeros"),
        pytest.param([b"max-age=99999999999"], DELTA_MAX_S, id="1.2.2-overflow"),
        pytest.param([b"max-age=" + b"9" * 5000], DELTA_MAX_S, id="1.2.2-far-overflow"),
        pytest.param([b"max-age=60", b"max-age=60"], 60, id="4.2.1-same-twice"),
        pytest.param([b"max-age=60, max-age=1"], 0, id="4.2.1-two-values-are-stale"),
        pytest.param([b"max-age=1", b"max-age=60"], 0, id="4.2.1-two-values-on-two-lines"),
        pytest.param([b"max-age=-60"], 0, id="4.2.1-negative"),
        pytest.param([b"max-age='60'"], 0, id="4.2.1-single-quotes"),
        pytest.param([b"max-age=60.0"], 0, id="4.2.1-decimal"),
        pytest.param([b"max-age=60a"], 0, id="4.2.1-letters"),
        pytest.param([b"max-age"], 0, id="4.2.1-no-value"),
        pytest.param([b"max-age ="], 0, id="4.2.1-space-and-nothing"),
        pytest.param([b"max-age =60"], 0, id="4.2.1-space-before-equals"),
        pytest.param([b"max-age= 60"], 0, id="4.2.1-space-after-equals"),
        pytest.param([b'x="max-age=60"'], None, id="5.2-inside-a-quoted-string"),
        pytest.param([b'x="a\\", max-age=60"'], None, id="5.2-after-an-escaped-quote"),
        pytest.param([b'x=", max-age=60'], 60, id="5.2-unclosed-quote-hides-nothing"),
        pytest.param([b" , ,max-age=60,"], 60, id="RFC9110-5.6.1-empty-members"),
        pytest.param([], None, id="absent"),
    ],
)
def test_max_age(values: list[bytes], expected: int | None) -> None:
    assert response_directives(tuple((b"cache-control", value) for value in values)).max_age_s == expected


def test_every_response_directive() -> None:
    found = response_directives(
        (
            (b"cache-control", b"s-maxage=1, stale-while-revalidate=2, stale-if-error=3, no-store, public"),
            (b"cache-control", b"MUST-REVALIDATE, proxy-revalidate, must-understand, no-cache, private"),
        )
    )
    assert (found.s_maxage_s, found.stale_while_revalidate_s, found.stale_if_error_s) == (1, 2, 3)
    assert found.no_store and found.public and found.must_revalidate and found.proxy_revalidate
    assert found.must_understand and found.no_cache and found.private


def test_the_forms_with_field_names_speak_of_those_only() -> None:
    found = response_directives(((b"cache-control", b'no-cache="A, b", private="set-cookie", max-age=9'),))
    assert not found.no_cache and not found.private
    assert found.withheld == {b"a", b"b", b"set-cookie"}


@pytest.mark.parametrize("value", [b"no-cache=", b'no-cache=""', b'no-cache="a", no-cache'])
def test_an_empty_list_of_fields_is_the_strict_form(value: bytes) -> None:
    assert response_directives(((b"cache-control", value),)).no_cache


def test_every_request_directive() -> None:
    found = request_directives(
        ((b"cache-control", b"max-age=1, min-fresh=2, max-stale=3, no-cache, no-store, only-if-cached"),)
    )
    assert (found.max_age_s, found.min_fresh_s, found.max_stale_s) == (1, 2, 3)
    assert found.no_cache and found.no_store and found.only_if_cached


@pytest.mark.parametrize(
    ("value", "expected"), [(b"max-stale", DELTA_MAX_S), (b"max-stale=5", 5), (b"max-stale=x", 0), (b"x", 0)]
)
def test_max_stale(value: bytes, expected: int) -> None:
    assert request_directives(((b"cache-control", value),)).max_stale_s == expected


@given(st.lists(st.binary(max_size=60), max_size=4))
def test_no_bytes_raise(values: list[bytes]) -> None:
    fields = tuple((b"cache-control", value) for value in values)
    request_directives(fields)
    response_directives(fields)


@given(st.text('",\\=ax ', max_size=60))
def test_members_hold_no_comma_outside_quotes(text: str) -> None:
    for member in list_members((text.encode(),)):
        assert member == member.strip() and (b"," not in member or b'"' in member)


def test_hostile_quotes_cost_linear_time() -> None:
    started = time.process_time()
    list_members((b'"\\' * 120_000,))
    assert time.process_time() - started < 5
