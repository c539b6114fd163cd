"""The edge's journal of hits: a write into mapped memory for each, sealed segments for the collector.

Hits go into slots: files of records mapped into memory and used again and again, so that the hit path never waits
for the disk; what was written there outlives the process, however it ends. ``roll`` closes the current slot to
further hits, ``drafting`` and ``seal`` turn closed slots into sealed segments (``<epoch>-<seq>.seg``, see
segment.py), which stay until the collector's stream has them. At the start, whatever an earlier epoch left in a
slot is closed under its old name. So a hit that was recorded is lost only with the disk, or counted in ``lost``
when the disk is full or the unsent segments reach their bound.
"""

import atexit
import contextlib
import logging
import mmap
import os
import shutil
import tempfile
import threading
from collections import Counter, deque
from itertools import count, islice
from pathlib import Path
from struct import Struct
from time import sleep
from typing import NamedTuple

import msgspec
import numpy as np

from nearmile.reports.hit import PACKER, RECORD, RECORD_BYTES, Records, written
from nearmile.reports.segment import (
    COUNTRY_BYTES_MAX,
    LOST_MAX,
    PIECE_BYTES,
    PLACES_MAX,
    SEGMENT_RECORDS_MAX,
    STATE_BYTES_MAX,
    TIME_MS_MAX,
    Damaged,
    Draft,
    Steps,
    decode,
    drafting,
    encoding,
)

log = logging.getLogger("nearmile.journal")

# The journal's folder in its server's.
JOURNAL = "journal"
# Tens of millions of hits: hours of a bus that is down. Beyond it the oldest segments go, and are counted.
UNSENT_BYTES_MAX = 1 << 30
# Where there is no disk to wait on: a million hits.
IN_MEMORY_BYTES_MAX = 32 << 20
_MEMORY = Path("/dev/shm")  # noqa: S108 (what is made in it has a name that nobody else can know)
# A slot is free again once its segment is sealed, within a second or so; so many carry 65,536 hits in that time.
# Where that is not enough, or the disk refuses segments, more slots are made: they hold half a million hits.
# Beyond that hits are refused, and counted.
SLOTS_MIN = 8
SLOTS_MAX = 64
# A disk that refused a new slot is not asked again for so long: the question costs more than a hit.
REFUSED_PAUSE_MS = 1000
BLOCK_BYTES = 4096  # what the smallest file takes on disk
SLOT_BYTES = RECORD_BYTES * (1 + SEGMENT_RECORDS_MAX)
# Hits are counted so many at a time, an eighth of a slot's: 0.03 ms each, and not 0.2 ms when a slot is full.
COUNTED_BYTES = RECORD_BYTES * SEGMENT_RECORDS_MAX // 8
_BLANK = memoryview(bytes(SLOT_BYTES))
_OWNER = Struct("<QQ")  # sequence number and, written last, epoch


class SegmentId(NamedTuple):
    """A segment of this server; orders by age."""

    epoch: int
    seq: int


def open_journal(folder: Path, server: str, region: str, epoch: int) -> "Journal":
    """The journal in that folder, which goes aside where it cannot be had: no edge stays away for its hits.

    On a disk that is read-only, or gone, they wait in memory, for as long as this process lives.
    """
    try:
        return Journal(folder, server, region, epoch)
    except OSError as error:
        aside = folder.with_name(f"{folder.name}-{epoch}")
        log.error("the journal cannot be read (%s): it goes to %s, and a new one begins", error, aside)
    try:
        folder.rename(aside)
        return Journal(folder, server, region, epoch)
    except OSError as error:
        log.error("nor can a new one be begun (%s): hits that are not sent wait in memory", error)
    memory = Path(tempfile.mkdtemp(prefix="nearmile-hits-", dir=_MEMORY if _MEMORY.is_dir() else None))
    atexit.register(shutil.rmtree, memory, ignore_errors=True)
    return Journal(memory, server, region, epoch, IN_MEMORY_BYTES_MAX)


class Journal:
    """One edge process's hits, between being served and being in the stream.

    ``seal`` waits for the disk and may run in another thread; all else belongs to the event loop's thread, which
    is the sooner back at its clients where it computes the draft itself: a thread takes turns with it on the same
    core, for 5 ms (measured), each as long as the kernel's scheduler lets it be.
    """

    def __init__(
        self, folder: Path, server: str, region: str, epoch: int, unsent_bytes_max: int = UNSENT_BYTES_MAX
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.server, self.region = server, region
        self._folder, self._unsent_bytes_max = folder, unsent_bytes_max
        self._account = _Account(folder / "account")
        self._counts = Counter[int]()
        self.epoch = self._account.begin(epoch)
        self._places = _Places(folder / "places")
        self.place_id = self._places.place_id
        self._seq = 0
        self._at = self._end = self._counted = 0
        self._memory: mmap.mmap | bytearray = bytearray()
        self._pack = PACKER.pack_into
        self._refused_until_ms = 0
        self._sealing = threading.Lock()
        self._sealed = _find_sealed(folder)
        slots = [_Slot(path) for path in folder.glob("slot-*") if _is_slot(path)]
        self._slot_numbers = count(max((slot.number for slot in slots), default=-1) + 1)
        self._slots_count = len(slots)
        with contextlib.suppress(OSError):  # a full disk: the first hits will ask again
            while self._slots_count < SLOTS_MIN:
                slots.append(self._new_slot())
        self._current: _Slot | None = None
        self._rolled = deque(sorted((s for s in slots if s.owner.epoch), key=lambda slot: slot.owner))
        self._free = deque(slot for slot in slots if not slot.owner.epoch)

    @property
    def lost(self) -> int:
        """Hits lost that no sealed segment has told of yet."""
        return self._account.lost

    @property
    def unsent_bytes(self) -> int:
        """Disk taken by sealed segments."""
        return sum(self._sealed.values())

    def record(
        self, now_ms: int, serial: int, place: int, status: int, cache: int, sent_bytes: int, complete: bool
    ) -> None:
        """Counts one response, for ever: when this returns, killing the process does not lose it."""
        at = self._at
        if at == self._end:
            if not self._make_room(now_ms):
                self._account.refused()
                return
            at = self._at
        self._pack(self._memory, at, sent_bytes, serial, place, status, cache, complete, now_ms)
        self._at = at + RECORD_BYTES

    def roll(self) -> None:
        """Closes the current slot, if there is one; the next hit takes another."""
        if self._current is not None:
            self._count()
            self._rolled.append(self._current)
            self._current = None
            self._seq += 1
            self._at = self._end = self._counted = 0

    def drafting(self) -> Steps[tuple[SegmentId, Draft] | None]:
        """What ``seal`` is to write next, if a slot is closed."""
        try:
            slot = self._rolled[0]
        except IndexError:
            return None
        return slot.owner, (yield from drafting(slot.records(), len(self._places.names)))

    def seal(self, segment: SegmentId, drafted: Draft, pause_s: float = 0.0) -> None:
        """Writes a closed slot as a sealed segment and frees it. OSError: nothing is lost, try again.

        ``pause_s``: for how long others have the core after each piece of this, of some ten.
        """
        with self._sealing:
            if not self._rolled or self._rolled[0].owner != segment:
                return  # who was cancelled while it waited for the disk has done it
            slot = self._rolled[0]
            self._seal(segment, drafted, pause_s)
            slot.clear(RECORD_BYTES + drafted.records.nbytes, pause_s)
            self._rolled.popleft()
            self._free.append(slot)

    def take_counts(self) -> Counter[int]:
        """Hits by serial since the last call."""
        self._count()
        counts, self._counts = self._counts, Counter()
        return counts

    def pending(self, limit: int) -> list[SegmentId]:
        """The sealed segments that the stream has not acknowledged, oldest first."""
        return list(islice(self._sealed, limit))

    def message_id(self, segment: SegmentId) -> str:
        """What the stream knows a repeated segment by."""
        return f"{self.server}-{segment.epoch}-{segment.seq}"

    def read(self, segment: SegmentId) -> bytes:
        """A sealed segment's bytes."""
        return self._path(segment, "seg").read_bytes()

    @property
    def unsealed(self) -> int:
        """How many closed slots wait."""
        return len(self._rolled)

    @property
    def holds_hits(self) -> bool:
        """Whether closed slots or sealed segments wait."""
        return bool(self._rolled or self._sealed)

    def forget(self, segment: SegmentId) -> None:
        """The stream has it: its file goes."""
        self._path(segment, "seg").unlink(missing_ok=True)
        self._sealed.pop(segment, None)

    def _count(self) -> None:
        """Counts what has come into the current slot since it was counted last."""
        hits = (self._at - self._counted) // RECORD_BYTES
        if hits:
            serials = np.frombuffer(self._memory, RECORD, hits, self._counted)["serial"]
            values, counts = np.unique(serials, return_counts=True)
            self._counts.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
            self._counted = self._at

    def _path(self, segment: SegmentId, kind: str) -> Path:
        return self._folder / f"{segment.epoch}-{segment.seq}.{kind}"

    def _make_room(self, now_ms: int) -> bool:
        """Counts what has come, and lets more come into the current slot, where that is not full, or another."""
        self._count()
        if self._current is None or self._at == SLOT_BYTES:
            return self._open_next(now_ms)
        self._end += COUNTED_BYTES
        return True

    def _open_next(self, now_ms: int) -> bool:
        """Takes a free slot or, if hits come faster than slots are freed, a new one."""
        self.roll()
        if not self._free and (self._slots_count >= SLOTS_MAX or now_ms < self._refused_until_ms):
            return False
        try:
            slot = self._free.pop() if self._free else self._new_slot()
        except OSError as error:
            log.error("no room for hits in %s (%s): they are counted as lost", self._folder, error)
            self._refused_until_ms = now_ms + REFUSED_PAUSE_MS
            return False
        slot.claim(SegmentId(self.epoch, self._seq))
        self._current, self._memory = slot, slot.memory
        self._at = self._counted = RECORD_BYTES
        self._end = self._at + COUNTED_BYTES
        return True

    def _new_slot(self) -> "_Slot":
        slot = _Slot(self._folder / f"slot-{next(self._slot_numbers)}")
        self._slots_count += 1
        return slot

    def _seal(self, segment: SegmentId, drafted: Draft, pause_s: float) -> None:
        # A process killed here before may have sealed the slot and not cleared it.
        if not len(drafted.records) or segment in self._sealed:
            return
        dropped, dropped_hits = self._too_old(drafted.records.nbytes)
        lost = self._account.lost
        names = self._places.names
        temporary = self._path(segment, "tmp")
        with open(temporary, "wb") as file:
            for piece in encoding(drafted, self.server, self.region, *segment, lost + dropped_hits, names):
                file.write(piece)
                sleep(pause_s)
            size_bytes = file.tell()
        temporary.rename(self._path(segment, "seg"))
        self._account.told(lost)
        self._sealed[segment] = max(size_bytes, BLOCK_BYTES)
        for old in dropped:
            self.forget(old)

    def _too_old(self, more_bytes: int) -> tuple[list[SegmentId], int]:
        """The segments that must go for ``more_bytes`` to come, and the hits lost with them."""
        excess = self.unsent_bytes + more_bytes - self._unsent_bytes_max
        dropped, hits = [], 0
        for segment, size in list(self._sealed.items()):
            if excess <= 0:
                break
            excess -= size
            dropped.append(segment)
            with contextlib.suppress(OSError):
                content = decode(self.read(segment))
                if not isinstance(content, Damaged):
                    hits += content.header.hits + content.header.lost
            log.error("unsent hits reached their bound: segment %s is dropped", self.message_id(segment))
        return dropped, hits


def _is_slot(path: Path) -> bool:
    return path.name.removeprefix("slot-").isdecimal() and path.is_file() and path.stat().st_size >= SLOT_BYTES


class _Slot:
    """A file of records in memory. Its first 32 bytes say whose they are; an epoch of 0: nobody's.

    Its disk is taken when it is made: a full disk must not fail at a hit's write.
    """

    def __init__(self, path: Path) -> None:
        self.number = int(path.name.partition("-")[2])
        with open(path, "a+b") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, SLOT_BYTES)
            except OSError:
                path.unlink()
                raise
            self.memory = mmap.mmap(file.fileno(), SLOT_BYTES)
        if not self.owner.epoch:  # a process killed in ``clear`` left some old records
            self.clear(SLOT_BYTES)

    @property
    def owner(self) -> SegmentId:
        seq, epoch = _OWNER.unpack_from(self.memory)
        return SegmentId(epoch, seq)

    def records(self) -> Records:
        """What was written, in place."""
        return written(memoryview(self.memory)[RECORD_BYTES:])

    def claim(self, segment: SegmentId) -> None:
        _OWNER.pack_into(self.memory, 0, segment.seq, segment.epoch)

    def clear(self, used_bytes: int, pause_s: float = 0.0) -> None:
        """Makes it nobody's, and only then forgets the records."""
        self.memory[:RECORD_BYTES] = bytes(RECORD_BYTES)
        for at in range(0, used_bytes, PIECE_BYTES):
            end = min(at + PIECE_BYTES, used_bytes)
            self.memory[at:end] = _BLANK[at:end]
            sleep(pause_s)


class _Account:
    """Three numbers that outlive the process: the last epoch, hits refused, and how many of them were told.

    Each has one writing thread. Epochs never repeat, even if the clock went back.
    """

    _FORMAT = Struct("<QQQ")

    def __init__(self, path: Path) -> None:
        with open(path, "a+b") as file:
            os.posix_fallocate(file.fileno(), 0, self._FORMAT.size)
            self._memory = mmap.mmap(file.fileno(), self._FORMAT.size)
        self._values = np.frombuffer(self._memory, "<u8")

    def begin(self, epoch: int) -> int:
        last, refused, told = self._values.tolist()
        if not (last < TIME_MS_MAX and told <= refused < LOST_MAX):
            log.error("the journal's account is damaged: it begins anew")
            self._values[:] = 0
        self._values[0] = max(epoch, int(self._values[0]) + 1)
        return int(self._values[0])

    @property
    def lost(self) -> int:
        return int(self._values[1] - self._values[2])

    def refused(self) -> None:
        self._values[1] += 1

    def told(self, hits: int) -> None:
        self._values[2] += hits


class _Places:
    """The numbers of the places: a line of JSON each, on disk before the number is first used. 0 is unknown."""

    def __init__(self, path: Path) -> None:
        path.touch()
        text = path.read_bytes()
        self._path, self._whole_bytes = path, text.rfind(b"\n") + 1
        self.names = [_decode_place(line) for line in text[: self._whole_bytes].splitlines()]
        self._ids = {place: number for number, place in enumerate(self.names)}
        self.place_id("", "")

    def place_id(self, country: str, state: str) -> int:
        """The place's number in this journal; 0 once there are more places than the Earth has."""
        number = self._ids.get((country, state))
        return self._add(country, state) if number is None else number

    def _add(self, country: str, state: str) -> int:
        place = _cut(country, COUNTRY_BYTES_MAX), _cut(state, STATE_BYTES_MAX)
        if place in self._ids or len(self.names) >= PLACES_MAX:
            return self._ids.get(place, 0)
        line = msgspec.json.encode(place) + b"\n"
        try:
            # What a write that failed or was cut short has left is no line.
            os.truncate(self._path, self._whole_bytes)
            with open(self._path, "ab") as file:
                file.write(line)
        except OSError as error:
            log.error("no room for the place %s (%s): counted as unknown", place, error)
            return 0
        self._whole_bytes += len(line)
        self.names.append(place)
        self._ids[place] = len(self.names) - 1
        return self._ids[place]


def _decode_place(line: bytes) -> tuple[str, str]:
    try:
        return msgspec.json.decode(line, type=tuple[str, str])
    except msgspec.DecodeError:
        return "", ""


def _cut(name: str, limit_bytes: int) -> str:
    return name.encode("utf-8", "ignore")[:limit_bytes].decode("utf-8", "ignore")


def has_hits(folder: Path) -> bool:
    """Whether somebody who is gone left hits in a journal's folder."""
    sealed = next(folder.glob("*.seg"), None)
    return sealed is not None or any(any(_head(slot)) for slot in folder.glob("slot-*") if _is_slot(slot))


def _head(slot: Path) -> bytes:
    with open(slot, "rb") as file:
        return file.read(_OWNER.size)


def _find_sealed(folder: Path) -> dict[SegmentId, int]:
    """The sealed segments with their sizes, oldest first. Files that were being written are removed."""
    sealed = {}
    for path in folder.glob("*.tmp"):
        path.unlink()
    for path in folder.glob("*.seg"):
        with contextlib.suppress(ValueError):
            epoch, _, seq = path.stem.partition("-")
            if path.is_file():
                sealed[SegmentId(int(epoch), int(seq))] = max(path.stat().st_size, BLOCK_BYTES)
    return dict(sorted(sealed.items()))
