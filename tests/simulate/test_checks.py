"""The checks themselves, on histories written by hand: what counts, and what is excused."""

import pytest

from nearmile.simulate import checks
from nearmile.simulate.history import Absence, Answer, History, Publication, Spans

BOUND_S, SETTLE_S = 5.0, 10.0


def history() -> History:
    """A server was dead from 100 to 200 s, a nameserver deaf from 40 to 50 s; the control plane is calm."""
    made = History()
    made.dead = {"s": Spans(), "t": Spans()}
    made.able = {"s": Spans(), "t": Spans()}
    made.deaf = {"ns": Spans()}
    made.dead["s"].start(100.0)
    made.dead["s"].end(200.0)
    made.able["s"].start(200.0)
    made.deaf["ns"].start(40.0)
    made.deaf["ns"].end(50.0)
    return made


@pytest.mark.parametrize(
    ("at_s", "servers", "violations", "checked"),
    [
        (104.9, ("s", "t"), 0, 2),  # within the bound
        (105.1, ("s", "t"), 1, 2),
        (105.1, ("t",), 0, 1),
        (200.1, ("s",), 0, 1),  # it is back
        (55.0, ("s",), 0, 0),  # the nameserver has only just heard again
        (5.0, ("s",), 0, 0),  # the world has only just begun
    ],
)
def test_naming_the_dead(at_s: float, servers: tuple[str, ...], violations: int, checked: int) -> None:
    made = history()
    made.answers.append(Answer(at_s, "ns", "X", "r", servers))
    found = checks.named_while_dead(made, BOUND_S, SETTLE_S)
    assert (len(found.violations), found.checked) == (violations, checked)


def test_a_disturbed_control_plane_excuses_for_a_bounded_time() -> None:
    for disturbed_s, violations in ((110.0, 0), (96.0, 0), (94.0, 1)):
        made = history()
        made.disturbed.moment(disturbed_s)
        made.answers.append(Answer(110.0, "ns", "X", "r", ("s",)))
        assert len(checks.named_while_dead(made, BOUND_S, SETTLE_S).violations) == violations


@pytest.mark.parametrize(("at_s", "violations"), [(204.9, 0), (205.1, 1), (150.0, 0)])
def test_lacking_the_living(at_s: float, violations: int) -> None:
    made = history()
    made.absences.append(Absence(at_s, "ns", ("s",)))
    assert len(checks.abandoned(made, BOUND_S, SETTLE_S).violations) == violations


def test_empty_answers() -> None:
    made = history()
    made.answers += [Answer(1.0, "ns", "X", "r", ("s",)), Answer(2.0, "ns", "X", "", ())]
    assert len(checks.empty_answers(made).violations) == 1


@pytest.mark.parametrize(
    ("stamps", "violations"),
    [
        ([("a", 1, 1), ("a", 1, 2), ("b", 2, 3)], 0),
        ([("a", 1, 1), ("b", 1, 2)], 1),  # two writers of one term
        ([("a", 2, 1), ("b", 1, 2)], 1),  # back to an older term
        ([("a", 1, 1), ("b", 2, 1)], 1),  # a version twice
    ],
)
def test_publications(stamps: list[tuple[str, int, int]], violations: int) -> None:
    made = history()
    made.publications += [Publication(float(n), *stamp) for n, stamp in enumerate(stamps)]
    assert len(checks.published_twice(made).violations) == violations


def test_delays_are_of_the_last_naming_of_each_death() -> None:
    made = history()
    made.answers += [Answer(at_s, "ns", "X", "r", ("s",)) for at_s in (90.0, 101.0, 103.5, 210.0)]
    assert checks.delays_s(made, SETTLE_S) == [3.5]


def test_the_bounds_in_real_times() -> None:
    """With the default beats, in the virtual world's worst network, which loses packets on every hop."""
    assert checks.detection_s(1.25, 0.25) < 4
    assert checks.takeover_s() < 8


def test_findings_are_told_briefly() -> None:
    lines = list(checks.told("name", checks.Found([str(n) for n in range(100)], 200)))
    assert lines[0] == "name: 100 violations in 200 cases"
    assert len(lines) == 1 + checks.SHOWN_MAX
