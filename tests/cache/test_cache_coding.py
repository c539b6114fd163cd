"""Which responses the edge codes, and what that does to their tags, fields and terms."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearmile.cache.accept import CODINGS
from nearmile.cache.coding import (
    codable,
    coded,
    for_origin,
    is_ours,
    keyed,
    plain,
    plain_tag,
    tag_in,
    told,
    untold,
)
from nearmile.cache.directives import Fields
from nearmile.cache.entry import Entry, response_head
from nearmile.cache.key import CODING
from nearmile.cache.policy import Storable, decide_store
from nearmile.config.compress import Compress

NOW_S = 1.6e9
RULE = codable(Compress().types, 1000, 9000)


def terms(fields: Fields, status: int = 200) -> Storable:
    asked = ((b"range", b"bytes=0-9"),) if status == 206 else ()
    kept = decide_store(b"GET", asked, status, ((b"cache-control", b"max-age=60"), *fields), 0, NOW_S, NOW_S)
    assert kept is not None
    return kept


def typed(media: bytes, *more: tuple[bytes, bytes]) -> Fields:
    return ((b"content-type", media), (b"etag", b'"abc"'), *more)


@pytest.mark.parametrize(
    ("fields", "status", "takes"),
    [
        (typed(b"text/html; charset=utf-8"), 200, True),
        (typed(b"TEXT/HTML"), 200, True),
        (typed(b"application/ld+json"), 200, True),
        (typed(b"image/svg+xml"), 200, True),
        (typed(b"application/wasm"), 200, True),
        (typed(b"text/html"), 404, True),
        (typed(b"text/html"), 301, False),
        (typed(b"text/html", (b"content-range", b"bytes 0-9/10")), 206, False),
        (typed(b"image/png"), 200, False),
        (typed(b"font/woff2"), 200, False),
        (typed(b"application/octet-stream"), 200, False),
        (((b"etag", b'"abc"'),), 200, False),
        (typed(b"text/html", (b"content-length", b"999")), 200, False),
        (typed(b"text/html", (b"content-length", b"1000")), 200, True),
        (typed(b"text/html", (b"content-length", b"9001")), 200, False),
        (typed(b"text/html", (b"content-encoding", b"gzip")), 200, False),
        (typed(b"text/html", (b"content-encoding", b"identity")), 200, False),
        (typed(b"text/html", (b"cache-control", b"public, No-Transform")), 200, False),
    ],
)
def test_what_is_coded(fields: Fields, status: int, takes: bool) -> None:
    assert RULE.takes(terms(fields, status), fields) is takes


def test_a_star_stands_for_anything_but_a_slash() -> None:
    rule = codable(("*/json", "a.b/*"), 0, 0)
    for media, takes in ((b"x/json", True), (b"a/b/json", False), (b"a.b/c", True), (b"axb/c", False)):
        assert rule.takes(terms(typed(media)), typed(media)) is takes
    assert codable(("*/json", "a.b/*"), 0, 0) is rule, "thousands of sites want the same"


@pytest.mark.parametrize(
    ("tag", "in_br"),
    [
        (b'"abc"', b'"abc;nm-br"'),
        (b'""', b'";nm-br"'),
        (b'W/"abc"', b'W/"abc"'),
        (b"abc", b"abc"),
        (b'"', b'"'),
    ],
)
def test_a_strong_tag_tells_the_coding(tag: bytes, in_br: bytes) -> None:
    assert tag_in(tag, b"br") == in_br
    assert plain_tag(in_br) == tag


@given(st.binary(max_size=12).map(lambda inner: b'"' + inner.replace(b'"', b"") + b'"'))
def test_strong_tags_of_two_codings_differ_and_can_be_undone(tag: bytes) -> None:
    tags = {tag, *(tag_in(tag, coding) for coding in CODINGS)}
    assert len(tags) == 1 + len(CODINGS)
    assert {plain_tag(found) for found in tags} == {plain_tag(tag)}


def test_a_coded_response_is_read_back_as_the_origins() -> None:
    fields = (*typed(b"text/html", (b"vary", b"Accept-Language")), (b"content-md5", b"x"), (b"repr-digest", b"y"))
    kept = keyed(terms(fields))
    assert kept.vary == (CODING, b"accept-language") and is_ours(kept)
    shown = told(kept, fields)
    assert shown[-1] == (b"vary", b"Accept-Encoding") and untold(kept, shown) == fields
    in_br, its_fields = coded(kept, shown, b"br")
    assert (in_br.etag, in_br.coding) == (b'"abc;nm-br"', b"br") and plain(in_br) == kept
    named = dict(its_fields)
    assert named[b"content-encoding"] == b"br" and named[b"etag"] == b'"abc;nm-br"'
    assert not {b"content-md5", b"repr-digest"} & named.keys()
    entry = Entry(b"k", b"v", in_br, response_head(200, its_fields, 3), b"abc", 0)
    assert entry.fields() == fields[:3]


def test_an_origin_that_varies_by_coding_has_said_so_itself() -> None:
    fields = typed(b"text/html", (b"vary", b"Accept-Encoding"))
    kept = keyed(terms(fields))
    assert not is_ours(kept) and told(kept, fields) == fields == untold(kept, fields)


def test_preconditions_name_the_origins_tags() -> None:
    asked = ((b"if-match", b'"a;nm-br", W/"b", "c;nm-gzip"'), (b"x", b'"a;nm-br"'))
    assert for_origin(asked) == ((b"if-match", b'"a", W/"b", "c"'), (b"x", b'"a;nm-br"'))
