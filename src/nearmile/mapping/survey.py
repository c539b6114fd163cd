"""What the databases know of all addresses, for the cutting of units: places, and networks where known."""

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np

from nearmile.base import packing
from nearmile.base.gazetteer import areas
from nearmile.base.geography import NOWHERE, Place, Point
from nearmile.config.network import Network
from nearmile.mapping import mmdb
from nearmile.mapping.atlas import BITS, Atlas, pack
from nearmile.mapping.cut import DEPTHS, RANGES_MAX, Ground, Ints, Survey, cut, overlay
from nearmile.mapping.mmdb import Blocks
from nearmile.mapping.places import entries_of, place_of

# Part of what an atlas is made of: another number for another way to cut.
EDITION = 3
# With fewer ranges, nobody would be told from anybody.
RANGES_MIN = 10_000
NONE = Blocks(np.zeros(1, np.int64), np.full(1, mmdb.NO_RECORD))


def basis_of(network: Network, files: Sequence[Path], regions: Sequence[Point]) -> str:
    """What an atlas would be made of, in a few characters: databases, the operator's entries, regions, bound."""
    digest = blake2b(repr((EDITION, network.units, network.places, list(regions))).encode(), digest_size=8)
    for path in files:
        found = path.stat()
        digest.update(f"{path.name} {found.st_size} {found.st_mtime_ns}".encode())
    return digest.hexdigest()


def make_atlas(network: Network, files: Sequence[Path], networks: Path | None, regions: Sequence[Point]) -> Atlas:
    """The units by those databases of places and of networks; NearmileError where one cannot be read.

    Takes a tenth of a second of the built-in database, and half a minute of a whole city database.
    """
    survey = overlay(read(files, networks), entries_of(network))
    basis = basis_of(network, [*files, *([networks] if networks else [])], regions)
    ranges_max = RANGES_MAX
    while True:
        made = cut(survey, areas(), regions, network.units, basis, ranges_max)
        if len(pack(made)) <= packing.MESSAGE_BYTES_MAX or ranges_max < RANGES_MIN:
            return made
        ranges_max = ranges_max * 3 // 4


def read(files: Sequence[Path], networks: Path | None = None) -> Survey:
    """What is known by databases of places, of which one for one family counts more than one for both."""
    places: dict[Place, int] = {NOWHERE: 0}
    blocks: dict[int, Blocks] = {4: NONE, 6: NONE}
    for found, records in sorted((mmdb.read(path, DEPTHS) for path in files), key=lambda each: -len(each[0])):
        rows = [places.setdefault(place_of(record), len(places)) for record in records]
        of_record = np.array([*rows, 0])  # no record is the last
        blocks |= {family: Blocks(each.starts, of_record[each.records]) for family, each in found.items()}
    blocks = {family: _unrecorded(each) for family, each in blocks.items()}
    numbers = _read_networks(networks) if networks is not None else {}
    return Survey(
        list(places), {family: _ground(family, each, numbers.get(family)) for family, each in blocks.items()}
    )


def _unrecorded(blocks: Blocks) -> Blocks:
    return Blocks(blocks.starts, np.maximum(blocks.records, 0))


def _read_networks(path: Path) -> dict[int, Blocks]:
    """Numbers of autonomous systems in place of records; 0 where there is none."""
    found, records = mmdb.read(path, DEPTHS)
    of_record = np.array([*(_number(record) for record in records), 0], dtype=np.int64)
    return {family: Blocks(each.starts, of_record[each.records]) for family, each in found.items()}


def _number(record: object) -> int:
    number = record.get("autonomous_system_number") if isinstance(record, dict) else None
    return number if isinstance(number, int) and 0 < number < 1 << 32 else 0


def _ground(family: int, places: Blocks, networks: Blocks | None) -> Ground:
    shift = np.uint64(BITS[family] - DEPTHS[family])
    if networks is None:
        starts, numbers = places.starts, np.zeros(len(places.starts), np.int64)
        rows: Ints = places.records
    else:
        starts = np.union1d(places.starts, networks.starts)
        rows = places.records[np.searchsorted(places.starts, starts, side="right") - 1]
        numbers = networks.records[np.searchsorted(networks.starts, starts, side="right") - 1]
    return Ground(starts.astype(np.uint64) << shift, rows, numbers)
