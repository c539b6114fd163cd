"""Connections served together: who is served when, without sockets."""

from collections.abc import Callable

import pytest

from nearmile.edge import limits
from nearmile.edge.clients.rounds import InRound, Round


class Told:
    """What happens, in its order, and what the loop is to call."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.soon: list[Callable[[], None]] = []
        self.round = Round(self.soon.append)

    def loop(self) -> list[str]:
        """One turn of the loop; returns all that has happened."""
        calls, self.soon[:] = self.soon[:], []
        for call in calls:
            call()
        return self.lines


class Echo(InRound):
    """Says at the end of the round what it was told."""

    def __init__(self, name: str, told: Told) -> None:
        super().__init__(told.round)
        self.name, self.told, self.said = name, told, b""

    def receive(self, data: bytes) -> None:
        if data == b"fail":
            raise ValueError
        self.told.lines.append(f"{self.name} hears {data[:9].decode()}")
        self.said = data
        self.round.at_end(self, len(data))

    def conclude(self) -> None:
        if self.said == b"fail later":
            raise ValueError
        self.told.lines.append(f"{self.name} answers")

    def turn_away(self) -> None:
        self.told.lines.append(f"{self.name} goes")


@pytest.fixture
def told() -> Told:
    return Told()


def test_all_are_heard_before_any_is_answered(told: Told) -> None:
    for name in "abc":
        Echo(name, told).data_received(b"hi")
    assert not told.lines
    assert told.loop() == ["a hears hi", "b hears hi", "c hears hi", "a answers", "b answers", "c answers"]
    assert not told.soon


def test_who_fails_goes_alone(told: Told, caplog: pytest.LogCaptureFixture) -> None:
    for name, data in (("a", b"hi"), ("b", b"fail"), ("c", b"hi")):
        Echo(name, told).data_received(data)
    assert told.loop() == ["a hears hi", "b goes", "c hears hi", "a answers", "c answers"]
    assert "failed unexpectedly" in caplog.text


def test_who_fails_to_answer_goes_alone(told: Told) -> None:
    for name, data in (("a", b"hi"), ("b", b"fail later"), ("c", b"hi")):
        Echo(name, told).data_received(data)
    assert told.loop()[3:] == ["a answers", "b goes", "c answers"]


def test_the_answers_kept_are_bounded(told: Told) -> None:
    large = b"x" * limits.ROUND_BYTES_MAX
    for name in range(2 * limits.ROUND_KEPT_BYTES // len(large)):
        Echo(str(name), told).data_received(large)
    heard = [line for line in told.loop() if "answers" not in line]
    assert told.lines.index("0 answers") == limits.ROUND_KEPT_BYTES // len(large) + 1
    assert len(heard) * 2 == len(told.lines)


def test_what_waits_is_bounded(told: Told) -> None:
    echoes = [Echo(str(number), told) for number in range(limits.ROUND_CONNECTIONS_MAX)]
    for echo in echoes[:-1]:
        echo.data_received(b"hi")
    assert not told.lines
    echoes[-1].data_received(b"hi")
    assert len(told.lines) == 2 * limits.ROUND_CONNECTIONS_MAX
    assert len(told.loop()) == 2 * limits.ROUND_CONNECTIONS_MAX


@pytest.mark.parametrize("more", (b"again", b"x" * (limits.ROUND_BYTES_MAX + 1)))
def test_one_connection_keeps_little(told: Told, more: bytes) -> None:
    one = Echo("a", told)
    one.data_received(b"hi")
    one.data_received(more)
    at_once = ["a hears hi", "a answers", f"a hears {more[:9].decode()}", "a answers"]
    assert told.lines == at_once
    assert told.loop() == at_once


def test_what_came_before_the_end_is_heard(told: Told) -> None:
    one = Echo("a", told)
    one.data_received(b"hi")
    assert not one.eof_received()
    assert told.loop() == ["a hears hi", "a answers"]


def test_the_next_round_is_another(told: Told) -> None:
    one = Echo("a", told)
    one.data_received(b"hi")
    told.loop()
    one.data_received(b"you")
    assert told.loop()[2:] == ["a hears you", "a answers"]
