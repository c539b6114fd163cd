"""Datagrams before they have a connection: retries, resets, versions, and anything at all."""

from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearmile.http.limits import QUIC_TOKEN_S
from nearmile.http.quic import CID_BYTES, INITIAL_BYTES_MIN, Lobby, Newcomer, Run, Transport, runs_of

HERE, ELSEWHERE = ("192.0.2.1", 4000), ("192.0.2.2", 4000)
NAME, OURS = b"87654321", b"12345678"


def lobby(key: bytes = b"k" * 32) -> Lobby:
    return Lobby(key, lambda size: OURS.ljust(size, b"r")[:size])


def initial(to: bytes, sender: bytes = NAME, token: bytes = b"", version: int = 1, size: int = 1200) -> bytes:
    head = b"\xc0" + version.to_bytes(4, "big") + bytes([len(to)]) + to + bytes([len(sender)]) + sender
    head += (len(token) | 0x4000).to_bytes(2, "big") + token
    rest = size - len(head) - 2
    return head + (rest | 0x4000).to_bytes(2, "big") + bytes(rest)


def retry_token(packet: bytes) -> bytes:
    assert packet[0] & 0xF0 == 0xF0
    return packet[7 + len(NAME) + CID_BYTES : -16]


def test_a_first_packet_is_let_in() -> None:
    assert lobby().look(initial(b"x" * 8), HERE, 0, False) == (b"x" * 8, Newcomer(b"x" * 8, None, False))
    assert lobby().look(initial(b"x" * 8, b""), HERE, 0, False)[1] == Newcomer(b"x" * 8, None, True)


def test_in_doubt_an_address_is_to_be_shown() -> None:
    here = lobby()
    _, packet = here.look(initial(b"y" * 12), HERE, 100, True)
    assert isinstance(packet, bytes)
    token = retry_token(packet)
    again = initial(OURS, token=token)
    assert here.look(again, HERE, 101, True)[1] == Newcomer(b"y" * 12, OURS, False)
    late = 100 + QUIC_TOKEN_S + 1
    for data, address, now_s, who in (
        (again, ELSEWHERE, 101, here),
        (again, HERE, late, here),
        (again, HERE, 101, lobby(b"o" * 32)),
        (initial(b"z" * 8, token=token), HERE, 101, here),
        (initial(OURS, token=token[:-1] + b"?"), HERE, 101, here),
    ):
        assert who.look(data, address, now_s, True)[1] is None


def test_who_has_no_name_and_calls_us_by_a_long_one_is_asked_again() -> None:
    assert isinstance(lobby().look(initial(b"x" * 18, b""), HERE, 0, False)[1], bytes)


@pytest.mark.parametrize(
    "data",
    [
        initial(b"x" * 8, size=1199),
        initial(b"x" * 7),
        b"",
        b"\x40",
        b"\x40" + b"x" * 20,
        initial(b"x" * 8, version=0),
    ],
)
def test_what_is_not_worth_an_answer(data: bytes) -> None:
    assert lobby().look(data, HERE, 0, False)[1] is None


def test_other_versions_are_told_ours() -> None:
    _, answer = lobby().look(initial(b"x" * 8, version=0x6B3343CF), HERE, 0, False)
    assert isinstance(answer, bytes) and answer[1:5] == bytes(4) and answer.endswith(b"\x00\x00\x00\x01")


def test_a_forgotten_connection_is_reset() -> None:
    here = lobby()
    _, answer = here.look(b"\x40" + b"x" * 60, HERE, 0, False)
    assert isinstance(answer, bytes)
    assert answer.endswith(here.reset_token(b"x" * 8)) and len(answer) < 61 and answer[0] >> 6 == 1
    assert lobby(b"o" * 32).reset_token(b"x" * 8) != here.reset_token(b"x" * 8)


@settings(max_examples=200)
@given(st.binary(max_size=80), st.booleans(), st.booleans())
def test_any_datagram_is_taken(data: bytes, whole: bool, doubtful: bool) -> None:
    datagram = data.ljust(INITIAL_BYTES_MIN, b"\0") if whole else data
    _, found = lobby().look(datagram, HERE, 0, doubtful)
    assert found is None or isinstance(found, Newcomer) or len(found) <= max(len(datagram), 1)


DATAGRAMS = st.lists(st.tuples(st.sampled_from([b"aaa", b"bb", b"cc", b"d"]), st.sampled_from([HERE, ELSEWHERE])))


@settings(max_examples=200)
@given(DATAGRAMS)
def test_runs_are_as_long_as_they_can_be(sent: list[tuple[bytes, tuple[str, int]]]) -> None:
    runs = runs_of(sent)
    assert [(piece, run.address) for run in runs for piece in run.pieces] == sent
    for run in runs:
        sizes = [len(piece) for piece in run.pieces]
        assert set(sizes[:-1]) <= {sizes[0]} and sizes[-1] <= sizes[0]
    for run, after in pairwise(runs):
        ended = len(run.pieces[-1]) < len(run.pieces[0])
        assert ended or run.address != after.address or len(after.pieces[0]) > len(run.pieces[0])


@pytest.mark.parametrize("shaken", [False, True])
def test_what_was_made_before_an_address_has_had_enough_is_sent(shaken: bool) -> None:
    made = iter([(b"a", HERE, None), (b"b", HERE, None)])

    def poll(_now_s: float) -> tuple[bytes, tuple[str, int], None]:
        if (one := next(made, None)) is not None:
            return one
        raise RuntimeError("anti-amplification limit")

    one = Transport.__new__(Transport)
    vars(one).update(_core=SimpleNamespace(poll_transmit=poll), _handshake_complete=shaken, _made=[])
    if shaken:
        with pytest.raises(RuntimeError):
            one.runs_to_send(0)
    else:
        assert one.runs_to_send(0) == [Run([b"a", b"b"], HERE)]
