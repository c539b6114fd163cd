"""Which origin to ask: one that fails again and again is put aside for a while, each time for longer.

    UP --FAILURES_MAX failures in a row--> ASIDE --its time is over: one request--> TRYING
    TRYING --a failure--> ASIDE, twice as long          any --an answer--> UP

Where an origin is probed, a good probe ends its time aside, and no client's request is spent on trying it.
"""

from collections.abc import Iterable, Iterator
from enum import Enum
from typing import TypeVar

# One failure may be chance; nginx's max_fails is 1, Envoy's consecutive 5xx is 5.
FAILURES_MAX = 3
# The first pause, doubled each time up to the second: soon back after a restart, and rarely a client's loss later.
ASIDE_S, ASIDE_S_MAX = 1.0, 60.0


class State(Enum):
    """What is thought of an origin."""

    UP = "answers"
    ASIDE = "is not asked for now"
    TRYING = "has been asked once again"


class Health:
    """One origin's."""

    def __init__(self, probed: bool = False) -> None:
        self.state = State.UP
        self.probed = probed
        self.failures = 0
        """In a row."""
        self.pause_s = 0.0
        self.until_s = 0.0
        """End of its time aside, or of what a try may take before there is another."""

    def admits(self, now_s: float) -> bool:
        """Whether to ask it: the one who hears so is to do it."""
        if self.state is State.UP:
            return True
        if self.probed or now_s < self.until_s:
            return False
        self.state, self.until_s = State.TRYING, now_s + self.pause_s
        return True

    def answered(self) -> bool:
        """It answered; returns whether that is news."""
        news = self.state is not State.UP
        self.state, self.failures, self.pause_s = State.UP, 0, 0.0
        return news

    def failed(self, now_s: float) -> bool:
        """It did not; returns whether it is put aside now."""
        if self.state is State.ASIDE and now_s < self.until_s:
            return False  # a request from before
        self.failures += 1
        if self.state is State.UP and self.failures < FAILURES_MAX:
            return False
        self.state = State.ASIDE
        self.pause_s = min(2 * self.pause_s or ASIDE_S, ASIDE_S_MAX)
        self.until_s = now_s + self.pause_s
        return True


K = TypeVar("K")


def turns(choices: Iterable[tuple[K, Health]], now_s: float, last_resort: bool = True) -> Iterator[K]:
    """Whom to ask, one after the other, as far as need be: those who are well, in their order.

    If none is, all, where they are the ``last_resort``: what may fail is better than a failure that is certain.
    """
    choices, any_asked = tuple(choices), False
    for choice, health in choices:
        if health.admits(now_s):
            any_asked = True
            yield choice
    if last_resort and not any_asked:
        yield from (choice for choice, _ in choices)
