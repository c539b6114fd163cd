"""HTTP/1.1 as the cache suite speaks it: no more than needed, and no judgement of what it reads."""

import asyncio
from dataclasses import dataclass, field

Pairs = list[tuple[str, str]]


@dataclass
class Head:
    """A message's head; ``line`` is its first line in three parts."""

    line: tuple[str, str, str]
    pairs: Pairs

    def get(self, name: str) -> str | None:
        """The values of a field joined as a proxy would; None where it is absent."""
        found = values(self.pairs, name)
        return ", ".join(found) if found else None


@dataclass
class Response:
    """What a client gets."""

    status: int
    head: Head
    body: str
    interim: list[tuple[int, Pairs]] = field(default_factory=list)


def values(pairs: Pairs, name: str) -> list[str]:
    """All values of a field; ``name`` in any case."""
    return [value for field_name, value in pairs if field_name.lower() == name.lower()]


def lines(pairs: Pairs) -> str:
    """Field lines."""
    return "".join(f"{name}: {value}\r\n" for name, value in pairs)


async def read_head(reader: asyncio.StreamReader) -> Head:
    """The next message's head; IncompleteReadError where the connection ends."""
    first, *rest = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
    start, middle, *end = first.split(" ", 2)
    pairs = [(name, value.strip()) for name, _, value in (line.partition(":") for line in rest)]
    return Head((start, middle, end[0] if end else ""), pairs)


async def read_body(reader: asyncio.StreamReader, head: Head, until_close: bool) -> bytes:
    """The body that follows; ``until_close`` says what an absent length means."""
    if "chunked" in (head.get("transfer-encoding") or ""):
        body = b""
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readuntil(b"\r\n")
        return body
    if (length := head.get("content-length")) is not None:
        return await reader.readexactly(int(length))
    return await reader.read() if until_close else b""


class Client:
    """One connection to the cache, opened again when the cache has closed it."""

    def __init__(self, address: str, port: int, host: str) -> None:
        self._address, self._port, self._host = address, port, host
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def fetch(self, method: str, target: str, pairs: Pairs, body: bytes) -> Response:
        """One exchange."""
        if self._reader is None or self._writer is None or self._reader.at_eof():
            self.close()
            self._reader, self._writer = await asyncio.open_connection(self._address, self._port)
        length: Pairs = [("Content-Length", str(len(body)))] if body else []
        head = f"{method} {target} HTTP/1.1\r\n{lines([('Host', self._host), *pairs, *length])}\r\n"
        self._writer.write(head.encode("latin-1") + body)
        interim = []
        while (answer := await read_head(self._reader)).line[1].startswith("1"):
            interim.append((int(answer.line[1]), answer.pairs))
        status = int(answer.line[1])
        none = method == "HEAD" or status in (204, 304)
        got = b"" if none else await read_body(self._reader, answer, until_close=True)
        if answer.get("connection") == "close":
            self.close()
        return Response(status, answer, got.decode("latin-1"), interim)

    def close(self) -> None:
        """Ends the connection."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None
