"""Which servers answer for a serial: the best live region, and consistent hashing within it.

Rendezvous (highest random weight) hashing, Thaler and Ravishankar 1998: every server has a weight for every
key and the highest wins, so a server that goes moves only its own keys, and one that returns takes just those
back. Weights are made of CRC-32 and BLAKE2, never of Python's ``hash``: all processes and releases agree.
"""

from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import accumulate
from zlib import crc32

from msgspec import Struct

from nearmile.mapping.map import Map, Server, View, above

# A process meets the regions near it, each with the few sets of servers that live there in turn; ~1 KB each.
MEMBERSHIPS_MAX = 4096
# Answers for the same site and region repeat all the time; ~300 bytes each.
RANKINGS_MAX = 8192
# Hot serials of the regions near a process; up to 16 numbers for each server of a region.
CYCLES_MAX = 1024
MASK = 0xFFFF_FFFF_FFFF_FFFF
# Odd multipliers of the SplitMix64 finalizer (Steele, Lea and Flood 2014).
MIX_A, MIX_B = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


class Choice(Struct, frozen=True):
    """Servers, the preferred one first, and the region of the first; both empty where no server lives."""

    region: str
    servers: tuple[Server, ...]


def choose(map_: Map, unit: str, serial: int, count: int, turn: int = 0, part: int = 0) -> Choice:
    """Up to ``count`` live servers for a client of the unit.

    They are of the unit's best region that has live servers; where it has fewer, the next regions fill up.
    An unknown unit is answered as the state or country it is in, what is nowhere by the map's fallback. Where the
    serial is hot, each ``turn`` (a number that goes up with each answer) is another part of its load, on another
    server.
    ``part``, below PARTS, is the client's place within a unit that is split between regions.
    """
    key = crc32(serial.to_bytes(4, "big"))
    first = ""
    servers: list[Server] = []
    for index in _regions(map_, unit, serial, part):
        region = map_.regions[index]
        if region.servers:
            first = first or region.name
            names = tuple([server.name for server in region.servers])
            order = _order(key, names)
            if serial in region.hot:
                order = _from_turn(_cycle(tuple(region.hot[serial].items()), names), turn, count, order)
            servers += [region.servers[rank] for rank in order[: count - len(servers)]]
            if len(servers) >= count:
                break
    return Choice(first, tuple(servers))


def preference(serial: int, names: Sequence[str]) -> list[str]:
    """A region's servers in the order in which that serial prefers them."""
    return [names[rank] for rank in _order(crc32(serial.to_bytes(4, "big")), tuple(names))]


def turns(map_: Map, unit: str, serial: int, part: int = 0) -> int:
    """After how many turns the answers begin anew: 1 where the serial is not hot."""
    for index in _regions(map_, unit, serial, part):
        region = map_.regions[index]
        if region.servers:
            names = tuple([server.name for server in region.servers])
            return max(len(_cycle(tuple(region.hot.get(serial, {}).items()), names)), 1)
    return 1


def owner(key: bytes, servers: tuple[Server, ...]) -> Server:
    """The one of a region's live servers that keeps the object of that key; ValueError where there is none."""
    weights = _weights(crc32(key), tuple([server.name for server in servers]))
    return servers[weights.index(max(weights))]


def ranked(map_: Map, unit: str, serial: int | None = None) -> tuple[str, tuple[int, ...]]:
    """The unit of the map that the client's is answered as (empty: anybody), and its regions, best first."""
    view = _view(map_, serial)
    partial = isinstance(view, View) and view.partial
    for name in above(unit):
        known = view.units.get(name)
        if known is None and partial:
            known = map_.units.get(name)
        if known is not None:
            return name, known
    return "", view.fallback


def shares(map_: Map, serial: int | None = None) -> Mapping[str, tuple[int, ...]]:
    """The parts of units that are split for that site."""
    return _view(map_, serial).shares


def split(map_: Map, unit: str, serial: int | None = None) -> bool:
    """Whether the part counts for clients of the unit."""
    own = shares(map_, serial)
    return bool(own) and ranked(map_, unit, serial)[0] in own


def _view(map_: Map, serial: int | None) -> Map | View:
    return map_ if serial not in map_.pins else map_.views[map_.pins[serial]]


def _regions(map_: Map, unit: str, serial: int, part: int) -> Iterator[int]:
    """Indexes of regions, best first, each once, and in the end all: somebody alive is always found.

    Where none lives of those that a site is pinned to, its clients have what those of other sites have.
    """
    name, best = ranked(map_, unit, serial)
    seen, own = set(best), shares(map_, serial)
    if name in own:
        first = bisect(tuple(accumulate(own[name])), part)
        best = tuple(dict.fromkeys((best[first], *best)))
    yield from best
    for index in (*ranked(map_, unit)[1], *map_.fallback, *range(len(map_.regions))):
        if index not in seen:
            seen.add(index)
            yield index


@lru_cache(CYCLES_MAX)
def _cycle(parts: tuple[tuple[str, int], ...], names: tuple[str, ...]) -> tuple[int, ...]:
    """The indexes of a hot serial's live servers, each once for each of its parts, as evenly as they can be."""
    index = {name: rank for rank, name in enumerate(names)}
    spots = [((n + 0.5) / count, index[name]) for name, count in parts if name in index for n in range(count)]
    return tuple(rank for _, rank in sorted(spots))


def _from_turn(cycle: tuple[int, ...], turn: int, count: int, order: tuple[int, ...]) -> tuple[int, ...]:
    """The next ``count`` different servers from that turn on; the serial's own order, where there are fewer."""
    start = turn % len(cycle) if cycle else 0
    found = dict.fromkeys(cycle[start : start + 2 * count])
    if len(found) < count:
        found |= dict.fromkeys((*cycle[start:], *cycle[:start], *order))
    return tuple(found)


@lru_cache(RANKINGS_MAX)
def _order(key: int, names: tuple[str, ...]) -> tuple[int, ...]:
    """Indexes of the names, the highest weight first."""
    weights = _weights(key, names)
    return tuple(sorted(range(len(names)), key=weights.__getitem__, reverse=True))


def _weights(key: int, names: tuple[str, ...]) -> list[int]:
    # CRC-32 is linear: without the mixing, all keys would rank the servers by the same few bits.
    return [((mixed := (key ^ seed) * MIX_A & MASK) ^ mixed >> 29) * MIX_B & MASK for seed in _seeds(names)]


@lru_cache(MEMBERSHIPS_MAX)
def _seeds(names: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big") for name in names)
