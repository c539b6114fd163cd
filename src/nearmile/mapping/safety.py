"""What a new map must not do at once: lose most of the network without anybody's word for it.

A bug, a poisoned document or a controller that hears only few may make a map that is valid and ruinous. So a map
that leaves less than half of what was there some seconds ago is held back for a bounded time: if the loss persists
it is true, or nobody will ever know better. Meanwhile the last map stays, without those whose death is certain.
"""

from collections.abc import Callable, Collection, Sequence
from math import inf

from msgspec import structs

from nearmile.fleet.health import HELD_BACK_S, MASS_SHARE, Health
from nearmile.mapping.map import Map, MapRegion, Server

# A loss counts as one step if it happens within this time: servers say the same thing at different moments.
STEP_S = 10.0
# Where fewer of the living have room, that the others are full says nothing any more.
ROOM_SHARE = 0.5


class Guard:
    """Judges each map that is made, against what was published some seconds ago."""

    def __init__(self) -> None:
        self.why = ""
        """Why a map is held back now; empty while none is."""
        self._since_s = 0.0
        self._before: Map | None = None
        self._before_at_s = -inf

    def next_deadline(self) -> float:
        """When what is held back will be let go."""
        return self._since_s + HELD_BACK_S if self.why else inf

    def judge(self, kept: Map | None, made: Map, gone: Callable[[str], bool], now_s: float) -> Map:
        """The map to publish: the one made, or in its place the one that is kept, without those surely gone."""
        if kept is None:
            return made
        if not self.why and (self._before is None or now_s >= self._before_at_s + STEP_S):
            self._before, self._before_at_s = kept, now_s
        assert self._before is not None
        # Mostly nothing is lost, and then not all servers need be looked at one by one.
        why = loss(self._before, made) and loss(without(self._before, gone), made)
        if why and not self.why:
            self._since_s = now_s
        self.why = why
        if not why:
            return made
        if now_s >= self.next_deadline():
            self.why, self._before, self._before_at_s = "", made, now_s
            return made
        rest = without(kept, gone)
        if not any(region.servers for region in rest.regions):
            return made  # whoever else lives is better than nobody
        return structs.replace(rest, version=made.version, term=made.term, made_at_s=made.made_at_s)


def named(regions: Sequence[MapRegion], health: Health, drained: Collection[str]) -> list[tuple[Server, ...]]:
    """By region the servers for the answers: those that live, have room, and are not ``drained``.

    Somebody must answer. Where most are full, the few others would be in a moment, so all are named; and where
    nobody else lives, those that are drained, by themselves or with their region: they serve, the dead do not.
    """
    alive = _those(regions, health.alive, drained)
    if not any(alive):
        return _those(regions, health.alive, ())
    roomy = _those(regions, health.in_map, drained)
    return roomy if sum(map(len, roomy)) >= ROOM_SHARE * sum(map(len, alive)) else alive


def _those(
    regions: Sequence[MapRegion], may: Callable[[str], bool], drained: Collection[str]
) -> list[tuple[Server, ...]]:
    return [
        ()
        if region.name in drained
        else tuple([s for s in region.servers if s.name not in drained and may(s.name)])
        for region in regions
    ]


def loss(before: Map, after: Map) -> str:
    """What falls below half from one map to the next, in words; empty where nothing does."""
    for what, measure in MEASURES.items():
        had, has = measure(before), measure(after)
        if has < had * (1 - MASS_SHARE):
            return f"{has} of {had} {what} would be left"
    return ""


def without(map_: Map, gone: Callable[[str], bool]) -> Map:
    """The map without those servers; who was sent to a region that is now empty gets the next."""
    regions = tuple(
        structs.replace(region, servers=tuple(server for server in region.servers if not gone(server.name)))
        for region in map_.regions
    )
    return structs.replace(map_, regions=regions)


def late(old: Map, newest: Map) -> Map:
    """What a server that runs on an old map answers by: that map, without those that the newest does not know.

    So it names nobody who died since. But a newest map that lacks most of the old one's servers is not believed.
    """
    live = {server.name for region in newest.regions for server in region.servers}
    rest = without(old, lambda name: name not in live)
    return old if _servers(rest) < _servers(old) * (1 - MASS_SHARE) else rest


def _servers(map_: Map) -> int:
    return sum(len(region.servers) for region in map_.regions)


def _regions(map_: Map) -> int:
    return sum(bool(region.servers) for region in map_.regions)


def _first_choices(map_: Map) -> int:
    """How many regions are the best for somebody: that which is there must also be used."""
    return sum(bool(map_.regions[index].servers) for index in map_.units.firsts())


def _units(map_: Map) -> int:
    return len(map_.units)


MEASURES: dict[str, Callable[[Map], int]] = {
    "servers": _servers,
    "regions": _regions,
    "regions in the answers": _first_choices,
    "mapping units": _units,
}
