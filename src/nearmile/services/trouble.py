"""What goes wrong again and again is told once, and once that it is over: logs must be short enough to be read."""

import logging
import time
from collections.abc import Callable

# What goes wrong while processes start, one before the other, is over by then. Shorter than a map is held back
# (HELD_BACK_S), so that none is let go without an error in the log.
START_S = 8.0


class Trouble:
    """One thing that can go wrong. ``what`` it is begins what is told, ``over`` is told in the end.

    It is an error once it has lasted ``patience_s``, and until then for information.
    """

    def __init__(
        self,
        log: logging.Logger,
        what: str,
        over: str,
        patience_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log, self._what, self._over = log, what, over
        self._patience_s, self._clock = patience_s, clock
        self._since_s = 0.0
        self._told = logging.NOTSET
        """How loud."""

    def tell(self, why: str) -> None:
        """How it is now; empty while nothing is wrong."""
        if why:
            self._since_s = self._since_s if self._told else self._clock()
            lasts = self._clock() - self._since_s >= self._patience_s
            level = logging.ERROR if lasts else logging.INFO
            if level > self._told:
                self._log.log(level, "%s: %s", self._what, why)
                self._told = level
        elif self._told:
            self._log.info(self._over)
            self._told = logging.NOTSET
