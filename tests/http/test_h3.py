"""HTTP/3's frames in transcripts: what a client sends on streams, and what comes of it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qh3.quic.events import StopSendingReceived, StreamDataReceived, StreamReset

from h3_wire import sense, session, told
from nearmile.http import h3frames as codes
from nearmile.http.h3 import BodyCame, Requested, StreamEnded
from nearmile.http.h3frames import read_varint, varint
from nearmile.http.limits import H3_AHEAD_BYTES, H3_PART_BYTES, HEAD_BYTES_MAX
from nearmile.http.qpack import START, Sections

GET = START + Sections().lines(((b":method", b"GET"), (b":path", b"/")))


def frame(kind: int, data: bytes) -> bytes:
    return varint(kind) + varint(len(data)) + data


@pytest.mark.parametrize("step", [0, 1, 3])
def test_requests_in_any_pieces(step: int) -> None:
    whole = frame(0x21, b"grease") + frame(1, GET) + frame(0, b"body") + frame(0x40, b"") + frame(1, GET)
    events, wire = told(0, whole, step=step)
    assert wire.closed is None
    assert events[0] == Requested(0, GET, False)
    bodies = [event for event in events[1:] if isinstance(event, BodyCame)]
    assert b"".join(body.data for body in bodies) == b"body"
    assert [body.end_stream for body in bodies] == [False] * (len(bodies) - 1) + [True]


def test_most_requests_are_one_frame() -> None:
    assert told(4, frame(1, GET))[0] == [Requested(4, GET, True)]
    assert told(4, frame(0x21, b"x") + frame(1, GET))[0] == [Requested(4, GET, True)]


@pytest.mark.parametrize(
    ("data", "end", "code"),
    [
        (frame(0, b"x"), False, codes.FRAME_UNEXPECTED),
        (frame(4, b""), False, codes.FRAME_UNEXPECTED),
        (frame(1, GET) + frame(7, b"\0"), False, codes.FRAME_UNEXPECTED),
        (frame(1, GET) + frame(1, GET) + frame(0, b"x"), False, codes.FRAME_UNEXPECTED),
        (frame(1, GET) + frame(1, GET) + frame(1, GET), False, codes.FRAME_UNEXPECTED),
        (frame(1, GET) + frame(5, b"\0"), False, codes.FRAME_UNEXPECTED),
        (frame(1, GET) + frame(2, b""), False, codes.FRAME_UNEXPECTED),
        (frame(1, GET)[:-1], True, codes.FRAME_ERROR),
        (frame(1, GET) + b"\x00\x05abc", True, codes.FRAME_ERROR),
        (frame(1, GET) + frame(1, b"\xff\xff\xff"), True, codes.QPACK_FAILED),
    ],
)
def test_what_ends_the_connection(data: bytes, end: bool, code: int) -> None:
    assert told(0, data, end)[1].closed == code


@pytest.mark.parametrize(
    ("data", "end", "code"),
    [(b"", True, codes.REQUEST_INCOMPLETE), (b"\x01" + varint(HEAD_BYTES_MAX + 1), False, codes.EXCESSIVE_LOAD)],
)
def test_what_ends_the_stream(data: bytes, end: bool, code: int) -> None:
    events, wire = told(0, data, end)
    assert events == [StreamEnded(0, code)] and wire.closed is None and wire.reset == {0: code}


@pytest.mark.parametrize(
    ("data", "end", "code"),
    [
        (varint(0) + frame(4, b""), False, None),
        (
            varint(0) + frame(4, varint(6) + varint(9)) + frame(0x21, b"") + frame(0xF0700, b"\0u=1"),
            False,
            None,
        ),
        (varint(0) + frame(0x21, b""), False, codes.MISSING_SETTINGS),
        (varint(0) + frame(4, b"") + frame(4, b""), False, codes.FRAME_UNEXPECTED),
        (varint(0) + frame(4, b"") + frame(0, b""), False, codes.FRAME_UNEXPECTED),
        (varint(0) + frame(4, varint(2) + varint(0)), False, codes.SETTINGS_ERROR),
        (varint(0) + frame(4, varint(6) + varint(0) + varint(6) + varint(1)), False, codes.SETTINGS_ERROR),
        (varint(0) + frame(4, varint(6)), False, codes.FRAME_ERROR),
        (varint(0) + frame(4, b"") + b"\x21" + varint(1 << 30), False, codes.EXCESSIVE_LOAD),
        (varint(0), True, codes.CLOSED_CRITICAL_STREAM),
        (varint(1), False, codes.STREAM_CREATION_ERROR),
        (varint(2) + b"\x20\x20", False, None),
        (varint(2) + b"\x3f\x45", False, codes.QPACK_ENCODER_ERROR),
        (varint(3) + b"\x44\x7f\x80\x01", False, None),
        (varint(3) + b"\x84", False, codes.QPACK_DECODER_ERROR),
        (varint(3) + b"\x01", False, codes.QPACK_DECODER_ERROR),
        (varint(3) + b"\x7f" + b"\x80" * 12, False, codes.QPACK_DECODER_ERROR),
    ],
)
@pytest.mark.parametrize("step", [0, 1])
def test_streams_of_one_direction(data: bytes, end: bool, code: int | None, step: int) -> None:
    events, wire = told(2, data, end, step)
    assert (events, wire.closed) == ([], code)


def test_what_may_be_opened_once_and_what_nobody_knows() -> None:
    here, wire = session()
    wire.came = [StreamDataReceived(varint(0) + frame(4, b""), False, number) for number in (2, 6)]
    assert here.events() == [] and wire.closed == codes.STREAM_CREATION_ERROR
    assert told(2, varint(0x54) + b"x", False)[1].stopped == {2: codes.STREAM_CREATION_ERROR}


def test_streams_that_the_client_ends() -> None:
    here, wire = session()
    wire.came = [
        StreamDataReceived(frame(1, GET), False, 0),
        StreamReset(0x10C, 0),
        StopSendingReceived(0x10C, 4),
    ]
    assert here.events()[1:] == [StreamEnded(0, 0x10C), StreamEnded(4, 0x10C)]
    assert wire.reset == {0: codes.REQUEST_CANCELLED, 4: codes.REQUEST_CANCELLED}
    wire.came = [StopSendingReceived(0, 3)]
    assert here.events() == [] and wire.closed == codes.CLOSED_CRITICAL_STREAM


def test_who_ends_a_request_because_it_is_answered_loses_nothing_of_the_answer() -> None:
    """QUIC has a client answer STOP_SENDING by RESET_STREAM (RFC 9000 section 3.5)."""
    here, wire = session()
    wire.came = [StreamDataReceived(frame(1, GET), False, 0)]
    assert here.events() == [Requested(0, GET, False)]
    here.answer(0, b"", memoryview(b"early"))
    here.stop(0, codes.NO_ERROR)
    wire.came = [StreamReset(codes.NO_ERROR, 0)]
    assert here.events() == []
    assert (wire.stopped, wire.reset) == ({0: codes.NO_ERROR}, {})


def test_quic_is_handed_no_more_of_a_body_than_it_can_send_soon() -> None:
    here, wire = session()
    body = bytes(range(256)) * 1024
    here.respond(0, ((b":status", b"200"),), False)
    here.send(0, (body, b"", b"end"), True)
    here.out(0.0)
    assert len(wire.sent[0]) <= H3_AHEAD_BYTES + 100 and here.queued_bytes(0) > len(body) - H3_AHEAD_BYTES
    before = len(wire.sent[0])
    wire.kept_bytes = H3_AHEAD_BYTES
    here.out(0.0)
    assert len(wire.sent[0]) == before
    wire.kept_bytes = wire.room = 0
    here.out(0.0)
    assert len(wire.sent[0]) == before
    wire.room = 4
    while here.queued_bytes(0):
        before = len(wire.sent[0])
        here.out(0.0)
        assert len(wire.sent[0]) <= before + 4 * H3_PART_BYTES
    assert 0 in wire.ended
    data = wire.sent[0]
    _, start = read_varint(data, 0)
    size, start = read_varint(data, start)
    at = start + size
    assert data[at:] == frame(0, body) + frame(0, b"end")


def test_all_streams_together_are_handed_no_more_than_may_be_under_way() -> None:
    here, wire = session()
    wire.room = 4
    for number in (0, 4, 8):
        here.send(number, (bytes(2000),), True)
    here.out(0.0)
    assert [len(wire.sent[number]) for number in (0, 4, 8)] == [H3_PART_BYTES] * 3
    wire.room = 0
    here.out(0.0)
    assert [len(wire.sent[number]) for number in (0, 4, 8)] == [H3_PART_BYTES] * 3 and here.backlogged


def test_nobody_waits_for_the_end_of_what_is_long() -> None:
    here, wire = session()
    wire.room = 1
    for number in range(0, 40, 4):
        here.send(number, (bytes(1 << 20),), True)
    here.out(0.0)
    here.answer(40, b"", memoryview(bytes(2000)))
    for _ in range(2 * 11):
        here.out(0.0)
    assert wire.ended == {40}


def test_no_end_goes_without_bytes() -> None:
    """Where it gets lost alone, qh3 2.1 forgets it."""
    here, wire = session()
    here.respond(0, ((b":status", b"200"),), False)
    here.out(0.0)
    before = wire.sent[0]
    here.send(0, (), True)
    here.out(0.0)
    assert wire.sent[0] == before + frame(0x21, b"") and wire.ended == {0}


@settings(max_examples=300)
@given(st.integers(0, (1 << 62) - 1))
def test_numbers(number: int) -> None:
    assert read_varint(varint(number), 0) == (number, len(varint(number)))


@settings(max_examples=300)
@given(st.sampled_from([0, 2]), st.binary(max_size=60), st.booleans(), st.integers(1, 7))
def test_any_bytes_are_taken_alike_in_any_pieces(number: int, data: bytes, end: bool, step: int) -> None:
    assert sense(number, data, end, step) == sense(number, data, end, 0)
