"""How fast a client must be: one that moves a byte now and then is never silent, and never done either."""

from nearmile.edge import limits


class Pace:
    """A credit of bytes that each second of waiting uses up and each byte that moves restores.

    So what counts is the average over the last PACE_GRACE_S of waiting, and a connection that was fast for an hour
    cannot afford to be slow for another.
    """

    def __init__(self) -> None:
        self._credit_bytes = _full_credit_bytes()

    def too_slow(self, moved_bytes: int) -> bool:
        """Called by each sweep in which the client is waited for; ``moved_bytes`` since the one before."""
        change_bytes = moved_bytes - limits.PACE_BYTES_PER_S_MIN * limits.SWEEP_S
        self._credit_bytes = min(self._credit_bytes + change_bytes, _full_credit_bytes())
        return self._credit_bytes < 0


def _full_credit_bytes() -> float:
    return limits.PACE_BYTES_PER_S_MIN * limits.PACE_GRACE_S
