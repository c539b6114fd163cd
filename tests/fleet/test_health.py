"""Health: the machine's story as transcripts, its table, and what no sequence of events can do."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearmile.fleet.beat import Beat
from nearmile.fleet.health import (
    HELD_BACK_S,
    HOLD_MAX_S,
    IN_MAP,
    NEXT,
    BeatArrived,
    BusBack,
    BusLost,
    ExitReported,
    Health,
    MembersChanged,
    Signal,
    State,
)

DEAD_AFTER_S = 1.25
NAMES = ("a", "b", "c", "d", "e")


class Script:
    """Plays events to a machine, and lets time pass from deadline to deadline."""

    def __init__(self, names: tuple[str, ...] = NAMES) -> None:
        self.health = Health()
        self.now_s = 100.0
        self.seq = 0
        self.silent: set[str] = set()
        self.epoch = dict.fromkeys(names, 1)
        self.told: list[tuple[str, str]] = []
        self.happens(MembersChanged(names, DEAD_AFTER_S))
        self.happens(BusBack())

    def happens(self, event: Any) -> None:
        self._tell(self.health.handle(event, self.now_s))

    def beat(self, name: str, ready: bool = True, cpu: float = 0.0, full: bool = False) -> None:
        self.seq += 1
        beat = Beat(name=name, role="edge", epoch=self.epoch[name], seq=self.seq, ready=ready, full=full, cpu=cpu)
        self.happens(BeatArrived(beat))

    def passes(self, for_s: float) -> list[tuple[str, str]]:
        """Time passes, with beats of all that are not silent; returns who changed to what."""
        end_s = self.now_s + for_s
        told = len(self.told)
        beats_s = self.now_s
        while True:
            deadline_s = self.health.next_deadline()
            next_s = min(beats_s, end_s) if deadline_s is None else min(beats_s, deadline_s, end_s)
            self.now_s = max(self.now_s, next_s)
            if self.now_s >= end_s:
                return self.told[told:]
            if self.now_s >= beats_s:
                beats_s += 0.25
                for name in self.epoch:
                    if name not in self.silent:
                        self.beat(name)
            self._tell(self.health.wake(self.now_s))

    def living(self) -> str:
        return "".join(name for name in self.epoch if self.health.in_map(name))

    def _tell(self, changes: Any) -> None:
        self.told += [(change.name, change.after.value) for change in changes]


def test_silence_kills_and_a_beat_revives() -> None:
    script = Script()
    assert script.living() == ""
    assert not script.health.settled
    script.passes(1)
    assert script.health.settled
    assert script.living() == "abcde"
    script.silent.add("b")
    assert script.passes(1.0) == []
    assert script.passes(0.6) == [("b", "dead")]
    script.silent.clear()
    assert script.passes(0.3) == [("b", "live")]


def test_an_exit_kills_at_once_until_the_next_life() -> None:
    script = Script()
    script.passes(1)
    script.silent.add("a")
    script.happens(ExitReported("a"))
    assert script.living() == "bcde"
    script.beat("a")  # sent before it died, late
    assert script.living() == "bcde"
    script.epoch["a"] = 2
    script.beat("a")
    assert script.living() == "abcde"


def test_an_exit_that_comes_after_the_next_life_is_forgiven() -> None:
    script = Script()
    script.passes(1)
    script.epoch["a"] = 2
    script.beat("a")
    script.happens(ExitReported("a"))  # of the first life
    assert script.living() == "bcde"
    script.passes(2 * DEAD_AFTER_S)
    assert script.living() == "abcde"


def test_a_clock_that_steps_back_shuts_nobody_out() -> None:
    script = Script()
    script.passes(1)
    script.epoch["a"] = 0
    script.passes(2 * DEAD_AFTER_S)
    assert script.living() == "abcde"


def test_who_says_it_is_not_ready_leaves_at_once() -> None:
    script = Script()
    script.passes(1)
    script.beat("c", ready=False)
    assert script.living() == "abde"
    script.beat("c")
    assert script.living() == "abcde"


def test_while_the_bus_is_away_silence_proves_nothing() -> None:
    script = Script()
    script.passes(1)
    script.happens(BusLost())
    script.silent = set(NAMES)
    assert script.passes(60) == []
    script.happens(BusBack())
    assert script.passes(DEAD_AFTER_S - 0.01) == []
    script.silent = {"a"}
    assert script.passes(0.1) == [("a", "dead")]
    assert script.living() == "bcde"


def test_the_silence_of_most_is_held_back_for_a_bounded_time() -> None:
    script = Script()
    script.passes(1)
    script.silent = {"a", "b", "c"}
    assert script.passes(DEAD_AFTER_S + 0.3) == [("a", "suspect"), ("b", "suspect"), ("c", "suspect")]
    assert script.living() == "abcde"
    script.silent.discard("b")
    assert script.passes(0.3) == [("b", "live")]
    assert script.passes(HELD_BACK_S) == [("a", "dead"), ("c", "dead")]
    assert script.living() == "bde"


def test_exits_of_most_are_believed() -> None:
    script = Script()
    script.passes(1)
    for name in "abcd":
        script.silent.add(name)
        script.happens(ExitReported(name))
    assert script.living() == "e"


def test_a_process_that_slept_does_not_kill_everybody() -> None:
    """Our own process hung: the beats wait in its socket when it wakes."""
    script = Script()
    script.passes(1)
    script.now_s += 5
    script._tell(script.health.wake(script.now_s))
    assert script.living() == "abcde"
    assert script.passes(1)[:5] == [(name, "live") for name in NAMES]


def test_who_keeps_dying_waits_longer_but_not_forever() -> None:
    script = Script()
    waits_s = []
    for life in range(2, 11):
        script.passes(1.0)
        died_s = script.now_s
        script.happens(ExitReported("a"))
        script.epoch["a"] = life
        while not script.health.in_map("a"):
            script.passes(0.125)
        waits_s.append(script.now_s - died_s)
    assert waits_s[0] < 0.5
    assert waits_s[1:6] == pytest.approx([1, 2, 4, 8, HOLD_MAX_S], abs=0.3)
    assert max(waits_s) < HOLD_MAX_S + 0.3
    script.passes(60)
    died_s = script.now_s
    script.happens(ExitReported("a"))
    script.epoch["a"] = 99
    script.passes(0.5)
    assert script.health.in_map("a")  # a steady life is forgiven


def test_members_come_and_go() -> None:
    script = Script()
    script.passes(1)
    script.happens(MembersChanged(("a", "b", "z"), DEAD_AFTER_S))
    assert not script.health.settled
    assert [name for name in (*NAMES, "z") if script.health.in_map(name)] == ["a", "b"]
    script.passes(DEAD_AFTER_S + 0.3)
    assert script.health.settled
    assert script.health.state("z") is State.DEAD
    script.beat("c")  # a stranger now
    assert not script.health.in_map("c")


def test_load_is_averaged() -> None:
    script = Script()
    script.passes(1)
    for _ in range(40):
        script.now_s += 0.25
        script.beat("a", cpu=1.0)
    assert 0.5 < script.health.load("a") < 0.8
    assert script.health.load("nobody") == 0.0


def test_the_table_leaves_no_state_without_return() -> None:
    """From everywhere beats lead back into the map, and silence and exits out of it."""
    for state in State:
        there = state
        for signal in (Signal.READY, Signal.RELEASED, Signal.READY):
            there = NEXT.get((there, signal), there)
        assert there in IN_MAP
        for signal in (Signal.SILENT, Signal.EXITED):
            assert NEXT.get((state, signal), state) is State.DEAD


steps = st.one_of(
    st.tuples(st.just("pass"), st.floats(0.01, 5.0)),
    st.tuples(st.sampled_from(["silence", "speak", "exit", "reborn", "unready", "full"]), st.sampled_from(NAMES)),
    st.tuples(st.sampled_from(["lost", "back"]), st.just("")),
)


@given(st.lists(steps, max_size=40))
def test_whatever_happened_the_living_return_and_the_dead_leave(story: list[tuple[str, Any]]) -> None:
    script = Script()
    for step, argument in story:
        match step:
            case "pass":
                script.passes(argument)
            case "silence":
                script.silent.add(argument)
            case "speak":
                script.silent.discard(argument)
            case "exit":
                script.happens(ExitReported(argument))
            case "reborn":
                script.epoch[argument] += 1
            case "unready":
                script.beat(argument, ready=False)
            case "full":
                script.beat(argument, full=True)
            case "lost":
                script.happens(BusLost())
            case "back":
                script.happens(BusBack())
    script.happens(BusBack())
    script.passes(DEAD_AFTER_S + HELD_BACK_S + HOLD_MAX_S + 1.0)
    assert script.living() == "".join(name for name in NAMES if name not in script.silent)
