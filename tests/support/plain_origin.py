"""An origin on a raw socket that keeps every byte it gets and reads requests as strictly as can be."""

import asyncio
import contextlib

from edge_world import Asked, Origin
from strict_http import Ambiguous, Seen, read_request


async def _unasked(_asked: Asked) -> bytes | None:
    raise AssertionError("this origin does not ask")


class PlainOrigin(Origin):
    """Answers each request with its target; what is asked for as /hidden may not be stored."""

    def __init__(self) -> None:
        super().__init__(_unasked)
        self.raw = b""
        self.seen: list[Seen] = []
        self.faults: list[Ambiguous] = []

    def forget(self) -> None:
        """Begins to note anew."""
        self.raw = b""
        self.seen.clear()
        self.faults.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        held = b""
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                self.raw += data
                held += data
                try:
                    while (found := read_request(held)) is not None:
                        seen, held = found
                        self.seen.append(seen)
                        writer.write(answer(seen))
                except Ambiguous as fault:
                    self.faults.append(fault)
                    break
        writer.close()


def answer(seen: Seen) -> bytes:
    """A response with the target for a body."""
    body = seen.target.encode()
    lasting = b"no-store" if seen.target == "/hidden" else b"max-age=60"
    head = b"HTTP/1.1 200 OK\r\nCache-Control: %b\r\nContent-Length: %d\r\n\r\n" % (lasting, len(body))
    return head if seen.method == "HEAD" else head + body
