"""Following the log of purge orders: each order once, in sequence, none left out.

Orders arrive as they are stored, at most once and in any order; what is missing is fetched by its number. Nothing
that arrives is believed before this connection has seen which log there is: it may have been made anew, or may no
longer hold what was missed. Then nothing that is stored can be trusted, and all of it goes.

    connected -> look -> fetch what is missing -> current, until the connection is lost
"""

import msgspec
from msgspec import Struct

from nearmile.cache.purge import VALUE_BYTES_MAX, VALUES_MAX, Order, Position

# Orders fetched at a time: a round trip of a millisecond each would make a thousand missed orders a second.
FETCH_MAX = 64
# Orders that wait for one before them. What does not fit is fetched later.
EARLY_MAX = 1024


class Apply(Struct, frozen=True):
    """Carry out this order; None: one that cannot be known, so forget everything. Then you are at ``position``."""

    position: Position
    order: Order | None


class Fetch(Struct, frozen=True):
    """Read these orders from the log, and tell ``arrived`` of each."""

    first: int
    last: int


Command = Apply | Fetch


class Follower:
    """One server's. ``position`` is where it was when it kept what its store begins with."""

    def __init__(self, position: Position | None) -> None:
        self.position = position
        self._sure = False
        self._target = self._end = self._fetching = self._at_look = 0
        self._early: dict[int, bytes | None] = {}

    @property
    def current(self) -> bool:
        """Everything has been applied that the log held when it was last looked at, on this connection."""
        return self._sure and self.position is not None and self.position.seq >= self._target

    def lost(self) -> None:
        """The connection is gone."""
        self._sure = False
        self._early.clear()

    def looking(self) -> None:
        """The log is about to be looked at."""
        self._at_look = 0 if self.position is None else self.position.seq

    def looked(self, log: str, first: int, last: int) -> list[Command]:
        """The log, by its identity, holds the orders from ``first`` to ``last`` (none where that is less)."""
        commands: list[Command] = []
        position = self.position
        if position is None or position.log != log or position.seq < first - 1 or self._at_look > last:
            self._early.clear()
            self.position = position = Position(log, last)
            commands.append(Apply(position, None))
        self._sure, self._target, self._fetching = True, last, 0
        self._end = max(last, position.seq)
        return commands + self._go_on(position)

    def arrived(self, seq: int, data: bytes | None) -> list[Command]:
        """An order has come, by itself or fetched; None where the log no longer has it."""
        position = self.position
        if position is not None and self._sure and seq <= position.seq:
            return []
        if len(self._early) < EARLY_MAX:
            self._early[seq] = data
        if not self._sure or position is None:
            return []
        self._end = max(self._end, seq)
        return self._go_on(position)

    def _go_on(self, position: Position) -> list[Command]:
        commands: list[Command] = []
        while (seq := position.seq + 1) in self._early:
            position = Position(position.log, seq)
            commands.append(Apply(position, read_order(self._early.pop(seq))))
        self.position = position
        for seq in [seq for seq in self._early if seq <= position.seq]:
            del self._early[seq]
        if self._fetching <= position.seq < self._end:
            self._fetching = min(position.seq + FETCH_MAX, self._end)
            commands.append(Fetch(position.seq + 1, self._fetching))
        return commands


def read_order(data: bytes | None) -> Order | None:
    """None where that is none, as what a later version of the program may write."""
    try:
        order = msgspec.json.decode(data or b"", type=Order)
    except msgspec.DecodeError:
        return None
    bounded = len(order.values) <= VALUES_MAX and all(len(value) <= VALUE_BYTES_MAX for value in order.values)
    return order if bounded and 0 < order.serial < 1 << 24 else None


def write_order(order: Order) -> bytes:
    """As it is in the log."""
    return msgspec.json.encode(order)
