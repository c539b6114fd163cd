"""Why the map answers as it does, and what differs between two maps: for people, who ask seldom."""

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from nearmile.mapping.choose import choose, ranked, shares
from nearmile.mapping.downloads import ROUNDS_ALL
from nearmile.mapping.map import Map, MapRegion
from nearmile.mapping.measured import Learned
from nearmile.mapping.score import penalty_ms


class Candidate(Struct, frozen=True):
    """A region that could serve the unit. ``score_ms`` is the round trip and the cost of its load together.

    The round trip is what distance lets expect, ``prior_ms``, corrected by what ``voices`` clients or targets have
    last shown ``age_s`` ago; of a region that nobody measured, by what is common to all. For downloads,
    ``fetch_ms`` takes its place: how long a large body takes, by the round trip and what voices have shown.
    ``share`` counts the parts of PARTS that it has of a split unit. One that is ``full`` takes no more users.
    """

    region: str
    live: int
    """Servers in the map."""
    rtt_ms: float
    load: float
    """Its servers' mean share of what they can do, now."""
    cost_ms: float
    score_ms: float
    prior_ms: float = 0.0
    voices: int = 0
    age_s: float = 0.0
    share: int = 0
    why: str = ""
    fetch_ms: float = 0.0
    full: bool = False


class Explanation(Struct, frozen=True, kw_only=True):
    """Who serves a mapping unit. ``found_as`` is the map's entry that was used; empty for that for anybody.

    ``pinned`` says whether the site is served by some regions alone, while any of them lives; ``downloads``,
    whether it is by their class. Where no candidate lives, the one that serves from ``outside`` is the last.
    """

    map_version: int
    unit: str
    found_as: str
    region: str
    servers: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    pinned: bool = False
    downloads: bool = False
    outside: bool = False


class Told(Struct, frozen=True, kw_only=True):
    """What the controller knows of a unit: what was measured by class, what regions cost, and which are full."""

    pages: Learned = Learned()
    downloads: Learned = Learned()
    costs_ms: dict[str, float] = {}
    full: tuple[str, ...] = ()


NOTHING_TOLD = Told()


class Difference(Struct, frozen=True, kw_only=True):
    """From one map to another. ``moved`` counts the units by the regions they left and went to, most first."""

    before: int
    after: int
    seconds: float
    gone: tuple[str, ...]
    come: tuple[str, ...]
    units: int
    moved: tuple[tuple[str, str, int], ...]
    reranked: int
    """Units that stay where they are, with another order of regions behind."""


def explain(
    map_: Map,
    unit: str,
    rtt_ms: Mapping[str, float],
    loads: Mapping[str, float],
    serial: int,
    count: int,
    told: Told = NOTHING_TOLD,
) -> Explanation:
    """``rtt_ms`` (by distance), ``loads`` and ``told`` are of the regions by name: of now, not of the map.

    Serial 0 is of no site: the region alone is explained.
    """
    found_as, indexes = ranked(map_, unit, serial)
    view = map_.views[map_.pins[serial]] if serial in map_.pins else None
    downloads = view is not None and view.downloads
    parts = shares(map_, serial).get(found_as, ())
    choice = choose(map_, unit, serial, count)
    outside = choice.region not in ("", *(map_.regions[index].name for index in indexes))
    if outside:
        indexes = (*indexes, *(index for index, region in enumerate(map_.regions) if region.name == choice.region))
    candidates = []
    for place, index in enumerate(indexes):
        region = map_.regions[index]
        share = parts[place] if place < len(parts) else 0
        prior_ms, load = rtt_ms.get(region.name, 0.0), loads.get(region.name, 0.0)
        candidates.append(_candidate(region, prior_ms, load, told, downloads, share))
    return Explanation(
        map_version=map_.version,
        unit=unit,
        found_as=found_as,
        region=choice.region,
        servers=tuple(server.name for server in choice.servers) if serial else (),
        pinned=view is not None and not view.partial,
        downloads=downloads,
        outside=outside,
        candidates=tuple(_compared(candidate, candidates, choice.region) for candidate in candidates),
    )


def _candidate(
    region: MapRegion, prior_ms: float, load: float, told: Told, downloads: bool, share: int
) -> Candidate:
    name, shown = region.name, told.downloads if downloads else told.pages
    rtt_ms = prior_ms + told.pages.deltas_ms.get(name, told.pages.others_ms)
    fetch_ms = rtt_ms * ROUNDS_ALL + shown.deltas_ms.get(name, shown.others_ms) if downloads else 0.0
    cost_ms = penalty_ms(True, load) + told.costs_ms.get(name, 0.0)
    voices, age_s = shown.voices.get(name, (0, 0.0))
    return Candidate(
        region=name,
        live=len(region.servers),
        rtt_ms=rtt_ms,
        load=load,
        cost_ms=cost_ms,
        score_ms=(fetch_ms if downloads else rtt_ms) + cost_ms,
        prior_ms=prior_ms,
        voices=voices,
        age_s=age_s,
        share=share,
        fetch_ms=fetch_ms,
        full=name in told.full,
    )


def _compared(one: Candidate, all_: list[Candidate], chosen: str) -> Candidate:
    """With its reason, in the figures of now: they need not be those that the map was made of."""
    if not one.live:
        return replace(one, why="no live server")
    winner = next((other for other in all_ if other.region == chosen), one)
    behind_ms = one.score_ms - winner.score_ms
    if one is not winner:
        return replace(one, why=f"{'full, ' if _passed(one) and behind_ms < 0 else ''}{behind_ms:+.1f} ms")
    others = [other for other in all_ if other.live and other is not one]
    rivals = [other for other in others if not (_passed(other) and other.score_ms < one.score_ms)]
    if not rivals:
        return replace(one, why="wins: all others are full" if others else "wins: nobody else lives")
    ahead_ms = min(other.score_ms for other in rivals) - one.score_ms
    if ahead_ms < 0:
        return replace(one, why=f"wins by the map, though now {-ahead_ms:.1f} ms behind")
    better = "" if len(rivals) == len(others) else ", who was better is full"
    return replace(one, why=f"wins by {ahead_ms:.1f} ms{better}")


def _passed(one: Candidate) -> bool:
    """Whether it has no room, and so takes nobody new."""
    return one.full and not one.share


def difference(before: Map, after: Map) -> Difference:
    """What changed; units and servers are compared by their names."""
    had, has = ({server.name for region in map_.regions for server in region.servers} for map_ in (before, after))
    moves: dict[tuple[str, str], int] = {}
    reranked = 0
    units = sorted({*before.units.names, *after.units.names})
    for unit in units:
        old, new = _order(before, unit), _order(after, unit)
        if old[:1] != new[:1]:
            move = (old[0] if old else "", new[0] if new else "")
            moves[move] = moves.get(move, 0) + 1
        else:
            reranked += old != new
    return Difference(
        before=before.version,
        after=after.version,
        seconds=after.made_at_s - before.made_at_s,
        gone=tuple(sorted(had - has)),
        come=tuple(sorted(has - had)),
        units=len(units),
        moved=tuple((*move, count) for move, count in sorted(moves.items(), key=lambda each: (-each[1], each[0]))),
        reranked=reranked,
    )


def _order(map_: Map, unit: str) -> list[str]:
    """The names of the regions with live servers that serve the unit, best first."""
    regions = (map_.regions[index] for index in map_.units.get(unit) or ())
    return [region.name for region in regions if region.servers]
