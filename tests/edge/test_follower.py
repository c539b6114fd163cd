"""The follower: whatever is lost, doubled or comes out of order, each order is applied once, in sequence."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearmile.cache.purge import Order, Position
from nearmile.edge.follower import EARLY_MAX, FETCH_MAX, Apply, Command, Fetch, Follower, read_order, write_order


def order(number: int) -> Order:
    return Order(str(number), 1, "url", (f"/{number}",))


def data(number: int) -> bytes:
    return write_order(order(number))


def at(seq: int, log: str = "L") -> Position:
    return Position(log, seq)


def applied(*seqs: int) -> list[Command]:
    return [Apply(at(seq), order(seq)) for seq in seqs]


def following(seq: int) -> Follower:
    follower = Follower(at(seq))
    follower.looking()
    assert follower.looked("L", 1, seq) == [] and follower.current
    return follower


def test_who_knows_nothing_begins_at_the_end_with_nothing() -> None:
    follower = Follower(None)
    follower.looking()
    assert follower.looked("L", 3, 9) == [Apply(at(9), None)]
    assert follower.current and follower.position == at(9)


def test_what_was_missed_is_fetched_before_it_is_current() -> None:
    follower = Follower(at(2))
    assert follower.arrived(5, data(5)) == [], "nothing is believed before the log was seen"
    follower.looking()
    assert follower.looked("L", 1, 4) == [Fetch(3, 5)] or not follower.current
    assert not follower.current
    assert follower.arrived(4, data(4)) == []
    assert follower.arrived(3, data(3)) == applied(3, 4, 5)
    assert follower.current


@pytest.mark.parametrize(("log", "first", "last"), [("M", 1, 9), ("L", 4, 9), ("L", 1, 1), ("L", 10, 9)])
def test_a_log_that_cannot_tell_what_was_missed(log: str, first: int, last: int) -> None:
    follower = Follower(at(2))
    follower.looking()
    assert follower.looked(log, first, last) == [Apply(at(last, log), None)]


def test_an_order_that_overtakes_the_look_is_no_sign_of_a_lost_tail() -> None:
    follower = following(2)
    follower.looking()
    assert follower.arrived(3, data(3)) == applied(3)
    assert follower.looked("L", 1, 2) == []


def test_gaps_doubles_and_what_is_gone() -> None:
    follower = following(2)
    assert follower.arrived(4, data(4)) == [Fetch(3, 4)]
    assert follower.arrived(5, data(5)) == [], "one fetch at a time"
    assert follower.arrived(3, None) == [Apply(at(3), None), *applied(4, 5)]
    assert follower.arrived(4, data(4)) == []
    assert follower.arrived(6, b"{}") == [Apply(at(6), None)], "an order that cannot be read"


def test_a_lost_connection_is_believed_in_nothing() -> None:
    follower = following(2)
    follower.lost()
    assert not follower.current
    assert follower.arrived(3, data(3)) == []
    follower.looking()
    assert follower.looked("M", 1, 3) == [Apply(at(3, "M"), None)]


def test_many_missed_orders_come_in_bounded_pieces() -> None:
    follower = Follower(at(0))
    follower.looking()
    commands, seen = follower.looked("L", 1, 1000), 0
    while commands:
        (fetch,) = [command for command in commands if isinstance(command, Fetch)]
        assert fetch.last - fetch.first < FETCH_MAX
        commands = []
        for seq in range(fetch.first, fetch.last + 1):
            commands += follower.arrived(seq, data(seq))
        seen += sum(isinstance(command, Apply) for command in commands)
        commands = [command for command in commands if isinstance(command, Fetch)]
    assert seen == 1000 and follower.current


def test_what_comes_early_is_bounded() -> None:
    follower = Follower(at(0))
    for seq in range(2, EARLY_MAX + 100):
        follower.arrived(seq, data(seq))
    assert len(follower._early) == EARLY_MAX


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"{}", b'{"id":"a","serial":0,"kind":"all"}', b'{"id":"a","serial":1,"kind":"later"}'],
)
def test_what_is_no_order(text: bytes) -> None:
    assert read_order(text) is None


@settings(max_examples=200)
@given(st.integers(0, 1 << 32), st.integers(0, 30), st.integers(0, 60))
def test_any_weather(seed: int, start: int, more: int) -> None:
    """Messages are lost, doubled and overtaken, connections lost; in the end everything was applied in order."""
    chance, last = Random(seed), start + more
    follower, done, log_end = Follower(at(start)), [start], start

    def carry_out(commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, Apply):
                assert command.order == order(command.position.seq)
                done.append(command.position.seq)
            elif chance.random() < 0.7:  # else the answer is lost
                for seq in range(command.first, command.last + 1):
                    carry_out(follower.arrived(seq, data(seq)))

    while log_end < last:
        log_end += 1
        if chance.random() < 0.7:
            for _ in range(chance.randint(1, 2)):
                seq = chance.randint(max(1, log_end - 3), log_end)
                carry_out(follower.arrived(seq, data(seq)))
        if chance.random() < 0.1:
            follower.lost()
        if chance.random() < 0.2:
            follower.looking()
            carry_out(follower.looked("L", 1, log_end))
    for _ in range(100):
        follower.looking()
        carry_out(follower.looked("L", 1, log_end))
    assert follower.current and done == list(range(start, last + 1))
