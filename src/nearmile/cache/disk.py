"""The store's snapshot: written on a clean stop, read and deleted at the next start.

A file of records, each behind a mark, its length and a BLAKE2b digest; a damaged record is skipped, never
served. The file is deleted before it is used: whatever is purged later cannot come back from it. The first record
says up to which purge order everything in it was purged; without that nothing in it is used.
"""

import mmap
import os
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import msgspec
from msgspec import Struct

from nearmile.cache.policy import Storable
from nearmile.cache.purge import Position
from nearmile.cache.reuse import usable_on_error
from nearmile.cache.store import MemoryStore

MARK = b"\x89nearmile object 2\n"
DIGEST_BYTES = 16
LENGTH_BYTES = 8
SLICE = 1024
FRAME_BYTES = len(MARK) + LENGTH_BYTES + DIGEST_BYTES


class _Record(Struct, frozen=True, array_like=True):
    key: bytes
    names: tuple[bytes, ...]
    variant: bytes
    kept: Storable
    head: bytes
    body: bytes


class _Start(Struct, frozen=True, tag=True):
    position: Position | None


class Loaded(Struct, frozen=True):
    """How many responses were read, how many damages skipped, and the position in the log of purge orders."""

    responses: int = 0
    damaged: int = 0
    position: Position | None = None


def save(store: MemoryStore, path: Path, now_s: float, position: Position | None) -> int:
    """Writes what is still of use at ``now_s`` to ``path``, at once or not at all; returns how many responses.

    All purge orders up to ``position`` have been given to the store; None where that is not known.
    The file is as large as the store's heads and bodies, so the store's capacity bounds it. Raises OSError.
    """
    temporary = path.with_name(path.name + ".new")
    count = -1  # the first record is none
    while store.sweep(SLICE):
        pass
    try:
        with temporary.open("wb") as file:
            for payload in _records(store, now_s, position):
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


def load(path: Path, store: MemoryStore) -> Loaded:
    """Fills the store from a snapshot and deletes the file.

    No file is an empty one. Raises OSError.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return Loaded()
    with file:
        path.unlink()
        if not os.fstat(file.fileno()).st_size:
            return Loaded()
        decoder = msgspec.msgpack.Decoder(_Record)
        count = damaged = 0
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            payloads = _payloads(data)
            try:
                start = msgspec.msgpack.decode(next(payloads) or b"", type=_Start)
            except msgspec.MsgspecError:
                return Loaded(damaged=1)
            for payload in payloads:
                try:
                    record = decoder.decode(b"" if payload is None else payload)
                except msgspec.MsgspecError:
                    # Also what another version of the program wrote.
                    damaged += 1
                    continue
                store.restore(*msgspec.structs.astuple(record))
                count += 1
    return Loaded(count, damaged, start.position)


def _records(store: MemoryStore, now_s: float, position: Position | None) -> Iterator[bytes]:
    encoder = msgspec.msgpack.Encoder()
    yield encoder.encode(_Start(position))
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
