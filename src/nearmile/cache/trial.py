"""A policy that tries others on a small scale, and becomes the best of them.

No weights are best for all traffic: where popularity is steady, counts tell most; where it changes, the last hit
does. So candidates compete in miniature (Waldspurger et al., ATC 2017): each has a store of its own, without
bodies, for a sample of the objects. Hits are not reported to a policy; it looks now and then which of the sampled
objects were hit since.

Where each hit is worth the same, one of ``1 << shift`` objects is sampled, and a miniature has as small a part of
the capacity. Where a hit is worth its bytes, a few large objects decide, and such a sample would mostly miss them:
so objects are drawn in proportion to their size, and one that is drawn stands for ``grain_bytes`` of its like, or
for itself if it is larger (Horvitz and Thompson, 1952); miniatures have the whole capacity, for as few objects.
"""

from collections.abc import Callable, Sequence
from math import exp
from typing import Literal, final

from nearmile.cache.entry import Entry
from nearmile.cache.eviction import HIT, GreedyDual, Weights, name_of

# From valuing small objects more than their share of room to valuing large ones; from the last hit to counts.
FOR_OBJECTS = (Weights(1, 1, 0), Weights(0.5, 0.5, 0), Weights(1.5, 0.5, 0), Weights(1.5, 2, 3))
FOR_BYTES = (Weights(0, 0, 0), Weights(0.3, 4, 10), Weights(-0.3, 0.5, 3))
# The sample is one object in 32, but no fewer and no more than so many that are stored. A candidate takes about
# 300 bytes for each: 600 KB for all of a small store, 5 MB for all of a huge one.
SAMPLED_SHARE, WATCHED_MIN, WATCHED_MAX = 1 / 32, 512, 4096
# So many grains fill a miniature (docs/cache-hit-ratio.md: with fewer and with more, some trace has less).
GRAINS = 1792
# Objects are watched in rounds: a round is as many misses as objects were watched when it began, at least so many.
ROUND_MIN = 64
# Scores are compared after so many sampled requests. What they say fades with as many as are watched, four times,
# and at least with so many.
COMPARE_REQUESTS, FADE_ROUNDS, FADE_REQUESTS_MIN = 128, 4, 2048
# Who takes over must be better by so much: large objects make a sample's bytes uncertain, and a change costs a
# look at every entry.
LEAD_OF_OBJECTS, LEAD_OF_BYTES = 1.005, 1.01
# Sampling by size looks at so many bits of a name.
DRAW_BITS = 16

Optimise = Literal["objects", "bytes"]


def adaptive(capacity_bytes: int, optimise: Optimise) -> "Adaptive":
    """The policy that a store of that capacity should have, for hits of objects or of bytes."""
    of_bytes = optimise == "bytes"
    return Adaptive(capacity_bytes, FOR_BYTES if of_bytes else FOR_OBJECTS, of_bytes)


class Adaptive:
    """The policy of ``candidates`` that scored best lately, for a store of ``capacity_bytes``.

    With ``of_bytes``, a hit is worth its bytes, else each is worth the same.
    """

    def __init__(self, capacity_bytes: int, candidates: Sequence[Weights], of_bytes: bool) -> None:
        self._policy: GreedyDual[Entry] = GreedyDual(capacity_bytes, candidates[0])
        self.level = self._policy.level
        self._lead = LEAD_OF_BYTES if of_bytes else LEAD_OF_OBJECTS
        self._shift = 0
        self._grain_bytes = max(1, capacity_bytes // GRAINS) if of_bytes else 0
        self._trials = [_Trial(weights, capacity_bytes, self._grain_bytes) for weights in candidates]
        self._watched: dict[int, Entry] = {}
        self._misses = self._requests = 0
        self._round = ROUND_MIN
        self._looked_at_level = self.level

    @property
    def weights(self) -> Weights:
        """Those in use."""
        return self._policy.weights

    def insert(self, entry: Entry, lane: int = 0) -> None:
        name = name_of(entry)
        self._policy.level = self.level
        self._policy.insert(entry, name, entry.size_bytes, lane)
        self.level = self._policy.level
        self._misses += 1
        if self._sampled(name, entry.size_bytes):
            self._watched[name] = entry
            self._request(name, entry.size_bytes)
            share = int(len(self._policy) * SAMPLED_SHARE)
            if not self._grain_bytes and len(self._watched) > min(max(share, WATCHED_MIN), WATCHED_MAX):
                self._narrow()
        if self._misses > self._round:
            self._look()

    def remove(self, entry: Entry, lane: int = 0) -> None:
        name = name_of(entry)
        self._policy.remove(entry, name, lane)
        if self._watched.get(name) is entry:
            del self._watched[name]
            if abs(entry.visited) >= self._looked_at_level:
                self._request(name, entry.size_bytes)

    def victim(self, lanes: Sequence[int] = (0,)) -> Entry:
        entry = self._policy.victim(lanes)
        self.level = self._policy.level
        return entry

    def _sampled(self, name: int, size_bytes: int) -> bool:
        # The top bits: the low ones choose cells of the counts.
        if self._grain_bytes:
            return (name >> 64 - DRAW_BITS) * self._grain_bytes < size_bytes << DRAW_BITS
        return (name >> 52) & ((1 << self._shift) - 1) == 0

    def _request(self, name: int, size_bytes: int) -> None:
        self._requests += 1
        for trial in self._trials:
            trial.request(name, size_bytes)

    def _look(self) -> None:
        for name, entry in self._watched.items():
            if abs(entry.visited) >= self._looked_at_level:
                self._request(name, entry.size_bytes)
        self._looked_at_level, self._misses = self.level, 0
        self._round = max(ROUND_MIN, len(self._watched))
        if self._requests > COMPARE_REQUESTS:
            self._compare()

    def _narrow(self) -> None:
        """Goes on with half of the sample: a bit more must be 0."""
        self._shift += 1
        self._watched = {n: entry for n, entry in self._watched.items() if self._sampled(n, entry.size_bytes)}
        for trial in self._trials:
            trial.narrow(self._sampled)

    def _compare(self) -> None:
        kept = exp(-self._requests / max(FADE_REQUESTS_MIN, FADE_ROUNDS * len(self._watched)))
        self._requests = 0
        scores = {trial.policy.weights: trial.score for trial in self._trials}
        best = max(scores, key=lambda weights: scores[weights])
        if scores[best] > self._lead * scores[self._policy.weights]:
            self._policy.reweigh(best)
        for trial in self._trials:
            trial.score *= kept


@final
class _Sample:
    """An entry of a candidate's store."""

    __slots__ = ("count", "name", "size_bytes", "turn", "visited")

    def __init__(self, name: int, size_bytes: int) -> None:
        self.name, self.size_bytes = name, size_bytes
        self.visited = self.turn = 0.0
        self.count: float = 0


@final
class _Trial:
    """A candidate with its store.

    Where there are grains, an object takes one at least, and a hit is worth what the object takes.
    """

    def __init__(self, weights: Weights, capacity_bytes: int, grain_bytes: int) -> None:
        self.policy: GreedyDual[_Sample] = GreedyDual(capacity_bytes, weights)
        self.score = 0.0
        self._capacity_bytes, self._grain_bytes = capacity_bytes, grain_bytes
        self._used_bytes = 0
        self._inside: dict[int, _Sample] = {}

    def narrow(self, sampled: Callable[[int, int], bool]) -> None:
        self._capacity_bytes >>= 1
        for sample in [each for each in self._inside.values() if not sampled(each.name, each.size_bytes)]:
            self._drop(sample)
        self._evict()

    def request(self, name: int, size_bytes: int) -> None:
        space_bytes = max(size_bytes, self._grain_bytes)
        found = self._inside.get(name)
        if found is not None:
            self.policy.level += HIT
            found.visited = self.policy.level
            self.score += space_bytes if self._grain_bytes else 1
        elif space_bytes <= self._capacity_bytes:
            self._inside[name] = sample = _Sample(name, size_bytes)
            self.policy.insert(sample, name, space_bytes)
            self._used_bytes += space_bytes
            self._evict()

    def _evict(self) -> None:
        while self._used_bytes > self._capacity_bytes:
            self._drop(self.policy.victim())

    def _drop(self, sample: _Sample) -> None:
        self.policy.remove(sample, sample.name)
        self._used_bytes -= max(sample.size_bytes, self._grain_bytes)
        del self._inside[sample.name]
