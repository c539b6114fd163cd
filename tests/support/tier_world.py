"""Stored responses to try the disk tier with, and a look at its files."""

from pathlib import Path

from nearmile.cache.directives import Fields
from nearmile.cache.policy import Storable
from nearmile.cache.store import MemoryStore
from nearmile.cache.tier.disk import SUFFIX
from nearmile.cache.tier.store import DiskStore

MEMORY_BYTES, DISK_BYTES = 64 << 10, 4 << 20
HEAD = b"HTTP/1.1 200 OK\r\nx: y\r\n"
SITE = b"\x00\x00\x01"


def kept(*tags: bytes, vary: tuple[bytes, ...] = ()) -> Storable:
    """Fresh until time 2000."""
    return Storable(200, 900.0, 2000.0, 0, 0, False, False, vary, b'"x"', None, 0, tags=tags)


def opened(
    folder: Path, memory_bytes: int = MEMORY_BYTES, disk_bytes: int = DISK_BYTES
) -> tuple[MemoryStore, DiskStore]:
    """An empty memory over what the folder has; what is new gathers until somebody asks about it."""
    memory = MemoryStore(memory_bytes)
    disk = DiskStore(folder, disk_bytes, memory)
    disk.gather(lambda _s, _back: None)
    return memory, disk


def put(memory: MemoryStore, key: bytes, body: bytes, *tags: bytes) -> None:
    """Stores a response."""
    assert memory.put(key, (), kept(*tags), HEAD, body, memory.generation) is not None


async def body_of(memory: MemoryStore, key: bytes, fields: Fields = ()) -> bytes | None:
    """What is found."""
    entry = await memory.find(key, fields)
    return None if entry is None else await entry.whole()


def segments(folder: Path) -> list[Path]:
    """The files of records, oldest first."""
    return sorted(folder.glob("*" + SUFFIX))


def folder_bytes(folder: Path) -> int:
    """Of all files."""
    return sum(path.stat().st_size for path in folder.iterdir())
