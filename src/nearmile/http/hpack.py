"""Field compression of HTTP/2 (HPACK, RFC 7541): blocks are read with a dynamic table, and written without one.

So what is written means the same on every connection, and a response's head is said once for all of them. What is
read means the same as long as the table has not changed: a client that repeats its fields soon says nothing new.
"""

from collections import deque

from nearmile.http.fields import Pairs
from nearmile.http.limits import HEAD_BYTES_MAX
from nearmile.http.prefixed import Strings, prefixed, read_number

# RFC 7541 appendix A, from entry 1 on.
_STATIC = b""":authority
:method GET
:method POST
:path /
:path /index.html
:scheme http
:scheme https
:status 200
:status 204
:status 206
:status 304
:status 400
:status 404
:status 500
accept-charset
accept-encoding gzip, deflate
accept-language
accept-ranges
accept
access-control-allow-origin
age
allow
authorization
cache-control
content-disposition
content-encoding
content-language
content-length
content-location
content-range
content-type
cookie
date
etag
expect
expires
from
host
if-match
if-modified-since
if-none-match
if-range
if-unmodified-since
last-modified
link
location
max-forwards
proxy-authenticate
proxy-authorization
range
referer
refresh
retry-after
server
set-cookie
strict-transport-security
transfer-encoding
user-agent
vary
via
www-authenticate
"""
STATIC: Pairs = tuple((name, value) for name, _, value in (line.partition(b" ") for line in _STATIC.splitlines()))
_PAIRS = {pair: prefixed(0x80, 7, number) for number, pair in enumerate(STATIC, 1)}
_NAMES = {name: number for number, (name, _) in reversed(tuple(enumerate(STATIC, 1)))}
# Section 4.2: our own table has no room. Said ahead of the first block, it suits every limit of a client's.
NO_TABLE = b"\x20"
# Literal without indexing, with the name of the static table's entry 21, `age` (section 6.2.2).
AGE = b"\x0f\x06"
# Section 4.1: so much is counted for each field beside its name and value.
FIELD_BYTES = 32
# What SETTINGS_HEADER_TABLE_SIZE is unless said otherwise (RFC 9113 section 6.5.2); more is gained by nobody.
TABLE_BYTES_MAX = 4_096


class TooMuch(Exception):
    """A block that says more than a head may have; what follows on the connection cannot be read without it."""


class Reader:
    """Reads the blocks of one connection, in order."""

    def __init__(self, strings: Strings) -> None:
        self.changed = False
        """By the last block: what others mean is not what it was."""
        self._string = strings.read
        self._table: deque[tuple[bytes, bytes]] = deque()
        self._table_bytes, self._limit_bytes = 0, TABLE_BYTES_MAX

    def read(self, block: bytes) -> Pairs:
        """Raises ValueError where that is no block (section 2.3), TooMuch where it says too much."""
        self.changed = False
        try:
            return self._read(block, self._updates(block))
        except IndexError:
            raise ValueError("the end comes too early, or the table is smaller") from None

    def _updates(self, block: bytes) -> int:
        """The table's limit, which may be moved before all fields (section 6.3); returns where those begin."""
        at = 0
        while at < len(block) and block[at] & 0xE0 == 0x20:
            self._limit_bytes, at = read_number(block, at, 0x1F)
            if self._limit_bytes > TABLE_BYTES_MAX:
                raise ValueError("a table larger than allowed")
            self._evict()
            self.changed = True
        return at

    def _read(self, block: bytes, at: int) -> Pairs:
        found: list[tuple[bytes, bytes]] = []
        size_bytes, end = 0, len(block)
        while at < end:
            first = block[at]
            if first >= 0x80:  # section 6.1, a whole entry
                number, at = read_number(block, at, 0x7F)
                pair = self._entry(number)
            else:
                added = first & 0x40
                if not added and first & 0x20:
                    raise ValueError("a change of the table behind a field")
                number, at = read_number(block, at, 0x3F if added else 0x0F)
                if number:
                    name = self._entry(number)[0]
                else:
                    name, at = self._string(block, at, 0x7F)
                value, at = self._string(block, at, 0x7F)
                pair = name, value
                if added:
                    self._add(pair)
            found.append(pair)
            size_bytes += len(pair[0]) + len(pair[1]) + FIELD_BYTES
            if size_bytes > HEAD_BYTES_MAX:
                raise TooMuch
        return tuple(found)

    def _entry(self, number: int) -> tuple[bytes, bytes]:
        """Section 2.3.3; the table's last comes first."""
        if number <= len(STATIC):
            if not number:
                raise ValueError("no entry")
            return STATIC[number - 1]
        return self._table[number - len(STATIC) - 1]

    def _add(self, pair: tuple[bytes, bytes]) -> None:
        """Section 4.4: one that has no room empties the table."""
        self._table.appendleft(pair)
        self._table_bytes += len(pair[0]) + len(pair[1]) + FIELD_BYTES
        self._evict()
        self.changed = True

    def _evict(self) -> None:
        while self._table_bytes > self._limit_bytes:
            name, value = self._table.pop()
            self._table_bytes -= len(name) + len(value) + FIELD_BYTES


def lines(headers: Pairs) -> bytes:
    """The fields of a block, without what comes ahead of a connection's first (NO_TABLE)."""
    return b"".join([_PAIRS.get(pair) or _literal(*pair) for pair in headers])


def _literal(name: bytes, value: bytes) -> bytes:
    """A field that no table keeps (section 6.2.2)."""
    number = _NAMES.get(name, 0)
    said = prefixed(0, 4, number) if number else b"\0" + prefixed(0, 7, len(name)) + name
    return said + prefixed(0, 7, len(value)) + value
