"""Which servers answer for a serial: the best live region, and consistent hashing within it.

Rendezvous (highest random weight) hashing, Thaler and Ravishankar 1998: every server has a weight for every
key and the highest wins, so a server that goes moves only its own keys, and one that returns takes just those
back. Weights are made of CRC-32 and BLAKE2, never of Python's ``hash``: all processes and releases agree.
"""

from collections.abc import Iterator
from functools import lru_cache
from hashlib import blake2b
from zlib import crc32

from msgspec import Struct

from nearmile.mapping.map import Map, Server

# A process meets the regions near it, each with the few sets of servers that live there in turn; ~1 KB each.
MEMBERSHIPS_MAX = 4096
# Answers for the same site and region repeat all the time; ~300 bytes each.
RANKINGS_MAX = 8192
MASK = 0xFFFF_FFFF_FFFF_FFFF
# Odd multipliers of the SplitMix64 finalizer (Steele, Lea and Flood 2014).
MIX_A, MIX_B = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


class Choice(Struct, frozen=True):
    """Servers, the preferred one first, and the region of the first; both empty where no server lives."""

    region: str
    servers: tuple[Server, ...]


def choose(map_: Map, unit: str, serial: int, count: int) -> Choice:
    """Up to ``count`` live servers for a client of the unit.

    They are of the unit's best region that has live servers; where it has fewer, the next regions fill up.
    An unknown unit is answered as its country, an unknown country by the map's fallback.
    """
    key = crc32(serial.to_bytes(4, "big"))
    first = ""
    servers: list[Server] = []
    for index in _regions(map_, unit):
        region = map_.regions[index]
        if region.servers:
            first = first or region.name
            order = _order(key, tuple([server.name for server in region.servers]))
            servers += [region.servers[rank] for rank in order[: count - len(servers)]]
            if len(servers) >= count:
                break
    return Choice(first, tuple(servers))


def owner(key: bytes, servers: tuple[Server, ...]) -> Server:
    """The one of a region's live servers that keeps the object of that key; ValueError where there is none."""
    weights = _weights(crc32(key), tuple([server.name for server in servers]))
    return servers[weights.index(max(weights))]


def ranked(map_: Map, unit: str) -> tuple[str, tuple[int, ...]]:
    """The unit of the map that the client's is answered as (empty: anybody), and its regions, best first."""
    for name in (unit, unit.partition("/")[0]):
        if name in map_.units:
            return name, map_.units[name]
    return "", map_.fallback


def _regions(map_: Map, unit: str) -> Iterator[int]:
    """Indexes of regions, best first, each once, and in the end all: somebody alive is always found."""
    _, best = ranked(map_, unit)
    yield from best
    seen = set(best)
    for index in (*map_.fallback, *range(len(map_.regions))):
        if index not in seen:
            seen.add(index)
            yield index


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
