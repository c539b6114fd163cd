"""What a process says that must never wait for whoever reads it: a terminal may be stopped (Ctrl-S), a pager idle.

A thread writes, as fast as its reader takes it. What is too much meanwhile is dropped, and then counted in a line.
Where nothing can be written, as the disk is full or the reader has gone, nothing is said.
"""

import os
import threading
from collections import deque
from contextlib import suppress
from typing import Any, TextIO

# As much as a terminal shows in its history.
WAITING_BYTES_MAX = 256 << 10
# For the last words.
CLOSE_PATIENCE_S = 1.0


class Output:
    """In the place of a text ``stream`` that has a descriptor."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._changed = threading.Condition()
        self._texts, self._waiting_bytes, self._dropped_lines = deque[bytes](), 0, 0
        threading.Thread(target=self._run, name="nearmile-output", daemon=True).start()

    def write(self, text: str) -> int:
        """Has it written, or drops it; never blocks."""
        data = text.encode(self._stream.encoding, "replace")
        with self._changed:
            if self._waiting_bytes + len(data) <= WAITING_BYTES_MAX:
                self._texts.append(data)
                self._waiting_bytes += len(data)
                self._changed.notify_all()
            else:
                self._dropped_lines += text.count("\n")
        return len(text)

    def flush(self) -> None:
        """Of streams; everything is on its way."""

    def close(self) -> None:
        """Waits for what was said last, but not for long."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting_bytes, CLOSE_PATIENCE_S)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._texts)
                data = self._texts.popleft()
            self._put(data)
            with self._changed:
                self._waiting_bytes -= len(data)
                dropped = 0 if self._texts else self._dropped_lines
                self._dropped_lines -= dropped
                self._changed.notify_all()
            if dropped:
                self._put(b"(%d lines more were not shown, as nobody read them)\n" % dropped)

    def _put(self, data: bytes) -> None:
        # Not by the stream, whose buffer has a lock that the interpreter waits for at its end.
        with suppress(OSError):
            while data:
                data = data[os.write(self._stream.fileno(), data) :]
