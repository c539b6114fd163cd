"""Which objects were seen lately: two Bloom filters in turn, ten bits for each object, one in a hundred wrong."""

BITS_PER_NAME, PROBES = 10, 7


class Seen:
    """The last ``size_bytes`` to twice as many, of ``count`` objects each at most; names have 60 random bits."""

    def __init__(self, size_bytes: int, count: int) -> None:
        # A power of two, so that cutting off bits makes a number in range.
        self._mask = (1 << (max(1, count) * BITS_PER_NAME).bit_length()) - 1
        self._bytes_max, self._count_max = size_bytes, max(1, count)
        self._added_bytes = self._added = 0
        self._new, self._old = self._empty(), self._empty()

    def add(self, name: int, size_bytes: int) -> None:
        """This one was seen."""
        if self._added >= self._count_max or self._added_bytes + size_bytes > self._bytes_max:
            self._added = self._added_bytes = 0
            self._old, self._new = self._new, self._empty()
        self._added += 1
        self._added_bytes += size_bytes
        bits, mask = self._new, self._mask
        for probe in _probes(name):
            bits[(probe & mask) >> 3] |= 1 << (probe & 7)

    def __contains__(self, name: int) -> bool:
        mask, probes = self._mask, _probes(name)
        for bits in (self._new, self._old):
            for probe in probes:
                if not bits[(probe & mask) >> 3] >> (probe & 7) & 1:
                    break
            else:
                return True
        return False

    def _empty(self) -> bytearray:
        return bytearray((self._mask + 8) >> 3)


def _probes(name: int) -> range:
    # Two hashes make as many as are needed (Kirsch and Mitzenmacher, 2006).
    low, step = name & ((1 << 30) - 1), name >> 30 | 1
    return range(low, low + PROBES * step, step)
