"""Clients' connections served together: whatever has come to them is read first, then served, then answered.

The kernel's code for reading, the server's, and the kernel's for writing drive each other out of the processor's
caches. So each has its turn with all connections that have something to say, and not with each connection anew: a
hit over TLS takes a third less of the processor's time (docs/speed.md).
"""

import logging
from collections.abc import Callable

from nearmile.edge import limits

log = logging.getLogger("nearmile.edge")


class InRound:
    """A connection at a socket, as its loop sees it."""

    arrived = b""
    """What waits for the round."""

    def __init__(self, round_: "Round") -> None:
        self.round = round_

    def receive(self, data: bytes) -> None:
        """Serves what has come."""
        raise NotImplementedError

    def conclude(self) -> None:
        """Called at the end of the round, if it asked for that: writes the answer that it keeps."""
        raise NotImplementedError

    def turn_away(self) -> None:
        """See Guest."""
        raise NotImplementedError

    def data_received(self, data: bytes) -> None:
        """Of asyncio."""
        if self.arrived or len(data) > limits.ROUND_BYTES_MAX:
            self.catch_up()
            self.receive(data)
        else:
            self.arrived = data
            self.round.join(self)

    def eof_received(self) -> bool:
        """Of asyncio: the client says no more, and its connection is closed."""
        self.catch_up()
        return False

    def catch_up(self) -> None:
        """Serves what waits for the round."""
        if self.arrived:
            data, self.arrived = self.arrived, b""
            self.receive(data)


class Round:
    """All connections of a loop."""

    def __init__(self, call_soon: Callable[[Callable[[], None]], object]) -> None:
        self._call_soon = call_soon
        self._waiting: list[InRound] = []
        self.served: list[InRound] = []
        """Those that are to ``conclude`` when all have been served."""
        self.serving = False
        self._kept_bytes = 0

    def join(self, one: InRound) -> None:
        """Something has come to that connection."""
        waiting = self._waiting
        waiting.append(one)
        if len(waiting) == 1:
            self._call_soon(self._run)
        elif len(waiting) == limits.ROUND_CONNECTIONS_MAX:
            self._run()

    def at_end(self, one: InRound, size_bytes: int) -> None:
        """Puts that connection among the served; at once it is to ``conclude`` where no round is under way.

        ``size_bytes``: what it has made and keeps for that.
        """
        self.served.append(one)
        self._kept_bytes += size_bytes
        if self._kept_bytes > limits.ROUND_KEPT_BYTES or not self.serving:
            self._conclude()

    def _run(self) -> None:
        waiting, self._waiting = self._waiting, []
        self.serving = True
        for one in waiting:
            try:
                if data := one.arrived:
                    one.arrived = b""
                    one.receive(data)
            except Exception:
                _fail(one)
        self.serving = False
        self._conclude()

    def _conclude(self) -> None:
        served, self.served, self._kept_bytes = self.served, [], 0
        for one in served:
            try:
                one.conclude()
            except Exception:
                _fail(one)


def _fail(one: InRound) -> None:
    """A connection's error is its own end, and no other's."""
    log.exception("a connection failed unexpectedly")
    one.turn_away()
