"""The virtual network: delay, jitter, loss, and cuts in one direction or both."""

from collections import Counter
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
        # How many of the present cuts lie on the path.
        self._cuts: Counter[tuple[str, str]] = Counter()

    def cut(self, sources: Iterable[str], targets: Iterable[str]) -> Callable[[], None]:
        """Cuts these paths in this direction; returns what heals them. Cuts may overlap."""
        paths = [(source, target) for source in sources for target in targets]
        self._cuts.update(paths)
        return lambda: self._cuts.subtract(paths)

    def open(self, source: str, target: str) -> bool:
        """Whether messages pass in this direction."""
        return not self._cuts[source, target]

    def send(self, source: str, target: str, arrive: Callable[[], None], reliable: bool = True) -> None:
        """Calls ``arrive`` later, or never. Messages may overtake each other."""
        if self._cuts[source, target]:
            return
        chance = self._chance
        delay_s = self._far(source) + self._far(target) + JITTER_MAX_S * chance.random()
        if chance.random() < self._loss:
            if not reliable:
                return
            delay_s += RESEND_S
        self._clock.after(delay_s, arrive)

    def _far(self, node: str) -> float:
        """The node's way to the middle, chosen when it is first asked for."""
        far_s = self._far_s.get(node)
        if far_s is None:
            far_s = self._far_s[node] = self._chance.uniform(DELAY_MIN_S, DELAY_MAX_S)
        return far_s
