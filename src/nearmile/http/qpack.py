"""Field compression of HTTP/3 (QPACK, RFC 9204) without the dynamic table.

So a field section means the same on every connection, and what was understood or said once is known by its bytes:
``Sections`` remembers both, and with it a hit costs no compression at all. Clients lose a hundred bytes a request.
"""

from contextlib import suppress

from qh3._hazmat import EncoderStreamError, QpackEncoder

from nearmile.http.fields import Fields, Pairs
from nearmile.http.limits import H3_SECTIONS_MAX, MEMO_BLOCK_BYTES_MAX
from nearmile.http.prefixed import prefixed
from nearmile.http.qpackread import Reader
from nearmile.http.streams import headers_of, keep_head

# RFC 9204 section 4.5.1: no reference to the dynamic table in what follows.
START = b"\x00\x00"
# Literal with the name of the static table's entry 2, `age` (section 4.5.4).
AGE = b"\x52"
# Beyond some tens of KB the library's encoder fails, or panics; heads of such a size gain little by compression.
ENCODED_BYTES_MAX = 8 << 10


class Sections:
    """Field sections by their bytes: what requests say, how responses' heads are said."""

    def __init__(self) -> None:
        self.requests: dict[bytes, tuple[bytes, Fields]] = {}
        """Of requests for what may be stored: target and fields."""
        self.heads: dict[bytes, bytes] = {}
        """Of responses, by their heads of HTTP/1.1: field lines, without what a section starts with."""
        self.headers = Reader().read
        """What a section says."""
        self._encoder = QpackEncoder()

    def learn_request(self, section: bytes, target: bytes, fields: Fields) -> bool:
        """Keeps what a request says; returns whether it did."""
        if len(section) > MEMO_BLOCK_BYTES_MAX:
            return False
        if len(self.requests) >= H3_SECTIONS_MAX:
            self.requests.clear()
        self.requests[section] = target, fields
        return True

    def learn_head(self, head: bytes) -> bytes:
        """Says a stored response's head, and keeps that, if it is as short as most."""
        return keep_head(self.heads, head, self.lines(headers_of(head)), H3_SECTIONS_MAX)

    def lines(self, headers: Pairs) -> bytes:
        """The field lines of a section."""
        if sum(len(name) + len(value) for name, value in headers) <= ENCODED_BYTES_MAX:
            with suppress(EncoderStreamError):  # of values that are not UTF-8
                return bytes(self._encoder.encode(0, list(headers))[1][len(START) :])
        return b"".join(_literal(name, value) for name, value in headers)


def _literal(name: bytes, value: bytes) -> bytes:
    """A field line without any compression (RFC 9204 section 4.5.6)."""
    return prefixed(0x20, 3, len(name)) + name + prefixed(0, 7, len(value)) + value
