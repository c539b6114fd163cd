"""Coding stored responses: once for each coding that is asked for, on a thread, while the event loop goes on.

    stored in that coding? serve -> stored as the origin sent it? code and store that too -> soon done? wait for it

Only what is stored is coded, so only what every client may see: what a page says to one user alone cannot be
guessed from the lengths of what is sent (the BREACH attack).
"""

import zlib
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import brotli
import zstandard

from nearmile.cache.coding import coded
from nearmile.cache.directives import Fields
from nearmile.cache.entry import Damaged, Entry, fields_of, response_head
from nearmile.cache.key import CODING, uncoded, variant_key, wanted_coding
from nearmile.cache.store import MemoryStore
from nearmile.edge.limits import CODING_BYTES_MAX, CODING_WAIT_BYTES_MAX
from nearmile.edge.wake import Loop, Signal

# Measured on 150 pages, scripts and style sheets (4.3 MB), share of the bytes that is left and speed in MB/s: br 5
# 24.1 % at 30 (4: 25.6 % at 36; 6: 24.0 % at 27; 9: 23.9 % at 2), zstd 6 25.6 % at 55 (3: 27.3 % at 212; 9: 25.3 %
# at 39), gzip 6 25.7 % at 47 (4: 26.4 % at 67; 9: 25.6 % at 32). The levels from where more work brings little.
_BROTLI_QUALITY, _ZSTD_LEVEL, _GZIP_LEVEL = 5, 6, 6
_GZIP_WINDOW = 31


def _br(body: bytes) -> bytes:
    packed: bytes = brotli.compress(body, quality=_BROTLI_QUALITY)
    return packed


def _zstd(body: bytes) -> bytes:
    # Its window is at most 2 MB at this level; RFC 9659 allows 8 MB.
    return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(body)


def _gzip(body: bytes) -> bytes:
    return zlib.compress(body, _GZIP_LEVEL, _GZIP_WINDOW)


PACK: dict[bytes, Callable[[bytes], bytes]] = {b"br": _br, b"zstd": _zstd, b"gzip": _gzip}


class _Job:
    """One coding of one response, on its way."""

    def __init__(self, done: Signal) -> None:
        self.done = done
        self.entry: Entry | None = None


class Coder:
    """Of one store. ``spawn`` runs what outlives the request that asked for it."""

    def __init__(
        self, loop: Loop, store: MemoryStore, spawn: Callable[[Coroutine[Any, Any, None]], object]
    ) -> None:
        self._loop, self._store, self._spawn = loop, store, spawn
        # One thread: coding has no more than one core, and what it works on is in memory once.
        self._thread = ThreadPoolExecutor(1, "nearmile-code")
        self._jobs: dict[tuple[bytes, bytes], _Job] = {}
        self._pending_bytes = 0
        self.made = 0
        """Bodies coded."""

    async def find(self, key: bytes, pairs: Fields, plain: bool) -> Entry | None:
        """What is stored for a request: in the coding that it likes best, else as the origin sent it.

        ``plain``: always as the origin sent it.
        """
        entry = await self._store.find(key, uncoded(pairs) if plain else pairs)
        if entry is None and CODING in self._store.vary(key):
            entry = await self._store.find(key, pairs if plain else uncoded(pairs))
            if entry is not None and entry.kept.coding:
                return None
        return entry

    async def suited(self, entry: Entry, pairs: Fields, plain: bool) -> Entry | None:
        """That response in the coding that a request likes best, or as the origin sent it if that takes too long.

        None where it is only there in a coding that the client may not know.
        """
        kept, best = entry.kept, b"" if plain else wanted_coding(pairs)
        if CODING not in kept.vary or not kept.whole or kept.coding == best:
            return entry
        found = await self._store.find(entry.key, pairs) if best else None
        if found is None and best:
            found = await self._coded(entry, pairs, best)
        if found is None:
            found = await self._store.find(entry.key, uncoded(pairs)) if kept.coding else entry
        return found

    async def _coded(self, entry: Entry, pairs: Fields, coding: bytes) -> Entry | None:
        """Has it made, at most once at a time; None where that is not worth waiting for."""
        name = entry.key, variant_key(self._store.vary(entry.key) or (CODING,), pairs)
        job = self._jobs.get(name)
        if job is None:
            if self._pending_bytes + entry.body_bytes > CODING_BYTES_MAX:
                return None
            job = self._jobs[name] = _Job(Signal(self._loop.create_future))
            self._pending_bytes += entry.body_bytes
            self._spawn(self._make(job, name, pairs, coding, entry.body_bytes))
        if self._pending_bytes > CODING_WAIT_BYTES_MAX:
            return None
        await job.done.wait()
        return job.entry

    async def _make(
        self, job: _Job, name: tuple[bytes, bytes], pairs: Fields, coding: bytes, body_bytes: int
    ) -> None:
        store, key = self._store, name[0]
        try:
            # Noted before the response is found: a purge from here on makes what comes of it unfit for the store.
            generation = store.generation
            plain = await store.find(key, uncoded(pairs))
            if plain is None or CODING not in plain.kept.vary:
                return
            body = await plain.whole()
            packed = await self._loop.run_in_executor(self._thread, PACK[coding], body)
            self.made += 1
            now = await store.find(key, uncoded(pairs))
            if now is not None and now.kept != plain.kept:
                return  # Another has come, or the same under other terms.
            kept, fields = coded(plain.kept, fields_of(plain.head), coding)
            head = response_head(kept.status, fields, len(packed))
            if not store.purged_since(key, generation, kept.tags):
                # Also where the store has no room for it: it is made. But it must not outlive what it is made of.
                stored = None if now is None else store.put(key, pairs, kept, head, packed, generation)
                job.entry = stored or Entry(key, name[1], kept, head, packed, 0)
        except Damaged:
            return
        finally:
            self._pending_bytes -= body_bytes
            del self._jobs[name]
            job.done.fire()
