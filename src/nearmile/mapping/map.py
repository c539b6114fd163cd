"""The map: which regions serve which mapping unit, and which servers live there. Made by the controller."""

from msgspec import Struct

from nearmile.base.geography import Place, Point


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


class Map(Struct, frozen=True, kw_only=True):
    """One version of the map, swapped whole.

    ``units`` gives for each mapping unit (see ``unit_of``) indexes into ``regions``, best first; ``fallback``
    is the same for clients of whom nothing is known. ``term`` is the leader's; ``version`` grows with each map.
    """

    version: int
    term: int
    made_at_s: float
    regions: tuple[MapRegion, ...]
    units: dict[str, tuple[int, ...]]
    fallback: tuple[int, ...]


def unit_of(place: Place) -> str:
    """The mapping unit of a place: country and state, or the country alone where the state is not known."""
    return f"{place.country}/{place.state}" if place.state else place.country
