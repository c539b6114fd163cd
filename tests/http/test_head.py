"""Request lines, status lines, and heads put together."""

import pytest

from nearmile.http.fields import BadMessage, parse_fields, parse_host
from nearmile.http.head import parse_request, parse_response, write_fields
from nearmile.http.limits import TARGET_BYTES_MAX

HOST = parse_fields(b"Host: a.example\r\n")
NO_HOST = parse_fields(b"")


@pytest.mark.parametrize(
    ("line", "method", "target", "host"),
    [
        (b"GET / HTTP/1.1", b"GET", b"/", b"a.example"),
        (b"GET /x?y=%20&z=[] HTTP/1.1", b"GET", b"/x?y=%20&z=[]", b"a.example"),
        (b"GET http://B.example:80/x?y HTTP/1.1", b"GET", b"/x?y", b"b.example"),
        (b"GET http://b.example HTTP/1.1", b"GET", b"/", b"b.example"),
        (b"GET HTTP://b.example?q HTTP/1.1", b"GET", b"/?q", b"b.example"),
        (b"OPTIONS * HTTP/1.1", b"OPTIONS", b"*", b"a.example"),
        (b"M-SEARCH / HTTP/1.1", b"M-SEARCH", b"/", b"a.example"),
    ],
)
def test_request_lines(line: bytes, method: bytes, target: bytes, host: bytes) -> None:
    request = parse_request(line, HOST)
    assert (request.method, request.target, request.host) == (method, target, host)
    # Whoever looks at the fields sees the same host.
    assert request.fields.host == host
    assert [parse_host(value) for name, value in request.fields.pairs if name == b"host"] == [host]
    assert request.keep_alive


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"", 400),
        (b"GET /", 400),
        (b"GET  / HTTP/1.1", 400),
        (b"GET / HTTP/1.1 ", 400),
        (b" GET / HTTP/1.1", 400),
        (b"GET /\tHTTP/1.1", 400),
        (b"GET /a b HTTP/1.1", 400),
        (b"GET /a\x00b HTTP/1.1", 400),
        (b"GET /a\rb HTTP/1.1", 400),
        (b"GET /a\nb HTTP/1.1", 400),
        (b"GET /a\xffb HTTP/1.1", 400),
        (b"GET /a#b HTTP/1.1", 400),
        (b"GET a HTTP/1.1", 400),
        (b"GET ftp://b/ HTTP/1.1", 400),
        (b"GET http:///x HTTP/1.1", 400),
        (b"GET http://u@b/ HTTP/1.1", 400),
        (b"GET * HTTP/1.1", 400),
        (b"G(T / HTTP/1.1", 400),
        (b"GET / http/1.1", 400),
        (b"GET / HTTP/1.10", 400),
        (b"GET / HTTP/2.0", 505),
        (b"GET / HTTP/1.2", 505),
        (b"GET / HTTP/0.9", 505),
        (b"CONNECT a:80 HTTP/1.1", 501),
        (b"GET /" + b"x" * TARGET_BYTES_MAX + b" HTTP/1.1", 414),
        (b"X" * 40 + b" / HTTP/1.1", 400),
    ],
)
def test_request_lines_refused(line: bytes, status: int) -> None:
    with pytest.raises(BadMessage) as caught:
        parse_request(line, HOST)
    assert caught.value.status == status


def test_host_is_required_of_1_1_alone() -> None:
    with pytest.raises(BadMessage):
        parse_request(b"GET / HTTP/1.1", NO_HOST)
    request = parse_request(b"GET / HTTP/1.0", NO_HOST)
    assert request.host == b""
    assert not request.keep_alive


def test_chunks_in_1_0_are_refused() -> None:
    with pytest.raises(BadMessage):
        parse_request(b"POST / HTTP/1.0", parse_fields(b"Host: a\r\nTransfer-Encoding: chunked\r\n"))


@pytest.mark.parametrize(
    ("head", "status", "keep_alive"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", 200, True),
        (b"HTTP/1.1 200\r\n\r\n", 200, True),
        (b"HTTP/1.1 404 Nicht da \xe4\r\nConnection: close\r\n\r\n", 404, False),
        (b"HTTP/1.0 200 OK\r\n\r\n", 200, False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n", 200, True),
    ],
)
def test_responses(head: bytes, status: int, keep_alive: bool) -> None:
    response = parse_response(head)
    assert (response.status, response.keep_alive) == (status, keep_alive)


@pytest.mark.parametrize(
    "line", [b"HTTP/2 200", b"HTTP/1.1 99 x", b"HTTP/1.1 2000", b"200 OK", b"HTTP/1.1 200 a\x00"]
)
def test_responses_refused(line: bytes) -> None:
    with pytest.raises(BadMessage):
        parse_response(line + b"\r\n\r\n")


def test_write_fields() -> None:
    assert write_fields(((b"a", b"1"), (b"b", b""))) == b"a: 1\r\nb: \r\n"
