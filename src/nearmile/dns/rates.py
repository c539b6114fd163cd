"""How many responses a second somebody gets, in a table of fixed size that no flood can fill.

Each key has a bucket of time (GCRA, ITU-T I.371), found by Python's hash, which is salted for each process: nobody
outside can choose whom to share a bucket with. Two keys of one bucket share its rate.
"""

from collections.abc import Hashable

# 32 bytes each at most. A flood from everywhere is spread over all of them: of a million a second each takes 15.
BUCKETS = 65_536
BURST_S = 1.0


class Rates:
    """``per_s`` for each key steadily, and as many at once after a second of silence."""

    def __init__(self, per_s: float, buckets: int = BUCKETS) -> None:
        self.pause_s, self.buckets = 1 / per_s, buckets
        self.paid_until_s = [0.0] * buckets

    def take(self, key: Hashable, now_s: float) -> bool:
        """Whether there is one more for that key now; if so it is taken. A clock set back costs one burst."""
        index = hash(key) % self.buckets
        paid_until_s = self.paid_until_s[index]
        if paid_until_s <= now_s:
            self.paid_until_s[index] = now_s + self.pause_s
            return True
        if paid_until_s - now_s > BURST_S:
            if paid_until_s - now_s > 2 * BURST_S:
                self.paid_until_s[index] = now_s + BURST_S
            return False
        self.paid_until_s[index] = paid_until_s + self.pause_s
        return True
