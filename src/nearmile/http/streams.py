"""HTTP/2's heads said in HTTP/1.1, and the reverse.

A request of HTTP/2 goes on to an origin as HTTP/1.1. So it is written as such here and read by the one strict
parser of heads: nothing can be said in HTTP/2 that HTTP/1.1 could not say or would read in another way. Since that
costs 20 us, and a client repeats its fields with each request, both directions have a memo of bounded size.
"""

import re

from msgspec import structs

from nearmile.http import hpack
from nearmile.http.fields import BadMessage, Fields, Pairs, parse_fields
from nearmile.http.head import Request, parse_request, write_fields
from nearmile.http.limits import H2_FIELDS_BYTES_MAX, H2_HEADS_MAX, MEMO_BLOCK_BYTES_MAX, MEMO_ENTRIES_MAX
from nearmile.http.prefixed import Strings

PSEUDO = 4  # :method, :scheme, :authority, :path, in any order, before all fields
_PSEUDO_NAMES = frozenset((b":method", b":scheme", b":authority", b":path"))
# An extended CONNECT (RFC 8441 section 4, RFC 9220) has all of them, and the protocol that the stream is to carry.
_EXTENDED_NAMES = _PSEUDO_NAMES | {b":protocol"}
_UPGRADE: Pairs = ((b"connection", b"upgrade"), (b"upgrade", b"websocket"))
_TARGET = re.compile(rb"[!-~\x80-\xff]+")
# RFC 9113 section 8.2.1: each name in a line of its own, and values between line feeds.
_NAMES = re.compile(rb"(?:[!#$%&'*+\-.^_`|~0-9a-z]+\n)*")
_NO_VALUE = re.compile(rb"[\0\r]|(?:\A|\n)[ \t]|[ \t](?:\Z|\n)")
# Section 8.2.2: they would speak of a connection that is not this one.
_OF_CONNECTION = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))


def request_of(headers: Pairs, ended: bool) -> Request:
    """The request that a stream begins with; ``ended``: it has no body. Raises BadMessage (RFC 9113 section 8.3).

    A body without Content-Length is called chunked: its length is known only at its end. An extended CONNECT for
    WebSocket is the GET by which HTTP/1.1 begins it, but for the key (RFC 8441 section 5).
    """
    pseudo = {name: value for name, value in headers if name.startswith(b":")}
    method, target = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
    names = _PSEUDO_NAMES
    upgrade: Pairs = ()
    if method == b"CONNECT":
        if pseudo.get(b":protocol") != b"websocket":
            raise BadMessage("CONNECT is served here for WebSocket alone", 501)
        method, names, upgrade = b"GET", _EXTENDED_NAMES, _UPGRADE
    if not pseudo.keys() <= names or not target.startswith((b"/", b"*")):
        raise BadMessage("malformed pseudo-header fields")
    fields = parse_fields(_lines(headers + upgrade, pseudo.get(b":authority")))
    if fields.chunked or (ended and fields.length):
        raise BadMessage("framing that HTTP/2 does not have")
    if fields.length is None and not (ended or upgrade):
        fields = structs.replace(fields, chunked=True, plain=False)
    return parse_request(b"%b %b HTTP/1.1" % (method, target), fields)


def check_fields(headers: Pairs, ended: bool) -> None:
    """The rules for a request's fields in HTTP/2 (RFC 9113 sections 8.1.1 to 8.3.1) and HTTP/3 (RFC 9114 sections
    4.1.2 to 4.3.1). Raises BadMessage."""
    pseudo = {name: value for name, value in headers if name.startswith(b":")}
    _check_lines(headers[len(pseudo) :])
    if pseudo.get(b":method") == b"CONNECT":
        needed = pseudo.keys() == {b":method", b":authority"} or pseudo.keys() == _EXTENDED_NAMES
    else:
        needed = {b":method", b":scheme", b":path"} <= pseudo.keys() <= _PSEUDO_NAMES
    if b":path" in pseudo:
        target = pseudo[b":path"]
        needed = needed and target[:1] in (b"/", b"*") and _TARGET.fullmatch(target) is not None
    if not needed:
        raise BadMessage("malformed pseudo-header fields")
    lengths = [value for name, value in headers if name == b"content-length"]
    if len(lengths) > 1 or (lengths and (not lengths[0].isdigit() or (ended and lengths[0].strip(b"0")))):
        raise BadMessage("a malformed Content-Length")
    if not (pseudo.get(b":authority") or any(name == b"host" and value for name, value in headers)):
        raise BadMessage("no authority")


def check_trailers(headers: Pairs, ended: bool) -> None:
    """The rules for the fields behind a body (RFC 9113 section 8.1). Raises BadMessage."""
    if not ended:
        raise BadMessage("fields within a body")
    _check_lines(headers)


def _check_lines(headers: Pairs) -> None:
    """No pseudo-header fields, nothing of HTTP/1.1's connections, and only characters that a field may have."""
    names = b"".join([name + b"\n" for name, _ in headers])
    values = b"\n".join([value for _, value in headers])
    if _NAMES.fullmatch(names) is None or values.count(b"\n") >= max(len(headers), 1) or _NO_VALUE.search(values):
        raise BadMessage("a malformed field line")
    for name, value in headers:
        if name in _OF_CONNECTION or (name == b"te" and value != b"trailers"):
            raise BadMessage("a field that only HTTP/1.1 has")


def _lines(headers: Pairs, authority: bytes | None) -> bytes:
    """The fields as lines of HTTP/1.1: the authority as Host, cookies joined (RFC 9113 sections 8.2.3, 8.3.1)."""
    lines, cookies = [], []
    for name, value in headers:
        if name.startswith(b":"):
            continue
        if name == b"cookie":
            cookies.append(value)
        elif name == b"host" and authority is not None:
            if value.lower() != authority.lower():
                raise BadMessage("Host and :authority differ")
        else:
            lines.append((name, value))
    if authority is not None:
        lines.insert(0, (b"host", authority))
    if cookies:
        lines.append((b"cookie", b"; ".join(cookies)))
    if any(b":" in name or b"\r" in value or b"\n" in value for name, value in lines):
        raise BadMessage("a malformed field line")
    return write_fields(tuple(lines))


def headers_of(head: bytes) -> Pairs:
    """A response's head of HTTP/1.1 (status line and fields, with or without the empty line) as HTTP/2 says it."""
    first, *lines = head.removesuffix(b"\r\n\r\n").removesuffix(b"\r\n").split(b"\r\n")
    parts = (line.partition(b":") for line in lines)
    pairs = [(name.lower(), value.strip()) for name, _, value in parts]
    return ((b":status", first[9:12]), *(pair for pair in pairs if pair[0] not in _OF_CONNECTION))


class StreamsMemo:
    """What was understood lately: requests' fields by themselves and their authority, responses by their heads."""

    def __init__(self) -> None:
        self.requests: dict[tuple[bytes | None, Pairs], Fields] = {}
        self.heads: dict[bytes, bytes] = {}
        """Of responses, by their heads of HTTP/1.1, as HPACK says them."""
        self.strings = Strings()

    def learn_request(self, authority: bytes | None, headers: Pairs, fields: Fields) -> None:
        """Keeps the fields of a request without a body, if they are as short as most."""
        if sum(len(name) + len(value) for name, value in headers) > H2_FIELDS_BYTES_MAX:
            return
        if len(self.requests) >= MEMO_ENTRIES_MAX:
            self.requests.clear()
        self.requests[authority, headers] = fields

    def learn_head(self, head: bytes) -> bytes:
        """Says a stored response's head, and keeps that, if it is as short as most."""
        return keep_head(self.heads, head, hpack.lines(headers_of(head)), H2_HEADS_MAX)


def keep_head(heads: dict[bytes, bytes], head: bytes, lines: bytes, most: int) -> bytes:
    """Keeps how a response's head is said, if it is as short as most; returns that."""
    if len(head) <= MEMO_BLOCK_BYTES_MAX:
        if len(heads) >= most:
            heads.clear()
        heads[head] = lines
    return lines
