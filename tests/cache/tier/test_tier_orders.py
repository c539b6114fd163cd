"""The diary: what it says is known again, and another run of the machine is believed only when it closed."""

import pytest

from nearmile.cache.purge import MARKS_MAX, Marks, Position
from nearmile.cache.tier.orders import Closed, Marked, Reached, Start, read_diary, start_of, write_note

P1, P2 = Position("log", 1), Position("log", 2)


def known() -> Marks:
    marks = Marks()
    marks.add(b"#\x00\x00\x01tag")
    marks.add(b"^\x00\x00\x01/a", soft_at_s=5.0)
    return marks


def diary(*notes: Marked | Reached | Closed) -> bytes:
    return b"".join(map(write_note, (start_of("boot", P1, known()), *notes)))


def test_a_start_says_all_that_was_known() -> None:
    found = read_diary(diary(), "boot")
    assert found is not None
    position, marks = found
    assert position == P1 and list(marks) == list(known()) and marks.generation == 2
    assert marks.good_until_s(b"\x00\x00\x01/abc", (), 1) == 5.0
    assert marks.good_until_s(b"\x00\x00\x01/abc", (), 2) == float("inf")
    assert marks.good_until_s(b"\x00\x00\x01/", (b"tag",), 0) == -float("inf")


def test_notes_go_on_from_there() -> None:
    found = read_diary(diary(Marked(b"^\x00\x00\x01/b", None), Reached(P2)), "boot")
    assert found is not None
    assert found[0] == P2 and found[1].generation == 3 and len(found[1]) == 3


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_torn_end_costs_the_last_note(cut: int) -> None:
    found = read_diary(diary(Reached(P2))[:-cut], "boot")
    assert found is not None and found[0] == P1


def test_another_boot_is_believed_only_when_closed() -> None:
    assert read_diary(diary(), "other") is None
    assert read_diary(diary(Closed()), "other") is not None
    assert read_diary(b"".join(map(write_note, (start_of("", P1, known()),))), "") is None


def test_what_is_no_diary_says_nothing() -> None:
    assert read_diary(b"", "boot") is None
    assert read_diary(b"\x00" * 100, "boot") is None
    assert read_diary(write_note(Reached(P1)), "boot") is None
    assert read_diary(write_note(Start(1, "boot", P1, 0, 0, ())), "boot") is None


def test_no_more_marks_are_known_than_is_bounded() -> None:
    notes = [Marked(b"^%d" % number, None) for number in range(MARKS_MAX + 5)]
    found = read_diary(diary(*notes), "boot")
    assert found is not None
    assert len(found[1]) == MARKS_MAX and found[1].forgotten == 7
