"""Bodies that the kernel can send by itself: large ones are kept in pages of its own, not in Python's memory.

Each is a file without a name (memfd_create(2)), written once as it comes. A client of plain HTTP gets its pages by
sendfile(2), uncopied; others read them through a mapping. When the last who holds a part of it lets go, the kernel
has all of it back, so that large bodies leave no gaps in the heap.
"""

import mmap
import os
from contextlib import suppress

# Below it a file (10 us to make one, two descriptors, a page of the kernel's) costs more than a copy.
PAGES_BYTES_MIN = 256 << 10
# A cut of less is copied: one call with its head costs less than two.
CUT_BYTES_MIN = 64 << 10
PAGE_BYTES = mmap.PAGESIZE


class _File:
    """A file of pages, and its mapping once that is needed. Closed, in whatever thread, when nobody uses it."""

    __slots__ = ("_mapped", "_open", "fd", "size_bytes")

    def __init__(self, fd: int, size_bytes: int, open_: set[int]) -> None:
        self.fd, self.size_bytes = fd, size_bytes
        self._open = open_
        self._mapped: memoryview | None = None
        open_.add(fd)

    def view(self) -> memoryview:
        """All of it. Raises OSError where it cannot be mapped."""
        if self._mapped is None:
            self._mapped = memoryview(mmap.mmap(self.fd, self.size_bytes, prot=mmap.PROT_READ))
        return self._mapped

    def __del__(self) -> None:
        # Before the number is another's.
        self._open.discard(self.fd)
        os.close(self.fd)


class Pages:
    """Bytes of such a file. A cut of them is no copy, and keeps all of it."""

    __slots__ = ("_end", "_file", "_start")

    def __init__(self, file: _File, start: int, end: int) -> None:
        self._file, self._start, self._end = file, start, end

    def __len__(self) -> int:
        return self._end - self._start

    def __getitem__(self, where: slice) -> "Pages":
        start, end, _ = where.indices(len(self))
        return Pages(self._file, self._start + start, self._start + max(start, end))

    def __bytes__(self) -> bytes:
        return os.pread(self._file.fd, len(self), self._start)

    def view(self) -> "memoryview | bytes":
        """The bytes to read; a copy where the system maps no more."""
        try:
            return self._file.view()[self._start : self._end]
        except OSError:
            return bytes(self)

    def write(self, at: int, data: bytes) -> "Pages":
        """Those bytes come at ``at``; returns them as they are here. Raises OSError where there is no memory."""
        written = start = self._start + at
        end = start + len(data)
        while written < end:
            written += os.pwrite(self._file.fd, data[written - start :] if written > start else data, written)
        return Pages(self._file, start, end)

    def take(self, fd: int, at: int) -> bool:
        """Copies as many bytes of a file, from ``at`` on; False where it has fewer. Raises OSError."""
        os.lseek(self._file.fd, self._start, os.SEEK_SET)
        end = at + len(self)
        while at < end:
            copied = os.sendfile(self._file.fd, fd, at, end - at)
            if not copied:
                return False
            at += copied
        return True

    def send(self, socket: int, size_bytes: int) -> int:
        """Hands the beginning to a socket; returns how much it took, at most ``size_bytes``. Raises OSError."""
        try:
            return os.sendfile(socket, self._file.fd, self._start, min(size_bytes, len(self)))
        except BlockingIOError:
            return 0


Body = bytes | Pages


class Shelf:
    """Of one store, at most ``files_max`` files; what finds no place is kept as bytes."""

    def __init__(self, files_max: int = 0) -> None:
        self._files_max = files_max if hasattr(os, "memfd_create") else 0
        # Of descriptors, to which any thread may add or take one at a time.
        self._open: set[int] = set()

    def __len__(self) -> int:
        return len(self._open)

    def room(self, size_bytes: int) -> Pages | None:
        """For a body of that length, which is to be written; None where it is small or there is no place."""
        if size_bytes < PAGES_BYTES_MIN or len(self._open) >= self._files_max:
            return None
        with suppress(OSError):
            fd = os.memfd_create("nearmile")
            file = _File(fd, size_bytes, self._open)
            os.ftruncate(fd, size_bytes)
            return Pages(file, 0, size_bytes)
        return None

    def keep(self, body: Body) -> Body:
        """A body as it is to be kept."""
        if isinstance(body, bytes) and (pages := self.room(len(body))) is not None:
            with suppress(OSError):
                return pages.write(0, body)
        return body


def kept_bytes(size_bytes: int) -> int:
    """What a body of that length takes: a large one whole pages, and one for what the kernel knows of it."""
    return size_bytes if size_bytes < PAGES_BYTES_MIN else (size_bytes // PAGE_BYTES + 2) * PAGE_BYTES


def raw(body: Body) -> "bytes | memoryview":
    """To be read, without a copy where that is possible."""
    return body if isinstance(body, bytes) else body.view()


def cut_body(body: Body, start: int, end: int) -> Body:
    """Those bytes of it."""
    if isinstance(body, bytes):
        return body[start:end]
    cut = body[start:end]
    return bytes(cut) if len(cut) < CUT_BYTES_MIN else cut
