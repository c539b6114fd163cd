"""Header blocks: what is understood, and what is refused because two parsers might read it differently."""

import pytest

from nearmile.http.fields import BadMessage, FieldsMemo, field, members, parse_fields, parse_host
from nearmile.http.limits import FIELDS_MAX, MEMO_BLOCK_BYTES_MAX, MEMO_ENTRIES_MAX


def test_names_are_lower_case_and_values_trimmed() -> None:
    fields = parse_fields(b"Host: A.Example:8080\r\nX-Thing:\t a b \r\nx-thing:c\r\n")
    assert fields.pairs == ((b"host", b"A.Example:8080"), (b"x-thing", b"a b"), (b"x-thing", b"c"))
    assert fields.host == b"a.example"
    assert fields.get(b"x-thing") == b"a b, c"
    assert fields.get(b"missing") is None


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (b"Content-Length: 0\r\n", {"length": 0, "plain": False}),
        (b"Content-Length: 42\r\n", {"length": 42}),
        (b"Transfer-Encoding: chunked\r\n", {"chunked": True}),
        (b"Transfer-Encoding: CHUNKED\r\n", {"chunked": True}),
        (b"Connection: close\r\n", {"close": True, "plain": False}),
        (b"Connection: Keep-Alive, X-Y\r\nConnection: Close\r\n", {"close": True}),
        (b"Connection: keep-alive\r\n", {"close": False, "plain": True}),
        (b"If-None-Match: *\r\n", {"conditions": ((b"if-none-match", b"*"),), "plain": True}),
        (b"Cache-Control: no-cache\r\n", {"plain": False}),
        (b"Range: bytes=0-1\r\n", {"conditions": ((b"range", b"bytes=0-1"),), "plain": True}),
        (b"X-Empty:\r\n", {"plain": True}),
        (b"X-Latin: caf\xe9\r\n", {"plain": True}),
    ],
)
def test_facts(block: bytes, expected: dict[str, object]) -> None:
    fields = parse_fields(b"Host: a\r\n" + block)
    assert {name: getattr(fields, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (b"close", {b"cookie", b"cdn-loop", b"content-length", b"x-a"}),
        (b"Cookie, X-A", {b"cdn-loop", b"content-length"}),
        (b"keep-alive, cookie, x-b", {b"cdn-loop", b"content-length", b"x-a"}),
        (b"host, content-length, cdn-loop, connection", {b"cookie", b"cdn-loop", b"content-length", b"x-a"}),
    ],
)
def test_fields_of_the_connection_are_nobody_elses(options: bytes, left: set[bytes]) -> None:
    block = b"Host: a\r\nCookie: a=b\r\nCDN-Loop: x\r\nContent-Length: 3\r\nX-A: 1\r\nConnection: %b\r\n" % options
    fields = parse_fields(block)
    assert {name for name, _ in fields.pairs} == left | {b"host", b"connection"}
    assert fields.length == 3
    # What an origin says of its connection is looked at where the response is.
    assert len(parse_fields(block, response=True).pairs) == 6


REFUSED = [
    (b"X : y\r\n", 400),
    (b" X: y\r\n", 400),
    (b"X: y\r\n folded\r\n", 400),
    (b"X: y\r\n\tfolded\r\n", 400),
    (b"X\r\n", 400),
    (b": y\r\n", 400),
    (b"\r\nX: y\r\n", 400),
    (b"X: a\nY: b\r\n", 400),
    (b"X: a\rY: b\r\n", 400),
    (b"X\n: a\r\n", 400),
    (b"X: a\x00\r\n", 400),
    (b"X: a\x0b\r\n", 400),
    (b"X: a\x7f\r\n", 400),
    (b"X(: a\r\n", 400),
    (b"X\xff: a\r\n", 400),
    (b"Host: a\r\nHost: a\r\n", 400),
    (b"Host: a b\r\n", 400),
    (b"Host: a/b\r\n", 400),
    (b"Host: user@a\r\n", 400),
    (b"Host: a:99999\r\n", 400),
    (b"Host: a:b\r\n", 400),
    (b"Content-Length: +1\r\n", 400),
    (b"Content-Length: -1\r\n", 400),
    (b"Content-Length: 0x1\r\n", 400),
    (b"Content-Length: 1_0\r\n", 400),
    (b"Content-Length: 1 0\r\n", 400),
    (b"Content-Length:\r\n", 400),
    (b"Content-Length: \xb2\r\n", 400),
    (b"Content-Length: 1, 1\r\n", 400),
    (b"Content-Length: 1\r\nContent-Length: 1\r\n", 400),
    (b"Content-Length: 1\r\nContent-Length: 2\r\n", 400),
    (b"Content-Length: 9999999999999999999\r\n", 400),
    (b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", 400),
    (b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n", 400),
    (b"Transfer-Encoding: chunked, chunked\r\n", 400),
    (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400),
    (b"Transfer-Encoding: gzip, chunked\r\n", 400),
    (b"Transfer-Encoding: chunked, identity\r\n", 400),
    (b"Transfer-Encoding: gzip\r\n", 501),
    (b"Transfer-Encoding: xchunked\r\n", 501),
    (b"Transfer-Encoding:\r\n", 400),
    (b"Transfer-Encoding: \x0bchunked\r\n", 400),
    (b"Transfer-Encoding : chunked\r\n", 400),
    (b'Transfer-Encoding: "chunked"\r\n', 400),
    (b"Transfer-Encoding: chunked;x=y\r\n", 400),
    (b"X: y\r\n" * (FIELDS_MAX + 1), 431),
]


@pytest.mark.parametrize(("block", "status"), REFUSED)
def test_refused(block: bytes, status: int) -> None:
    with pytest.raises(BadMessage) as caught:
        parse_fields(block)
    assert caught.value.status == status


def test_a_response_with_a_word_that_is_no_coding_is_the_last_of_its_connection() -> None:
    fields = parse_fields(b"Transfer-Encoding: xyz\r\n", response=True)
    assert fields.close and not fields.chunked and fields.length is None
    assert not parse_fields(b"Transfer-Encoding: chunked\r\n", response=True).close
    for value in (b"gzip", b"X-GZIP", b"xyz, chunked", b"chunked, xyz", b""):
        with pytest.raises(BadMessage):
            parse_fields(b"Transfer-Encoding: %b\r\n" % value, response=True)


@pytest.mark.parametrize(
    ("value", "host"),
    [
        (b"A.Example.", b"a.example"),
        (b"a.example:443", b"a.example"),
        (b"[::1]:80", b"[::1]"),
        (b"127.0.0.1", b"127.0.0.1"),
        (b"", b""),
    ],
)
def test_host(value: bytes, host: bytes) -> None:
    assert parse_host(value) == host


def test_members() -> None:
    assert members(b" A,, b ,\tC") == [b"a", b"b", b"c"]
    assert field(((b"a", b"1"), (b"b", b"2"), (b"a", b"3")), b"a") == b"1, 3"


def test_memo_returns_the_same_and_stays_bounded() -> None:
    memo = FieldsMemo()
    assert memo.parse(b"Host: a\r\n\r\n") is memo.parse(b"Host: a\r\n\r\n")
    for number in range(MEMO_ENTRIES_MAX * 2):
        memo.parse(b"Host: a\r\nX: %d\r\n\r\n" % number)
        assert len(memo.known) <= MEMO_ENTRIES_MAX
    large = b"Host: a\r\nX: %b\r\n\r\n" % (b"y" * MEMO_BLOCK_BYTES_MAX)
    assert memo.parse(large).host == b"a"
    assert large not in memo.known


def test_memo_does_not_remember_what_is_refused() -> None:
    memo = FieldsMemo()
    for _ in range(2):
        with pytest.raises(BadMessage):
            memo.parse(b"X : y\r\n\r\n")
    assert not memo.known
