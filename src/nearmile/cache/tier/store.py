"""The store on disk, under the one in memory: the event loop decides and asks, threads read and write.

    put (gathers), mark, left -> Index -> commands -> Writer -> files
    find -> Index -> a reader thread -> verified? purged meanwhile? -> memory, or a body in pieces

Commands are carried out in their order, so the index is ahead of the files by the queue and no more. A disk that
fails to write rests for a while, and memory does what it can alone; one that fails to forget begins empty at the
next start. No request fails.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import inf
from pathlib import Path
from typing import TypeVar

from msgspec.structs import replace

from nearmile.cache.directives import Fields
from nearmile.cache.entry import Damaged, Entry
from nearmile.cache.key import site_of, variant_key
from nearmile.cache.pages import Body
from nearmile.cache.purge import EVERYTHING, MARKS_MAX, Position, key_of
from nearmile.cache.shares import Shares
from nearmile.cache.store import MemoryStore
from nearmile.cache.tier.disk import Files, Loaded, Room, Sync, Tell, Write, load_piece
from nearmile.cache.tier.disk_writer import Later, Writer
from nearmile.cache.tier.index import LOG_SHARE, Copy, Index
from nearmile.cache.tier.orders import NOTES_MAX, Closed, Marked, Note, Reached, start_of, write_note
from nearmile.cache.tier.places import Place
from nearmile.cache.tier.record import (
    HEADER_BYTES,
    PIECE_BYTES,
    SUM_BYTES,
    Header,
    Lead,
    Meta,
    object_name,
    pieces_of,
    variant_name,
    write_meta,
)

T = TypeVar("T")
_New = tuple[Entry, tuple[bytes, ...], bool]  # what ``put`` is given
logger = logging.getLogger("nearmile.cache")

# Bodies that wait for the writer; what comes then is kept in memory alone. A tenth of a second of a fast disk.
QUEUE_BYTES_MAX = 32 << 20
# Reads under way; what is asked for then counts as not stored, unless its site is within its part of them. Each
# holds no more than memory takes of an object.
READS_MAX = 128
READERS = 2
# A record that is moved while it is read is read again; twice in a row is unheard of.
READ_TRIES = 3
GATHER_BYTES_MAX = 1 << 20  # the event loop has other things to do


class DiskStore:
    """What ``memory`` has and more, in ``folder``, in at most ``capacity_bytes``. For one event loop.

    New records wait in the ``log``; without one, in a part of the folder. Indexes what is there at once, which may
    be in a thread; raises OSError where there can be no such folder.
    """

    def __init__(
        self,
        folder: Path,
        capacity_bytes: int,
        memory: MemoryStore,
        log: Room | None = None,
    ) -> None:
        self._memory = memory
        if log is None:
            log = Room(folder, int(capacity_bytes * LOG_SHARE))
            capacity_bytes -= log.capacity_bytes
        self._index = Index(capacity_bytes, log.capacity_bytes)
        self._files = Files(folder, log, memory.shelf)
        self.position, self._marks, newest = self._files.open(self._index)
        """Up to which purge order that is known here."""
        # Notes may be lost that records are younger than.
        self._marks.generation = max(self._marks.generation, newest)
        # By key, what has no place yet: whoever asks about such an object has it placed first.
        self._new, self._new_bytes = dict[bytes, list[_New]](), 0
        self._reads: dict[int, asyncio.Task[Entry | None]] = {}
        self._reading = Shares(READS_MAX)
        self._notes = self._sealed_faults = 0
        self.dropped = self.damaged = self.hits = 0
        """Responses not written since the disk was too slow; found damaged; found."""
        self._writer = Writer(self._files, self._settle)
        self._begin_diary()
        self._carry_out()
        self._readers = ThreadPoolExecutor(READERS, "nearmile-read")
        memory.below = self

    def __len__(self) -> int:
        return len(self._index)

    def gather(self, later: Later) -> None:
        """From now on what is new gathers for a moment; ``later`` is the event loop's call_later."""
        self._writer.later = later

    @property
    def used_bytes(self) -> int:
        """Of the disk."""
        return self._index.used_bytes

    @property
    def written_bytes(self) -> int:
        """Copied to, or first put in, segments that stay for long."""
        return self._index.settled_bytes

    @property
    def working(self) -> bool:
        """False for some time after a write has failed."""
        return self._writer.working

    @property
    def failing(self) -> bool:
        """Whether the disk could not be written the last time."""
        return self._writer.failing

    def vary(self, key: bytes) -> tuple[bytes, ...]:
        """The names of the request fields that tell this object's variants apart; empty if it has none."""
        self._settle_one(key)
        return self._index.fields(object_name(key))

    def put(self, entry: Entry, names: tuple[bytes, ...], in_memory: bool) -> None:
        """Writes a response, soon; it can be found at once."""
        self._new.setdefault(entry.key, []).append((entry, names, in_memory))
        self._new_bytes += len(entry.body)
        if self._new_bytes > GATHER_BYTES_MAX:
            self._writer.hand_over()
        else:
            self._writer.soon()

    def _settle(self) -> None:
        """Gives what is new its places."""
        new, self._new, self._new_bytes = self._new, {}, 0
        if self._sealed_faults != self._writer.faults:
            self._sealed_faults = self._writer.faults
            self._index.seal()
        working = self.working
        for some in new.values():
            for one in some:
                write = self._place(one, working)
                self._carry_out()
                if write is not None:
                    self._writer.give([write])

    def _settle_one(self, key: bytes) -> None:
        """So that whatever is new of that object has its place."""
        if key in self._new:
            self._settle()

    def _place(self, new: _New, working: bool) -> Write | None:
        """A new record's place, and what to write there; None where there is none for it."""
        entry, names, in_memory = new
        key, body, site = entry.key, entry.body, site_of(entry.key)
        of_object = object_name(key)
        name = variant_name(key, entry.variant) if names else of_object
        meta = Meta(key, names, entry.variant, entry.kept, entry.head)
        data = write_meta(meta)
        length = HEADER_BYTES + len(data) + SUM_BYTES * pieces_of(len(body)) + len(body)
        waiting = self._writer.waiting_bytes
        if not working or (waiting and waiting + length > QUEUE_BYTES_MAX):
            self.dropped += 1
            self._index.make_way(of_object, name, names)
            return None
        place = self._index.put(of_object, name, names, length, in_memory, site)
        if place is None:
            return None
        header = Header(len(data), len(body), of_object, name, self._marks.generation, site)
        return Write(place, Lead(header, meta, b""), data, body)

    def left(self, entry: Entry) -> None:
        """It was evicted from memory."""
        self._settle_one(entry.key)
        self._index.left(_name(entry.key, entry.variant), entry.visited != 0)

    def delete(self, key: bytes, variant: bytes) -> None:
        """Forgets one response."""
        self._settle_one(key)
        self._index.remove(_name(key, variant))
        self._carry_out()

    def mark(self, mark: bytes, soft_at_s: float | None) -> int:
        """One mark of an order: forgets at once, or remembers what to hold records against when they are read."""
        self._settle()
        key = key_of(mark)
        gone = 0
        if soft_at_s is None and mark == EVERYTHING:
            self._index.clear()
        elif soft_at_s is None and key is not None:
            gone = self._index.remove_object(object_name(key))
        else:
            self._marks.add(mark, soft_at_s)
            if len(self._marks) > MARKS_MAX:
                self._marks.drop_oldest()
            self._note(Marked(mark, soft_at_s))
            gone = 0 if key is None else self._index.count(object_name(key))
        self._carry_out()
        return gone

    def reached(self, position: Position) -> None:
        """All orders up to there have been given to ``mark``."""
        self.position = position
        self._note(Reached(position))

    def weigh(self, weights: Mapping[int, int]) -> None:
        """The sites' weights by serial (see Shares)."""
        self._index.shares.weigh(weights)
        self._reading.weigh(weights)

    async def find(self, key: bytes, fields: Fields) -> Entry | None:
        """The response stored for this object and these request fields, fresh or not, taken into memory.

        What is too large for that has its body elsewhere.
        """
        names = self.vary(key)
        variant = variant_key(names, fields) if names else b""
        name = _name(key, variant)
        read = self._reads.get(name)
        if read is None:
            site = site_of(key)
            full = len(self._reads) >= READS_MAX and not self._reading.within(site, 1)
            if full or self._index.place(name) is None:
                return None
            read = self._reads[name] = asyncio.get_running_loop().create_task(self._read(name, key))
            self._reading.use(site, 1)
            read.add_done_callback(lambda _: self._read_done(name, site))
        found = await asyncio.shield(read)  # one who asks may go away; the others still wait
        return found if found is None or found.variant == variant else None

    async def load_piece(self, record: Loaded, number: int) -> bytes | None:
        """A piece of a large body; None where it is damaged."""
        return await self._ask(partial(load_piece, record, number))

    def discard(self, name: int, place: Place) -> None:
        """That record turned out to be damaged, or could not be read or written."""
        self.damaged += 1
        if self._index.place(name) == place:
            self._index.remove(name)
            self._carry_out()

    def detail(self) -> dict[str, float]:
        """What the heartbeat tells."""
        return {
            "disk_bytes": self.used_bytes,
            "disk_objects": len(self),
            "disk_hits": self.hits,
            "disk_dropped": self.dropped,
            "disk_damaged": self.damaged,
            "disk_failing": float(self.failing),
        }

    def flush(self) -> None:
        """Waits until everything given so far has been written, or has failed. Blocks."""
        self._writer.flush()

    def close(self) -> None:
        """Brings everything to the disk, if that takes no longer than a stop may. Blocks."""
        self._memory.below = None
        self._settle()
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._writer.give([Sync(write_note(Closed()))])
        self._writer.close()

    def _read_done(self, name: int, site: int) -> None:
        del self._reads[name]
        self._reading.use(site, -1)

    async def _read(self, name: int, key: bytes) -> Entry | None:
        whole_bytes_max = self._memory.entry_bytes_max
        for _ in range(READ_TRIES):
            asked = self._index.place(name)
            if asked is None:
                return None
            place = asked
            while isinstance(pending := self._writer.pending.get(place), Copy):
                place = pending.source
            if isinstance(pending, Write):
                return self._take(name, key, place, pending.lead, pending.body, None)
            found = await self._ask(partial(self._files.load, place, whole_bytes_max))
            self._settle_one(key)
            if self._index.place(name) == asked:
                if found is not None:
                    return self._take(name, key, asked, found.lead, found.body, found)
                if place == asked:
                    self.discard(name, asked)
                    return None
        return None

    def _take(
        self, name: int, key: bytes, place: Place, lead: Lead, body: Body, found: Loaded | None
    ) -> Entry | None:
        """Takes a record into memory, if nothing speaks against it."""
        meta, generation, marks = lead.meta, lead.header.generation, self._marks
        if meta.key != key:
            return None  # Of another object with the same name.
        good_until_s = marks.good_until_s(key, meta.kept.tags, generation, alone=True)
        if good_until_s == -inf or marks.forgotten > generation:
            self._index.remove(name)
            self._carry_out()
            return None
        kept = meta.kept
        if good_until_s < kept.fresh_until_s:
            kept = replace(kept, fresh_until_s=good_until_s)
        entry = None
        if len(body) == lead.header.body_bytes:
            entry = self._memory.restore(key, meta.names, meta.variant, kept, meta.head, body)
        self._index.hit(name, entry is not None)
        self.hits += 1
        if entry is None:
            entry = Entry(key, meta.variant, kept, meta.head, body, 0)
            if found is not None and len(body) < lead.header.body_bytes:
                entry.body, entry.elsewhere = b"", _Body(self, name, place, found)
        return entry

    async def _ask(self, load: Callable[[], T | None]) -> T | None:
        """What a reader thread finds; None where the disk fails."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, load)
        except OSError as error:
            logger.error("the disk of the cache cannot be read: %s", error)
            return None

    def _note(self, note: Note) -> None:
        self._notes += 1
        if self._notes > NOTES_MAX:
            self._begin_diary()
        else:
            self._writer.give([Tell(write_note(note), False)])

    def _begin_diary(self) -> None:
        self._notes = 0
        self._writer.give([Tell(write_note(start_of(self._files.boot, self.position, self._marks)), True)])

    def _carry_out(self) -> None:
        """Has done what the index wants."""
        if commands := self._index.take_commands():
            self._writer.give(commands)


class _Body:
    """A body on disk. Its file stays open, also when the record has moved or gone."""

    fetched = False

    def __init__(self, store: DiskStore, name: int, place: Place, found: Loaded) -> None:
        self._store, self._name, self._place = store, name, place
        self._found, self._first = found._replace(body=b""), bytes(found.body)
        self.length = found.lead.header.body_bytes

    async def pieces(self, start: int, end: int) -> AsyncGenerator[Body, None]:
        """The bytes from ``start`` to before ``end``, verified. Raises Damaged."""
        for number in range(start // PIECE_BYTES, pieces_of(end)):
            at = number * PIECE_BYTES
            piece = await self._store.load_piece(self._found, number) if number else self._first
            if piece is None:
                self._store.discard(self._name, self._place)
                raise Damaged
            yield piece[max(0, start - at) : end - at]


def _name(key: bytes, variant: bytes) -> int:
    return variant_name(key, variant) if variant else object_name(key)
