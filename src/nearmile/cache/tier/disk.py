"""The files of the disk tier: segments of records, and the diary. Everything here blocks.

Nothing is synced before the end: what was written is the kernel's, and survives the process. A crash of the
machine is another matter: then the kernel may have kept any of it. The diary names the run of the machine, and
whatever is there is deleted when that is over and nobody closed.

The segments of the log have a folder of their own, in memory where there is one; a proper end moves them to the
disk, and the next start back.
"""

import contextlib
import mmap
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from nearmile.cache.key import names_of
from nearmile.cache.pages import PAGES_BYTES_MIN, Body, Shelf, raw
from nearmile.cache.purge import Marks, Position
from nearmile.cache.tier.index import SEGMENT_BYTES_MAX, Copy, Index, Kill, Unlink, on_disk
from nearmile.cache.tier.orders import read_diary
from nearmile.cache.tier.places import Place
from nearmile.cache.tier.record import (
    DEAD,
    HEADER_BYTES,
    PIECE_BYTES,
    Header,
    Lead,
    is_alive,
    read_header,
    read_lead,
    write_lead,
)

DIARY, SUFFIX = "diary", ".segment"
# Read at once; almost every head fits in.
GUESSED_LEAD_BYTES = 4 << 10
# Records written at once: Linux takes 1024 buffers, and each record is two.
RUN_MAX = 256
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_MEMORY = Path("/dev/shm")  # noqa: S108 (what is made in it is checked to be one's own)


class Room(NamedTuple):
    """A folder, and what may be in it."""

    folder: Path
    capacity_bytes: int


def memory_room(folder: Path, size_bytes: int) -> Room | None:
    """As much memory, as a folder that outlives the process and belongs to ``folder``; None where there is none.

    It is this user's alone, and named by the inode: another network's, or another container's, has another name.
    What is left of one that is not to be used is deleted: it would miss the purges to come.
    """
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        known = folder.stat()
        path = _MEMORY / f"nearmile-{known.st_dev:x}-{known.st_ino:x}"
        path.mkdir(0o700, exist_ok=True)
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o077 or found.st_uid != os.geteuid():
            return None
        system = os.statvfs(path)
        used_bytes = sum(each.stat().st_size for each in path.iterdir())
        if size_bytes and system.f_bavail * system.f_frsize + used_bytes >= size_bytes:
            return Room(path, size_bytes)
        shutil.rmtree(path)
    return None


class Write(NamedTuple):
    """A record to write. ``lead`` is what it says of itself."""

    place: Place
    lead: Lead
    meta: bytes
    body: Body


class Run(NamedTuple):
    """Write these records, each behind the one before it in the same segment."""

    writes: tuple[Write, ...]


class Tell(NamedTuple):
    """Write into the diary, or begin it ``anew``."""

    data: bytes
    anew: bool


class Sync(NamedTuple):
    """Bring everything to the disk itself, then write this into the diary."""

    data: bytes


Job = Run | Copy | Kill | Unlink | Tell | Sync


class File:
    """An open file, closed when the last who uses it is done, in whatever thread."""

    __slots__ = ("fd",)

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):
            os.close(self.fd)


class Loaded(NamedTuple):
    """A record from disk, verified: ``body`` is all of it, or its first piece."""

    lead: Lead
    body: Body
    file: File
    body_at: int
    """Where in the file the body begins."""


class Files:
    """One folder's. One thread at a time may call ``do``; reading is free to all."""

    def __init__(self, folder: Path, log: Room, shelf: Shelf) -> None:
        """Large bodies that are read whole go to the ``shelf``."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._log, self._shelf = folder, log, shelf
        self._segments: dict[int, File] = {}
        self._diary: File | None = None
        try:
            self.boot = _BOOT.read_text().strip()
        except OSError:
            self.boot = ""

    def open(self, index: Index) -> tuple[Position | None, Marks, int]:
        """Fills the index; returns what the diary says, and the highest generation of a record."""
        try:
            known = read_diary((self._folder / DIARY).read_bytes(), self.boot)
        except FileNotFoundError:
            known = None
        if known is None:
            self.wipe()
            return None, Marks(), 0
        for path in (*self._folder.glob("*.new"), *self._log.folder.glob("*.new")):
            path.unlink()
        self._move_log(self._folder, self._log.folder)
        newest = 0
        for path in self._paths():
            number = int(path.stem, 16)
            file = self._segments[number] = File(path)
            length = os.fstat(file.fd).st_size
            index.adopt(number, length)
            if length:
                with mmap.mmap(file.fd, 0, access=mmap.ACCESS_READ) as data:
                    newest = max(newest, _index_segment(index, number, data))
        index.fit()
        return *known, newest

    def wipe(self) -> None:
        """Deletes everything."""
        for path in (self._folder / DIARY, *self._paths()):
            path.unlink(missing_ok=True)

    def do(self, job: Job) -> None:
        """Carries out a job. Raises OSError."""
        match job:
            case Run(writes):
                self._write_run(writes)
            case Copy(source, target):
                record = _read(self._file(source.segment), source.offset, source.length)
                _write(self._file(target.segment), target.offset, [record])
            case Kill(place):
                file = self._file(place.segment)
                # A record whose writing failed may not be there; its place may have no room on the disk.
                if os.fstat(file.fd).st_size > place.offset:
                    _write(file, place.offset, [DEAD])
            case Unlink(number):
                self._segments.pop(number, None)
                self._path(number).unlink(missing_ok=True)
            case Tell(note, anew):
                self._tell(note, anew)
            case Sync(note):
                self._sync(note)

    def distrust(self) -> None:
        """Something could not be forgotten on disk: the next start is to be an empty one. Raises OSError."""
        self._diary = None
        (self._folder / DIARY).unlink(missing_ok=True)

    def load(self, place: Place, whole_bytes_max: int) -> Loaded | None:
        """A record; None where it is not what was written. Raises OSError."""
        file = self._segments.get(place.segment)
        if file is None:
            return None
        whole, small = place.length <= whole_bytes_max, place.length < PAGES_BYTES_MIN
        guess = place.length if whole and small else GUESSED_LEAD_BYTES
        data = os.pread(file.fd, guess, place.offset)
        header = read_header(data)
        if header is None or header.record_bytes != place.length:
            return None
        if len(data) < header.lead_bytes:
            data = os.pread(file.fd, header.lead_bytes, place.offset)
        lead = read_lead(data)
        if lead is None:
            return None
        found = Loaded(lead, b"", file, place.offset + header.lead_bytes)
        if whole:
            body = data[header.lead_bytes :] if small else self._large(found)
            view = memoryview(raw(body))
            pieces = [view[at : at + PIECE_BYTES] for at in range(0, len(body), PIECE_BYTES)]
            sound = len(body) == header.body_bytes and all(map(lead.fits, range(len(pieces)), pieces))
            return found._replace(body=body) if sound else None
        piece = load_piece(found, 0)
        return None if piece is None else found._replace(body=piece)

    def _large(self, found: Loaded) -> Body:
        """A large body, whole: the kernel copies it by itself where there is a place for it."""
        size_bytes = found.lead.header.body_bytes
        pages = self._shelf.room(size_bytes)
        if pages is None:
            return os.pread(found.file.fd, size_bytes, found.body_at)
        return pages if pages.take(found.file.fd, found.body_at) else b""

    def _write_run(self, writes: tuple[Write, ...]) -> None:
        buffers: list[bytes | memoryview] = []
        for _, lead, meta, body in writes:
            data = raw(body)
            buffers += (write_lead(lead.header, meta, data), data)
        first = writes[0].place
        _write(self._file(first.segment), first.offset, buffers)

    def _sync(self, note: bytes) -> None:
        self._move_log(self._log.folder, self._folder)
        for file in self._segments.values():
            os.fdatasync(file.fd)
        self._tell(note, False)
        if self._diary is not None:
            os.fdatasync(self._diary.fd)
        if self._log.folder != self._folder:
            shutil.rmtree(self._log.folder, ignore_errors=True)

    def _move_log(self, source: Path, target: Path) -> None:
        """Takes the log's segments from one folder to the other; each is whole in one of them at every moment.

        What is more than the log has room for now is deleted, the oldest.
        """
        if source == target:
            return
        room_bytes = self._log.capacity_bytes
        for path in sorted(source.glob("*" + SUFFIX), reverse=True):
            number = int(path.stem, 16)
            if on_disk(number):
                continue
            room_bytes -= path.stat().st_size
            if room_bytes >= 0:
                new = (target / path.name).with_suffix(".new")
                shutil.copyfile(path, new)
                new.replace(target / path.name)
                self._segments[number] = File(target / path.name)
            path.unlink()

    def _paths(self) -> list[Path]:
        """The segments in their order."""
        folders = {self._folder, self._log.folder}
        found = (path for folder in folders for path in folder.glob("*" + SUFFIX))
        return sorted(found, key=lambda path: path.name)

    def _file(self, number: int) -> File:
        file = self._segments.get(number)
        if file is None:
            file = self._segments[number] = File(self._path(number))
        return file

    def _path(self, number: int) -> Path:
        return (self._folder if on_disk(number) else self._log.folder) / f"{number:010x}{SUFFIX}"

    def _tell(self, data: bytes, anew: bool) -> None:
        path = self._folder / DIARY
        if anew:
            new = path.with_suffix(".new")
            new.unlink(missing_ok=True)
            self._diary = File(new)
        if self._diary is not None:
            _write(self._diary, os.fstat(self._diary.fd).st_size, [data])
        if anew:
            new.replace(path)


def in_runs(jobs: Iterable[Write | Job]) -> Iterator[Job]:
    """The jobs in their order, with the longest runs of what is to be written."""
    run: list[Write] = []
    for job in jobs:
        write = job if isinstance(job, Write) else None
        if run and (write is None or run[-1].place.end != write.place[:2] or len(run) == RUN_MAX):
            yield Run(tuple(run))
            run = []
        if write is not None:
            run.append(write)
        elif not isinstance(job, Write):
            yield job
    if run:
        yield Run(tuple(run))


def load_piece(record: Loaded, number: int) -> bytes | None:
    """A piece of a record's body, verified; None where it is damaged. Raises OSError."""
    at = number * PIECE_BYTES
    length = min(PIECE_BYTES, record.lead.header.body_bytes - at)
    data = os.pread(record.file.fd, length, record.body_at + at)
    return data if record.lead.fits(number, data) else None


def _index_segment(index: Index, number: int, data: mmap.mmap) -> int:
    """All records of a segment; what is behind a damage is lost, since a body may look like records."""
    offset, newest = 0, 0
    while offset < SEGMENT_BYTES_MAX and (header := read_header(data[offset : offset + HEADER_BYTES])) is not None:
        length = header.record_bytes
        if offset + length > len(data):
            break
        if is_alive(data[offset : offset + len(DEAD)]):
            newest = max(newest, header.generation)
            fields = _fields(data, offset, header)
            if fields is not None:
                index.load(header.object_name, header.name, fields, Place(number, offset, length), header.site)
        offset += length
    return newest


def _fields(data: mmap.mmap, offset: int, header: Header) -> tuple[bytes, ...] | None:
    """The request fields that a record's variant is of; None where that cannot be read."""
    if header.name == header.object_name:
        return ()
    lead = read_lead(data[offset : offset + header.lead_bytes])
    # The same tuple for all that vary alike.
    return None if lead is None else names_of(lead.meta.names)


def _read(file: File, offset: int, length: int) -> bytes:
    data = os.pread(file.fd, length, offset)
    if len(data) != length:
        raise OSError("a segment is shorter than what was written")
    return data


def _write(file: File, offset: int, buffers: list[bytes | memoryview]) -> None:
    written = os.pwritev(file.fd, buffers, offset)
    if written < sum(map(len, buffers)):
        data = b"".join(buffers)
        while written < len(data):
            written += os.pwrite(file.fd, data[written:], offset + written)
