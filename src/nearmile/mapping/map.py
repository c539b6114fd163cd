"""The map: which regions serve which mapping unit, and which servers live there. Made by the controller."""

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from struct import pack, unpack_from
from sys import byteorder

import msgspec
import numpy as np
from msgspec import Struct, structs

from nearmile.base import packing
from nearmile.base.geography import Place, Point
from nearmile.mapping.plans import Plan

# Into so many parts the clients of a unit are split where one region cannot carry them all.
PARTS = 16
# In the packed lists of ``Units``: no further region.
NO_REGION = 0xFFFF
# Up to ten maps a second are compressed.
LEVEL = 1


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


class Units(Struct, frozen=True):
    """For each mapping unit the indexes of its regions, best first.

    A million units must not be a million objects: ``ranked`` has ``width`` numbers of 16 bits, little-endian, for
    each of ``names``, which are sorted. ``NO_REGION`` fills lists up. ValueError where the lengths do not fit.
    On the bus the names are left out where they are those of the map's units.
    """

    names: tuple[str, ...] = ()
    width: int = 0
    ranked: bytes = b""

    def __post_init__(self) -> None:
        if self.width < 0 or (self.names and len(self.ranked) != 2 * self.width * len(self.names)):
            raise ValueError(f"{len(self.ranked)} bytes are not {self.width} regions for each of the units")

    @classmethod
    def of(cls, lists: Mapping[str, Sequence[int]]) -> "Units":
        """Packed from lists by name."""
        width, names = max(map(len, lists.values()), default=0), sorted(lists)
        filled = ([*lists[name], *[NO_REGION] * (width - len(lists[name]))] for name in names)
        return cls(tuple(names), width, b"".join(pack(f"<{width}H", *each) for each in filled))

    def get(self, name: str) -> tuple[int, ...] | None:
        """The unit's regions; None where it is not known."""
        row = bisect_left(self.names, name)
        return self._row(row) if row < len(self.names) and self.names[row] == name else None

    def __getitem__(self, name: str) -> tuple[int, ...]:
        found = self.get(name)
        if found is None:
            raise KeyError(name)
        return found

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not None

    def __len__(self) -> int:
        return len(self.names)

    def items(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """All names with their regions."""
        return ((name, self._row(row)) for row, name in enumerate(self.names))

    def with_(self, others: "Units") -> "Units":
        """With the regions of the others in place of its own, where it has them too."""
        row_bytes, theirs_bytes, merged = 2 * self.width, 2 * others.width, bytearray(self.ranked)
        for number, name in enumerate(others.names):
            row = bisect_left(self.names, name)
            if row < len(self.names) and self.names[row] == name:
                theirs = others.ranked[number * theirs_bytes : (number + 1) * theirs_bytes]
                merged[row * row_bytes : (row + 1) * row_bytes] = theirs[:row_bytes].ljust(row_bytes, b"\xff")
        return Units(self.names, self.width, bytes(merged))

    def firsts(self) -> set[int]:
        """The regions that are the best for somebody."""
        numbers = array("H", self.ranked)
        if byteorder == "big":
            numbers.byteswap()
        return set(numbers[:: self.width or 1]) - {NO_REGION}

    def _row(self, row: int) -> tuple[int, ...]:
        found = unpack_from(f"<{self.width}H", self.ranked, 2 * self.width * row)
        return found if NO_REGION not in found else found[: found.index(NO_REGION)]


class View(Struct, frozen=True):
    """As the map's own ``units``, ``fallback`` and ``shares``, for sites that are answered otherwise.

    Where it is ``partial`` it has only the units that are; the others are answered as by the map. ``downloads``
    says by which traffic class it is made.
    """

    units: Units
    fallback: tuple[int, ...]
    shares: dict[str, tuple[int, ...]] = {}
    partial: bool = False
    downloads: bool = False


class Map(Struct, frozen=True, kw_only=True):
    """One version of the map, swapped whole.

    ``units`` gives for each mapping unit (see ``unit_of``) indexes into ``regions``, best first; ``fallback``
    is the same for clients of whom nothing is known. ``term`` is the leader's; ``version`` grows with each map.
    A unit in ``shares`` is split: of PARTS parts of its clients each of its first regions has so many. ``pins``
    gives for the serials of sites that are pinned or of class downloads an index into ``views``, ``plans`` by
    resolver (``resolver_block``) as which units its clients are answered.
    """

    version: int
    term: int
    made_at_s: float
    regions: tuple[MapRegion, ...]
    units: Units
    fallback: tuple[int, ...]
    shares: dict[str, tuple[int, ...]] = {}
    pins: dict[int, int] = {}
    views: tuple[View, ...] = ()
    plans: dict[str, Plan] = {}


def above(unit: str) -> Iterator[str]:
    """The unit's name, and those of the units that it is a part of, the smallest first."""
    while unit:
        yield unit
        unit = unit.rpartition("/")[0].rstrip("/")


def area_name(unit: str) -> str:
    """The name of the country, or state of one, that the unit is or is in."""
    return "/".join(unit.split("/", 2)[:2]).rstrip("/")


def unit_of(place: Place) -> str:
    """The mapping unit of a place: country and state, or the country alone where the state is not known."""
    return f"{place.country}/{place.state}" if place.state else place.country


def encode(map_: Map) -> bytes:
    """For the bus and the disk. Views that would be too much for the bus lose the worse half of their regions, and
    half again: sites keep to theirs by the fallback."""
    views = tuple([_without_names(view, map_.units.names) for view in map_.views])
    while len(data := _packed(map_, views)) > packing.MESSAGE_BYTES_MAX:
        fewer = tuple(map(_halved, views))
        if fewer == views:
            break
        views = fewer
    return data


def _packed(map_: Map, views: tuple[View, ...]) -> bytes:
    return packing.pack(msgspec.msgpack.encode(structs.replace(map_, views=views)), LEVEL)


def decode(data: bytes) -> Map:
    """The map of those bytes; DecodeError of msgspec where they are none."""
    sent = msgspec.msgpack.decode(packing.unpack(data), type=Map)
    try:
        return structs.replace(sent, views=tuple([_with_names(view, sent.units.names) for view in sent.views]))
    except ValueError as error:
        raise msgspec.DecodeError(f"no map: {error}") from None


def _without_names(view: View, names: tuple[str, ...]) -> View:
    """Fifty views of 20,000 units with their names are a megabyte, and a million objects in each process."""
    if view.units.names != names:
        return view
    return structs.replace(view, units=Units((), view.units.width, view.units.ranked))


def _halved(view: View) -> View:
    """With half of the regions, but all those that units are split between."""
    units = view.units
    width = max((units.width + 1) // 2, *map(len, view.shares.values()), 1)
    if width >= units.width:
        return view
    ranked = np.frombuffer(units.ranked, "<u2").reshape(-1, units.width)[:, :width].tobytes()
    return structs.replace(view, units=Units(units.names, width, ranked))


def _with_names(view: View, names: tuple[str, ...]) -> View:
    if view.units.names or not view.units.ranked:
        return view
    return structs.replace(view, units=Units(names, view.units.width, view.units.ranked))
