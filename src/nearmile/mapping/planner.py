"""Makes plans for resolvers, some at a time, from who is behind them and how far regions are from those."""

from collections.abc import Mapping

import numpy as np

from nearmile.mapping.atlas import BITS, Atlas, Finder
from nearmile.mapping.choose import ranked
from nearmile.mapping.map import Map
from nearmile.mapping.measured import Measured
from nearmile.mapping.plans import (
    BEACON_BLOCKS_MIN,
    BEACONS_MIN,
    BLOCK_BEACONS_MAX,
    BLOCK_BITS,
    Answers,
    Behind,
    Floats,
    Ints,
    Plan,
    plan,
)
from nearmile.mapping.score import Distances

# Plans that are made at once: some milliseconds each.
ROUND = 10
# Plans of another controller, or of this one before it was started again, hold so long without anything new.
ADOPTED_S = 3600.0


class Planner:
    """All resolvers' plans."""

    def __init__(self) -> None:
        self.behind = Behind()
        """As client subnets say."""
        self.beacons = Behind(BEACONS_MIN, BEACON_BLOCKS_MIN, BLOCK_BEACONS_MAX)
        """As beacons say: for resolvers of which subnets say too little."""
        self.plans: dict[str, Plan] = {}
        self._adopted: set[str] = set()
        self._adopted_until_s = 0.0
        self._finder: Finder | None = None
        self._names: tuple[str, ...] = ()
        self._waiting: list[str] = []

    def know(self, atlas: Atlas) -> None:
        """These are the units from now on."""
        self._finder, self._names = Finder(atlas), atlas.names

    def adopt(self, plans: Mapping[str, Plan], now_s: float) -> None:
        """Goes by the plans of a map as long as there are none: who is behind resolvers takes long to learn."""
        if not self.plans:
            self.plans, self._adopted, self._adopted_until_s = dict(plans), set(plans), now_s + ADOPTED_S

    def work(self, current: Map, distances: Distances, measured: Measured, now_s: float) -> bool:
        """Plans anew for those whose turn it is; whether anything has changed."""
        if self._finder is None:
            return False
        able = {name: known for known in (self.beacons, self.behind) for name in known.resolvers()}
        self._waiting = self._waiting or list(able)
        turn, self._waiting = self._waiting[:ROUND], self._waiting[ROUND:]
        before = self.plans
        if now_s >= self._adopted_until_s:
            self._adopted.clear()
        self._adopted -= able.keys()
        kept = {name: own for name, own in before.items() if name in able or name in self._adopted}
        made = {
            name: self._plan(self._finder, able[name], name, current, distances, measured, now_s)
            for name in turn
            if name in able
        }
        self.plans = kept | {name: own for name, own in made.items() if own is not None}
        return self.plans != before

    def _plan(
        self,
        finder: Finder,
        known_of: Behind,
        resolver: str,
        current: Map,
        distances: Distances,
        measured: Measured,
        now_s: float,
    ) -> Plan | None:
        blocks, weights, answers = dict[int, Ints](), dict[int, Floats](), dict[int, Answers]()
        for family, bits in BLOCK_BITS.items():
            own, heavy = known_of.of(resolver, family)
            table, shift = finder.tables[family], BITS[family] - bits
            units = [table.find(block << shift).value for block in own.tolist()]
            known = np.array([self._names[unit] in distances.rows for unit in units], dtype=np.bool_)
            if known.any():
                names = [self._names[unit] for unit in units if self._names[unit] in distances.rows]
                blocks[family], weights[family] = own[known], heavy[known]
                answers[family] = _answers(names, heavy[known], current, distances, measured, now_s)
        if not answers:
            return None
        made = plan(blocks, weights, answers)
        return made if known_of is self.behind else Plan(made.whole)  # it tells no subnets


def _answers(
    names: list[str], weights: Floats, current: Map, distances: Distances, measured: Measured, now_s: float
) -> Answers:
    """What the blocks of those units may be answered: the first regions of all of them."""
    first_of = {name: ranked(current, name)[1][0] for name in set(names)}
    heaviest: dict[int, dict[str, float]] = {}
    for name, weight in zip(names, weights.tolist(), strict=True):
        of_region = heaviest.setdefault(first_of[name], {})
        of_region[name] = of_region.get(name, 0.0) + weight
    regions = sorted(heaviest)
    scores = distances.expected_ms([distances.rows[name] for name in names], regions) + _deltas(
        names, [current.regions[r].name for r in regions], measured, now_s
    )
    return Answers(scores, tuple(max(heaviest[r], key=lambda name: (heaviest[r][name], name)) for r in regions))


def _deltas(names: list[str], regions: list[str], measured: Measured, now_s: float) -> Floats:
    rows = {}
    for name in set(names):
        own_ms, others_ms = measured.deltas_ms(name, now_s)
        rows[name] = [own_ms.get(region, others_ms) for region in regions]
    return np.array([rows[name] for name in names])
