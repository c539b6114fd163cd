"""Watch: who is ended for a silence, and all the silences for which nobody is."""

from collections.abc import Collection

import pytest

from nearmile.fleet.watch import (
    BUS,
    BUS_HUNG_AFTER_S,
    BUS_START_S,
    HUNG_TIMES,
    PAUSE_S,
    START_S,
    STREAMS_HUNG_AFTER_S,
    Watch,
)

SILENT_AFTER_S, STEP_S = 2.0, 0.25
HUNG_AFTER_S = SILENT_AFTER_S * HUNG_TIMES
ALL = frozenset((BUS, "a-1", "a-2", "low-1"))


class Script:
    """A machine whose processes speak at each step, but for those that are told not to."""

    def __init__(self) -> None:
        self.watch, self.now_s = Watch(SILENT_AFTER_S), 1000.0
        self.passes(1)

    def passes(self, for_s: float, silent: Collection[str] = ()) -> list[str]:
        """Time passes; returns who was found to hang. Without the bus nobody is heard."""
        hung, end_s = [], self.now_s + for_s
        while self.now_s < end_s:
            self.now_s += STEP_S
            for name in sorted(ALL - set(silent)) if BUS not in silent else ():
                self.watch.hear(name, self.now_s)
            hung += self.watch.look(self.now_s)
        return hung


def test_who_is_silent_for_long_hangs_and_is_told_once() -> None:
    script = Script()
    assert script.passes(HUNG_AFTER_S, {"a-1"}) == []
    assert script.watch.silent("a-1", script.now_s) and not script.watch.silent("a-2", script.now_s)
    assert script.passes(STEP_S, {"a-1"}) == ["a-1"]
    assert script.passes(10 * HUNG_AFTER_S, {"a-1"}) == []


def test_several_may_hang_as_long_as_anybody_speaks() -> None:
    assert Script().passes(2 * HUNG_AFTER_S, {"a-1", "a-2"}) == ["a-1", "a-2"]


def test_a_new_life_has_longer_until_its_first_word() -> None:
    script = Script()
    script.passes(2 * HUNG_AFTER_S, {"a-1"})
    script.watch.begin("a-1", script.now_s)
    assert script.passes(START_S, {"a-1"}) == []
    assert not script.watch.heard("a-1") and not script.watch.silent("a-1", script.now_s)
    script.passes(STEP_S)
    assert script.passes(2 * HUNG_AFTER_S, {"a-1"}) == ["a-1"]


def test_who_says_nothing_at_all_hangs_though_it_is_alone() -> None:
    script = Script()
    script.watch.begin("a-1", script.now_s)
    assert script.passes(START_S, {"a-1"}) == []
    assert script.passes(STEP_S, {"a-1"}) == ["a-1"]
    assert script.passes(10 * START_S, {"a-1"}) == []
    script = Script()
    for name in ALL - {BUS}:
        script.watch.begin(name, script.now_s)
    assert script.passes(START_S + STEP_S, ALL - {BUS}) == ["a-1", "a-2", "low-1"]


def test_a_start_counts_only_while_the_bus_answers() -> None:
    script = Script()
    script.watch.begin("a-1", script.now_s)
    assert script.passes(START_S - 3, {"a-1"}) == []
    assert script.passes(3.0, {BUS}) == []
    assert script.passes(START_S, {"a-1"}) == []
    assert script.passes(STEP_S, {"a-1"}) == ["a-1"]


def test_who_is_to_end_is_forgotten() -> None:
    script = Script()
    script.watch.begin("a-1", script.now_s)
    script.watch.forget("a-1")
    assert script.passes(2 * START_S, {"a-1"}) == []


@pytest.mark.parametrize("deaf_s", [3.0, 2 * HUNG_AFTER_S])
@pytest.mark.parametrize("silent", [{BUS}, ALL - {BUS}], ids=["no bus", "nobody but the bus"])
def test_a_silence_of_all_counts_for_nobody(silent: set[str], deaf_s: float) -> None:
    script = Script()
    assert script.passes(HUNG_AFTER_S - SILENT_AFTER_S - STEP_S, {"a-1"}) == []
    assert [name for name in script.passes(deaf_s, silent) if name != BUS] == []
    assert script.passes(HUNG_AFTER_S, {"a-1"}) == [], "its time counts anew"
    assert script.passes(3.0, {"a-1"}) == ["a-1"]


def test_the_supervisors_own_pause_counts_for_nobody() -> None:
    script = Script()
    script.passes(HUNG_AFTER_S - 1, {"a-1"})
    script.now_s += 1000 * HUNG_AFTER_S
    assert script.watch.look(script.now_s) == [], "what the others said is still to be read"
    assert script.passes(HUNG_AFTER_S - STEP_S, {"a-1"}) == []
    assert script.passes(2 * STEP_S, {"a-1"}) == ["a-1"]
    script.now_s += PAUSE_S - STEP_S
    assert script.watch.look(script.now_s) == []


def test_a_bus_whose_streams_alone_hang_is_ended_too() -> None:
    script = Script()
    assert script.passes(2 * STREAMS_HUNG_AFTER_S) == [], "which have not answered yet"
    script.watch.hear_streams(script.now_s)
    assert script.passes(STREAMS_HUNG_AFTER_S) == []
    assert script.passes(STEP_S) == [BUS]
    assert script.passes(2 * STREAMS_HUNG_AFTER_S) == []
    script.watch.begin(BUS, script.now_s)
    assert script.passes(2 * STREAMS_HUNG_AFTER_S) == [], "its new life has not answered yet"
    script.watch.hear_streams(script.now_s)
    assert script.passes(STREAMS_HUNG_AFTER_S, {BUS}) == [BUS], "once, though nothing of it answers"
    script = Script()
    script.watch.hear_streams(script.now_s)
    script.now_s += 2 * STREAMS_HUNG_AFTER_S
    assert script.watch.look(script.now_s) == [], "it was our own pause"


def test_a_bus_whose_streams_never_answer_is_ended_in_each_of_its_lives() -> None:
    """They may give nothing but errors from the start, and work when it is started anew."""
    script = Script()
    assert script.passes(2 * BUS_START_S) == [], "it is not ours to end"
    for _ in range(2):
        script.watch.begin(BUS, script.now_s)
        assert script.passes(BUS_START_S + STREAMS_HUNG_AFTER_S) == [], "it may have much to read"
        assert script.passes(STEP_S) == [BUS]


def test_the_bus_has_longer() -> None:
    script = Script()
    assert script.passes(BUS_HUNG_AFTER_S, {BUS}) == []
    assert not script.watch.answers(script.now_s)
    assert script.passes(STEP_S, {BUS}) == [BUS]
    script.watch.begin(BUS, script.now_s)
    assert script.passes(BUS_START_S, {BUS}) == [], "it may have much to read"
    assert not script.watch.answers(script.now_s)
    assert script.passes(STEP_S, {BUS}) == [BUS]
