"""A corpus of request smuggling: what has made two HTTP parsers see different requests in the same bytes.

Each shape is what a client sends, with what RFC 9112 makes of it. ``METHOD`` and ``/TARGET`` stand for what the
test puts there. A request that an attacker would hide is ``HIDDEN``; whoever answers it, or takes it for a request
where it is a body, has been smuggled to.
"""

from collections.abc import Iterator
from typing import NamedTuple

HOST = b"www.test.example"
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: " + HOST + b"\r\n\r\n"
N = len(HIDDEN)
START = b"METHOD /TARGET HTTP/1.1\r\nHost: " + HOST + b"\r\n"
CHUNKED_HIDDEN = b"%x\r\n%b\r\n0\r\n\r\n" % (N, HIDDEN)
ENDED_HIDDEN = b"0\r\n\r\n" + HIDDEN


class Shape(NamedTuple):
    """``statuses`` are those of all responses; ``bodies`` those of the requests that the origin gets, in order:
    first the one for /TARGET, then, where the client openly sent a second request, an empty one for /hidden.
    ``open``: the connection serves further requests."""

    id: str
    wire: bytes
    statuses: tuple[int, ...]
    bodies: tuple[bytes, ...] = ()
    open: bool = False


def refused(name: str, wire: bytes, status: int = 400) -> Shape:
    """One response, and the connection ends; the origin gets no whole request."""
    return Shape(name, wire, (status,))


def taken(name: str, wire: bytes, *bodies: bytes) -> Shape:
    """As many requests as bodies, each answered."""
    bodies = bodies or (b"",)
    return Shape(name, wire, (200,) * len(bodies), bodies, True)


def last(name: str, wire: bytes, body: bytes = b"") -> Shape:
    """One request, answered; then the connection ends as the client wished."""
    return Shape(name, wire, (200,), (body,))


def then_refused(name: str, wire: bytes, body: bytes = b"") -> Shape:
    """A request, answered; what follows it is none."""
    return Shape(name, wire, (200, 400), (body,))


def with_fields(lines: bytes, body: bytes = b"") -> bytes:
    """The usual request with more field lines."""
    return START + lines + b"\r\n" + body


# What stands in place of the line "Transfer-Encoding: chunked", and the status that it deserves.
CODINGS_REFUSED: dict[str, tuple[bytes, int]] = {
    "space-before-colon": (b"Transfer-Encoding : chunked\r\n", 400),
    "tab-before-colon": (b"Transfer-Encoding\t: chunked\r\n", 400),
    "vertical-tab-before-colon": (b"Transfer-Encoding\x0b: chunked\r\n", 400),
    "line-end-before-colon": (b"Transfer-Encoding\r\n: chunked\r\n", 400),
    "leading-space": (b" Transfer-Encoding: chunked\r\n", 400),
    "leading-tab": (b"\tTransfer-Encoding: chunked\r\n", 400),
    "leading-vertical-tab": (b"\x0bTransfer-Encoding: chunked\r\n", 400),
    "leading-nul": (b"\x00Transfer-Encoding: chunked\r\n", 400),
    "folded-line-before": (b"X: y\r\n Transfer-Encoding: chunked\r\n", 400),
    "folded-by-tab-before": (b"X: y\r\n\tTransfer-Encoding: chunked\r\n", 400),
    "folded-value": (b"Transfer-Encoding:\r\n chunked\r\n", 400),
    "folded-value-tab": (b"Transfer-Encoding:\r\n\tchunked\r\n", 400),
    "folded-in-the-word": (b"Transfer-Encoding: chun\r\n ked\r\n", 400),
    "folded-after": (b"Transfer-Encoding: chunked\r\n , identity\r\n", 400),
    "bare-lf-before-value": (b"Transfer-Encoding:\n chunked\r\n", 400),
    "bare-lf-before": (b"X: y\nTransfer-Encoding: chunked\r\n", 400),
    "bare-cr-before": (b"X: y\rTransfer-Encoding: chunked\r\n", 400),
    "cr-crlf-before": (b"X: y\r\r\nTransfer-Encoding: chunked\r\n", 400),
    "bare-lf-after": (b"Transfer-Encoding: chunked\nX: y\r\n", 400),
    "bare-cr-after": (b"Transfer-Encoding: chunked\rX: y\r\n", 400),
    "vertical-tab-before-value": (b"Transfer-Encoding: \x0bchunked\r\n", 400),
    "form-feed-before-value": (b"Transfer-Encoding: \x0cchunked\r\n", 400),
    "nul-before-value": (b"Transfer-Encoding: \x00chunked\r\n", 400),
    "backspace-before-value": (b"Transfer-Encoding: x\x08chunked\r\n", 400),
    "delete-before-value": (b"Transfer-Encoding: \x7fchunked\r\n", 400),
    "vertical-tab-after-value": (b"Transfer-Encoding: chunked\x0b\r\n", 400),
    "nul-after-value": (b"Transfer-Encoding: chunked\x00\r\n", 400),
    "nul-in-name": (b"Transfer\x00-Encoding: chunked\r\n", 400),
    "space-in-name": (b"Transfer Encoding: chunked\r\n", 400),
    "8-bit-in-name": (b"Transfer-Encoding\x85: chunked\r\n", 400),
    "no-break-space-before": (b"Transfer-Encoding: \xa0chunked\r\n", 400),
    "no-break-space-after": (b"Transfer-Encoding: chunked\xa0\r\n", 400),
    "8-bit-before": (b"Transfer-Encoding: \xffchunked\r\n", 400),
    "kelvin-sign": (b"Transfer-Encoding: chun\xe2\x84\xaaed\r\n", 400),
    "double-quoted": (b'Transfer-Encoding: "chunked"\r\n', 400),
    "single-quoted": (b"Transfer-Encoding: 'chunked'\r\n", 501),
    "parameter": (b"Transfer-Encoding: chunked;q=1\r\n", 400),
    "empty-parameter": (b"Transfer-Encoding: chunked;\r\n", 400),
    "comment-before": (b"Transfer-Encoding: (x) chunked\r\n", 400),
    "comment-after": (b"Transfer-Encoding: chunked (x)\r\n", 400),
    "word-before": (b"Transfer-Encoding: x chunked\r\n", 400),
    "word-after": (b"Transfer-Encoding: chunked x\r\n", 400),
    "comma-before": (b"Transfer-Encoding: ,chunked\r\n", 400),
    "comma-after": (b"Transfer-Encoding: chunked,\r\n", 400),
    "identity-after": (b"Transfer-Encoding: chunked, identity\r\n", 400),
    "identity-before": (b"Transfer-Encoding: identity, chunked\r\n", 400),
    "gzip-after": (b"Transfer-Encoding: chunked, gzip\r\n", 400),
    "gzip-before": (b"Transfer-Encoding: gzip, chunked\r\n", 400),
    "twice-in-a-list": (b"Transfer-Encoding: chunked, chunked\r\n", 400),
    "twice-in-a-list-without-space": (b"Transfer-Encoding: chunked,chunked\r\n", 400),
    "two-lines": (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400),
    "two-lines-identity-last": (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", 400),
    "two-lines-identity-first": (b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", 400),
    "two-lines-in-two-cases": (b"Transfer-Encoding: x\r\ntransfer-encoding: chunked\r\n", 400),
    "two-lines-empty-first": (b"Transfer-Encoding:\r\nTransfer-Encoding: chunked\r\n", 400),
    "two-lines-empty-last": (b"Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n", 400),
    "identity": (b"Transfer-Encoding: identity\r\n", 501),
    "cow": (b"Transfer-Encoding: cow\r\n", 501),
    "letter-more-before": (b"Transfer-Encoding: xchunked\r\n", 501),
    "letter-more-after": (b"Transfer-Encoding: chunkedx\r\n", 501),
    "letter-less": (b"Transfer-Encoding: chunke\r\n", 501),
    "gzip": (b"Transfer-Encoding: gzip\r\n", 501),
    "empty": (b"Transfer-Encoding:\r\n", 400),
    "comma-alone": (b"Transfer-Encoding: ,\r\n", 400),
    "semicolon-for-colon": (b"Transfer-Encoding; chunked\r\n", 400),
    "equals-for-colon": (b"Transfer-Encoding= chunked\r\n", 400),
    "no-colon": (b"Transfer-Encoding\r\n", 400),
    "two-colons": (b"Transfer-Encoding:: chunked\r\n", 400),
    "escaped": (b"Transfer-Encoding: chunked\\\r\n", 400),
    "percent": (b"Transfer-Encoding: %63hunked\r\n", 501),
}
CODINGS_TAKEN = {
    "plain": b"Transfer-Encoding: chunked\r\n",
    "lower-name": b"transfer-encoding: chunked\r\n",
    "upper-name": b"TRANSFER-ENCODING: chunked\r\n",
    "upper-value": b"Transfer-Encoding: CHUNKED\r\n",
    "mixed-value": b"Transfer-Encoding: cHuNkEd\r\n",
    "no-space": b"Transfer-Encoding:chunked\r\n",
    "tab": b"Transfer-Encoding:\tchunked\r\n",
    "spaces-and-tabs": b"Transfer-Encoding: \t  chunked \t \r\n",
}
# In place of "Content-Length: <N>", where the body is HIDDEN.
LENGTHS_REFUSED = {
    "two-equal-lines": b"Content-Length: %d\r\nContent-Length: %d\r\n" % (N, N),
    "two-lines-zero-first": b"Content-Length: 0\r\nContent-Length: %d\r\n" % N,
    "two-lines-zero-last": b"Content-Length: %d\r\nContent-Length: 0\r\n" % N,
    "two-lines-in-two-cases": b"Content-Length: %d\r\ncontent-length: 0\r\n" % N,
    "list-equal": b"Content-Length: %d, %d\r\n" % (N, N),
    "list-zero-first": b"Content-Length: 0, %d\r\n" % N,
    "list-zero-last": b"Content-Length: %d,0\r\n" % N,
    "comma-before": b"Content-Length: ,%d\r\n" % N,
    "comma-after": b"Content-Length: %d,\r\n" % N,
    "plus": b"Content-Length: +%d\r\n" % N,
    "minus": b"Content-Length: -%d\r\n" % N,
    "minus-zero": b"Content-Length: -0\r\n",
    "minus-one": b"Content-Length: -1\r\n",
    "hexadecimal": b"Content-Length: 0x%x\r\n" % N,
    "hexadecimal-without-mark": b"Content-Length: 3a\r\n",
    "octal-mark": b"Content-Length: 0o70\r\n",
    "exponent": b"Content-Length: 5e1\r\n",
    "decimal-point": b"Content-Length: %d.0\r\n" % N,
    "underscore": b"Content-Length: 5_0\r\n",
    "quoted": b'Content-Length: "%d"\r\n' % N,
    "semicolon": b"Content-Length: %d;\r\n" % N,
    "comment": b"Content-Length: %d (x)\r\n" % N,
    "two-numbers": b"Content-Length: 0 %d\r\n" % N,
    "nul-after": b"Content-Length: %d\x00\r\n" % N,
    "vertical-tab-before": b"Content-Length: \x0b%d\r\n" % N,
    "no-break-space-after": b"Content-Length: %d\xa0\r\n" % N,
    "wide-digits": "Content-Length: ５０\r\n".encode(),
    "arabic-digits": "Content-Length: ٥٠\r\n".encode(),
    "superscript": b"Content-Length: 5\xb2\r\n",
    "word": b"Content-Length: zero\r\n",
    "empty": b"Content-Length:\r\n",
    "white-space": b"Content-Length: \t \r\n",
    "overflows-64-bits": b"Content-Length: %d\r\n" % (2**64 + N),
    "overflows-63-bits": b"Content-Length: %d\r\n" % (2**63 + N),
    "hundred-digits": b"Content-Length: %d\r\n" % (10**100 + N),
    "hundred-zeros": b"Content-Length: " + b"0" * 100 + b"%d\r\n" % N,
    "folded": b"Content-Length:\r\n %d\r\n" % N,
    "folded-digits": b"Content-Length: 1\r\n %d\r\n" % N,
    "folded-line-before": b"X: y\r\n Content-Length: %d\r\n" % N,
    "space-before-colon": b"Content-Length : %d\r\n" % N,
    "tab-before-colon": b"Content-Length\t: %d\r\n" % N,
    "leading-space": b" Content-Length: %d\r\n" % N,
    "bare-lf-before": b"X: y\nContent-Length: %d\r\n" % N,
    "bare-cr-before": b"X: y\rContent-Length: %d\r\n" % N,
    "bare-lf-after": b"Content-Length: %d\nX: y\r\n" % N,
    "nul-in-name": b"Content\x00-Length: %d\r\n" % N,
    "8-bit-in-name": b"Content-Length\xa0: %d\r\n" % N,
    "space-in-name": b"Content Length: %d\r\n" % N,
    "no-name": b": %d\r\n" % N,
    "no-colon": b"Content-Length %d\r\n" % N,
}
LENGTHS_TAKEN = {
    "plain": b"Content-Length: %d\r\n" % N,
    "lower-name": b"content-length: %d\r\n" % N,
    "upper-name": b"CONTENT-LENGTH: %d\r\n" % N,
    "no-space": b"Content-Length:%d\r\n" % N,
    "tabs": b"Content-Length:\t%d\t\r\n" % N,
    "leading-zeros": b"Content-Length: 00%d\r\n" % N,
    "named-in-connection": b"Connection: content-length\r\nContent-Length: %d\r\n" % N,
    "host-named-in-connection": b"Connection: host, content-length\r\nContent-Length: %d\r\n" % N,
    "with-te-field": b"TE: chunked, trailers\r\nContent-Length: %d\r\n" % N,
    "with-content-encoding-chunked": b"Content-Encoding: chunked\r\nContent-Length: %d\r\n" % N,
    "with-trailer-field": b"Trailer: Transfer-Encoding\r\nContent-Length: %d\r\n" % N,
    "with-underscored-coding": b"Transfer_Encoding: chunked\r\nContent-Length: %d\r\n" % N,
    "with-dotted-coding": b"Transfer.Encoding: chunked\r\nContent-Length: %d\r\n" % N,
    "with-x-coding": b"X-Transfer-Encoding: chunked\r\nContent-Length: %d\r\n" % N,
    "with-expect": b"Expect: 100-continue\r\nContent-Length: %d\r\n" % N,
    "with-unknown-expect": b"Expect: y 100-continue\r\nContent-Length: %d\r\n" % N,
    "with-upgrade-to-h2c": (
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\nContent-Length: %d\r\n"
        % N
    ),
    "with-proxy-connection": b"Proxy-Connection: close\r\nContent-Length: %d\r\n" % N,
    "with-method-override": b"X-HTTP-Method-Override: HEAD\r\nContent-Length: %d\r\n" % N,
}
# After "Transfer-Encoding: chunked": bodies that are none.
CHUNKS_REFUSED = {
    "prefix-0x": b"0x0\r\n\r\n",
    "plus": b"+0\r\n\r\n",
    "minus": b"-0\r\n\r\n",
    "leading-space": b" 0\r\n\r\n",
    "leading-tab": b"\t0\r\n\r\n",
    "trailing-space": b"0 \r\n\r\n",
    "trailing-tab": b"0\t\r\n\r\n",
    "trailing-nul": b"0\x00\r\n\r\n",
    "trailing-vertical-tab": b"0\x0b\r\n\r\n",
    "trailing-comma": b"0,\r\n\r\n",
    "underscore": b"0_0\r\n\r\n",
    "quoted": b'"0"\r\n\r\n',
    "decimal-point": b"0.0\r\n\r\n",
    "8-bit": b"\xb2\r\n\r\n",
    "wide-digit": "０\r\n\r\n".encode(),
    "no-digits": b"\r\n\r\n",
    "no-digits-but-extension": b";x\r\n\r\n",
    "not-hexadecimal": b"g\r\n\r\n",
    "overflows-64-bits-to-zero": b"10000000000000000\r\n\r\n",
    "overflows-63-bits": b"8000000000000000\r\n\r\n",
    "all-ones": b"ffffffffffffffff\r\n\r\n",
    "hundred-zeros": b"0" * 100 + b"\r\n\r\n",
    "bare-lf-after-size": b"0\n\r\n",
    "bare-cr-after-size": b"0\r\r\n\r\n",
    "bare-lf-in-extension": b"0;x\ny\r\n\r\n",
    "bare-cr-in-extension": b"0;x\ry\r\n\r\n",
    "bare-lf-ends-extension": b"1;x\nA\r\n0\r\n\r\n",
    "bare-lf-in-quoted-extension": b'1;x="\n"\r\nA\r\n0\r\n\r\n',
    "nul-in-extension": b"0;x\x00\r\n\r\n",
    "extension-without-name": b"0;\r\n\r\n",
    "extension-of-equals": b"0;=x\r\n\r\n",
    "extension-with-open-quote": b'0;x="y\r\n\r\n',
    "extension-of-two-words": b"0;x y\r\n\r\n",
    "extension-by-comma": b"0,x\r\n\r\n",
    "bare-lf-after-data": b"1\r\nA\n0\r\n\r\n",
    "bare-cr-after-data": b"1\r\nA\r0\r\n\r\n",
    "nothing-after-data": b"1\r\nA0\r\n\r\n",
    "two-bytes-of-junk-after-data": b"1\r\nAXX0\r\n\r\n",
    "data-longer-than-its-size": b"1\r\nABC\r\n0\r\n\r\n",
    "line-end-more-after-data": b"1\r\nA\r\n\r\n0\r\n\r\n",
    "bare-lf-in-place-of-trailer": b"0\r\n\n",
    "bare-cr-in-place-of-trailer": b"0\r\n\r" + HIDDEN,
    "junk-in-place-of-trailer": b"0\r\nXX\r\n\r\n",
    "request-in-place-of-trailer": b"0\r\n" + HIDDEN,
    "trailer-with-space-before-colon": b"0\r\nX : y\r\n\r\n",
    "trailer-folded": b"0\r\nX: y\r\n z\r\n\r\n",
    "trailer-beginning-with-space": b"0\r\n X: y\r\n\r\n",
    "trailer-with-bare-lf": b"0\r\nX: y\nZ: a\r\n\r\n",
    "trailer-with-bare-cr": b"0\r\nX: y\rZ: a\r\n\r\n",
    "trailer-with-nul": b"0\r\nX: \x00\r\n\r\n",
    "trailer-without-name": b"0\r\n: y\r\n\r\n",
}
# Bodies that are well-formed, and what they hold.
CHUNKS_TAKEN = {
    "upper-hexadecimal": (b"1B\r\n%b\r\n%X\r\n%b\r\n0\r\n\r\n" % (HIDDEN[:27], N - 27, HIDDEN[27:]), HIDDEN),
    "leading-zeros": (b"0000%x\r\n%b\r\n000\r\n\r\n" % (N, HIDDEN), HIDDEN),
    "one-byte-each": (b"".join(b"1\r\n%c\r\n" % byte for byte in HIDDEN) + b"0\r\n\r\n", HIDDEN),
    "extension": (b"%x;a=b;c\r\n%b\r\n0;d\r\n\r\n" % (N, HIDDEN), HIDDEN),
    "extension-with-bad-white-space": (b"%x ; a = b\r\n%b\r\n0\r\n\r\n" % (N, HIDDEN), HIDDEN),
    "extension-quoted": (b'%x;a="b;\\"0"\r\n%b\r\n0\r\n\r\n' % (N, HIDDEN), HIDDEN),
    "last-chunk-in-data": (b"%x\r\n%b\r\n0\r\n\r\n" % (N + 5, ENDED_HIDDEN), ENDED_HIDDEN),
    "line-ends-in-data": (b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n"),
    "trailer": (CHUNKED_HIDDEN[:-2] + b"X-Sum: 1\r\n\r\n", HIDDEN),
    "trailer-with-length": (CHUNKED_HIDDEN[:-2] + b"Content-Length: 99\r\n\r\n", HIDDEN),
    "trailer-with-coding": (CHUNKED_HIDDEN[:-2] + b"Transfer-Encoding: chunked\r\n\r\n", HIDDEN),
    "trailer-with-host": (CHUNKED_HIDDEN[:-2] + b"Host: other.example\r\n\r\n", HIDDEN),
    "trailer-with-forwarding": (CHUNKED_HIDDEN[:-2] + b"X-Forwarded-For: 9.9.9.9\r\n\r\n", HIDDEN),
    "empty": (b"0\r\n\r\n", b""),
}
# Request lines with a Host field after them, and the status that they deserve.
LINES_REFUSED: dict[str, tuple[bytes, int]] = {
    "two-spaces-before-target": (b"METHOD  /TARGET HTTP/1.1\r\n", 400),
    "two-spaces-after-target": (b"METHOD /TARGET  HTTP/1.1\r\n", 400),
    "leading-space": (b" METHOD /TARGET HTTP/1.1\r\n", 400),
    "trailing-space": (b"METHOD /TARGET HTTP/1.1 \r\n", 400),
    "tabs": (b"METHOD\t/TARGET\tHTTP/1.1\r\n", 400),
    "vertical-tabs": (b"METHOD\x0b/TARGET\x0bHTTP/1.1\r\n", 400),
    "space-in-target": (b"METHOD /TARGET /x HTTP/1.1\r\n", 400),
    "version-twice": (b"METHOD /TARGET HTTP/1.1 HTTP/1.1\r\n", 400),
    "request-in-target": (b"METHOD /TARGET?GET /hidden HTTP/1.1\r\n", 400),
    "tab-in-target": (b"METHOD /TARGET\t HTTP/1.1\r\n", 400),
    "nul-in-target": (b"METHOD /TARGET\x00 HTTP/1.1\r\n", 400),
    "8-bit-in-target": (b"METHOD /TARGET\xe9 HTTP/1.1\r\n", 400),
    "delete-in-target": (b"METHOD /TARGET\x7f HTTP/1.1\r\n", 400),
    "bare-lf-in-target": (b"METHOD /TARGET\nX HTTP/1.1\r\n", 400),
    "bare-cr-in-target": (b"METHOD /TARGET\rX HTTP/1.1\r\n", 400),
    "fragment": (b"METHOD /TARGET#x HTTP/1.1\r\n", 400),
    "no-slash": (b"METHOD TARGET HTTP/1.1\r\n", 400),
    "asterisk": (b"METHOD * HTTP/1.1\r\n", 400),
    "authority-alone": (b"METHOD www.test.example:80 HTTP/1.1\r\n", 400),
    "absolute-with-user": (b"METHOD http://x@www.test.example/TARGET HTTP/1.1\r\n", 400),
    "absolute-without-host": (b"METHOD http:///TARGET HTTP/1.1\r\n", 400),
    "absolute-of-another-scheme": (b"METHOD file://www.test.example/TARGET HTTP/1.1\r\n", 400),
    "absolute-with-backslash": (b"METHOD http:\\\\www.test.example/TARGET HTTP/1.1\r\n", 400),
    "absolute-with-fragment": (b"METHOD http://www.test.example/TARGET#x HTTP/1.1\r\n", 400),
    "absolute-with-bad-port": (b"METHOD http://www.test.example:99999/TARGET HTTP/1.1\r\n", 400),
    "connect": (b"CONNECT www.test.example:80 HTTP/1.1\r\n", 501),
    "empty-method": (b" /TARGET HTTP/1.1\r\n", 400),
    "method-with-colon": (b"METHOD: /TARGET HTTP/1.1\r\n", 400),
    "method-with-nul": (b"GET\x00 /TARGET HTTP/1.1\r\n", 400),
    "method-with-8-bit": (b"G\xc3\x8bT /TARGET HTTP/1.1\r\n", 400),
    "method-of-one-hundred": (b"M" * 100 + b" /TARGET HTTP/1.1\r\n", 400),
    "version-missing": (b"METHOD /TARGET\r\n", 400),
    "version-lower-case": (b"METHOD /TARGET http/1.1\r\n", 400),
    "version-0.9": (b"METHOD /TARGET HTTP/0.9\r\n", 505),
    "version-1.2": (b"METHOD /TARGET HTTP/1.2\r\n", 505),
    "version-2.0": (b"METHOD /TARGET HTTP/2.0\r\n", 505),
    "version-1": (b"METHOD /TARGET HTTP/1\r\n", 400),
    "version-1.10": (b"METHOD /TARGET HTTP/1.10\r\n", 400),
    "version-1.1-with-zero": (b"METHOD /TARGET HTTP/01.1\r\n", 400),
    "version-comma": (b"METHOD /TARGET HTTP/1,1\r\n", 400),
    "version-with-space": (b"METHOD /TARGET HTTP/ 1.1\r\n", 400),
    "version-https": (b"METHOD /TARGET HTTPS/1.1\r\n", 400),
    "version-with-nul": (b"METHOD /TARGET HTTP/1.1\x00\r\n", 400),
    "target-too-long": (b"METHOD /TARGET" + b"x" * 9000 + b" HTTP/1.1\r\n", 414),
    "bare-lf-after-line": (b"METHOD /TARGET HTTP/1.1\n", 400),
    "bare-cr-after-line": (b"METHOD /TARGET HTTP/1.1\r", 400),
    "cr-crlf-after-line": (b"METHOD /TARGET HTTP/1.1\r\r\n", 400),
    "bare-lf-before-line": (b"\nMETHOD /TARGET HTTP/1.1\r\n", 400),
    "bare-cr-before-line": (b"\rMETHOD /TARGET HTTP/1.1\r\n", 400),
    "two-empty-lines-before": (b"\r\n\r\nMETHOD /TARGET HTTP/1.1\r\n", 400),
    "field-before-line": (b"X: y\r\nMETHOD /TARGET HTTP/1.1\r\n", 400),
    "byte-order-mark": (b"\xef\xbb\xbfMETHOD /TARGET HTTP/1.1\r\n", 400),
    "http-2-preface": (b"PRI * HTTP/2.0\r\n", 505),
    "tls-hello": (b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03\r\n", 400),
    "proxy-protocol": (b"PROXY TCP4 9.9.9.9 127.0.0.1 1 80\r\nMETHOD /TARGET HTTP/1.1\r\n", 400),
}
# In place of the Host line.
HOSTS_REFUSED: dict[str, tuple[bytes, int]] = {
    "none": (b"", 400),
    "two-equal": (b"Host: www.test.example\r\nHost: www.test.example\r\n", 400),
    "two-different": (b"Host: www.test.example\r\nHost: other.example\r\n", 400),
    "two-in-two-cases": (b"Host: other.example\r\nhost: www.test.example\r\n", 400),
    "second-folded": (b"Host: www.test.example\r\n Host: other.example\r\n", 400),
    "first-with-leading-space": (b" Host: www.test.example\r\nHost: other.example\r\n", 400),
    "with-path": (b"Host: www.test.example/x\r\n", 400),
    "with-query": (b"Host: www.test.example?x\r\n", 400),
    "with-fragment": (b"Host: www.test.example#x\r\n", 400),
    "with-user": (b"Host: x@www.test.example\r\n", 400),
    "with-space": (b"Host: www.test.example other.example\r\n", 400),
    "with-tab": (b"Host: www.test.example\tother.example\r\n", 400),
    "with-scheme": (b"Host: http://www.test.example\r\n", 400),
    "with-backslash": (b"Host: www.test.example\\x\r\n", 400),
    "with-nul": (b"Host: www.test.example\x00\r\n", 400),
    "with-8-bit": (b"Host: www.test.ex\xe4mple\r\n", 400),
    "with-word-for-port": (b"Host: www.test.example:x\r\n", 400),
    "with-large-port": (b"Host: www.test.example:65536\r\n", 400),
    "with-minus-port": (b"Host: www.test.example:-80\r\n", 400),
    "with-two-ports": (b"Host: www.test.example:80:80\r\n", 400),
    "with-open-bracket": (b"Host: [::1\r\n", 400),
    "with-quotes": (b'Host: "www.test.example"\r\n', 400),
    "space-before-colon": (b"Host : www.test.example\r\n", 400),
    "value-folded": (b"Host:\r\n www.test.example\r\n", 400),
}
# After the usual line and Host.
FIELDS_REFUSED = {
    "space-before-colon": b"X : y\r\n",
    "no-colon": b"X\r\n",
    "no-name": b": y\r\n",
    "space-for-a-name": b" : y\r\n",
    "leading-space": b" X: y\r\n",
    "folded": b"X: y\r\n z\r\n",
    "folded-to-nothing": b"X: y\r\n \r\n",
    "bare-lf-between": b"X: y\nZ: a\r\n",
    "bare-cr-between": b"X: y\rZ: a\r\n",
    "bare-lf-and-request": b"X: y\n\nGET /hidden HTTP/1.1\nHost: www.test.example\r\n",
    "lf-crlf-and-request": b"X: y\n\r\n" + HIDDEN[:-2],
    "bare-cr-in-name": b"X\rY: z\r\n",
    "bare-lf-in-name": b"X\nY: z\r\n",
    "cr-crlf-at-the-end": b"X: y\r\r\n",
    "nul-in-value": b"X: \x00\r\n",
    "escape-in-value": b"X: \x1b\r\n",
    "delete-in-value": b"X: \x7f\r\n",
    "8-bit-in-name": b"X\xe9: y\r\n",
    "wide-colon": "X：y\r\n".encode(),
    "parenthesis-in-name": b"X(y): z\r\n",
    "slash-in-name": b"X/y: z\r\n",
    "quoted-name": b'"X": z\r\n',
    "request-line-for-a-field": b"GET /hidden HTTP/1.1\r\n",
}


def _codings() -> Iterator[Shape]:
    for name, (lines, status) in CODINGS_REFUSED.items():
        yield refused(f"te.{name}", with_fields(lines, CHUNKED_HIDDEN), status)
        # With a length too: whoever misses one of both reads HIDDEN as a request.
        length = b"Content-Length: %d\r\n" % len(ENDED_HIDDEN)
        # A field line that is malformed stays so, but what is unknown is then first of all ambiguous.
        yield refused(f"cl.te.{name}", with_fields(length + lines, ENDED_HIDDEN), status)
    for name, line in CODINGS_TAKEN.items():
        yield taken(f"te.{name}", with_fields(line, CHUNKED_HIDDEN), HIDDEN)
        yield taken(f"te.{name}-then-a-second-request", with_fields(line, ENDED_HIDDEN), b"", b"")
        for order in ("cl.te", "te.cl"):
            length = b"Content-Length: %d\r\n" % (len(ENDED_HIDDEN) if order == "cl.te" else 4)
            lines = length + line if order == "cl.te" else line + length
            yield refused(f"{order}.{name}", with_fields(lines, ENDED_HIDDEN))
    yield refused("te.in-1.0", START.replace(b"1.1", b"1.0") + CODINGS_TAKEN["plain"] + b"\r\n" + CHUNKED_HIDDEN)
    yield refused(
        "te.with-zero-length", with_fields(CODINGS_TAKEN["plain"] + b"Content-Length: 0\r\n", CHUNKED_HIDDEN)
    )


def _lengths() -> Iterator[Shape]:
    for name, lines in LENGTHS_REFUSED.items():
        yield refused(f"cl.{name}", with_fields(lines, HIDDEN))
    for name, lines in LENGTHS_TAKEN.items():
        yield taken(f"cl.{name}", with_fields(lines, HIDDEN), HIDDEN)
    yield refused("cl.overflows-32-bits", with_fields(b"Content-Length: %d\r\n" % (2**32 + N), HIDDEN), 413)
    yield taken("cl.0", with_fields(b"Content-Length: 0\r\n", HIDDEN), b"", b"")
    yield taken("cl.none", with_fields(b"", HIDDEN), b"", b"")
    yield taken("cl.underscored", with_fields(b"Content_Length: %d\r\n" % N, HIDDEN), b"", b"")
    yield taken("cl.with-x", with_fields(b"X-Content-Length: %d\r\n" % N, HIDDEN), b"", b"")
    yield taken("cl.named-in-connection-alone", with_fields(b"Connection: content-length\r\n", HIDDEN), b"", b"")
    yield taken("cl.expect-without-body", with_fields(b"Expect: 100-continue\r\n", HIDDEN), b"", b"")
    yield then_refused("cl.shorter-than-the-body", with_fields(b"Content-Length: 1\r\n", b"xyz\r\n\r\n"), b"x")
    yield then_refused("cl.none-but-a-body", with_fields(b"", b"x=y\r\n\r\n"))
    yield last("cl.in-1.0", START.replace(b"1.1", b"1.0") + b"Content-Length: 0\r\n\r\n" + HIDDEN)
    yield last("cl.in-1.0-kept-alive", START.replace(b"1.1", b"1.0") + b"Connection: keep-alive\r\n\r\n" + HIDDEN)
    yield last("cl.with-close", with_fields(b"Connection: close\r\nContent-Length: %d\r\n" % N, HIDDEN), HIDDEN)
    yield last("connection.close-then-a-request", with_fields(b"Connection: close\r\n", HIDDEN))
    yield last("connection.close-among-others", with_fields(b"Connection: x, CLOSE ,y\r\n", HIDDEN))


def _chunks() -> Iterator[Shape]:
    coding = CODINGS_TAKEN["plain"]
    for name, body in CHUNKS_REFUSED.items():
        yield refused(f"chunk.{name}", with_fields(coding, body))
        yield refused(f"chunk.after-one.{name}", with_fields(coding, b"3\r\nabc\r\n" + body))
    for name, (body, content) in CHUNKS_TAKEN.items():
        yield taken(f"chunk.{name}", with_fields(coding, body), content)
    yield refused("chunk.long-extension", with_fields(coding, b"0;" + b"x" * 300 + b"\r\n\r\n"))
    yield refused("chunk.long-trailer", with_fields(coding, b"0\r\n" + b"X: yyyyyyyy\r\n" * 1000 + b"\r\n"), 431)


def _lines() -> Iterator[Shape]:
    host = b"Host: www.test.example\r\n"
    for name, (line, status) in LINES_REFUSED.items():
        yield refused(f"line.{name}", line + host + b"\r\n", status)
    for name, (lines, status) in HOSTS_REFUSED.items():
        yield refused(f"host.{name}", b"METHOD /TARGET HTTP/1.1\r\n" + lines + b"\r\n", status)
    for name, lines in FIELDS_REFUSED.items():
        yield refused(f"field.{name}", with_fields(lines))
        yield refused(f"field.first.{name}", b"METHOD /TARGET HTTP/1.1\r\n" + lines + host + b"\r\n")
    yield refused("field.of-too-many", with_fields(b"X: y\r\n" * 101), 431)
    yield refused("field.of-too-many-bytes", with_fields(b"X: %b\r\n" % (b"y" * 33_000)), 431)
    yield refused("field.end-by-bare-lf", START[:-2] + b"\n\n" + HIDDEN)
    yield refused("field.end-by-lf-after-crlf", START + b"\n" + HIDDEN)
    yield refused("field.end-by-cr-after-crlf", START + b"\r" + HIDDEN)
    yield refused("field.everything-by-bare-lf", START.replace(b"\r\n", b"\n") + b"\n" + HIDDEN)
    yield refused("line.0.9", b"METHOD /TARGET\r\n" + HIDDEN)


def _routes() -> Iterator[Shape]:
    host, other = b"Host: www.test.example\r\n", b"Host: other.example\r\n"
    absolute = b"METHOD http://www.test.example/TARGET HTTP/1.1\r\n"
    yield taken("route.absolute", absolute + host + b"\r\n")
    yield taken("route.absolute-beats-host", absolute + other + b"\r\n")
    yield taken("route.absolute-in-capitals", absolute.replace(b"http:", b"HTTP:") + other + b"\r\n")
    yield refused("route.absolute-without-host-field", absolute + b"\r\n")
    foreign = absolute.replace(b"www.test.example", b"other.example")
    yield Shape("route.absolute-elsewhere", foreign + host + b"\r\n", (421,), (), True)
    yield Shape("route.host-elsewhere", START.replace(HOST, b"other.example") + b"\r\n", (421,), (), True)
    yield Shape("route.empty-host", START.replace(HOST, b"") + b"\r\n", (421,), (), True)
    yield Shape("route.host-of-a-list", START.replace(HOST, HOST + b",other.example") + b"\r\n", (421,), (), True)
    yield taken("route.host-with-port", START.replace(HOST, HOST + b":8080") + b"\r\n")
    yield taken("route.host-with-dot-and-capitals", START.replace(HOST, HOST.upper() + b".") + b"\r\n")
    for name in (b"X-Forwarded-Host", b"X-Host", b"Forwarded", b"X-Original-URL", b"X-Rewrite-URL"):
        yield taken(f"route.{name.decode().lower()}", with_fields(name + b": other.example\r\n", HIDDEN), b"", b"")
    for name in (b"host", b"via", b"x-forwarded-for", b"cache-control", b"connection", b"keep-alive", b"a,,b"):
        shown = name.decode().replace(",,", "-and-")
        yield taken(f"connection.{shown}", with_fields(b"Connection: %b\r\n" % name, HIDDEN), b"", b"")
    for value in (b"h2c", b"HTTP/2.0", b"TLS/1.0"):
        lines = b"Connection: Upgrade\r\nUpgrade: %b\r\n" % value
        shown = value.decode().lower().replace("/", "-")
        yield taken(f"upgrade.{shown}", with_fields(lines, HIDDEN), b"", b"")
        yield taken(f"upgrade.{shown}-not-in-connection", with_fields(lines[21:], HIDDEN), b"", b"")
    yield taken("line.empty-line-before", b"\r\n" + START + b"\r\n", b"")
    yield taken("line.unknown-method", START.replace(b"METHOD", b"QUERY") + b"\r\n" + HIDDEN, b"", b"")
    yield Shape("line.trace", START.replace(b"METHOD", b"TRACE") + b"\r\n", (501,), (), True)
    yield Shape(
        "line.options-asterisk", with_fields(b"").replace(b"METHOD /TARGET", b"OPTIONS *"), (501,), (), True
    )
    get = START.replace(b"METHOD", b"GET") + LENGTHS_TAKEN["plain"] + b"\r\n" + HIDDEN
    yield taken("get.with-a-body", get, HIDDEN)
    yield taken("get.with-a-body-then-a-request", get + HIDDEN, HIDDEN, b"")
    yield taken("delete.with-a-body", get.replace(b"GET /T", b"DELETE /T"), HIDDEN)
    yield taken("options.with-a-body", get.replace(b"GET /T", b"OPTIONS /T"), HIDDEN)
    chunked = START.replace(b"METHOD", b"GET") + CODINGS_TAKEN["plain"] + b"\r\n" + CHUNKED_HIDDEN
    yield taken("get.with-chunks", chunked, HIDDEN)
    yield taken("get.with-chunks-then-a-request", chunked + HIDDEN, HIDDEN, b"")
    yield taken("get.after-a-get", START.replace(b"METHOD", b"GET") + b"\r\n" + HIDDEN, b"", b"")


SHAPES = (*_codings(), *_lengths(), *_chunks(), *_lines(), *_routes())
