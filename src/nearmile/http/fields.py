"""Header fields: a block of bytes parsed strictly into what the edge needs to know, and a memo of that.

``parse_fields`` is pure, and a keep-alive client sends the same block with each request, so ``FieldsMemo``
remembers: a browser's block of 15 fields costs one dictionary look-up (0.5 us). Parsing it here takes 20 us, where
httptools with a callback for each field takes 6 us; but then what to refuse is llhttp's choice, and duplicates and
framing are still to be checked. A miss of the memo is rare, and what is refused should be written in one place.
"""

import re

from msgspec import Struct

from nearmile.http.limits import (
    FIELDS_MAX,
    LENGTH_DIGITS_MAX,
    MEMO_BLOCK_BYTES_MAX,
    MEMO_ENTRIES_MAX,
)

Pairs = tuple[tuple[bytes, bytes], ...]

TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# RFC 9112 section 5, and RFC 9110 section 5.5: no control but HTAB in a value.
_LINES = re.compile(rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[\t\x20-\x7e\x80-\xff]*+\r\n)*+")
# RFC 9110 section 7.2: uri-host [ ":" port ].
_HOST = re.compile(rb"([A-Za-z0-9._~%!$&'()*+,;=-]*|\[[0-9A-Fa-f:.]+\])(?::([0-9]{0,5}))?")
_DIGITS = re.compile(rb"[0-9]+")


class BadMessage(Exception):
    """What a peer sent is not HTTP as RFC 9112 has it; ``status`` is what to answer a client with."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status


class Fields(Struct, frozen=True, kw_only=True, gc=False):
    """A header block understood. Names are lower-case; ``pairs`` keep the order of the message.

    ``host`` is lower-case without port (empty: no Host field). ``length`` is None without Content-Length.
    ``plain`` tells that nothing here bears on answering a GET from memory but the ``conditions``: those of
    If-None-Match, If-Modified-Since, Range and If-Range: no body, no Cache-Control, and the connection stays open.
    """

    pairs: Pairs
    host: bytes = b""
    hosts: int = 0
    length: int | None = None
    chunked: bool = False
    close: bool = False
    connection: frozenset[bytes] = frozenset()
    plain: bool = True
    conditions: Pairs = ()

    def get(self, name: bytes) -> bytes | None:
        """The field's value, its lines joined by commas (RFC 9110 section 5.3); None where there is none."""
        return field(self.pairs, name)


# The registered transfer coding names besides chunked (RFC 9112 section 7, RFC 9110 section 8.4.1).
_CODINGS = frozenset((b"compress", b"x-compress", b"deflate", b"gzip", b"x-gzip"))
_FRAMING = frozenset((b"host", b"content-length", b"transfer-encoding", b"connection"))
# What is read by whom the connection ends at, whatever Connection lists: framing, and who asks by what way.
_READ_HERE = _FRAMING | {
    b"cdn-loop", b"expect", b"nearmile-hop", b"te", b"trailer", b"upgrade", b"x-forwarded-for",
    b"x-forwarded-proto",
}  # fmt: skip
_CONDITIONS = frozenset((b"if-none-match", b"if-modified-since", b"range", b"if-range"))
_NOT_PLAIN = frozenset(
    (
        b"cache-control", b"pragma", b"if-match", b"if-unmodified-since",
        b"expect", b"upgrade", b"content-length", b"transfer-encoding", b"nearmile-hop",
    )
)  # fmt: skip


def field(pairs: Pairs, name: bytes) -> bytes | None:
    """The value of a field in a list of pairs; several lines are joined by commas."""
    values = [value for key, value in pairs if key == name]
    if not values:
        return None
    return values[0] if len(values) == 1 else b", ".join(values)


def members(value: bytes) -> list[bytes]:
    """A comma-separated list of tokens, lower-case, empty members dropped (RFC 9110 section 5.6.1)."""
    return [part for part in (piece.strip(b" \t").lower() for piece in value.split(b",")) if part]


def parse_pairs(block: bytes) -> Pairs:
    """Field lines, each ended by CRLF, as pairs with lower-case names.

    Raises BadMessage for whatever two parsers might read differently: obs-fold, bare CR or LF, white space before
    the colon, an empty name, control characters (RFC 9112 section 5).
    """
    if not block:
        return ()
    lines = block[:-2].split(b"\r\n")
    if len(lines) > FIELDS_MAX:
        raise BadMessage(f"more than {FIELDS_MAX} fields", 431)
    if _LINES.fullmatch(block) is None:
        raise BadMessage("a malformed field line")
    split = [line.partition(b":") for line in lines]
    return tuple([(name.lower(), value.strip(b" \t")) for name, _, value in split])


def parse_fields(block: bytes, response: bool = False) -> Fields:
    """The field lines of a message, each with its CRLF; raises BadMessage for what RFC 9112 calls invalid.

    In a ``response``, Transfer-Encoding may be a word that is no coding: the connection is then not used again.
    """
    pairs = parse_pairs(block)
    host, hosts, length, codings = b"", 0, None, b""
    options: list[bytes] = []
    for name, value in pairs:
        if name not in _FRAMING:
            continue
        if name == b"host":
            host, hosts = parse_host(value), hosts + 1
        elif name == b"content-length":
            length = _same_length(value, length)
        elif name == b"transfer-encoding":
            codings = codings + b"," + value if codings else value or b","
        else:
            options += members(value)
    if hosts > 1:
        raise BadMessage("more than one Host field")
    chunked = bool(codings) and _chunked(codings, response)
    close = b"close" in options or (bool(codings) and not chunked)
    if chunked and length is not None:
        # RFC 9112 section 6.1: "ought to be handled as an error"; the commonest shape of request smuggling.
        raise BadMessage("Transfer-Encoding and Content-Length in one message")
    if options and not response:
        # They go no further (RFC 9110 section 7.6.1), so nothing may depend on them: a client could name Cookie,
        # and have what the origin says to who has none stored for those who have that cookie.
        gone = frozenset(options) - _READ_HERE
        pairs = tuple([pair for pair in pairs if pair[0] not in gone])
    names = [name for name, _ in pairs]
    return Fields(
        pairs=pairs,
        host=host,
        hosts=hosts,
        length=length,
        chunked=chunked,
        close=close,
        connection=frozenset(options),
        conditions=()
        if _CONDITIONS.isdisjoint(names)
        else tuple([pair for pair in pairs if pair[0] in _CONDITIONS]),
        plain=hosts == 1 and not close and _NOT_PLAIN.isdisjoint(names),
    )


def parse_host(value: bytes) -> bytes:
    """The host of a Host field or an authority, lower-case, without port or final dot."""
    match = _HOST.fullmatch(value)
    if match is None or (match[2] and int(match[2]) > 65_535):
        raise BadMessage("a malformed Host")
    return match[1].lower().removesuffix(b".")


def _same_length(value: bytes, known: int | None) -> int:
    """One Content-Length; RFC 9112 section 6.3 allows a list of equal values, but no honest sender makes one."""
    if _DIGITS.fullmatch(value) is None or len(value) > LENGTH_DIGITS_MAX:
        raise BadMessage("a malformed Content-Length")
    if known is not None:
        raise BadMessage("more than one Content-Length")
    return int(value)


def _chunked(codings: bytes, response: bool) -> bool:
    """Whether the body is chunked; any other transfer coding is refused (RFC 9112 section 6.1).

    But a response with a word that names no coding is taken as it comes, up to the connection's end (section 6.3):
    nothing can follow it that would be read otherwise.
    """
    if codings.lower() != b"chunked":
        if response and TOKEN.fullmatch(codings) and codings.lower() not in _CODINGS:
            return False
        raise BadMessage("an unknown transfer coding", 501 if TOKEN.fullmatch(codings) else 400)
    return True


class FieldsMemo:
    """``parse_fields`` with a memory of bounded size, keyed by a head's lines after the first, with the empty one.

    With the empty line the key cannot be the beginning of a longer head.
    """

    def __init__(self) -> None:
        self.known: dict[bytes, Fields] = {}

    def parse(self, lines: bytes) -> Fields:
        """The fields in those lines, remembered for the next time they come; raises BadMessage."""
        fields = self.known.get(lines)
        if fields is None:
            fields = parse_fields(lines[:-2])
            if len(lines) <= MEMO_BLOCK_BYTES_MAX:
                if len(self.known) >= MEMO_ENTRIES_MAX:
                    # Forgetting all at once costs each client one parse; an order of use would cost every hit.
                    self.known.clear()
                self.known[lines] = fields
        return fields
