"""HTTP/2's heads said in HTTP/1.1, and the reverse."""

import pytest

from nearmile.http import streams
from nearmile.http.fields import BadMessage, Pairs
from nearmile.http.streams import StreamsMemo, check_fields, headers_of, request_of

FIRST = ((b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"A.example:8443"), (b":path", b"/x?y"))

OPEN = ((b":method", b"CONNECT"), *FIRST[1:], (b":protocol", b"websocket"))


def test_a_request_is_that_of_http_1_1() -> None:
    request = request_of((*FIRST, (b"accept", b"*/*"), (b"cookie", b"a=1"), (b"cookie", b"b=2")), True)
    assert (request.method, request.target, request.host) == (b"GET", b"/x?y", b"a.example")
    assert request.fields.get(b"cookie") == b"a=1; b=2"
    assert request.fields.plain and request.keep_alive and not request.fields.chunked


def test_a_body_of_unknown_length_is_called_chunked() -> None:
    assert request_of(FIRST, False).fields.chunked
    assert not request_of(FIRST, False).fields.plain
    sized = request_of((*FIRST, (b"content-length", b"7")), False)
    assert (sized.fields.length, sized.fields.chunked) == (7, False)


def test_host_may_stand_in_for_the_authority_but_not_contradict_it() -> None:
    without = (*FIRST[:2], FIRST[3], (b"host", b"a.example"))
    assert request_of(without, True).host == b"a.example"
    assert request_of((*FIRST, (b"host", b"a.EXAMPLE:8443")), True).fields.hosts == 1


@pytest.mark.parametrize("ended", [False, True])
def test_a_websocket_begins_as_in_http_1_1_but_for_its_key(ended: bool) -> None:
    check_fields(OPEN, ended)
    request = request_of((*OPEN, (b"sec-websocket-version", b"13")), ended)
    assert (request.method, request.target, request.host) == (b"GET", b"/x?y", b"a.example")
    assert request.fields.connection == {b"upgrade"} and request.fields.get(b"upgrade") == b"websocket"
    assert request.fields.get(b"sec-websocket-version") == b"13" and not request.fields.plain
    assert not request.fields.chunked and request.fields.length is None


@pytest.mark.parametrize("without", range(len(OPEN)))
def test_an_extended_connect_has_all_pseudo_header_fields(without: int) -> None:
    with pytest.raises(BadMessage):
        check_fields(OPEN[:without] + OPEN[without + 1 :], False)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ((*FIRST, (b"host", b"b.example")), 400),
        ((*FIRST, (b"transfer-encoding", b"chunked")), 400),
        ((*FIRST, (b"content-length", b"3")), 400),
        ((*FIRST, (b"x", b"1\r\nhost: b.example")), 400),
        ((*FIRST, (b"x", b"1\nb: c")), 400),
        ((*FIRST, (b"x:y", b"1")), 400),
        ((*FIRST, (b"x\r\ny", b"1")), 400),
        ((*FIRST, (b":protocol", b"websocket")), 400),
        ((*FIRST[:3], (b":path", b"http://b.example/")), 400),
        ((*FIRST[:3], (b":path", b"/ HTTP/1.1")), 400),
        ((*FIRST[:3], (b":path", b"*")), 400),
        ((*FIRST[:2], FIRST[3]), 400),
        ((*FIRST[:2], (b":authority", b"a b"), FIRST[3]), 400),
        (((b":method", b"CONNECT"), FIRST[2]), 501),
        (((b":method", b"CONNECT"), *FIRST[1:], (b":protocol", b"connect-udp")), 501),
        ((*OPEN, (b"host", b"b.example")), 400),
        (((b":method", b"G T"), *FIRST[1:]), 400),
        ((*FIRST, *[(b"x", b"1")] * 101), 431),
    ],
)
def test_what_http_1_1_could_not_say_is_refused(headers: Pairs, status: int) -> None:
    with pytest.raises(BadMessage) as caught:
        request_of(headers, True)
    assert caught.value.status == status


@pytest.mark.parametrize("end", [b"\r\n", b"\r\n\r\n"])
def test_a_response_loses_what_is_of_the_connection(end: bytes) -> None:
    head = b'HTTP/1.1 200 OK\r\nETag: "a: b"\r\nconnection: close\r\nTransfer-Encoding: chunked\r\nx:' + end
    assert headers_of(head) == ((b":status", b"200"), (b"etag", b'"a: b"'), (b"x", b""))


def test_the_memo_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "H2_HEADS_MAX", 2)
    monkeypatch.setattr(streams, "MEMO_ENTRIES_MAX", 2)
    memo, fields = StreamsMemo(), request_of(FIRST, True).fields
    for number in range(5):
        memo.learn_head(b"HTTP/1.1 200 OK\r\nx: %d\r\n" % number)
        memo.learn_request(b"a", ((b"x", b"%d" % number),), fields)
        assert len(memo.heads) <= 2 and len(memo.requests) <= 2
    memo = StreamsMemo()
    memo.learn_request(b"a", ((b"x", b"y" * 9_000),), fields)
    assert b"y" * 60_000 in memo.learn_head(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 60_000 + b"\r\n")
    assert not memo.requests and not memo.heads, "what is long is understood, not remembered"
