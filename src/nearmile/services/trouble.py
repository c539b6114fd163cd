"""What goes wrong again and again is told once, and once that it is over: logs must be short enough to be read."""

from logging import Logger


class Trouble:
    """One thing that can go wrong. ``what`` it is begins what is told, ``over`` is told in the end."""

    def __init__(self, log: Logger, what: str, over: str) -> None:
        self._log, self._what, self._over = log, what, over
        self._why = ""

    def tell(self, why: str) -> None:
        """How it is now; empty while nothing is wrong."""
        if why and not self._why:
            self._log.error("%s: %s", self._what, why)
        elif self._why and not why:
            self._log.info(self._over)
        self._why = why
