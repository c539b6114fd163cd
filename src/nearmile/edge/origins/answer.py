"""What has come in answer to a request, and who waits for more: the same over either version of HTTP."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from nearmile.edge import limits
from nearmile.edge.origins.peer import UpstreamError
from nearmile.http.fields import BadMessage
from nearmile.http.head import ResponseHead

Hint = Callable[[ResponseHead], Awaitable[None]]
"""Takes an interim response (RFC 9110 section 15.2), which may come before the final one."""


class Answer:
    """One at a time. One task asks for it, which is woken by what comes."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.error: UpstreamError | None = None
        self._head: ResponseHead | None = None
        self._hints: deque[ResponseHead] = deque()
        self._interim = 0
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None

    async def head(self, hint: Hint) -> ResponseHead:
        """The final response's head; ``hint`` is told of those before it. Raises UpstreamError."""
        while True:
            while self._hints:
                await hint(self._hints.popleft())
            if self._head is not None:
                return self._head
            await self._news()

    def _inform(self, head: ResponseHead) -> None:
        """An interim response has come."""
        self._interim += 1
        if self._interim > limits.INTERIM_MAX:
            raise BadMessage("interim responses that nobody asked for")
        if head.status != 100:  # which answers an expectation that is never passed on
            self._hints.append(head)
            self._wake()

    def _news(self) -> "asyncio.Future[None]":
        """To be awaited. Raises UpstreamError."""
        if self.error is not None:
            raise self.error.anew()
        self._reader = self.loop.create_future()
        return self._reader

    def _room(self) -> "asyncio.Future[None]":
        """To be awaited by who sends a body."""
        self._writer = self.loop.create_future()
        return self._writer

    def _fail(self, error: UpstreamError) -> None:
        if self.error is None:
            self.error = error
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _release(self) -> None:
        """There is room, or nobody cares any more."""
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)
        self._writer = None
