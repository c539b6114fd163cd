"""Parts of objects: where they lie, and when two make one; the ids name the section of RFC 9110."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearmile.cache.parts import Part, joined, part_of, strong

OBJECT = b"0123456789"
MIDDLE = Part(4, 6, 10)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"bytes 4-6/10", MIDDLE),
        (b"bytes 4-6/*", Part(4, 6, None)),
        (b"bytes 6-4/10", None),
        (b"bytes 4-10/10", None),
        (b"bytes */10", None),
        (b"ananana", None),
    ],
)
def test_content_range(value: bytes, expected: Part | None) -> None:
    assert part_of(((b"content-range", value),)) == expected
    assert part_of(((b"content-range", value),) * 2) is None


SPAN = st.tuples(st.integers(0, 9), st.integers(0, 9)).map(lambda pair: (min(pair), max(pair)))


@given(SPAN, SPAN)
def test_joined_parts_are_the_bytes_that_they_say(one: tuple[int, int], other: tuple[int, int]) -> None:
    def body(span: tuple[int, int]) -> bytes:
        return OBJECT[span[0] : span[1] + 1]

    both = joined(Part(*one, 10), body(one), Part(*other, 10), body(other))
    apart = one[1] + 1 < other[0] or other[1] + 1 < one[0]
    assert (both is None) is apart
    if both is not None:
        assert both[1] == body((both[0].first, both[0].last))
        assert (both[0].first, both[0].last) == (min(one[0], other[0]), max(one[1], other[1]))


def test_a_part_that_is_not_what_it_says_is_joined_with_nothing() -> None:
    assert joined(MIDDLE, b"45", Part(7, 9, 10), b"789") is None
    assert joined(MIDDLE, b"456", Part(7, 9, 11), b"789") is None
    assert not strong(None) and not strong(b'W/"a"') and strong(b'"a"')
