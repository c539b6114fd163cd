"""Field sections without the dynamic table."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearmile.http.fields import BadMessage
from nearmile.http.limits import HEAD_BYTES_MAX
from nearmile.http.qpack import AGE, START, Sections, _literal

NAMES = st.text("abc-:", min_size=1, max_size=12).map(str.encode)
PAIRS = st.lists(st.tuples(NAMES, st.text(max_size=100).map(str.encode)), min_size=1, max_size=8).map(tuple)


@settings(max_examples=200)
@given(PAIRS)
def test_what_is_said_is_understood(pairs: tuple[tuple[bytes, bytes], ...]) -> None:
    sections = Sections()
    assert sections.headers(START + sections.lines(pairs)) == pairs
    assert sections.headers(START + b"".join(_literal(*pair) for pair in pairs)) == pairs


def test_lines_can_be_put_together() -> None:
    sections = Sections()
    head = sections.learn_head(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n")
    said = START + head + AGE + b"\x0212" + sections.lines(((b"via", b"1.1 a"),))
    assert sections.headers(said) == (
        (b":status", b"200"),
        (b"content-type", b"text/html"),
        (b"age", b"12"),
        (b"via", b"1.1 a"),
    )


def test_a_head_too_large_for_the_encoder_is_said_plainly() -> None:
    sections = Sections()
    pairs = tuple((b"x-%d" % number, b"y" * 8_000) for number in range(3))
    assert sections.headers(START + sections.lines(pairs)) == pairs
    assert len(sections.lines(((b"x", b"y" * 60_000),))) > 60_000
    sections.learn_head(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 60_000 + b"\r\n")
    assert not sections.heads, "nor is it remembered"
    assert sections.lines(((b"x", b"\x80"),)) == _literal(b"x", b"\x80")


def test_a_section_that_says_too_much() -> None:
    sections = Sections()
    with pytest.raises(BadMessage) as told:
        sections.headers(
            START + b"".join(_literal(b"x", b"y" * 4_000) for _ in range(HEAD_BYTES_MAX // 4_000 + 1))
        )
    assert told.value.status == 431
