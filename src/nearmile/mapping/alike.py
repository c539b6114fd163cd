"""Which addresses a map answers alike: the ranges of the atlas, joined where their units have the same regions.

So the answer to a resolver holds for the shortest prefix around a client in which everybody gets the same, and the
resolver need not ask again for those others (RFC 7871, section 7.2.1: scopes should be as short as they can be).
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from nearmile.mapping.atlas import Atlas, Finder
from nearmile.mapping.map import Units, above

# Regions' numbers of 16 bits are compared four at a time.
WORD = 4


class Alike:
    """Finds, for an address, a unit that is answered as its own is, and how far that holds.

    Where there is ``another`` of the same atlas, most of the work is done if that has the same names.
    """

    def __init__(
        self, atlas: Atlas, units: Units, shares: Mapping[str, tuple[int, ...]], another: "Alike | None" = None
    ) -> None:
        classes, firsts = _classes(units, shares)
        # The last class is of whom nothing is known.
        self._names = (*(units.names[row] for row in firsts.tolist()), "")
        of_row = np.append(classes, len(firsts)).astype(np.uint32)
        self._known = units.names
        rows = another._row_of if another is not None and another._known == units.names else None
        self._row_of: NDArray[np.intp] = _rows(atlas.names, units.names) if rows is None else rows
        self._finder = Finder(atlas, of_row[self._row_of])

    def find(self, family: int, number: int) -> tuple[str, int]:
        """The name of such a unit (empty: nothing is known), and the length of the prefix that has no other."""
        value, bits = self._finder.tables[family].find(number)
        return self._names[value], bits


def _rows(names: tuple[str, ...], known: tuple[str, ...]) -> NDArray[np.intp]:
    """For each name the row of the unit that it is answered as; the one behind the last for unknown ones."""
    rows = {name: row for row, name in enumerate(known)}
    found = (next((rows[each] for each in above(name) if each in rows), len(known)) for name in names)
    return np.fromiter(found, dtype=np.intp, count=len(names))


def _classes(units: Units, shares: Mapping[str, tuple[int, ...]]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Each unit's class, and each class's first unit. A split unit is a class of its own."""
    count = len(units.names)
    ranked = np.frombuffer(units.ranked, "<u2").reshape(count, units.width) if count else np.zeros((0, 0), "<u2")
    words = np.zeros((count, -(-units.width // WORD) * WORD), "<u2")
    words[:, : units.width] = ranked
    own = np.zeros(count, dtype=np.uint64)
    split = [row for row, name in enumerate(units.names) if name in shares] if shares else []
    own[split] = 1 + np.arange(len(split), dtype=np.uint64)
    columns = [own, *words.view("<u8").T] if count else [own]
    order = np.lexsort(columns)
    new = np.ones(count, dtype=np.bool_)
    new[1:] = np.any([column[order[1:]] != column[order[:-1]] for column in columns], axis=0)
    classes = np.empty(count, dtype=np.intp)
    classes[order] = np.cumsum(new) - 1
    return classes, order[new]
