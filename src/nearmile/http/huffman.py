"""The Huffman code of HPACK and QPACK (RFC 7541 section 5.2 and appendix B), read strictly."""

from nearmile.http.limits import HUFFMAN_STEPS_MAX

# Of each length in bits, the bytes that have codes of it, in order. The code is canonical: each code is the one
# before it plus one, with zeros where it is longer. The last one, 30 ones, is the end of a string, which none has.
_SYMBOLS: dict[int, bytes] = {
    5: b"012aceiost",
    6: b" %-./3456789=A_bdfghlmnpru",
    7: b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz",
    8: b"&*,;XZ",
    10: b'!"()?',
    11: b"'+|",
    12: b"#>",
    13: b"\x00$@[]~",
    14: b"^}",
    15: bytes.fromhex("3c607b"),
    19: bytes.fromhex("5cc3d0"),
    20: bytes.fromhex("808283a2b8c2e0e2"),
    21: bytes.fromhex("99a1a7acb0b1b3d1d8d9e3e5e6"),
    22: bytes.fromhex("8184858688929a9ca0a3a4a9aaadb2b5b9babbbdbec4c6e4e8e9"),
    23: bytes.fromhex("0187898a8b8c8d8f93959697989b9d9ea5a6a8aeafb4b6b7bcbfc5e7ef"),
    24: bytes.fromhex("098e9091949fabced7e1eced"),
    25: bytes.fromhex("c7cfeaeb"),
    26: bytes.fromhex("c0c1c8c9cacdd2d5dadbeef0f2f3ff"),
    27: bytes.fromhex("cbccd3d4d6dddedff1f4f5f6f7f8fafbfcfdfe"),
    28: bytes.fromhex("020304050607080b0c0e0f1011121314151718191a1b1c1d1e1f7fdcf9"),
    30: bytes.fromhex("0a0d16"),
}
_BITS_MAX = 30


def _codes() -> dict[int, int]:
    """Bytes by their codes, behind a one."""
    found, code, before = {}, 0, 0
    for length, symbols in _SYMBOLS.items():
        code <<= length - before
        before = length
        for symbol in symbols:
            found[1 << length | code] = symbol
            code += 1
    return found


_CODES = _codes()


class Huffman:
    """Reads byte by byte: what a byte means behind the bits that are left of the last is found out once."""

    def __init__(self) -> None:
        self._steps: dict[int, tuple[int, bytes]] = {}

    def decode(self, data: bytes) -> bytes:
        """Raises ValueError where that is no string (section 5.2: an end of string, or padding of other bits)."""
        state, out, steps = 1, [], self._steps
        for byte in data:
            state, piece = steps.get(state << 8 | byte) or self._step(state, byte)
            out.append(piece)
        if state & (state + 1) or state > 0xFF:
            raise ValueError("padding that is none")
        return b"".join(out)

    def _step(self, state: int, byte: int) -> tuple[int, bytes]:
        """``state``: the bits that are no whole code yet, behind a one."""
        key, out = state << 8 | byte, bytearray()
        for bit in range(7, -1, -1):
            state = state << 1 | byte >> bit & 1
            if (symbol := _CODES.get(state)) is not None:
                out.append(symbol)
                state = 1
            elif state >> _BITS_MAX:
                raise ValueError("a code that no byte has")
        if len(self._steps) >= HUFFMAN_STEPS_MAX:
            self._steps.clear()
        self._steps[key] = state, bytes(out)
        return state, bytes(out)
