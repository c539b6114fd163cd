"""The record of one response: 32 bytes, written by the edge for every hit it serves, and never changed after.

The same bytes are a struct (one ``pack_into`` on the edge's hit path) and a row of a NumPy array (elsewhere).
The time comes last, for a struct is written from its first field to its last: where the time is 0 nothing has
been recorded, and a process killed in the middle of a record leaves it unused.
"""

from enum import IntEnum
from struct import Struct

import numpy as np
import numpy.typing as npt

Records = npt.NDArray[np.void]
"""A one-dimensional array of ``RECORD``."""


class Cache(IntEnum):
    """What the cache had to do with the response."""

    HIT = 0
    MISS = 1
    REVALIDATED = 2
    STALE = 3
    PASS = 4
    ERROR = 5


CACHE_WORDS = tuple(cache.name.lower() for cache in Cache)
COMPLETE = 1
"""Flag: the whole response was handed to the client's connection."""

# Name and struct code of each field, in the order they are written. "4x" keeps the time on an 8-byte boundary.
_FIELDS = (
    ("sent_bytes", "Q"),
    ("serial", "I"),
    ("place", "I"),
    ("status", "H"),
    ("cache", "B"),
    ("flags", "B"),
    ("", "4x"),
    ("time_ms", "Q"),
)
PACKER = Struct("<" + "".join(code for _, code in _FIELDS))
RECORD_BYTES = PACKER.size
RECORD = np.dtype([(name, "V4" if code == "4x" else f"<{code}") for name, code in _FIELDS])


def written(memory: bytes | memoryview) -> Records:
    """The records at the beginning of ``memory`` that were written: all before the first whose time is 0."""
    records = np.frombuffer(memory, RECORD, count=len(memory) // RECORD_BYTES)
    unused = records["time_ms"] == 0
    return records[: int(unused.argmax())] if unused.any() else records
