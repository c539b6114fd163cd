"""What the hit path makes of a stored response at once is what the long way would make of it."""

import pytest
from msgspec.structs import replace

from nearmile.cache.entry import Entry, response_head
from nearmile.cache.policy import decide_store
from nearmile.edge.narrow import KNOWN_MAX, Narrow
from nearmile.edge.stored import plan
from nearmile.http.fields import parse_fields
from nearmile.http.head import parse_request

NOW_S, BODY = 1_800_000_000.0, bytes(range(256)) * 4
FIELDS = (
    (b"cache-control", b"max-age=60"),
    (b"content-type", b"text/plain"),
    (b"etag", b'"a"'),
    (b"last-modified", b"Mon, 03 Nov 2025 10:00:00 GMT"),
)


def stored() -> Entry:
    kept = decide_store(b"GET", (), 200, FIELDS, 0, NOW_S, NOW_S)
    assert kept is not None
    return Entry(b"/", b"", kept, response_head(200, FIELDS, len(BODY)), BODY, 2000)


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (b'If-None-Match: "a"\r\n', 304),
        (b'If-None-Match: "b", W/"a"\r\n', 304),
        (b'If-None-Match: "b"\r\n', 200),
        (b'If-None-Match: "a"\r\nRange: bytes=0-1\r\n', 304),
        (b"If-Modified-Since: Mon, 03 Nov 2025 10:00:00 GMT\r\n", 304),
        (b"Range: bytes=5-9\r\n", 206),
        (b"Range: bytes=-3\r\n", 206),
        (b"Range: bytes=9-5\r\n", 200),
        (b'Range: bytes=5-9\r\nIf-Range: "b"\r\n', 200),
        (b'Range: bytes=5-9\r\nIf-Range: "a"\r\n', 206),
        (b"Range: bytes=0-1,500-501\r\n", None),
        (b"Range: bytes=2000-\r\n", None),
        (b"Range: lines=1-2\r\n", None),
    ],
)
def test_at_once_and_the_long_way_agree(lines: bytes, status: int | None) -> None:
    fields, entry = parse_fields(b"Host: a.example\r\n" + lines), stored()
    assert fields.plain and fields.conditions
    narrow = Narrow()
    found = narrow.answer(fields.conditions, entry, NOW_S)
    assert (found and found[0]) == status
    assert narrow.answer(fields.conditions, entry, NOW_S) == found, "and so the second time"
    if found is not None:
        made = plan(parse_request(b"GET / HTTP/1.1", fields), entry, NOW_S, internal=False)
        assert found == (made.status, made.head, b"".join(BODY[piece.start : piece.end] for piece in made.pieces))


def test_what_was_decided_holds_for_that_response_alone() -> None:
    narrow, conditions = Narrow(), ((b"range", b"bytes=5-9"),)
    one, other = stored(), stored()
    assert one.kept is not other.kept and one.head is not other.head
    other.body = BODY[::-1]
    for entry in (one, other, one):
        answer = narrow.answer(conditions, entry, NOW_S)
        assert answer is not None and answer[2] == bytes(entry.body)[5:10]
    kept = replace(one.kept, etag=b'"b"')
    renewed = Entry(b"/", b"", kept, one.head, one.body, 2000)
    tagged = ((b"if-none-match", b'"a"'),)
    statuses = [(narrow.answer(tagged, entry, NOW_S) or (0,))[0] for entry in (one, renewed, one)]
    assert statuses == [304, 200, 304]


def test_a_date_whose_year_depends_on_the_time_is_read_each_time() -> None:
    narrow, entry = Narrow(), stored()
    conditions = ((b"if-modified-since", b"Monday, 01-Jan-80 00:00:00 GMT"),)
    statuses = [(narrow.answer(conditions, entry, at_s) or (0,))[0] for at_s in (NOW_S, NOW_S + 1e9)]
    assert statuses == [200, 304] and not narrow._known


def test_what_is_remembered_is_bounded() -> None:
    narrow, entry = Narrow(), stored()
    for number in range(2 * KNOWN_MAX):
        answer = narrow.answer(((b"range", b"bytes=%d-" % (number % len(BODY))),), entry, NOW_S)
        assert answer is not None and answer[2] == BODY[number % len(BODY) :]
        assert len(narrow._known) <= KNOWN_MAX


def test_what_is_long_is_decided_but_not_remembered() -> None:
    narrow, entry = Narrow(), stored()
    found = narrow.answer(((b"if-none-match", b'"a"' + b', "b"' * 2_000),), entry, NOW_S)
    assert found is not None and found[0] == 304
    assert not narrow._known
