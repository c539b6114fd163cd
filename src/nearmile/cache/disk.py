"""The store's snapshot: written on a clean stop, read and deleted at the next start.

A file of records, each behind a mark, its length and a BLAKE2b digest; a damaged record is skipped, never
served. The file is deleted before it is used: whatever is purged later cannot come back from it.
"""

import mmap
import os
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import msgspec
from msgspec import Struct

from nearmile.cache.policy import Storable
from nearmile.cache.reuse import usable_on_error
from nearmile.cache.store import MemoryStore

MARK = b"\x89nearmile object 1\n"
DIGEST_BYTES = 16
LENGTH_BYTES = 8
FRAME_BYTES = len(MARK) + LENGTH_BYTES + DIGEST_BYTES


class _Record(Struct, frozen=True, array_like=True):
    key: bytes
    names: tuple[bytes, ...]
    variant: bytes
    kept: Storable
    head: bytes
    body: bytes


def save(store: MemoryStore, path: Path, now_s: float) -> int:
    """Writes what is still of use at ``now_s`` to ``path``, at once or not at all; returns how many responses.

    The file is as large as the store's heads and bodies, so the store's capacity bounds it. Raises OSError.
    """
    temporary = path.with_name(path.name + ".new")
    count = 0
    try:
        with temporary.open("wb") as file:
            for payload in _records(store, now_s):
                file.write(MARK + len(payload).to_bytes(LENGTH_BYTES, "big") + _digest(payload))
                file.write(payload)
                count += 1
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return count


def load(path: Path, store: MemoryStore) -> tuple[int, int]:
    """Fills the store from a snapshot and deletes the file; returns the responses read and the damages skipped.

    No file is an empty one. Raises OSError.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return 0, 0
    with file:
        path.unlink()
        if not os.fstat(file.fileno()).st_size:
            return 0, 0
        decoder = msgspec.msgpack.Decoder(_Record)
        count = damaged = 0
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for payload in _payloads(data):
                try:
                    record = decoder.decode(b"" if payload is None else payload)
                except msgspec.MsgspecError:
                    # Also what another version of the program wrote.
                    damaged += 1
                    continue
                store.restore(*msgspec.structs.astuple(record))
                count += 1
    return count, damaged


def _records(store: MemoryStore, now_s: float) -> Iterator[bytes]:
    encoder = msgspec.msgpack.Encoder()
    for entry in store:
        kept = entry.kept
        if kept.validatable or now_s < kept.fresh_until_s or usable_on_error(kept, now_s):
            names = store.vary(entry.key)
            yield encoder.encode(_Record(entry.key, names, entry.variant, kept, entry.head, entry.body))


def _payloads(data: mmap.mmap) -> Iterator[bytes | None]:
    """Each whole record; None for each place where none could be read and the next mark was looked for."""
    at = 0
    while at < len(data):
        start = at + FRAME_BYTES
        frame = data[at:start]
        length = int.from_bytes(frame[len(MARK) : -DIGEST_BYTES], "big")
        payload = data[start : start + length] if start + length <= len(data) else b""
        if frame.startswith(MARK) and _digest(payload) == frame[-DIGEST_BYTES:]:
            yield payload
            at = start + length
        else:
            yield None
            found = data.find(MARK, at + 1)
            at = len(data) if found < 0 else found


def _digest(payload: bytes) -> bytes:
    return blake2b(payload, digest_size=DIGEST_BYTES).digest()
