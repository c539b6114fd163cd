"""The atlas: the mapping units, and which addresses belong to each. It changes with databases and regions only.

A unit is the clients of a place, or of a network at a place. Their addresses are ranges between sorted starts, so
a look-up is one bisection, and neighbours that are answered alike fall together into one range: how far that range
reaches says for whom else an answer holds. IPv4 addresses are 32-bit numbers, those of IPv6 the upper 64 bits.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from nearmile.base import packing
from nearmile.base.addresses import read_address
from nearmile.base.gazetteer import Area
from nearmile.base.geography import Point

Indexes = NDArray[np.uint32]
Starts = NDArray[np.uint64]

BITS = {4: 32, 6: 64}
# Packed once, read by everybody.
LEVEL = 12
DIGEST_BYTES = 8


class Ranges(Struct, frozen=True):
    """Of one address family: the sorted first numbers (uint64, little-endian), and of each the unit (uint32)."""

    starts: bytes
    units: bytes


class Atlas(Struct, frozen=True, kw_only=True):
    """Units by index; unit 0, without a name, is everybody of whom nothing is known.

    ``basis`` tells what it was made of: where that is the same, the atlas is. ``points`` are latitudes and
    longitudes in hundredths of a degree (int16), ``weights`` how many people or addresses each unit has (float32).
    """

    digest: str
    basis: str
    names: tuple[str, ...]
    points: bytes
    weights: bytes
    v4: Ranges
    v6: Ranges

    def areas(self) -> list[Area]:
        """The units but the first, for distances; what is within a country counts as its state."""
        points, people = np.frombuffer(self.points, "<i2").reshape(-1, 2) / 100, np.frombuffer(self.weights, "<f4")
        rows = zip(self.names, points.tolist(), people.tolist(), strict=True)
        return [
            Area(name.partition("/")[0], name.partition("/")[2], Point(lat, lon), round(weight))
            for name, (lat, lon), weight in rows
            if name
        ]


class Found(NamedTuple):
    """The value of a number, and the length of the shortest prefix around it that has no other."""

    value: int
    bits: int


class Table:
    """Values of consecutive ranges of numbers; neighbours with the same value are one."""

    def __init__(self, starts: Starts, values: Indexes, bits: int) -> None:
        first = np.ones(len(starts), dtype=np.bool_)
        np.not_equal(values[1:], values[:-1], out=first[1:])
        self._starts = array("Q", starts[first].astype("<u8").tobytes())
        self._values = array("I", values[first].astype("<u4").tobytes())
        self._bits = bits

    def __len__(self) -> int:
        return len(self._starts)

    def find(self, number: int) -> Found:
        """The value of that number, and the shortest prefix around it all of which has that value."""
        at = bisect_right(self._starts, number)
        low = self._starts[at - 1]
        # The prefix must hold neither the number before the range nor the one behind it.
        shared = self._bits - (number ^ (low - 1)).bit_length() + 1 if low else 0
        if at < len(self._starts):
            shared = max(shared, self._bits - (number ^ self._starts[at]).bit_length() + 1)
        return Found(self._values[at - 1], shared)


def numbered(address: str) -> tuple[int, int]:
    """Its family, and the number that it has here; ValueError for what is no address."""
    parsed = read_address(address)
    return parsed.version, int(parsed) >> parsed.max_prefixlen - BITS[parsed.version]


class Finder:
    """Finds the units of addresses, or other values that each unit has."""

    def __init__(self, atlas: Atlas, values: Indexes | None = None) -> None:
        self.tables = {}
        for family, ranges in ((4, atlas.v4), (6, atlas.v6)):
            units = np.frombuffer(ranges.units, "<u4")
            of_range = units if values is None else values[units]
            self.tables[family] = Table(np.frombuffer(ranges.starts, "<u8"), of_range, BITS[family])

    def unit(self, address: str) -> int:
        """The unit's index; 0 for what is unknown or no address."""
        try:
            family, number = numbered(address)
        except ValueError:
            return 0
        return self.tables[family].find(number).value


class _Packed(Struct, frozen=True, array_like=True):
    """An atlas on the wire: names in lines, numbers as differences, bytes of equal weight beside each other."""

    basis: str
    names: str
    points: bytes
    weights: bytes
    v4: tuple[bytes, bytes]
    v6: tuple[bytes, bytes]


def made(
    basis: str,
    names: Sequence[str],
    points: Iterable[Point],
    weights: Sequence[float] | NDArray[np.float32],
    v4: tuple[Starts, Indexes],
    v6: tuple[Starts, Indexes],
) -> Atlas:
    """An atlas of units, of which the first is everybody; starts begin with 0."""
    own = ("", *names)
    where = np.array([(0.0, 0.0), *((point.lat, point.lon) for point in points)])
    people = np.array([0.0, *weights], dtype="<f4")
    ranges = [Ranges(starts.astype("<u8").tobytes(), units.astype("<u4").tobytes()) for starts, units in (v4, v6)]
    return _digested(basis, own, np.round(where * 100).astype("<i2").tobytes(), people.tobytes(), ranges)


def _digested(basis: str, names: tuple[str, ...], points: bytes, weights: bytes, ranges: list[Ranges]) -> Atlas:
    digest = blake2b("\n".join(names).encode(), digest_size=DIGEST_BYTES)
    for column in (points, weights, *(column for each in ranges for column in (each.starts, each.units))):
        digest.update(column)
    return Atlas(
        digest=digest.hexdigest(),
        basis=basis,
        names=names,
        points=points,
        weights=weights,
        v4=ranges[0],
        v6=ranges[1],
    )


def pack(atlas: Atlas) -> bytes:
    """For the bus and the disk."""
    packed = _Packed(
        atlas.basis,
        "\n".join(atlas.names),
        _shuffled(atlas.points, 2),
        _shuffled(atlas.weights, 4),
        (_shuffled(_differences(atlas.v4.starts), 8), _shuffled(atlas.v4.units, 4)),
        (_shuffled(_differences(atlas.v6.starts), 8), _shuffled(atlas.v6.units, 4)),
    )
    return packing.pack(msgspec.msgpack.encode(packed), LEVEL)


def unpack(data: bytes) -> Atlas:
    """The atlas of those bytes; ValueError where they are none."""
    try:
        packed = msgspec.msgpack.decode(packing.unpack(data), type=_Packed)
        names = packed.names.split("\n")
        points = np.frombuffer(_ordered(packed.points, 2), "<i2").reshape(-1, 2)
        weights = np.frombuffer(_ordered(packed.weights, 4), "<f4")
        families = [
            (
                np.cumsum(np.frombuffer(_ordered(starts, 8), "<u8"), dtype=np.uint64),
                np.frombuffer(_ordered(units, 4), "<u4"),
            )
            for starts, units in (packed.v4, packed.v6)
        ]
    except ValueError as error:
        raise ValueError(f"no atlas: {error}") from None
    if names[0] or not len(names) == len(points) == len(weights):
        raise ValueError("no atlas: its columns differ in length")
    for starts, units in families:
        if not len(starts) == len(units) or not len(starts) or starts[0] or (units >= len(names)).any():
            raise ValueError("no atlas: its ranges are not whole")
        if (starts[1:] <= starts[:-1]).any():
            raise ValueError("no atlas: its ranges are not in order")
    ranges = [Ranges(starts.astype("<u8").tobytes(), units.tobytes()) for starts, units in families]
    return _digested(packed.basis, tuple(names), points.tobytes(), weights.tobytes(), ranges)


def _differences(starts: bytes) -> bytes:
    numbers = np.frombuffer(starts, "<u8")
    return np.diff(numbers, prepend=numbers[:1] * 0).tobytes()


def _shuffled(column: bytes, width: int) -> bytes:
    return np.frombuffer(column, np.uint8).reshape(-1, width).T.tobytes()


def _ordered(column: bytes, width: int) -> bytes:
    return np.frombuffer(column, np.uint8).reshape(width, -1).T.tobytes()
