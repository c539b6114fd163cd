"""Heads: what is prebuilt, what a 304 carries, and the way back to fields."""

from hypothesis import given
from hypothesis import strategies as st

from nearmile.cache.entry import (
    Entry,
    fields_of,
    not_modified_head,
    partial_head,
    renewing_head,
    response_head,
    status_line,
    unsatisfiable_head,
)
from nearmile.cache.parts import Part
from nearmile.cache.policy import Storable

FIELDS = ((b"content-type", b"text/css"), (b"etag", b'"a"'), (b"content-length", b"99"), (b"x", b""))


def test_a_head_has_the_true_length_and_no_empty_line() -> None:
    head = response_head(200, FIELDS, 5)
    assert head == b'HTTP/1.1 200 OK\r\ncontent-type: text/css\r\netag: "a"\r\nx: \r\ncontent-length: 5\r\n'


def test_no_content_has_no_length() -> None:
    assert response_head(204, FIELDS[2:3], 0) == b"HTTP/1.1 204 No Content\r\n"


def test_a_304_carries_what_the_client_may_not_have() -> None:
    assert not_modified_head(response_head(200, FIELDS, 5)) == b'HTTP/1.1 304 Not Modified\r\netag: "a"\r\n'


def test_a_304_to_another_server_carries_all() -> None:
    told = renewing_head(response_head(200, FIELDS, 5))
    assert told == b'HTTP/1.1 304 Not Modified\r\ncontent-type: text/css\r\netag: "a"\r\nx: \r\n'


def test_a_206_says_where_its_body_lies() -> None:
    head = response_head(200, ((b"content-range", b"banana"), *FIELDS), 5)
    assert partial_head(head, b"bytes 1-2/5", 2) == (
        b'HTTP/1.1 206 Partial Content\r\ncontent-type: text/css\r\netag: "a"\r\nx: \r\n'
        b"content-range: bytes 1-2/5\r\ncontent-length: 2\r\n"
    )


def test_a_416_says_how_long_the_body_is() -> None:
    lines = unsatisfiable_head(response_head(200, ((b"date", b"now"), *FIELDS), 5), 5).split(b"\r\n")
    assert lines[0].startswith(b"HTTP/1.1 416 ")
    assert lines[1:] == [b"date: now", b"content-range: bytes */5", b"content-length: 0", b""]


def test_an_unregistered_status_has_no_reason() -> None:
    assert status_line(299) == b"HTTP/1.1 299 \r\n"


TOKEN = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=8).map(str.encode)
VALUE = st.text('ab:;, \xe9"', max_size=20).map(lambda text: text.strip().encode("latin-1"))


@given(st.lists(st.tuples(TOKEN.filter(lambda name: name != b"content-length"), VALUE), max_size=6).map(tuple))
def test_fields_come_back_from_the_head(fields: tuple[tuple[bytes, bytes], ...]) -> None:
    assert fields_of(response_head(200, fields, 7)) == (*fields, (b"content-length", b"7"))


def test_an_entry_that_needs_a_closer_look_is_never_fresh_at_a_glance() -> None:
    def entry(no_cache: bool, part: Part | None = None) -> Entry:
        kept = Storable(200, 1.0, 9.0, 0, 0, no_cache, False, (), None, None, 0, part)
        return Entry(b"k", b"", kept, b"", b"", 0)

    assert entry(no_cache=False).fresh_until_s == 9.0
    assert entry(no_cache=True).fresh_until_s == 0.0
    assert entry(no_cache=False, part=Part(0, 1, 9)).fresh_until_s == 0.0
