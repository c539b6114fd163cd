"""What the connections of clients and the server that they belong to know of each other."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from nearmile.edge.clients.rounds import Round
from nearmile.edge.node import Node
from nearmile.mapping.downloads import Delivery


class Guest(Protocol):
    """A client's connection, whatever it speaks."""

    peer: str
    trusted: bool

    def sweep(self) -> None:
        """Called every SWEEP_S: ends what makes no progress, or too little."""
        ...

    def turn_away(self) -> None:
        """Ends the connection at once."""
        ...

    def stop(self) -> None:
        """The server ends: an idle connection goes now, a busy one after what it is busy with."""
        ...


class Door(Protocol):
    """The server."""

    node: Node
    loop: asyncio.AbstractEventLoop
    round: Round
    closing: bool

    def opened(self, guest: Guest) -> None:
        """A connection has come; it may be turned away."""
        ...

    def shaken(self, guest: Guest, round_trip_ms: Callable[[], float]) -> None:
        """The first handshake with a client is over, which has shown its round trip (0: it has not)."""
        ...

    def drained(self, guest: Guest, delivery: Callable[[], Delivery | None]) -> None:
        """A client has taken most of what waited for it, which has shown how fast bytes come to it."""
        ...

    def closed(self, guest: Guest) -> None:
        """A connection has ended."""
        ...
