"""Makes the map: for every unit the best regions, given who lives and how loaded they are."""

from collections.abc import Sequence

from nearmile.mapping.map import Map, MapRegion
from nearmile.mapping.score import Distances, penalty_ms

# A load counts anew when it differs by so much from the one last reckoned with: small changes move nobody.
LOAD_STEP = 0.15


def make_map(
    distances: Distances,
    regions: tuple[MapRegion, ...],
    loads: Sequence[float],
    *,
    version: int = 0,
    term: int = 0,
    made_at_s: float = 0.0,
) -> Map:
    """The map for these regions, with their live servers, in the order of the columns of ``distances``."""
    penalties_ms = [penalty_ms(bool(region.servers), load) for region, load in zip(regions, loads, strict=True)]
    return Map(
        version=version,
        term=term,
        made_at_s=made_at_s,
        regions=regions,
        units=distances.ranked(penalties_ms),
        fallback=distances.ranked_for_anybody(penalties_ms),
    )


def steady(reckoned: float, measured: float) -> float:
    """The load to reckon with: the former one, until the measured one is well away from it (hysteresis)."""
    return measured if abs(measured - reckoned) >= LOAD_STEP else reckoned


def same_answers(a: Map, b: Map) -> bool:
    """Whether two maps differ in nothing but their stamps."""
    return a.regions == b.regions and a.units == b.units and a.fallback == b.fallback
