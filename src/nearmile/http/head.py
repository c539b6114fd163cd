"""Request lines and status lines (RFC 9112 sections 3 and 4), and whole heads made of them and of fields."""

import re

from msgspec import Struct, structs

from nearmile.http.fields import TOKEN, BadMessage, Fields, Pairs, parse_fields, parse_host
from nearmile.http.limits import METHOD_BYTES_MAX, TARGET_BYTES_MAX

# RFC 3986 characters, and those browsers send unescaped all the same: no space, control, fragment or 8 bit.
_ORIGIN_FORM = re.compile(rb"/[\x21\x22\x24-\x7e]*")
_ABSOLUTE_FORM = re.compile(rb"(?i:https?)://([^/?#]+)(/[\x21\x22\x24-\x7e]*)?(\?[\x21\x22\x24-\x7e]*)?")
_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [\x09\x20-\x7e\x80-\xff]*)?")


class Request(Struct, frozen=True, gc=False):
    """A request's head. ``host`` and ``target`` are those of the absolute form where the client used it."""

    method: bytes
    target: bytes
    host: bytes
    minor: int
    fields: Fields

    @property
    def keep_alive(self) -> bool:
        """Whether the connection may serve another request after this one; a 1.0 client gets one answer."""
        return self.minor == 1 and not self.fields.close


class ResponseHead(Struct, frozen=True, gc=False):
    """A response's head."""

    status: int
    minor: int
    fields: Fields

    @property
    def keep_alive(self) -> bool:
        """Whether the connection can be used again once the body has been read."""
        return not self.fields.close and (self.minor == 1 or b"keep-alive" in self.fields.connection)


def parse_request(line: bytes, fields: Fields) -> Request:
    """A request from its first line (without CRLF) and fields; raises BadMessage."""
    parts = line.split(b" ")
    if len(parts) != 3:
        raise BadMessage("a malformed request line")
    method, target, version = parts
    if TOKEN.fullmatch(method) is None or len(method) > METHOD_BYTES_MAX:
        raise BadMessage("a malformed method")
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise BadMessage("an unknown HTTP version", 505 if _VERSION.fullmatch(version) else 400)
    if len(target) > TARGET_BYTES_MAX:
        raise BadMessage("the target is too long", 414)
    minor = 1 if version == b"HTTP/1.1" else 0
    if fields.hosts == 0 and minor == 1:
        raise BadMessage("no Host field")
    if fields.chunked and minor == 0:
        # RFC 9112 section 6.1: HTTP/1.0 has no transfer codings, so the framing must be thought faulty.
        raise BadMessage("Transfer-Encoding in HTTP/1.0")
    path, fields = _origin_form(method, target, fields)
    return Request(method, path, fields.host, minor, fields)


def _origin_form(method: bytes, target: bytes, fields: Fields) -> tuple[bytes, Fields]:
    if _ORIGIN_FORM.fullmatch(target) is not None:
        return target, fields
    if target == b"*" and method == b"OPTIONS":
        return target, fields
    if method == b"CONNECT":
        raise BadMessage("CONNECT is not served here", 501)
    match = _ABSOLUTE_FORM.fullmatch(target)
    if match is None:
        raise BadMessage("a malformed target")
    # RFC 9112 section 3.2.2: the authority of the target replaces the Host field.
    pairs = ((b"host", match[1]), *(pair for pair in fields.pairs if pair[0] != b"host"))
    fields = structs.replace(fields, host=parse_host(match[1]), pairs=pairs)
    return (match[2] or b"/") + (match[3] or b""), fields


def parse_response(head: bytes) -> ResponseHead:
    """A response's head, up to and with the empty line; raises BadMessage."""
    line, _, block = head[:-2].partition(b"\r\n")
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise BadMessage("a malformed status line", 502)
    return ResponseHead(int(match[2]), int(match[1]), parse_fields(block, response=True))


def write_fields(pairs: Pairs) -> bytes:
    """Field lines, each with its CRLF."""
    return b"".join([b"%b: %b\r\n" % pair for pair in pairs])
