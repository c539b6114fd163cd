"""A second reading of requests, written apart from the product's and stricter: what an origin gets must be plain.

Whatever could be read in two ways is a fault, even where RFC 9112 would forgive it.
"""

import re
from typing import NamedTuple

LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) (/[!-~]*|\*) HTTP/1\.1")
FIELD = re.compile(rb"([a-z0-9!#$%&'*+.^`|~_-]+): ([\t\x20-\x7e\x80-\xff]*)")
CHUNK = re.compile(rb"([1-9a-f][0-9a-f]{0,12})\r\n")
# What programs behind CGI and its kin take "content_length" for.
FRAMING = (b"content-length", b"transfer-encoding")


class Ambiguous(Exception):
    """The bytes could mean something else to another reader."""


class Seen(NamedTuple):
    """A whole request."""

    method: str
    target: str
    fields: dict[bytes, bytes]
    body: bytes


def read_request(data: bytes) -> tuple[Seen, bytes] | None:
    """The first request and the bytes after it; None where it is not whole yet. Raises Ambiguous."""
    head, found, rest = data.partition(b"\r\n\r\n")
    if not found:
        return None
    first, *lines = head.split(b"\r\n")
    line = LINE.fullmatch(first)
    if line is None:
        raise Ambiguous(first)
    fields: dict[bytes, bytes] = {}
    for text in lines:
        match = FIELD.fullmatch(text)
        if match is None:
            raise Ambiguous(text)
        name = re.sub(rb"[^a-z0-9]", b"-", match[1])
        if name in (b"host", *FRAMING) and (name in fields or name != match[1]):
            raise Ambiguous(text)
        fields[name] = match[2]
    if b"host" not in fields or all(name in fields for name in FRAMING):
        raise Ambiguous(head)
    body = _body(fields, rest)
    return None if body is None else (Seen(line[1].decode(), line[2].decode(), fields, body[0]), body[1])


def _body(fields: dict[bytes, bytes], rest: bytes) -> tuple[bytes, bytes] | None:
    if b"transfer-encoding" in fields:
        if fields[b"transfer-encoding"] != b"chunked":
            raise Ambiguous(fields[b"transfer-encoding"])
        return _chunks(rest)
    length = fields.get(b"content-length", b"0")
    if re.fullmatch(rb"0|[1-9][0-9]{0,17}", length) is None:
        raise Ambiguous(length)
    size = int(length)
    return (rest[:size], rest[size:]) if len(rest) >= size else None


def _chunks(rest: bytes) -> tuple[bytes, bytes] | None:
    body = b""
    while not rest.startswith(b"0\r\n"):
        match = CHUNK.match(rest)
        if match is None:
            if re.fullmatch(rb"[0-9a-f]{0,13}\r?", rest):
                return None
            raise Ambiguous(rest[:40])
        end = match.end() + int(match[1], 16)
        if len(rest) < end + 2:
            return None
        if rest[end : end + 2] != b"\r\n":
            raise Ambiguous(rest[end : end + 20])
        body, rest = body + rest[match.end() : end], rest[end + 2 :]
    if len(rest) < 5:
        return None
    if rest[:5] != b"0\r\n\r\n":
        raise Ambiguous(rest[:20])
    return body, rest[5:]
