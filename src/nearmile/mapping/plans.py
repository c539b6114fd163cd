"""Plans for resolvers: which of their clients get an answer of their own, by the clients that are behind them.

Name servers count which client subnets each resolver asks for. Where it tells none, it is answered with what is
best for all its clients; where it does, a prefix is split where that gains its clients more than the queries cost,
so that it asks about twice as often as without subnets, not eight times (so Chen, Sitaraman and Torres, "End-User
Mapping", SIGCOMM 2015, for answers by block). A plan names units, so it holds while maps change: the clients in a
prefix are answered as that unit is.
"""

from bisect import bisect_right
from collections.abc import Iterable
from math import inf
from typing import NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from nearmile.mapping.atlas import BITS

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

SUBJECT = "behind"  # on the bus: behind.<name server's name>
# A name server tells every so often, of so many pairs of resolver and client block: 60 KB.
TELL_S, TOLD_MAX = 10.0, 4096
# Blocks as numbers have so many bits, also those of resolvers: a site of one has many addresses.
BLOCK_BITS = {4: 24, 6: 48}
# Resolvers and client blocks of each that are remembered: 60 bytes each. When there are more, the lightest go, of
# resolvers only those of which too little is known for a plan.
RESOLVERS_MAX, BLOCKS_MAX = 1000, 4096
# What was counted counts half after so long.
HALF_LIFE_S = 1800.0
# Of fewer queries nothing is concluded.
QUERIES_MIN = 50.0
# Nor of fewer beacons, or of fewer client blocks that made them; a block counts for so many at most.
BEACONS_MIN, BEACON_BLOCKS_MIN, BLOCK_BEACONS_MAX = 10.0, 3, 32.0
# Another prefix must gain the resolver's clients so much on the mean: see the figures in docs/mapping.md.
PREFIX_MS = 0.35
# Plans of all resolvers together stay below 100 KB on the bus.
PREFIXES_MAX = 256


class Seen(NamedTuple):
    """A resolver's block asked so often for a client block."""

    resolver: str
    family: int
    block: int
    queries: float


class Prefixes(Struct, frozen=True, array_like=True):
    """Of one family, in order and without overlaps: first blocks, lengths in bits, units."""

    firsts: tuple[int, ...]
    bits: tuple[int, ...]
    units: tuple[str, ...]

    def find(self, family: int, block: int) -> tuple[str, int]:
        """The unit to answer a block as, and the length of the prefix that it holds for.

        Without a unit it is the shortest prefix that holds nothing of the plan.
        """
        width = BLOCK_BITS[family]
        at = bisect_right(self.firsts, block) - 1
        shortest = 0
        if at >= 0:
            behind = self.firsts[at] + (1 << width - self.bits[at])
            if block < behind:
                return self.units[at], self.bits[at]
            shortest = width - (block ^ behind - 1).bit_length() + 1
        if at + 1 < len(self.firsts):
            shortest = max(shortest, width - (block ^ self.firsts[at + 1]).bit_length() + 1)
        return "", shortest


NOTHING = Prefixes((), (), ())


class Plan(Struct, frozen=True, array_like=True):
    """For one resolver: ``whole`` is the unit that all its clients are answered as where it tells no subnet."""

    whole: str
    v4: Prefixes = NOTHING
    v6: Prefixes = NOTHING


def block_number(family: int, number: int) -> int:
    """The block of an address (a number as in an atlas)."""
    return number >> BITS[family] - BLOCK_BITS[family]


def resolver_block(family: int, number: int) -> str:
    """The name of the block of a resolver's address (a number as in an atlas)."""
    return f"{family}/{block_number(family, number)}"


def split(blocks: Ints, weights: Floats, scores: Floats, width: int, price: float) -> tuple[Ints, Ints, Ints]:
    """First blocks, lengths and answers of the prefixes that cost least, for sorted blocks of one family.

    ``scores`` are milliseconds by block and answer. Bottom up over the tree of prefixes: one is split where its
    halves cost less, in weight times milliseconds, than its clients would together, and than ``price`` for each.
    """
    costs = scores * weights[:, np.newaxis]
    best = costs.min(axis=1) + price
    lengths, answers = np.full(len(blocks), width), costs.argmin(axis=1)
    nodes, sizes = blocks, np.ones(len(blocks), dtype=np.int64)
    for length in range(width - 1, -1, -1):
        nodes = nodes >> 1
        first = np.flatnonzero(np.append(True, nodes[1:] != nodes[:-1]))
        nodes, sizes = nodes[first], np.add.reduceat(sizes, first)
        costs, apart = np.add.reduceat(costs, first, axis=0), np.add.reduceat(best, first)
        together = costs.min(axis=1) + price
        joined = together <= apart * (1 + 1e-9)
        best = np.where(joined, together, apart)
        inside = np.repeat(joined, sizes)
        lengths[inside] = length
        answers[inside] = np.repeat(costs.argmin(axis=1), sizes)[inside]
    firsts = blocks >> width - lengths << width - lengths
    new = np.flatnonzero(np.append(True, firsts[1:] != firsts[:-1]))
    return firsts[new], lengths[new], answers[new]


class Behind:
    """Which clients are behind which resolver, as the name servers tell.

    Of a resolver something is known with ``least`` queries of ``blocks_min`` client blocks. None counts for more
    than ``most``, nor for more than the last of the ``blocks_min`` heaviest.
    """

    def __init__(self, least: float = QUERIES_MIN, blocks_min: int = 1, most: float = inf) -> None:
        self._least, self._blocks_min, self._most = least, blocks_min, most
        self._counts: dict[str, dict[tuple[int, int], float]] = {}
        self._moment_s = 0.0

    def add(self, seen: Iterable[Seen], now_s: float) -> None:
        """Takes a report."""
        if abs(now_s - self._moment_s) >= HALF_LIFE_S:
            self._fade()
            self._moment_s = now_s
        if len(self._counts) >= RESOLVERS_MAX:
            self._make_room()
        for resolver, family, block, queries in seen:
            if family not in BLOCK_BITS or not 0 <= block < 1 << BLOCK_BITS[family] or not 0 < queries < 1e9:
                continue
            counts = self._counts.get(resolver)
            if counts is None:
                if len(self._counts) >= RESOLVERS_MAX:
                    continue
                counts = self._counts[resolver] = {}
            key = (family, block)
            counts[key] = min(counts.get(key, 0.0) + queries, self._most)
            if len(counts) > BLOCKS_MAX:
                heaviest = sorted(counts.items(), key=lambda each: (-each[1], each[0]))[: BLOCKS_MAX // 2]
                self._counts[resolver] = dict(heaviest)

    def resolvers(self) -> list[str]:
        """Those of which enough is known."""
        return [
            name
            for name, counts in self._counts.items()
            if len(counts) >= self._blocks_min and sum(counts.values()) >= self._least
        ]

    def of(self, resolver: str, family: int) -> tuple[Ints, Floats]:
        """The client blocks in order, and how much each counts."""
        known = self._counts[resolver]
        most = sorted(known.values())[-self._blocks_min]
        counts = sorted((block, min(count, most)) for (of, block), count in known.items() if of == family)
        return np.array([block for block, _ in counts], dtype=np.int64), np.array([count for _, count in counts])

    def _make_room(self) -> None:
        """The lighter half of those without a plan goes: who came once must not keep out who comes often."""
        enough = set(self.resolvers())
        others = [(sum(counts.values()), name) for name, counts in self._counts.items() if name not in enough]
        for _, name in sorted(others)[: (len(others) + 1) // 2]:
            del self._counts[name]

    def _fade(self) -> None:
        faded = {
            name: {key: count / 2 for key, count in counts.items() if count >= 1}
            for name, counts in self._counts.items()
        }
        self._counts = {name: counts for name, counts in faded.items() if counts}


class Answers(NamedTuple):
    """The answers to choose from: by block what each costs in ms, and for each the unit that stands for it."""

    scores: Floats
    units: tuple[str, ...]


def plan(blocks: dict[int, Ints], weights: dict[int, Floats], answers: dict[int, Answers]) -> Plan:
    """The plan of one resolver; all by family, where there is anything."""
    total = sum(float(each.sum()) for each in weights.values())
    found = {}
    for family, own in answers.items():
        price = PREFIX_MS * total
        while True:
            firsts, lengths, chosen = split(blocks[family], weights[family], own.scores, BLOCK_BITS[family], price)
            if len(firsts) <= PREFIXES_MAX:
                break
            price *= 2
        units = tuple(own.units[answer] for answer in chosen.tolist())
        found[family] = Prefixes(tuple(firsts.tolist()), tuple(lengths.tolist()), units)
    most = max(answers, key=lambda family: float(weights[family].sum()))
    costs = (answers[most].scores * weights[most][:, np.newaxis]).sum(axis=0)
    whole = answers[most].units[int(costs.argmin())]
    return Plan(whole, found.get(4, NOTHING), found.get(6, NOTHING))
