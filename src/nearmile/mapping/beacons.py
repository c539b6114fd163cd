"""Beacons: which clients are behind a resolver that tells no client subnet.

A page makes up a name below `who.g.ZONE` and asks it for nothing. The name server notes which resolver asked for
that name, the edge server which client came for it, and the leading controller joins the two by the name's first
label, the nonce (so Mao et al., "A Precise and Efficient Evaluation of the Proximity between Web Clients and their
Local DNS Servers", USENIX 2002). Of both no more than the block is ever kept.

Anybody can make beacons, so each nonce counts once, and not at all where several resolvers or clients had it; how
little one client block can do is said in ``plans``.
"""

import re
from collections import deque
from collections.abc import Iterator
from enum import Enum
from math import inf
from typing import NamedTuple

from msgspec import Struct

from nearmile.mapping.atlas import numbered
from nearmile.mapping.plans import BLOCK_BITS, Seen, block_number

SUBJECT = "beacons"  # on the bus: beacons.<process name>
# A server tells every so often, of so many: 50 a second, 5 KB. In a flood, a sample: the first of each report.
TELL_S, TOLD_MAX = 2.0, 100
# 80 bits of hexadecimal digits are 20; a label can have 63.
NONCE = re.compile(r"[a-z0-9]{16,63}")
# How long one half waits for the other: the name's TTL and a slow page. Some 500 bytes each.
LIFE_S, OPEN_MAX = 60.0, 10_000
# So long after both are known it counts: until then every server that had the nonce has told.
SETTLE_S = 2 * TELL_S
# The beacons' names are served as a site with that serial would be; no site has it.
SERIAL = 0


class Side(Enum):
    """Whose blocks a report has."""

    RESOLVER = "resolver"
    CLIENT = "client"


class Sighting(NamedTuple):
    """A nonce, and the block that it came from: family, and number as in ``plans``."""

    nonce: str
    family: int
    block: int


class Report(Struct, frozen=True):
    """What one server saw since its last report."""

    side: Side
    seen: tuple[Sighting, ...]


class Sightings:
    """What one server has seen since it told last."""

    def __init__(self) -> None:
        self._seen: dict[Sighting, None] = {}

    def note(self, nonce: bytes, family: int, block: int) -> None:
        """A label that somebody in that block has asked for; what is no nonce is not noted."""
        if len(self._seen) < TOLD_MAX and NONCE.fullmatch(text := nonce.decode("latin-1")):
            self._seen[Sighting(text, family, block)] = None

    def take(self) -> tuple[Sighting, ...]:
        """All, each once; it is then forgotten."""
        seen, self._seen = self._seen, {}
        return tuple(seen)


class _Meeting:
    """A nonce's sides, as far as they are known."""

    def __init__(self, since_s: float) -> None:
        self.since_s = since_s
        self.blocks: dict[Side, tuple[int, int]] = {}
        self.forged = False


class Join:
    """Resolvers and clients that had the same nonce."""

    def __init__(self) -> None:
        self._meetings: dict[str, _Meeting] = {}  # the oldest first
        self._due: deque[tuple[float, str]] = deque()

    def add(self, report: Report, now_s: float) -> None:
        """Takes a report; when the table is full, what is new in it is not counted."""
        for nonce, family, block in report.seen:
            if family not in BLOCK_BITS or not 0 <= block < 1 << BLOCK_BITS[family]:
                continue
            meeting = self._meeting(nonce, now_s)
            if meeting is None:
                continue
            is_new = report.side not in meeting.blocks
            if meeting.blocks.setdefault(report.side, (family, block)) != (family, block):
                meeting.forged = True
            if is_new and len(meeting.blocks) == len(Side):
                self._due.append((now_s + SETTLE_S, nonce))

    def take(self, now_s: float) -> Iterator[Seen]:
        """The pairs that count from now on, each once."""
        while self._due and self._due[0][0] <= now_s:
            meeting = self._meetings.get(self._due.popleft()[1])
            if meeting is not None and not meeting.forged:
                family, block = meeting.blocks[Side.RESOLVER]
                yield Seen(f"{family}/{block}", *meeting.blocks[Side.CLIENT], 1.0)

    def next_deadline(self) -> float:
        """When to take; infinity while there is nothing."""
        return self._due[0][0] if self._due else inf

    def _meeting(self, nonce: str, now_s: float) -> _Meeting | None:
        while self._meetings and next(iter(self._meetings.values())).since_s + LIFE_S <= now_s:
            del self._meetings[next(iter(self._meetings))]
        if nonce not in self._meetings and len(self._meetings) < OPEN_MAX:
            self._meetings[nonce] = _Meeting(now_s)
        return self._meetings.get(nonce)


def block_of(address: str) -> tuple[int, int]:
    """Family and block of a client's address."""
    family, number = numbered(address)
    return family, block_number(family, number)
