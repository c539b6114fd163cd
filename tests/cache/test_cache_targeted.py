"""CDN-Cache-Control as RFC 9213 has it; the ids name the section of RFC 8941 or RFC 9213."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearmile.cache.directives import Fields, ResponseDirectives, directives_of, grouped
from nearmile.cache.targeted import dictionary


def response_directives(fields: Fields) -> ResponseDirectives:
    return directives_of(grouped(fields))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([b"max-age=60, no-cache"], {b"max-age": b"60", b"no-cache": None}, id="8941-3.2"),
        pytest.param([b"max-age=60", b"private"], {b"max-age": b"60", b"private": None}, id="8941-3.2-lines"),
        pytest.param([b" max-age=60 ,\tpublic "], {b"max-age": b"60", b"public": None}, id="8941-3.2-space"),
        pytest.param([b"max-age=1, max-age=2"], {b"max-age": b"2"}, id="8941-3.2-last-counts"),
        pytest.param([b"no-store=?0, public=?1"], {b"public": None}, id="8941-3.3.6-booleans"),
        pytest.param([b'private="a, \\"b"'], {b"private": b'a, "b'}, id="8941-3.3.3-string"),
        pytest.param([b"max-age=60;a=1; b"], {b"max-age": b"60"}, id="9213-2.1-parameters-ignored"),
        pytest.param(
            [b"a=(1 2;q=3), b=:YQ==:, c=1.5, d=x/y:z"],
            {b"a": b"(1 2;q=3)", b"b": b":YQ==:", b"c": b"1.5", b"d": b"x/y:z"},
            id="8941-3.3-any-item",
        ),
        pytest.param([b""], None, id="9213-2.1-empty"),
        pytest.param([b"max-age= 60"], None, id="8941-4.2.2-space-after-equals"),
        pytest.param([b"max-age=60,"], None, id="8941-4.2.2-trailing-comma"),
        pytest.param([b"Max-Age=60"], None, id="8941-3.1.2-upper-case-key"),
        pytest.param([b"max-age=60 public"], None, id="8941-3.2-no-comma"),
        pytest.param([b'max-age="60'], None, id="8941-3.3.3-unclosed"),
    ],
)
def test_dictionaries(values: list[bytes], expected: dict[bytes, bytes | None] | None) -> None:
    assert dictionary(tuple(values)) == expected


def test_it_stands_in_for_cache_control_where_it_can_be_read() -> None:
    browser = (b"cache-control", b"no-store, max-age=1")
    network = response_directives((browser, (b"cdn-cache-control", b"max-age=60")))
    assert network.targeted and network.max_age_s == 60 and not network.no_store
    broken = response_directives((browser, (b"cdn-cache-control", b"max-age= 60")))
    assert not broken.targeted and broken.max_age_s == 1 and broken.no_store


@pytest.mark.parametrize("value", [b"max-age=1.5", b"max-age=-5", b'max-age="60 "', b"max-age", b"max-age=x"])
def test_what_is_no_number_of_seconds_is_stale(value: bytes) -> None:
    assert response_directives(((b"cdn-cache-control", value),)).max_age_s == 0


@given(st.binary(max_size=60))
def test_no_input_breaks_it(value: bytes) -> None:
    dictionary((value,))
