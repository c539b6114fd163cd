"""Numbers and strings as HPACK and QPACK have them (RFC 7541 section 5), read strictly and written."""

from nearmile.http.huffman import Huffman
from nearmile.http.limits import MEMO_ENTRIES_MAX

# Of a number's bytes beyond the prefix (section 5.1): 62 bits (RFC 9204 section 4.1.1) take nine.
NUMBER_BYTES_MAX = 9
# Longer ones are seldom said twice.
STRING_BYTES_MAX = 256


def read_number(data: bytes, at: int, mask: int) -> tuple[int, int]:
    """A number and where it ends; ``mask``: its bits of the first byte. Raises IndexError where it has no end."""
    number = data[at] & mask
    at += 1
    if number < mask:
        return number, at
    for shift in range(0, 7 * NUMBER_BYTES_MAX, 7):
        byte = data[at]
        at += 1
        number += (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    raise ValueError("a number of too many bytes")


def prefixed(pattern: int, bits: int, number: int) -> bytes:
    """A number, behind the bits of ``pattern``."""
    most = (1 << bits) - 1
    if number < most:
        return bytes((pattern | number,))
    out = bytearray((pattern | most,))
    number -= most
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


class Strings:
    """Reads strings. What Huffman's code says it remembers: clients repeat most of their values."""

    def __init__(self) -> None:
        self._huffman = Huffman()
        self._known: dict[bytes, bytes] = {}

    def read(self, data: bytes, at: int, mask: int) -> tuple[bytes, int]:
        """A string and where it ends (section 5.2), with the flag for Huffman's code before ``mask``, the bits of
        its length. Raises IndexError where it does not end, ValueError where it is none."""
        coded = data[at] & (mask + 1)
        size, start = read_number(data, at, mask)
        said, end = data[start : start + size], start + size
        if end > len(data):
            raise IndexError
        if not coded:
            return said, end
        if (known := self._known.get(said)) is not None:
            return known, end
        decoded = self._huffman.decode(said)
        if len(said) <= STRING_BYTES_MAX:
            if len(self._known) >= MEMO_ENTRIES_MAX:
                self._known.clear()
            self._known[said] = decoded
        return decoded, end
