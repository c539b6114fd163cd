"""Field sections of QPACK read without a dynamic table (RFC 9204 section 4.5), strictly and as bytes.

A value may have any bytes (RFC 9110 section 5.5, obs-text): whether they may be is the parser's of heads to say.
"""

from nearmile.http.fields import BadMessage, Pairs
from nearmile.http.h3frames import QPACK_FAILED, Fault
from nearmile.http.limits import HEAD_BYTES_MAX
from nearmile.http.prefixed import Strings, read_number

# RFC 9204 appendix A, from entry 0 on.
_STATIC = b""":authority
:path /
age 0
content-disposition
content-length 0
cookie
date
etag
if-modified-since
if-none-match
last-modified
link
location
referer
set-cookie
:method CONNECT
:method DELETE
:method GET
:method HEAD
:method OPTIONS
:method POST
:method PUT
:scheme http
:scheme https
:status 103
:status 200
:status 304
:status 404
:status 503
accept */*
accept application/dns-message
accept-encoding gzip, deflate, br
accept-ranges bytes
access-control-allow-headers cache-control
access-control-allow-headers content-type
access-control-allow-origin *
cache-control max-age=0
cache-control max-age=2592000
cache-control max-age=604800
cache-control no-cache
cache-control no-store
cache-control public, max-age=31536000
content-encoding br
content-encoding gzip
content-type application/dns-message
content-type application/javascript
content-type application/json
content-type application/x-www-form-urlencoded
content-type image/gif
content-type image/jpeg
content-type image/png
content-type text/css
content-type text/html; charset=utf-8
content-type text/plain
content-type text/plain;charset=utf-8
range bytes=0-
strict-transport-security max-age=31536000
strict-transport-security max-age=31536000; includesubdomains
strict-transport-security max-age=31536000; includesubdomains; preload
vary accept-encoding
vary origin
x-content-type-options nosniff
x-xss-protection 1; mode=block
:status 100
:status 204
:status 206
:status 302
:status 400
:status 403
:status 421
:status 425
:status 500
accept-language
access-control-allow-credentials FALSE
access-control-allow-credentials TRUE
access-control-allow-headers *
access-control-allow-methods get
access-control-allow-methods get, post, options
access-control-allow-methods options
access-control-expose-headers content-length
access-control-request-headers content-type
access-control-request-method get
access-control-request-method post
alt-svc clear
authorization
content-security-policy script-src 'none'; object-src 'none'; base-uri 'none'
early-data 1
expect-ct
forwarded
if-range
origin
purpose prefetch
server
timing-allow-origin *
upgrade-insecure-requests 1
user-agent
x-forwarded-for
x-frame-options deny
x-frame-options sameorigin
"""
STATIC: tuple[tuple[bytes, bytes], ...] = tuple(
    (name, value) for name, _, value in (line.partition(b" ") for line in _STATIC.splitlines())
)
# RFC 9114 section 4.2.2: so much is counted for each field beside its name and value.
FIELD_BYTES = 32


class Reader:
    """Reads sections."""

    def __init__(self) -> None:
        self._string = Strings().read

    def read(self, section: bytes) -> Pairs:
        """Raises Fault where that is no section, BadMessage where it says too much."""
        try:
            return self._read(section)
        except (IndexError, ValueError):  # the end comes too early; no code of Huffman's, or no number
            raise Fault(QPACK_FAILED) from None

    def _read(self, section: bytes) -> Pairs:
        # Nothing may be needed of a table that has no room, and nothing be counted back from it (section 4.5.1).
        if section[0] or section[1] & 0x80:
            raise ValueError("a dynamic table")
        _, at = read_number(section, 1, 0x7F)
        found: list[tuple[bytes, bytes]] = []
        size_bytes, end = 0, len(section)
        while at < end:
            first = section[at]
            if first >= 0xC0:  # section 4.5.2, a whole entry of the static table
                number, at = read_number(section, at, 0x3F)
                pair = STATIC[number]
            elif first & 0xD0 == 0x50:  # section 4.5.4, its name
                number, at = read_number(section, at, 0x0F)
                value, at = self._string(section, at, 0x7F)
                pair = STATIC[number][0], value
            elif first & 0xE0 == 0x20:  # section 4.5.6, a name of its own
                name, at = self._string(section, at, 0x07)
                value, at = self._string(section, at, 0x7F)
                pair = name, value
            else:
                raise ValueError("a dynamic table")
            found.append(pair)
            size_bytes += len(pair[0]) + len(pair[1]) + FIELD_BYTES
            if size_bytes > HEAD_BYTES_MAX:
                raise BadMessage("the head of the request is too large", 431)
        return tuple(found)
