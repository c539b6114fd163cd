"""Scores that were measured: round trips from regions to units, as edges' clients and probes have them.

An edge tells what its clients' handshakes took, by unit and client, and how far the operator's targets are. Of
each region and unit the median over clients is smoothed (EWMA) and grows old towards the prior, which is distance.
Of downloads it is told how much longer they take than the round trip lets expect (see ``downloads``).
One client moves nobody: three at least must have said something, each has one vote, and what it says is held
between what light in a fibre needs and what no path takes. The operator's own targets count before clients.

Most units are measured from where they are served alone. What all regions have in common for a unit, its last
mile, must not make others look nearer: so what the nearest measured region takes beyond its prior, up to
ACCESS_MS_MAX, is expected of the others as well.
"""

from collections.abc import Mapping
from math import inf, log2
from statistics import median

import numpy as np
from msgspec import Struct

from nearmile.base.geography import Point, distance_km, expected_rtt_ms
from nearmile.mapping.corrections import Corrections, of_pairs
from nearmile.mapping.downloads import ROUNDS, ROUNDS_ALL

SUBJECT = "measured"  # on the bus: measured.<edge's name>
# An edge tells every so often, of so many units with so many clients each: 60 KB at most.
TELL_S, UNITS_TOLD_MAX, CLIENTS_TOLD_MAX = 2.0, 512, 8
# Fewer clients than this prove nothing. The votes of so many count, the latest.
CLIENTS_MIN, CLIENTS_MAX = 3, 32
# Of a new median so much is taken at once.
WEIGHT_NEW = 0.5
# What was measured counts half after so long without anything new, and not at all after some of those.
HALF_LIFE_S, FORGET_S = 300.0, 3600.0
# Light in fibre: 200 km a millisecond, there and back.
LIGHT_MS_PER_KM = 0.01
# A unit's point is so far from many of its clients.
NEAR_KM = 200.0
# Further away than a satellite on a bad day, is no path.
RTT_MS_MAX = 2000.0
ACCESS_MS_MAX = 50.0
# The body of a download takes so long by a line of 10 Mbit/s, which all regions have in common. Whoever gets it
# later may be on a bad path, and another region is worth a try.
BODY_MS_MAX = 800.0
# A change of a score by so much is looked at soon: it may move the unit.
STEP_MS = 3.0
# Rates vary more than round trips.
DOWNLOADS_STEP_MS = 50.0
# Below what makes a region as bad as a dead one.
BEYOND_MS_MAX = 5000.0
# Units and regions that are kept: some 400 bytes each.
PAIRS_MAX = 200_000


class Report(Struct, frozen=True):
    """What an edge of a region has measured since its last one, in ms.

    ``clients`` has by unit the round trip of each client (a number that stands for it), ``targets`` those to the
    operator's targets, by unit and target; ``downloads`` how much longer than expected each client's body took.
    """

    region: str
    clients: dict[str, dict[int, float]] = {}
    targets: dict[str, dict[str, float]] = {}
    downloads: dict[str, dict[int, float]] = {}


class Kind(Struct, frozen=True):
    """What is measured of a traffic class, and the bounds of what is believed, in ms.

    A score is expected to be so many ``rounds`` and is no less than ``rounds_least`` by light. ``beyond`` says
    that voices tell of what is beyond that.
    """

    rounds: float
    rounds_least: float
    beyond: bool
    voice_ms_min: float
    voice_ms_max: float
    common_ms_max: float
    step_ms: float

    def score_ms(self, km: float, voice_ms: float) -> float:
        """By what was told over that distance."""
        light_ms = max(km - NEAR_KM, 0.0) * LIGHT_MS_PER_KM
        if not self.beyond:
            return max(voice_ms, self.rounds_least * light_ms)
        return self.prior_ms(km) + max(voice_ms, (self.rounds_least - self.rounds) * light_ms)

    def prior_ms(self, km: float) -> float:
        """By distance alone."""
        return self.rounds * expected_rtt_ms(km)


PAGES = Kind(1.0, 1.0, False, 0.0, RTT_MS_MAX, ACCESS_MS_MAX, STEP_MS)
DOWNLOADS = Kind(ROUNDS_ALL, ROUNDS, True, -BEYOND_MS_MAX, BEYOND_MS_MAX, BODY_MS_MAX, DOWNLOADS_STEP_MS)


class Score(Struct, frozen=True):
    """Of a region and a unit: what is smoothed (for pages the round trip), when renewed, of how many voices."""

    ms: float
    prior_ms: float
    at_s: float
    voices: int

    def trust(self, now_s: float) -> float:
        """From 1 for what is new to 0 for what is forgotten."""
        age_s = max(now_s - self.at_s, 0.0)
        return 0.0 if age_s > FORGET_S else 0.5 ** (age_s / HALF_LIFE_S)

    def delta_ms(self, now_s: float) -> float:
        """What the score is beyond its prior."""
        return self.trust(now_s) * (self.ms - self.prior_ms)


class _Held(Struct):
    """What ``deltas_ms`` has said of a unit, which holds until then, or until somebody says otherwise."""

    deltas_ms: dict[str, float]
    others_ms: float
    until_s: float


class Learned(Struct, frozen=True, kw_only=True):
    """What is known of a unit, by region: what to add to priors (and for all others), how many have measured it
    and how many seconds ago."""

    deltas_ms: dict[str, float] = {}
    others_ms: float = 0.0
    voices: dict[str, tuple[int, float]] = {}


class Measured:
    """All scores of a class. Units and regions are told by name, so that neither need stay in its place."""

    def __init__(self, kind: Kind = PAGES) -> None:
        self._kind = kind
        self._units: dict[str, Point] = {}
        self._regions: dict[str, Point] = {}
        self._votes: dict[tuple[str, str, bool], dict[int | str, tuple[float, float]]] = {}
        self.scores: dict[str, dict[str, Score]] = {}
        """By unit and region."""
        self._pairs = 0
        self._used: dict[tuple[str, str], float] = {}
        self._held: dict[str, _Held] = {}

    def know(self, units: Mapping[str, Point], regions: Mapping[str, Point]) -> None:
        """From now on there are these; what was measured of others, or of regions that moved, goes."""
        moved = {name for name, point in self._regions.items() if regions.get(name) != point}
        self._units, self._regions = dict(units), dict(regions)
        for unit in tuple(self.scores):
            kept = {name: score for name, score in self.scores[unit].items() if name not in moved}
            if unit in units and kept:
                self.scores[unit] = kept
            else:
                del self.scores[unit]
        self._votes = {pair: votes for pair, votes in self._votes.items() if pair[0] in self.scores}
        self._pairs = sum(map(len, self.scores.values()))
        self._held.clear()
        self._used = {pair: ms for pair, ms in self._used.items() if pair[1] in self.scores.get(pair[0], {})}

    def follow(self, other: "Measured") -> None:
        """As ``know``, of the units and regions of another class."""
        self.know(other._units, other._regions)

    def add(self, report: Report, now_s: float) -> bool:
        """Takes a report; whether a score has changed by so much that a map should be made soon."""
        if report.region not in self._regions:
            return False
        changed = False
        for unit, clients in (report.downloads if self._kind.beyond else report.clients).items():
            changed |= self._vote(unit, report.region, clients, now_s, False)
        for unit, targets in ({} if self._kind.beyond else report.targets).items():
            changed |= self._vote(unit, report.region, targets, now_s, True)
        return changed

    def _vote(
        self, unit: str, region: str, told: Mapping[int, float] | Mapping[str, float], now_s: float, own: bool
    ) -> bool:
        if unit not in self._units or not told:
            return False
        if not own and _fresh(self._votes.get((unit, region, True)), now_s):
            return False
        votes, least = self._votes.setdefault((unit, region, own), {}), 1 if own else CLIENTS_MIN
        for voice, ms in told.items():
            if ms > self._kind.voice_ms_min:
                votes.pop(voice, None)  # the newest are the last
                votes[voice] = (min(ms, self._kind.voice_ms_max), now_s)
        while votes and (len(votes) > CLIENTS_MAX or now_s - next(iter(votes.values()))[1] > HALF_LIFE_S):
            del votes[next(iter(votes))]
        before = self.scores.get(unit, {}).get(region)
        if len(votes) < least or (before is None and self._pairs >= PAIRS_MAX):
            return False
        return self._score(unit, region, before, [ms for ms, _ in votes.values()], now_s)

    def _score(self, unit: str, region: str, before: Score | None, told_ms: list[float], now_s: float) -> bool:
        km = distance_km(self._units[unit], self._regions[region])
        ms, prior_ms = self._kind.score_ms(km, median(told_ms)), self._kind.prior_ms(km)
        if before is None:
            self._pairs += 1
        else:
            ms = before.ms + WEIGHT_NEW * (ms - before.ms)
        score = Score(ms, prior_ms, now_s, len(told_ms))
        self.scores.setdefault(unit, {})[region] = score
        used_ms, held = self._used.get((unit, region)), self._held.get(unit)
        changed = abs(score.delta_ms(now_s) - (used_ms or 0.0)) >= self._kind.step_ms
        if used_ms is None or changed:
            self._held.pop(unit, None)
        elif held is not None:
            held.until_s = min(held.until_s, self._until_s(score, used_ms))
        return changed

    def _until_s(self, score: Score, used_ms: float) -> float:
        """When the score has aged so much that what is used of it changes, or it is forgotten."""
        forgotten_s, left_ms = score.at_s + FORGET_S, abs(used_ms) - self._kind.step_ms
        if left_ms <= 0 or score.ms == score.prior_ms:
            return forgotten_s
        return min(score.at_s + HALF_LIFE_S * log2(abs(score.ms - score.prior_ms) / left_ms), forgotten_s)

    def forget(self, now_s: float) -> None:
        """Drops what is too old to count."""
        held = self._held
        for unit in [unit for unit in self.scores if unit not in held or held[unit].until_s <= now_s]:
            scores = self.scores[unit]
            for region in [name for name, score in scores.items() if not score.trust(now_s)]:
                del scores[region]
                self._used.pop((unit, region), None)
                for own in (False, True):
                    self._votes.pop((unit, region, own), None)
                self._pairs -= 1
                self._held.pop(unit, None)
            if not scores:
                del self.scores[unit]

    def deltas_ms(self, unit: str, now_s: float) -> tuple[dict[str, float], float]:
        """What to add to the priors of regions that were measured, and to those of all others.

        It stays as it was until it is well away from that, so that noise moves nobody.
        """
        held, scores = self._held.get(unit), self.scores.get(unit)
        if scores is None:
            return {}, 0.0
        if held is not None and now_s < held.until_s:
            return held.deltas_ms, held.others_ms
        found, until_s = dict[str, float](), inf
        for region, score in scores.items():
            used_ms, delta_ms = self._used.get((unit, region)), score.delta_ms(now_s)
            if used_ms is None or abs(delta_ms - used_ms) >= self._kind.step_ms:
                used_ms = self._used[unit, region] = delta_ms
            found[region], until_s = used_ms, min(until_s, self._until_s(score, used_ms))
        others_ms = min(max(min(found.values()), 0.0), self._kind.common_ms_max)
        self._held[unit] = _Held(found, others_ms, until_s)
        return found, others_ms

    def learned(self, unit: str, now_s: float) -> Learned:
        """The same for people, with who has said so."""
        deltas_ms, others_ms = self.deltas_ms(unit, now_s)
        scores = self.scores.get(unit, {})
        voices = {name: (score.voices, now_s - score.at_s) for name, score in scores.items()}
        return Learned(deltas_ms=deltas_ms, others_ms=others_ms, voices=voices)

    def corrections(self, units: Mapping[str, int], regions: Mapping[str, int], now_s: float) -> Corrections:
        """All that is known; ``units`` and ``regions`` give rows and numbers by name."""
        known = sorted((units[unit], unit) for unit in self.scores if unit in units)
        common_ms, counts = np.zeros(len(known), dtype=np.float32), np.zeros(len(known), dtype=np.intp)
        columns, deltas_ms, priors_ms = list[int](), list[float](), list[float]()
        for at, (_, unit) in enumerate(known):
            own_ms, common_ms[at] = self.deltas_ms(unit, now_s)
            scores, counts[at] = self.scores[unit], len(own_ms)
            columns += [regions[name] for name in own_ms]
            deltas_ms += own_ms.values()
            priors_ms += [scores[name].prior_ms for name in own_ms]
        pairs = np.repeat(np.arange(len(known)), counts), columns, deltas_ms, np.add(priors_ms, deltas_ms)
        return of_pairs([row for row, _ in known], common_ms, np.stack(pairs, axis=-1))


def _fresh(votes: Mapping[int | str, tuple[float, float]] | None, now_s: float) -> bool:
    """Whether any of them is of lately."""
    return any(now_s - at_s <= HALF_LIFE_S for _, at_s in (votes or {}).values())
