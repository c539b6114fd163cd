"""The lease: transcripts of one contender, and many of them on one KV with drifting clocks and lost answers."""

import heapq
from collections.abc import Callable
from functools import partial
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from nearmile.fleet.lease import (
    JITTER_S,
    LEASE_S,
    RENEW_S,
    RETRY_S,
    SAFETY_S,
    Election,
    Lease,
    LeaseAnswer,
    LeaseForgotten,
    LeaseSeen,
    Outcome,
    PutLease,
)


def leader() -> tuple[Election, PutLease]:
    election = Election("me", Random(1))
    election.handle(LeaseSeen(0, None), 10.0)
    put = election.wake(10.0)
    assert put is not None
    election.handle(LeaseAnswer(put, Outcome.WON, 1), 10.02)
    return election, put


def test_a_free_lease_is_taken_and_renewed() -> None:
    election, put = leader()
    assert put == PutLease(Lease("me", 1, 1), 0, 10.0)
    assert election.term(10.02) == 1
    assert election.next_deadline() == 10.0 + RENEW_S
    assert election.wake(10.4) is None
    renewal = election.wake(10.5)
    assert renewal == PutLease(Lease("me", 1, 2), 1, 10.5)
    assert election.next_deadline() is None  # while it has no answer
    assert election.wake(10.9) is None


def test_who_cannot_renew_steps_down_before_others_may_take_over() -> None:
    election, put = leader()
    ends_s = put.sent_s + LEASE_S - SAFETY_S
    assert election.term(ends_s - 0.001) == 1
    assert election.term(ends_s) == 0


def test_a_follower_waits_for_the_lease_to_run_out() -> None:
    election = Election("me", Random(1))
    election.handle(LeaseSeen(5, Lease("other", 3, 7)), 10.0)
    deadline_s = election.next_deadline()
    assert deadline_s is not None
    assert 10.0 + LEASE_S <= deadline_s <= 10.0 + LEASE_S + JITTER_S
    election.handle(LeaseSeen(6, Lease("other", 3, 8)), 11.0)  # renewed
    assert election.wake(deadline_s) is None
    put = election.wake(11.0 + LEASE_S + JITTER_S)
    assert put is not None
    assert put.lease == Lease("me", 4, 9)
    assert put.expected_revision == 6
    election.handle(LeaseAnswer(put, Outcome.LOST), 14.0)
    assert election.term(14.0) == 0


def test_the_lease_of_a_former_life_is_taken_at_once_in_a_new_term() -> None:
    election = Election("me", Random(1))
    election.handle(LeaseSeen(5, Lease("me", 3, 7)), 10.0)
    put = election.wake(10.0)
    assert put is not None
    assert put.lease.term == 4


def test_terms_go_on_from_what_was_seen_elsewhere() -> None:
    election = Election("me", Random(1))
    election.abdicate(41)  # a map of that term lies on our disk
    election.handle(LeaseSeen(0, None), 10.0)
    put = election.wake(10.0)
    assert put is not None
    assert put.lease.term == 42


def test_who_lost_the_race_gives_the_winner_its_whole_lease() -> None:
    election = Election("me", Random(1))
    election.handle(LeaseSeen(0, None), 10.0)
    put = election.wake(10.0)
    assert put is not None
    election.handle(LeaseSeen(1, Lease("other", 1, 1)), 10.1)
    election.handle(LeaseAnswer(put, Outcome.LOST), 10.11)
    deadline_s = election.next_deadline()
    assert deadline_s is not None
    assert deadline_s >= 10.1 + LEASE_S


def test_a_higher_term_ends_leadership() -> None:
    election, _ = leader()
    election.abdicate(1)
    assert election.term(10.1) == 1
    election.abdicate(2)
    assert election.term(10.1) == 0


def test_a_failed_write_is_tried_again_and_a_late_answer_ignored() -> None:
    election = Election("me", Random(1))
    election.handle(LeaseSeen(0, None), 10.0)
    put = election.wake(10.0)
    assert put is not None
    election.handle(LeaseAnswer(put, Outcome.FAILED), 12.0)
    deadline_s = election.next_deadline()
    assert deadline_s is not None
    assert 12.0 + RETRY_S <= deadline_s <= 12.0 + 2 * RETRY_S
    election.handle(LeaseForgotten(), 12.1)
    assert election.next_deadline() is None
    election.handle(LeaseAnswer(put, Outcome.WON, 1), 12.2)
    assert election.term(12.2) == 0


class Arena:
    """Contenders, each with a clock of its own rate, around one KV that answers late, loses and tells late."""

    def __init__(self, count: int, chance: Random) -> None:
        self.now_s, self.chance = 0.0, chance
        self.rates = [1 + chance.uniform(-1e-3, 1e-3) for _ in range(count)]
        self.contenders = [Election(f"c{n}", Random(n)) for n in range(count)]
        self.deaf_until_s = [0.0] * count
        self.held: tuple[int, Lease | None] = (0, None)
        self.writers: dict[int, str] = {}
        self._made = 0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        for n in range(count):
            self._recheck(n)
        self._tick()

    def run_until(self, end_s: float) -> None:
        while self._heap and self._heap[0][0] <= end_s:
            self.now_s, _, act = heapq.heappop(self._heap)
            act()
            self._wake_all()
            assert len(self.leaders()) <= 1

    def own_s(self, n: int) -> float:
        return self.now_s * self.rates[n] + 50 * n

    def leaders(self) -> list[int]:
        return [n for n, contender in enumerate(self.contenders) if contender.term(self.own_s(n))]

    def _later(self, pause_s: float, act: Callable[[], None]) -> None:
        self._made += 1
        heapq.heappush(self._heap, (self.now_s + pause_s, self._made, act))

    def _tell(self, n: int, event: LeaseSeen | LeaseAnswer) -> None:
        def arrive() -> None:
            if self.deaf_until_s[n] <= self.now_s:
                self.contenders[n].handle(event, self.own_s(n))

        self._later(self.chance.uniform(0, 0.3), arrive)

    def _recheck(self, n: int) -> None:
        self._tell(n, LeaseSeen(*self.held))
        if self.chance.random() < 0.2:
            self.deaf_until_s[n] = self.now_s + self.chance.uniform(0, 5)
        self._later(1.0, lambda: self._recheck(n))

    def _tick(self) -> None:
        self._later(0.05, self._tick)  # everybody's deadlines are looked at after every event

    def _wake_all(self) -> None:
        for n, contender in enumerate(self.contenders):
            put = contender.wake(self.own_s(n))
            if put is not None:
                self._later(self.chance.uniform(0, 0.3), partial(self._write, n, put))
                # The shell's own timeout: no deafness stops it.
                self._later(2.0, partial(self._give_up, n, put))

    def _give_up(self, n: int, put: PutLease) -> None:
        self.contenders[n].handle(LeaseAnswer(put, Outcome.FAILED), self.own_s(n))

    def _write(self, n: int, put: PutLease) -> None:
        won = put.expected_revision == self.held[0]
        if won:
            self.held = (self.held[0] + 1, put.lease)
            assert self.writers.setdefault(put.lease.term, put.lease.holder) == put.lease.holder
            for other in range(len(self.contenders)):
                self._tell(other, LeaseSeen(*self.held))
        else:
            self._tell(n, LeaseSeen(*self.held))
        self._tell(n, LeaseAnswer(put, Outcome.WON if won else Outcome.LOST, self.held[0]))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4))
def test_never_two_leaders_and_soon_always_one(seed: int, count: int) -> None:
    arena = Arena(count, Random(seed))
    led = 0
    for second in range(1, 121):
        arena.run_until(float(second))
        led += len(arena.leaders())
    assert led > 30 / count
