"""Beacons join a resolver and a client by their nonce, once, and never where somebody else had it too."""

from math import inf

import pytest

from nearmile.mapping import beacons
from nearmile.mapping.beacons import (
    LIFE_S,
    SETTLE_S,
    TOLD_MAX,
    Join,
    Report,
    Side,
    Sighting,
    Sightings,
    block_of,
)
from nearmile.mapping.plans import Seen

NONCE, OTHER = "0123456789abcdef", "fedcba9876543210"
R, C = Side.RESOLVER, Side.CLIENT
PAIR = [Seen("4/9", 4, 5, 1.0)]
Step = tuple[float, Side, str, int]


@pytest.mark.parametrize(
    ("steps", "until_s", "expected"),
    [
        pytest.param([(0, R, NONCE, 9), (1, C, NONCE, 5)], 1 + SETTLE_S, PAIR, id="both"),
        pytest.param(
            [(0, C, NONCE, 5), (1, R, NONCE, 9)], 1 + SETTLE_S, PAIR, id="the client's server told first"
        ),
        pytest.param([(0, R, NONCE, 9), (1, C, NONCE, 5)], SETTLE_S, [], id="too soon"),
        pytest.param([(0, R, NONCE, 9), (1, C, OTHER, 5)], LIFE_S, [], id="different nonces"),
        pytest.param([(0, R, NONCE, 9), (1, R, NONCE, 9), (1, C, NONCE, 5)] * 2, 9, PAIR, id="told twice"),
        pytest.param([(0, R, NONCE, 9), (1, C, NONCE, 5), (2, C, NONCE, 6)], 9, [], id="two clients"),
        pytest.param([(0, R, NONCE, 9), (1, R, NONCE, 8), (2, C, NONCE, 5)], 9, [], id="two resolvers"),
        pytest.param([(0, R, NONCE, 9), (LIFE_S, C, NONCE, 5)], LIFE_S + 9, [], id="too late"),
        pytest.param([(0, R, NONCE, -1), (1, C, NONCE, 1 << 24)], 9, [], id="no blocks"),
    ],
)
def test_nonces_are_joined(steps: list[Step], until_s: float, expected: list[Seen]) -> None:
    join = Join()
    for at_s, side, nonce, block in steps:
        join.add(Report(side, (Sighting(nonce, 4, block),)), at_s)
    assert list(join.take(until_s)) == expected
    assert list(join.take(until_s + LIFE_S)) == [] or not expected


def test_a_nonce_counts_once() -> None:
    join = Join()
    assert join.next_deadline() == inf
    for at_s in (0.0, 10.0, 20.0):
        for side, block in ((R, 9), (C, 5)):
            join.add(Report(side, (Sighting(NONCE, 4, block),)), at_s)
        assert join.next_deadline() == (SETTLE_S if at_s == 0 else inf)
        assert list(join.take(at_s + SETTLE_S)) == (PAIR if at_s == 0 else [])


def test_a_full_table_takes_nothing_new_until_the_old_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beacons, "OPEN_MAX", 1)
    join = Join()
    for nonce in (NONCE, OTHER):
        join.add(Report(R, (Sighting(nonce, 4, 9),)), 0)
        join.add(Report(C, (Sighting(nonce, 4, 5),)), 0)
    assert list(join.take(SETTLE_S)) == PAIR
    join.add(Report(R, (Sighting(OTHER, 4, 9),)), LIFE_S)
    join.add(Report(C, (Sighting(OTHER, 4, 5),)), LIFE_S)
    assert list(join.take(LIFE_S + SETTLE_S)) == PAIR


def test_a_server_notes_each_sighting_once_and_so_many() -> None:
    seen = Sightings()
    for nonce in (b"short", b"0123456789ABCDEF", b"0123456789abcde\xff", b"x" * 64):
        seen.note(nonce, 4, 5)
    seen.note(NONCE.encode(), 4, 5)
    seen.note(NONCE.encode(), 4, 5)
    seen.note(NONCE.encode(), 4, 6)
    assert seen.take() == (Sighting(NONCE, 4, 5), Sighting(NONCE, 4, 6)) and seen.take() == ()
    for number in range(2 * TOLD_MAX):
        seen.note(b"%020d" % number, 4, 5)
    assert len(seen.take()) == TOLD_MAX


@pytest.mark.parametrize(
    ("address", "block"),
    [
        ("192.0.2.77", (4, 0xC00002)),
        ("::ffff:192.0.2.77", (4, 0xC00002)),
        ("2001:db8:5:6::1", (6, 0x20010DB80005)),
        ("fe80::1%eth0", (6, 0xFE8000000000)),
    ],
)
def test_no_more_than_the_block_is_kept(address: str, block: tuple[int, int]) -> None:
    assert block_of(address) == block
