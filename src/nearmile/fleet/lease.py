"""Leadership by a lease in the KV: one record, renewed by its holder, taken by compare-and-swap.

A follower takes over when the record has not changed for ``LEASE_S`` by its own clock. The leader steps down
``SAFETY_S`` earlier, counted from when it *sent* its last renewal that succeeded: the clocks need not agree, only
run at about the same rate. Each taking makes a new term, a fencing token: what a leader writes carries it, and
who sees a higher one does not go back (Gray and Cheriton 1989; Burrows, Chubby, 2006).

Pure: events in, at most one record to write out. The shell answers each write with what became of it.
"""

from enum import Enum
from typing import Protocol

from msgspec import Struct

LEASE_S = 2.0
# Three renewals may fail before the lease runs out.
RENEW_S = 0.5
# More than two clocks' rates differ over a lease (1e-3 would be a broken quartz), plus a pause of the process.
SAFETY_S = 0.4
# Followers wait a random share of this longer, so that they rarely collide; a collision only costs another try.
JITTER_S = 0.5
# After a failed or lost write; a new record usually comes earlier.
RETRY_S = 0.3


class Lease(Struct, frozen=True):
    """The record. ``seq`` counts renewals, so that each is a change."""

    holder: str
    term: int
    seq: int


class LeaseSeen(Struct, frozen=True):
    """The KV holds this at that revision; revision 0 and no lease where it holds nothing."""

    revision: int
    lease: Lease | None


class LeaseForgotten(Struct, frozen=True):
    """The KV went away: what it holds when it is back must be read anew."""


class PutLease(Struct, frozen=True):
    """Write this if the KV is still at that revision."""

    lease: Lease
    expected_revision: int
    sent_s: float


class Outcome(Enum):
    """What became of a compare-and-swap."""

    WON = "won"
    LOST = "lost"  # somebody else had written
    FAILED = "failed"  # no answer; it may or may not have been done


class LeaseAnswer(Struct, frozen=True):
    """What became of our write, and the KV's new revision where it was won."""

    put: PutLease
    outcome: Outcome
    revision: int = 0


LeaseEvent = LeaseSeen | LeaseAnswer | LeaseForgotten


class Chance(Protocol):
    """A seeded generator, such as random.Random."""

    def random(self) -> float: ...


class Election:
    """One contender. ``wake`` is to be called at ``next_deadline()`` and may be called at any time."""

    def __init__(self, me: str, chance: Chance) -> None:
        self.me = me
        self._chance = chance
        self._revision: int | None = None
        self._lease: Lease | None = None
        self._term = 0
        self._floor = 0
        self._valid_until_s = 0.0
        self._act_at_s = 0.0
        self._pending: PutLease | None = None

    def term(self, now_s: float) -> int:
        """The term in which we lead at this moment; 0 where we do not."""
        return self._term if now_s < self._valid_until_s else 0

    def abdicate(self, seen_term: int) -> None:
        """Somebody wrote in that term: we lead in no earlier one, and our next one is higher."""
        self._floor = max(self._floor, seen_term)
        if seen_term > self._term:
            self._valid_until_s = 0.0

    def next_deadline(self) -> float | None:
        """When to call ``wake``; None while only an event can change anything."""
        if self._revision is None or self._pending is not None:
            return None
        return self._act_at_s

    def handle(self, event: LeaseEvent, now_s: float) -> None:
        """Takes what happened."""
        match event:
            case LeaseSeen(revision, lease):
                if self._revision is None or revision > self._revision:
                    self._see(revision, lease, now_s)
            case LeaseAnswer(put, outcome, revision):
                if put == self._pending:  # else it is of before the KV went away
                    self._pending = None
                    if outcome is Outcome.WON:
                        self._won(put, revision, now_s)
                    else:
                        # Somebody else's record that was seen meanwhile keeps its whole time.
                        self._act_at_s = max(self._act_at_s, now_s + RETRY_S * (1 + self._chance.random()))
            case LeaseForgotten():
                self._revision = self._pending = None

    def wake(self, now_s: float) -> PutLease | None:
        """A record to write, where it is time to."""
        deadline_s = self.next_deadline()
        if deadline_s is None or now_s < deadline_s:
            return None
        assert self._revision is not None
        old = self._lease
        term = self.term(now_s)
        if not term:
            term = max(self._floor, old.term if old is not None else 0) + 1
        lease = Lease(self.me, term, old.seq + 1 if old is not None else 1)
        self._pending = PutLease(lease, self._revision, now_s)
        return self._pending

    def _see(self, revision: int, lease: Lease | None, now_s: float) -> None:
        self._revision, self._lease = revision, lease
        if lease is None or lease.holder == self.me:
            # Free, or ours: of a former life, or of a write whose answer was lost. Nobody else leads by it.
            self._act_at_s = min(self._act_at_s, now_s + RETRY_S) if self.term(now_s) else now_s
            return
        self.abdicate(lease.term)
        self._act_at_s = now_s + LEASE_S + JITTER_S * self._chance.random()

    def _won(self, put: PutLease, revision: int, now_s: float) -> None:
        if self._revision is not None and revision < self._revision:
            return  # the record has changed since; what we saw stands
        self._revision, self._lease = revision, put.lease
        self._term, self._valid_until_s = put.lease.term, put.sent_s + LEASE_S - SAFETY_S
        self._act_at_s = max(put.sent_s + RENEW_S, now_s)
