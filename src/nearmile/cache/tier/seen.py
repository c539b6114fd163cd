"""Which objects were seen lately: two Bloom filters in turn, ten bits for each object, one in a hundred wrong."""

BITS_PER_NAME, PROBES = 10, 7


class Seen:
    """Made for ``count`` names, of 60 random bits."""

    def __init__(self, count: int) -> None:
        # A power of two, so that cutting off bits makes a number in range.
        self._mask = (1 << (max(1, count) * BITS_PER_NAME).bit_length()) - 1
        self._added = 0
        self._new, self._old = self._empty(), self._empty()

    def add(self, name: int, remembered: int) -> None:
        """This one was seen; at least half of the last ``remembered`` are to be known, and no more than those."""
        if self._added >= remembered // 2:
            self._added, self._old, self._new = 0, self._new, self._empty()
        self._added += 1
        bits = self._new
        for probe in self._probes(name):
            bits[probe >> 3] |= 1 << (probe & 7)

    def __contains__(self, name: int) -> bool:
        probes = self._probes(name)
        for bits in (self._new, self._old):
            for probe in probes:
                if not bits[probe >> 3] >> (probe & 7) & 1:
                    break
            else:
                return True
        return False

    def _empty(self) -> bytearray:
        return bytearray((self._mask + 8) >> 3)

    def _probes(self, name: int) -> list[int]:
        # Two hashes make as many as are needed (Kirsch and Mitzenmacher, 2006).
        low, step = name & ((1 << 30) - 1), name >> 30 | 1
        return [(low + n * step) & self._mask for n in range(PROBES)]
