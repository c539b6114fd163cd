"""Reads a whole MMDB file as arrays, and cuts an address tree down to the size where each node still pays.

Part of ``make_geography.py``. Walking level by level in NumPy reads the six million networks of a city database in
seconds, where iterating over its records takes many minutes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import maxminddb
import numpy as np
from maxminddb.decoder import Decoder
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
SEPARATOR_BYTES = 16  # between the search tree and the data section (MMDB format 2.0)
# Longer prefixes than this do not exist in routing; the few that a database has are left out.
PREFIX_BITS_MAX = {4: 32, 6: 64}


@dataclass(frozen=True)
class Blocks:
    """Address blocks: ``prefix`` is the leading ``bits`` bits as a number, ``record`` indexes records."""

    prefix: Ints
    bits: Ints
    record: Ints


def read(path: Path) -> tuple[int, int, Blocks, list[dict[str, Any]]]:
    """(IP version, build time in seconds since 1970, all blocks, all distinct records) of a database."""
    with maxminddb.open_database(path, maxminddb.MODE_FILE) as reader:
        metadata = reader.metadata()
    raw = np.fromfile(path, dtype=np.uint8)
    count, size = metadata.node_count, metadata.record_size
    assert size == 28, f"{path} has records of {size} bits; this reader knows 28"
    tree = raw[: count * 7].reshape(count, 7).astype(np.int64)
    left = (tree[:, 3] >> 4) << 24 | tree[:, 0] << 16 | tree[:, 1] << 8 | tree[:, 2]
    right = (tree[:, 3] & 15) << 24 | tree[:, 4] << 16 | tree[:, 5] << 8 | tree[:, 6]
    nodes, prefixes = np.zeros(1, np.int64), np.zeros(1, np.int64)
    found: list[tuple[Ints, Ints, Ints]] = []
    for depth in range(1, PREFIX_BITS_MAX[metadata.ip_version] + 1):
        children = np.stack([left[nodes], right[nodes]], axis=1).ravel()
        below = np.stack([prefixes << 1, prefixes << 1 | 1], axis=1).ravel()
        leaf = children > count
        found.append((below[leaf], np.full(int(leaf.sum()), depth), children[leaf] - count - SEPARATOR_BYTES))
        nodes, prefixes = children[children < count], below[children < count]
    offsets, record = np.unique(np.concatenate([f[2] for f in found]), return_inverse=True)
    decoder = Decoder(raw[count * 7 + SEPARATOR_BYTES :].tobytes(), 0)
    records: list[Any] = [decoder.decode(int(offset))[0] for offset in offsets]
    blocks = Blocks(np.concatenate([f[0] for f in found]), np.concatenate([f[1] for f in found]), record)
    return metadata.ip_version, metadata.build_epoch, blocks, records


@dataclass
class Level:
    """All tree nodes of one depth: what they hold, and what the best tree below them costs."""

    prefix: Ints
    cost: Floats
    label: Ints
    """The label if the tree ends here, else -1."""


def prune(
    blocks: Blocks, labels: Ints, group_of: Ints, weights: Floats, bits_max: int, node_cost: float
) -> list[tuple[int, int, int]]:
    """The tree that costs least, as (prefix, bits, label).

    A tree costs the weight of addresses it labels wrongly (a right group, that is country, with a wrong label
    counts half) plus ``node_cost`` for each fork. Bottom up: the tree ends at a node if that is no dearer than the
    sum of its children (Breiman, Friedman, Olshen, Stone 1984, section 3).
    """
    count = int(labels.max()) + 1
    groups = int(group_of.max()) + 1
    levels: list[Level] = []
    keys, sums = np.zeros(0, np.int64), np.zeros(0)
    bits = np.minimum(blocks.bits, bits_max)
    prefix = blocks.prefix >> (blocks.bits - bits)
    below: Level | None = None
    for depth in range(bits_max, -1, -1):
        here = bits == depth
        parents = (keys // count >> 1) * count + keys % count
        keys, sums = _summed(
            np.concatenate([parents, prefix[here] * count + labels[here]]), np.concatenate([sums, weights[here]])
        )
        below = _level(keys, sums, count, group_of, groups, below, node_cost)
        levels.append(below)
    return _chosen(levels[::-1])


def _summed(keys: Ints, sums: Floats) -> tuple[Ints, Floats]:
    unique, inverse = np.unique(keys, return_inverse=True)
    return unique, np.bincount(inverse, weights=sums, minlength=len(unique)).astype(np.float64)


def _largest(prefix_of: Ints, sums: Floats) -> Ints:
    """Index of the largest sum of each prefix, in the order of prefixes."""
    order = np.lexsort((sums, prefix_of))
    last = np.append(np.flatnonzero(np.diff(prefix_of[order])), len(order) - 1)
    largest: Ints = order[last]
    return largest


def _level(
    keys: Ints, sums: Floats, count: int, group_of: Ints, groups: int, below: Level | None, node_cost: float
) -> Level:
    group_keys, group_sums = _summed(keys // count * groups + group_of[keys % count], sums)
    best_group = _largest(group_keys // groups, group_sums)
    prefix = group_keys[best_group] // groups
    total = np.bincount(np.searchsorted(prefix, keys // count), weights=sums, minlength=len(prefix))
    in_group = np.isin(keys // count * groups + group_of[keys % count], group_keys[best_group])
    best = np.flatnonzero(in_group)[_largest(keys[in_group] // count, sums[in_group])]
    wrong_group = total - group_sums[best_group]
    cost = wrong_group + 0.5 * (group_sums[best_group] - sums[best])
    label = keys[best] % count
    if below is not None:
        split = np.full(len(prefix), 0.0)
        parent = np.searchsorted(prefix, below.prefix >> 1)
        known = (parent < len(prefix)) & (prefix[np.minimum(parent, len(prefix) - 1)] == below.prefix >> 1)
        np.add.at(split, parent[known], below.cost[known])
        has_children = np.zeros(len(prefix), bool)
        has_children[parent[known]] = True
        goes_on = has_children & (split + node_cost < cost)
        cost = np.where(goes_on, split + node_cost, cost)
        label = np.where(goes_on, -1, label)
    return Level(prefix, cost, label)


def _chosen(levels: list[Level]) -> list[tuple[int, int, int]]:
    result: list[tuple[int, int, int]] = []
    alive = levels[0].prefix
    for bits, level in enumerate(levels):
        here = np.isin(level.prefix, alive)
        ends = here & (level.label >= 0)
        result += [(int(p), bits, int(k)) for p, k in zip(level.prefix[ends], level.label[ends], strict=True)]
        forks = level.prefix[here & (level.label < 0)]
        alive = np.concatenate([forks << 1, forks << 1 | 1])
    return result
