"""What the hit path makes of a stored response at once is what the long way would make of it."""

import pytest

from nearmile.cache.entry import Entry, response_head
from nearmile.cache.policy import decide_store
from nearmile.edge.stored import narrowed, plan
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
    found = narrowed(fields.conditions, entry, NOW_S)
    assert (found and found[0]) == status
    if found is not None:
        made = plan(parse_request(b"GET / HTTP/1.1", fields), entry, NOW_S)
        assert found == (made.status, made.head, b"".join(BODY[piece.start : piece.end] for piece in made.pieces))
