"""The map: which regions serve which mapping unit, and which servers live there. Made by the controller."""

from msgspec import Struct

from nearmile.base.geography import Place, Point

# Into so many parts the clients of a unit are split where one region cannot carry them all.
PARTS = 16


class Server(Struct, frozen=True):
    """A live edge server."""

    name: str
    address: str
    port: int


class MapRegion(Struct, frozen=True):
    """A region with its live servers; none when the whole region is down or drained.

    ``hot`` says for a serial that is hot here how many parts of its load each server gets, by the server's name.
    """

    name: str
    point: Point
    servers: tuple[Server, ...]
    hot: dict[int, dict[str, int]] = {}


class View(Struct, frozen=True):
    """As the map's own ``units`` and ``fallback``, for sites that only some regions serve."""

    units: dict[str, tuple[int, ...]]
    fallback: tuple[int, ...]


class Map(Struct, frozen=True, kw_only=True):
    """One version of the map, swapped whole.

    ``units`` gives for each mapping unit (see ``unit_of``) indexes into ``regions``, best first; ``fallback``
    is the same for clients of whom nothing is known. ``term`` is the leader's; ``version`` grows with each map.
    A unit in ``shares`` is split: of PARTS parts of its clients each of its first regions has so many. ``pins``
    gives for the serials of pinned sites an index into ``views``.
    """

    version: int
    term: int
    made_at_s: float
    regions: tuple[MapRegion, ...]
    units: dict[str, tuple[int, ...]]
    fallback: tuple[int, ...]
    shares: dict[str, tuple[int, ...]] = {}
    pins: dict[int, int] = {}
    views: tuple[View, ...] = ()


def unit_of(place: Place) -> str:
    """The mapping unit of a place: country and state, or the country alone where the state is not known."""
    return f"{place.country}/{place.state}" if place.state else place.country
