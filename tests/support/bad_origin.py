"""An origin that errs, stalls, truncates, lies about lengths and talks nonsense, as a process of its own, so that
it can be killed too: ``python bad_origin.py HOST PORT SEED STALL_S LOG``.

``/KIND/SIZE/NAME`` is answered with ``body_of`` that path. LOG gets the path of each POST, as often as it arrives.
"""

import asyncio
import hashlib
import random
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from suite_wire import Head, read_body, read_head

CACHE_CONTROL = {
    "lasting": "max-age=600",
    "brief": "max-age=1",
    "swr": "max-age=1, stale-while-revalidate=5, stale-if-error=30",
    "never": "no-store",
}
PIECE_BYTES = 16 << 10
POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nCache-Control: max-age=600\r\n\r\npoison"
DRIPS, DRIP_S = 20, 0.05
Way = Callable[[list[str], bytes], Awaitable[bool]]


@lru_cache(maxsize=4096)
def body_of(path: str) -> bytes:
    """What that path's body is, always: no part of it is like any part of another."""
    return random.Random(path).randbytes(int(path.split("/")[2]))


def etag_of(path: str) -> str:
    """Its strong validator."""
    return f'"{hashlib.sha256(path.encode()).hexdigest()[:16]}"'


class Connection:
    """One connection, and what may go wrong with each answer on it."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, choice: random.Random, stall_s: float
    ) -> None:
        self.reader, self.writer, self.choice, self.stall_s = reader, writer, choice, stall_s
        # (weight, what happens); what returns False ends the connection.
        self.ways: list[tuple[int, Way]] = [
            (150, self.well),
            (5, self.chunked),
            (4, self.drips),
            (6, self.errs),
            (3, self.says_nothing),
            (2, self.stalls),
            (2, self.stalls_in_the_middle),
            (4, self.truncates),
            (2, self.resets),
            (3, self.promises_more),
            (3, self.sends_more),
            (2, self.frames_twice),
            (2, self.talks_nonsense),
            (2, self.breaks_a_chunk),
            (3, self.ends_without_last_chunk),
        ]

    async def serve(self, log: Path) -> None:
        """Until either side ends it."""
        go_on = True
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while go_on:
                asked = await read_head(self.reader)
                method, path, _ = asked.line
                if method == "POST":
                    body = await read_body(self.reader, asked, until_close=False)
                    with log.open("a") as file:
                        file.write(path + "\n")
                    go_on = await self.way()(head(200, len(body), {"cache-control": "no-store"}), body)
                else:
                    go_on = await self.way()(*answer(path, asked))
                await self.writer.drain()
        self.writer.close()

    def way(self) -> Way:
        """What happens now."""
        return self.choice.choices([way for _, way in self.ways], [weight for weight, _ in self.ways])[0]

    def tell(self, lines: list[str], *without: str) -> None:
        """Sends a head."""
        kept = [line for line in lines if line.split(":")[0] not in without]
        self.writer.write(("\r\n".join(kept) + "\r\n\r\n").encode())

    async def well(self, lines: list[str], body: bytes) -> bool:
        if self.choice.random() < 0.1:
            self.tell(["HTTP/1.1 103 Early Hints", "link: </style>; rel=preload"])
        self.tell(lines)
        self.writer.write(body)
        return True

    async def drips(self, lines: list[str], body: bytes) -> bool:
        self.tell(lines)
        step = len(body) // DRIPS + 1
        for at in range(0, len(body), step):
            self.writer.write(body[at : at + step])
            await asyncio.sleep(DRIP_S)
        return True

    async def chunked(self, lines: list[str], body: bytes) -> bool:
        if " 304 " in lines[0]:
            return await self.well(lines, body)
        self.tell([*lines, "transfer-encoding: chunked"], "content-length")
        for at in range(0, len(body), PIECE_BYTES):
            piece = body[at : at + PIECE_BYTES]
            self.writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.writer.write(b"0\r\n\r\n")
        return True

    async def errs(self, lines: list[str], body: bytes) -> bool:
        text = b"the origin errs"
        self.tell(head(self.choice.choice((500, 502, 503, 504)), len(text), {}))
        self.writer.write(text)
        return True

    async def says_nothing(self, lines: list[str], body: bytes) -> bool:
        return False

    async def stalls(self, lines: list[str], body: bytes) -> bool:
        await asyncio.sleep(self.stall_s)
        return False

    async def stalls_in_the_middle(self, lines: list[str], body: bytes) -> bool:
        await self.truncates(lines, body)
        await self.writer.drain()
        await asyncio.sleep(self.stall_s)
        return False

    async def truncates(self, lines: list[str], body: bytes) -> bool:
        self.tell(lines)
        self.writer.write(body[: len(body) // 2])
        return False

    async def resets(self, lines: list[str], body: bytes) -> bool:
        await self.truncates(lines, body)
        self.writer.transport.abort()
        return False

    async def promises_more(self, lines: list[str], body: bytes) -> bool:
        self.tell([*lines, f"content-length: {len(body) + 100}"], "content-length")
        self.writer.write(body)
        return False

    async def sends_more(self, lines: list[str], body: bytes) -> bool:
        """What follows the body that was announced looks like the answer to the next request.

        It comes with it: once the next request has been sent, nobody can tell it from its answer (RFC 9112, 9.2).
        """
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + body + POISON)
        return True

    async def frames_twice(self, lines: list[str], body: bytes) -> bool:
        self.tell([*lines, "transfer-encoding: chunked"])
        self.writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n")
        return False

    async def talks_nonsense(self, lines: list[str], body: bytes) -> bool:
        self.writer.write(self.choice.randbytes(200) + b"\r\n\r\n")
        return False

    async def breaks_a_chunk(self, lines: list[str], body: bytes) -> bool:
        self.tell([*lines, "transfer-encoding: chunked"], "content-length")
        self.writer.write(b"40\r\n" + body[:64].ljust(64) + b"\r\nzz\r\n" + body[64:])
        return False

    async def ends_without_last_chunk(self, lines: list[str], body: bytes) -> bool:
        self.tell([*lines, "transfer-encoding: chunked"], "content-length")
        half = body[: len(body) // 2] or b" "
        self.writer.write(b"%x\r\n%b\r\n" % (len(half), half))
        return False


def head(status: int, size: int, fields: dict[str, str]) -> list[str]:
    """A response's head, by lines."""
    return [
        f"HTTP/1.1 {status} Something",
        f"content-length: {size}",
        *(f"{name}: {value}" for name, value in fields.items()),
    ]


def answer(path: str, asked: Head) -> tuple[list[str], bytes]:
    """The right answer to a GET."""
    whole, etag = body_of(path), etag_of(path)
    fields = {"cache-control": CACHE_CONTROL[path.split("/")[1]], "etag": etag, "accept-ranges": "bytes"}
    if asked.get("if-none-match") == etag:
        return head(304, len(whole), fields), b""
    wanted = asked.get("range") or ""
    if wanted.startswith("bytes=") and "," not in wanted and (asked.get("if-range") or etag) == etag:
        first, _, last = wanted[6:].partition("-")
        start = int(first) if first else max(0, len(whole) - int(last))
        end = min(int(last) + 1, len(whole)) if first and last else len(whole)
        if start >= len(whole):
            return head(416, 0, fields | {"content-range": f"bytes */{len(whole)}"}), b""
        content_range = f"bytes {start}-{end - 1}/{len(whole)}"
        return head(206, end - start, fields | {"content-range": content_range}), whole[start:end]
    return head(200, len(whole), fields), whole


async def main(host: str, port: int, seed: int, stall_s: float, log: Path) -> None:
    """Serves until it is killed."""
    choice = random.Random(seed)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await Connection(reader, writer, choice, stall_s).serve(log)

    async with await asyncio.start_server(serve, host, port, backlog=1024) as server:
        await server.serve_forever()


if __name__ == "__main__":
    host, port, seed, stall_s, log = sys.argv[1:]
    asyncio.run(main(host, int(port), int(seed), float(stall_s), Path(log)))
