"""The virtual network: delay, jitter, loss, and cuts in one direction or both."""

from collections.abc import Callable, Iterable
from random import Random

from nearmile.simulate.clock import Clock

# A node's own way to the middle of the network, one way; jitter comes on top of both ends' ways.
DELAY_MIN_S, DELAY_MAX_S, JITTER_MAX_S = 0.001, 0.040, 0.020
# What is sent reliably (TCP) and lost is sent again after so long (RFC 6298's usual minimum on Linux).
RESEND_S = 0.2
HOP_MAX_S = 2 * DELAY_MAX_S + JITTER_MAX_S + RESEND_S  # the longest that a reliable message takes


class Network:
    """Carries anything from node to node; a cut path swallows it."""

    def __init__(self, clock: Clock, chance: Random, loss: float) -> None:
        self._clock, self._chance, self._loss = clock, chance, loss
        self._far_s: dict[str, float] = {}
        # How many of the present cuts lie on the path, where any does.
        self._cuts: dict[tuple[str, str], int] = {}

    def join(self, node: str) -> None:
        """Gives the node its way to the middle."""
        self._far_s[node] = self._chance.uniform(DELAY_MIN_S, DELAY_MAX_S)

    def cut(self, sources: Iterable[str], targets: Iterable[str]) -> Callable[[], None]:
        """Cuts these paths in this direction; returns what heals them. Cuts may overlap."""
        paths = [(source, target) for source in sources for target in targets]
        for path in paths:
            self._cuts[path] = self._cuts.get(path, 0) + 1

        def heal() -> None:
            for path in paths:
                self._cuts[path] -= 1
                if not self._cuts[path]:
                    del self._cuts[path]

        return heal

    def open(self, source: str, target: str) -> bool:
        """Whether messages pass in this direction."""
        return (source, target) not in self._cuts

    def send(self, source: str, target: str, arrive: Callable[[], None], reliable: bool = True) -> None:
        """Calls ``arrive`` later, or never. Messages may overtake each other."""
        if (source, target) in self._cuts:
            return
        # One draw for jitter and loss: it is called for every beat of every server.
        drawn = self._chance.random()
        delay_s = self._far_s[source] + self._far_s[target] + JITTER_MAX_S * drawn
        if drawn < self._loss:
            if not reliable:
                return
            delay_s += RESEND_S
        self._clock.after(delay_s, arrive)
