"""What the connections of clients and the server that they belong to know of each other."""

import asyncio
from typing import Protocol

from nearmile.edge.clients.rounds import Round
from nearmile.edge.node import Node


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

    def opened(self, guest: Guest, accepted: asyncio.Transport | None = None) -> None:
        """A connection has come, over that transport if it is a new one of TCP; it may be turned away."""
        ...

    def drained(self, guest: Guest, transport: asyncio.WriteTransport) -> None:
        """The client of a connection over TCP has taken most of what waited for it."""
        ...

    def closed(self, guest: Guest) -> None:
        """A connection has ended."""
        ...
