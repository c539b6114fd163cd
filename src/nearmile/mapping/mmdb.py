"""Reads a whole MMDB file as arrays: its address blocks, and the distinct records that they have.

Walking the tree level by level in NumPy reads the millions of networks of a city database in seconds, where
iterating over its records takes minutes. Format: MaxMind DB File Format Specification 2.0.
"""

from pathlib import Path
from typing import Any, NamedTuple

import maxminddb
import numpy as np
from maxminddb.decoder import Decoder
from numpy.typing import NDArray

from nearmile.base.errors import NearmileError

Ints = NDArray[np.int64]
SEPARATOR_BYTES = 16  # between the search tree and the data section
# Where IPv4 addresses are in a tree of both families: below ::/96.
IPV4_DEPTH = 96
NO_RECORD = -1


class Blocks(NamedTuple):
    """Consecutive blocks from the first address on: first numbers (of as many bits as asked for), and records."""

    starts: Ints
    records: Ints


def read(path: Path, depths: dict[int, int]) -> tuple[dict[int, Blocks], list[Any]]:
    """By family (of those that the file has) the blocks, cut no finer than its depth in bits, and the records.

    Where finer blocks differ, the first counts. NearmileError where the file is no such database.
    """
    try:
        with maxminddb.open_database(path, maxminddb.MODE_FILE) as reader:
            metadata = reader.metadata()
        raw = np.fromfile(path, dtype=np.uint8)
        count, size = metadata.node_count, metadata.record_size
        nodes = _nodes(raw[: count * size // 4].reshape(count, size // 4).astype(np.int64), size)
    except (OSError, ValueError, maxminddb.InvalidDatabaseError) as error:
        raise NearmileError(f"{path} cannot be read as an MMDB database: {error}") from None
    found = {}
    if metadata.ip_version == 4:
        found[4] = _walk(nodes, count, 0, depths[4])
    else:
        root = _descend(nodes, count)
        if root is not None:
            found[4] = _walk(nodes, count, root, depths[4])
        found[6] = _walk(nodes, count, 0, depths[6])
    offsets = np.unique(np.concatenate([data for _, data in found.values()]))
    offsets = offsets[offsets >= 0]
    decoder = Decoder(raw[count * size // 4 + SEPARATOR_BYTES :].tobytes(), 0)
    try:
        records = [decoder.decode(int(offset))[0] for offset in offsets]
    except (maxminddb.InvalidDatabaseError, IndexError, ValueError) as error:
        raise NearmileError(f"{path} has a record that cannot be read: {error}") from None
    return {
        family: Blocks(starts, np.where(data >= 0, np.searchsorted(offsets, data), NO_RECORD))
        for family, (starts, data) in found.items()
    }, records


def _nodes(tree: Ints, size: int) -> Ints:
    """Left and right of each node."""
    if size == 24:
        sides = tree[:, 0] << 16 | tree[:, 1] << 8 | tree[:, 2], tree[:, 3] << 16 | tree[:, 4] << 8 | tree[:, 5]
    elif size == 28:
        sides = (
            (tree[:, 3] >> 4) << 24 | tree[:, 0] << 16 | tree[:, 1] << 8 | tree[:, 2],
            (tree[:, 3] & 15) << 24 | tree[:, 4] << 16 | tree[:, 5] << 8 | tree[:, 6],
        )
    elif size == 32:
        sides = (
            tree[:, 0] << 24 | tree[:, 1] << 16 | tree[:, 2] << 8 | tree[:, 3],
            tree[:, 4] << 24 | tree[:, 5] << 16 | tree[:, 6] << 8 | tree[:, 7],
        )
    else:
        raise ValueError(f"records of {size} bits")
    return np.stack(sides, axis=1)


def _descend(nodes: Ints, count: int) -> int | None:
    node = 0
    for _ in range(IPV4_DEPTH):
        node = int(nodes[node, 0])
        if node >= count:
            return None
    return node


def _walk(nodes: Ints, count: int, root: int, depth_max: int) -> tuple[Ints, Ints]:
    """Sorted first numbers (of ``depth_max`` bits), and where each block's data are; NO_RECORD for none."""
    level, prefixes = np.array([root]), np.zeros(1, np.int64)
    starts, data = [], []
    for depth in range(1, depth_max + 1):
        children = nodes[level].ravel()
        below = np.stack([prefixes << 1, prefixes << 1 | 1], axis=1).ravel()
        leaf = children >= count
        starts.append(below[leaf] << depth_max - depth)
        data.append(children[leaf] - count - SEPARATOR_BYTES)
        level, prefixes = children[~leaf], below[~leaf]
    starts.append(prefixes)
    data.append(_first_data(nodes, count, level))
    order = np.argsort(merged := np.concatenate(starts), kind="stable")
    return merged[order], np.maximum(np.concatenate(data)[order], NO_RECORD)


def _first_data(nodes: Ints, count: int, level: Ints) -> Ints:
    """What the first block below each node has that has anything."""
    found = np.full(len(level), NO_RECORD)
    rows, at = np.arange(len(level)), level.copy()
    for _ in range(128):
        if not len(rows):
            break
        left, right = nodes[at, 0], nodes[at, 1]
        nearer = np.where(left == count, right, left)
        leaf = nearer >= count
        found[rows[leaf]] = nearer[leaf] - count - SEPARATOR_BYTES
        rows, at = rows[~leaf], nearer[~leaf]
    return found
