"""A policy that tries others on a small scale, and becomes the best of them.

No weights are best for all traffic: where popularity is steady, counts tell most; where it changes, the last hit
does. So candidates compete in miniature (Waldspurger et al., ATC 2017): each has a store of its own, without
bodies, for one of ``1 << shift`` objects and as small a part of the capacity. Hits are not reported to a policy;
it looks now and then which of the sampled objects were hit since.
"""

from collections.abc import Callable, Sequence
from typing import final

from nearmile.cache.entry import Entry
from nearmile.cache.eviction import GreedyDual, Weights, name_of

FOR_OBJECTS = (Weights(1, 1, 0), Weights(1, 1.5, 0), Weights(0.5, 0.5, 0), Weights(1, 2, 3))
FOR_BYTES = (Weights(0, 0.5, 0), Weights(0, 0, 0), Weights(0, 2, 10), Weights(0, 4, 30))
# One object in 32; half as many each time that so many are watched. A candidate takes about 300 bytes for each.
FIRST_SHIFT, WATCHED_MAX = 5, 2048
# Objects are watched in rounds: a round is as many misses as objects are watched, at least so many.
ROUND_MIN = 64
# Scores are compared, and halved, after so many sampled requests and as many as are watched, four times.
COMPARE_MIN, COMPARE_ROUNDS = 512, 4
# Who takes over must be better by so much: large objects make a sample's bytes uncertain, and a change costs a
# look at every entry.
LEAD_OF_OBJECTS, LEAD_OF_BYTES = 1.005, 1.02


class Adaptive:
    """The policy of ``candidates`` that scored best lately, for a store of ``capacity_bytes``.

    With ``of_bytes``, a hit is worth its bytes, else each is worth the same.
    """

    def __init__(self, capacity_bytes: int, candidates: Sequence[Weights], of_bytes: bool) -> None:
        self._policy: GreedyDual[Entry] = GreedyDual(capacity_bytes, candidates[0])
        self.level = self._policy.level
        self._of_bytes = of_bytes
        self._lead = LEAD_OF_BYTES if of_bytes else LEAD_OF_OBJECTS
        self._shift = FIRST_SHIFT
        capacity_bytes >>= FIRST_SHIFT
        self._trials = [_Trial(weights, capacity_bytes) for weights in candidates]
        self._watched: dict[int, Entry] = {}
        self._misses = self._requests = 0
        self._looked_at_level = self.level

    @property
    def weights(self) -> Weights:
        """Those in use."""
        return self._policy.weights

    def insert(self, entry: Entry, lane: int = 0) -> None:
        name = name_of(entry)
        self._policy.insert(entry, name, lane)
        self.level = self._policy.level
        self._misses += 1
        if self._sampled(name):
            self._watched[name] = entry
            self._request(name, entry.size_bytes)
        if self._misses > max(ROUND_MIN, len(self._watched)):
            self._look()

    def remove(self, entry: Entry, lane: int = 0) -> None:
        name = name_of(entry)
        self._policy.remove(entry, name, lane)
        if self._sampled(name) and self._watched.get(name) is entry:
            del self._watched[name]
            if abs(entry.visited) >= self._looked_at_level:
                self._request(name, entry.size_bytes)

    def victim(self, lanes: Sequence[int] = (0,)) -> Entry:
        entry = self._policy.victim(lanes)
        self.level = self._policy.level
        return entry

    def _sampled(self, name: int) -> bool:
        # The top bits: the low ones choose cells of the counts.
        return (name >> 52) & ((1 << self._shift) - 1) == 0

    def _request(self, name: int, size_bytes: int) -> None:
        self._requests += 1
        for trial in self._trials:
            trial.request(name, size_bytes, size_bytes if self._of_bytes else 1)

    def _look(self) -> None:
        for name, entry in self._watched.items():
            if abs(entry.visited) >= self._looked_at_level:
                self._request(name, entry.size_bytes)
        self._looked_at_level, self._misses = self.level, 0
        if self._requests > max(COMPARE_MIN, COMPARE_ROUNDS * len(self._watched)):
            self._compare()
        if len(self._watched) > WATCHED_MAX:
            self._narrow()

    def _narrow(self) -> None:
        """Goes on with half of the sample: a bit more must be 0."""
        self._shift += 1
        self._watched = {name: entry for name, entry in self._watched.items() if self._sampled(name)}
        for trial in self._trials:
            trial.narrow(self._sampled)

    def _compare(self) -> None:
        self._requests = 0
        scores = {trial.policy.weights: trial.score for trial in self._trials}
        best = max(scores, key=lambda weights: scores[weights])
        if scores[best] > self._lead * scores[self._policy.weights]:
            self._policy.reweigh(best)
        for trial in self._trials:
            trial.score /= 2


@final
class _Sample:
    """An entry of a candidate's store."""

    __slots__ = ("count", "name", "size_bytes", "turn", "visited")

    def __init__(self, name: int, size_bytes: int) -> None:
        self.name, self.size_bytes = name, size_bytes
        self.visited = self.turn = 0.0
        self.count: float = 0

    def __lt__(self, other: object) -> bool:
        return False


@final
class _Trial:
    """A candidate with its store."""

    def __init__(self, weights: Weights, capacity_bytes: int) -> None:
        self.policy: GreedyDual[_Sample] = GreedyDual(capacity_bytes, weights)
        self.score = 0.0
        self._capacity_bytes = capacity_bytes
        self._used_bytes = 0
        self._inside: dict[int, _Sample] = {}

    def narrow(self, sampled: Callable[[int], bool]) -> None:
        self._capacity_bytes >>= 1
        for sample in [sample for name, sample in self._inside.items() if not sampled(name)]:
            self._drop(sample)
        self._evict()

    def request(self, name: int, size_bytes: int, worth: int) -> None:
        found = self._inside.get(name)
        if found is not None:
            found.visited = self.policy.level
            self.score += worth
        elif size_bytes <= self._capacity_bytes:
            self._inside[name] = sample = _Sample(name, size_bytes)
            self.policy.insert(sample, name)
            self._used_bytes += size_bytes
            self._evict()

    def _evict(self) -> None:
        while self._used_bytes > self._capacity_bytes:
            self._drop(self.policy.victim())

    def _drop(self, sample: _Sample) -> None:
        self.policy.remove(sample, sample.name)
        self._used_bytes -= sample.size_bytes
        del self._inside[sample.name]
