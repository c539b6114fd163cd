"""The scripted origin of the cache suite: answers request number n of a test as the n-th step of its case says."""

import asyncio
import time
from dataclasses import dataclass, field

from suite_cases import Step, parts, written
from suite_wire import Head, Pairs, lines, read_body, read_head, values

BODILESS = (204, 304)
VALIDATORS = ("etag", "last-modified")


@dataclass
class Seen:
    """One request that reached the origin, and what it was answered."""

    number: int
    method: str
    headers: Pairs
    sent: Pairs
    """The response's headers that the client must see back."""


@dataclass
class Script:
    """A test under way."""

    token: str
    steps: list[Step]
    seen: list[Seen] = field(default_factory=list)
    validators: dict[int, dict[str, str]] = field(default_factory=dict)
    """Of each numbered response: ETag and Last-Modified as they were written, by lower-case name."""


class Origin:
    """All tests' origin, on one port."""

    def __init__(self) -> None:
        self.scripts: dict[str, Script] = {}
        self._server: asyncio.Server | None = None

    async def listen(self, address: str, port: int) -> None:
        """Opens the door."""
        self._server = await asyncio.start_server(self._serve, address, port)

    async def close(self) -> None:
        """Closes it."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answers one request; returns whether the connection stays."""
        head = await read_head(reader)
        method, target, _ = head.line
        await read_body(reader, head, until_close=False)
        script = self.scripts[target.split("?")[0].split("/")[2]]
        number = int(head.get("req-num") or len(script.seen) + 1)
        step = script.steps[number - 1]
        await asyncio.sleep(step.response_pause)
        for status, headers in map(parts, step.interim_responses):
            writer.write(f"HTTP/1.1 {status} Interim\r\n{lines(headers)}\r\n".encode("latin-1"))
        status, reason = self._status(script, step, number, head)
        pairs = self._headers(script, step, number, target, method, head)
        if step.disconnect:
            writer.transport.abort()
            return False
        body = b"" if status in BODILESS else (step.response_body or script.token).encode("latin-1")
        names = {name.lower() for name, _ in pairs}
        # Transfer-Encoding with a word that is no coding: the body lasts until the connection ends (RFC 9112 6.3).
        until_close = "transfer-encoding" in names
        if not names & {"content-length", "transfer-encoding"} and status not in BODILESS:
            pairs.append(("Content-Length", str(len(body))))
        writer.write(f"HTTP/1.1 {status} {reason}\r\n{lines(pairs)}\r\n".encode("latin-1"))
        writer.write(b"" if method == "HEAD" else body)
        await writer.drain()
        return not until_close

    def _status(self, script: Script, step: Step, number: int, head: Head) -> tuple[int, str]:
        if not step.validated:
            return step.response_status or (200, "OK")
        previous = script.validators.get(number - 1) or validators(script.steps[number - 2])
        for validator, condition in (("last-modified", "if-modified-since"), ("etag", "if-none-match")):
            if validator in previous and head.get(condition) == previous[validator]:
                return 304, "Not Modified"
        return 999, "304 Not Generated"

    def _headers(self, script: Script, step: Step, number: int, target: str, method: str, head: Head) -> Pairs:
        """The answer's headers; notes what was asked and answered."""
        now_ms = int(time.time() * 1000)
        made = [(written(header, now_ms, target, step), header[2:] != [False]) for header in step.response_headers]
        pairs = [pair for pair, _ in made]
        script.seen.append(Seen(number, method, head.pairs, [pair for pair, visible in made if visible]))
        script.validators[number] = {name.lower(): value for name, value in pairs if name.lower() in VALIDATORS}
        if not values(pairs, "content-type"):
            pairs.append(("Content-Type", "text/plain"))
        return [
            ("Server-Base-Url", target),
            ("Server-Request-Count", str(len(script.seen))),
            ("Client-Request-Count", str(number)),
            ("Server-Now", str(now_ms)),
            ("Request-Numbers", " ".join(str(seen.number) for seen in script.seen)),
            *pairs,
        ]


def validators(step: Step) -> dict[str, str]:
    """The validators of an answer that was never sent, since the cache had one."""
    return {str(header[0]).lower(): str(header[1]) for header in step.response_headers}
