"""When a process that died may start again: soon at first, ever later while it keeps dying young.

A process that lived for a while starts anew with the shortest pause, whatever killed it; one that dies young
again and again is first slowed down and then put to sleep for long: it neither fills the logs nor starves others.
"""

from collections import deque

FIRST_PAUSE_S = 0.2  # a crash is over before a client's second try
PAUSE_MAX_S = 30.0
# A process that lived so long had started well: its death is news, not a repetition.
STEADY_S = 5.0
# The pauses alone space ten early deaths over some 80 s; a process that reaches the limit will not mend by itself.
EARLY_DEATHS_MAX = 10
WINDOW_S = 300.0
LONG_SLEEP_S = 300.0


class RestartPolicy:
    """One process's. Times are of one monotonic clock."""

    def __init__(self) -> None:
        self._started_s: float | None = None
        self._pause_s = FIRST_PAUSE_S
        self._early: deque[float] = deque(maxlen=EARLY_DEATHS_MAX)

    def started(self, now_s: float) -> None:
        """The process was started."""
        self._started_s = now_s

    def exited(self, now_s: float) -> float:
        """The process died, or could not be started; returns when to start it again."""
        lived_s = now_s - self._started_s if self._started_s is not None else 0.0
        self._started_s = None
        if lived_s >= STEADY_S:
            self._pause_s = FIRST_PAUSE_S
        else:
            self._early.append(now_s)
        if len(self._early) == EARLY_DEATHS_MAX and now_s - self._early[0] <= WINDOW_S:
            self._early.clear()
            self._pause_s = FIRST_PAUSE_S
            return now_s + LONG_SLEEP_S
        start_s = now_s + self._pause_s
        self._pause_s = min(2 * self._pause_s, PAUSE_MAX_S)
        return start_s
