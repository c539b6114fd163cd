"""A request's body between the client's connection and whoever reads it."""

from collections import deque
from collections.abc import AsyncIterator, Callable

from nearmile.edge.limits import REQUEST_BODY_BYTES_MAX, REQUEST_BUFFER_BYTES_MAX
from nearmile.edge.wake import Future, Signal
from nearmile.http.body import Decoder
from nearmile.http.fields import BadMessage


class Incoming:
    """More than ``bytes_max`` is too much."""

    def __init__(
        self,
        decoder: Decoder,
        new_future: Callable[[], Future],
        bytes_max: float = REQUEST_BODY_BYTES_MAX,
    ) -> None:
        self._decoder, self.bytes_max = decoder, bytes_max
        self._news = Signal(new_future)
        self._pieces: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._total_bytes = 0
        self._noted_bytes = 0
        self._fault: BadMessage | None = None

    @property
    def done(self) -> bool:
        """The body's end has come; what follows is the next request."""
        return self._decoder.done

    @property
    def full(self) -> bool:
        """The connection should not read for now."""
        return self._waiting_bytes > REQUEST_BUFFER_BYTES_MAX or self._fault is not None

    def take(self, data: bytes) -> bytes:
        """Bytes from the wire; returns those after the body's end."""
        if self._fault is not None:
            return b""
        try:
            pieces, rest = self._decoder.feed(data)
            self._pieces.extend(pieces)
            size = sum(map(len, pieces))
            self._waiting_bytes += size
            self._total_bytes += size
            if self._total_bytes > self.bytes_max:
                raise BadMessage("the body is too large", 413)
        except BadMessage as error:
            self._fault, rest = error, b""
        self._news.fire()
        return rest

    def moved(self) -> int:
        """Bytes of the body that have come since this was last asked."""
        moved_bytes, self._noted_bytes = self._total_bytes - self._noted_bytes, self._total_bytes
        return moved_bytes

    async def read(self, on_room: Callable[[], None]) -> AsyncIterator[list[bytes]]:
        """The body as it comes; ``on_room`` is called when the connection may read again. Raises BadMessage."""
        while True:
            if self._pieces:
                pieces = list(self._pieces)
                self._pieces.clear()
                self._waiting_bytes = 0
                on_room()
                yield pieces
            elif self._fault is not None:
                raise self._fault
            elif self._decoder.done:
                return
            else:
                await self._news.wait()
