"""The server's side of HTTP/2: against another server's session, in any pieces, and where clients are hostile."""

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ngh2 import Configuration, Connection, Role
from ngh2.events import DataReceived, RequestReceived, TrailersReceived
from ngh2.exceptions import NGH2Error

from h2_wire import FIRST, SETTINGS, WRITE_BYTES, asks, block, said, session
from nearmile.http import h2frames as codes
from nearmile.http.h2 import BodyCame, Head, Requested, Session, TrailersCame
from nearmile.http.h2frames import PREFACE, frame
from nearmile.http.h2send import Ended, StreamEnded
from nearmile.http.limits import (
    H2_BARREN_MAX,
    H2_CONNECTION_WINDOW_BYTES,
    H2_KNOWN_BYTES_MAX,
    H2_REMEMBERED_MAX,
    H2_STREAM_WINDOW_BYTES,
    H2_STREAMS_MAX,
    H2_UNREAD_BYTES_MAX,
)
from nearmile.http.prefixed import Strings


def why(of: Session) -> list[tuple[int, int, int]]:
    """What was reset or ended, and why: kind, stream, code."""
    frames = said(of.out(WRITE_BYTES))
    resets = [(kind, number, int.from_bytes(load, "big")) for kind, _, number, load in frames if kind == 3]
    return resets + [(kind, 0, int.from_bytes(load[4:8], "big")) for kind, _, _, load in frames if kind == 7]


def test_requests_are_told_and_answered() -> None:
    one = session()
    posted = asks(1, block(method="POST"), 4) + frame(codes.DATA, 0, 1, b"abc")
    events = one.feed(posted + asks(1, hpack.Encoder().encode([("a", "b")]), 5))
    assert [type(event) for event in events] == [Requested, BodyCame, TrailersCame]
    one.interim(1, ((b":status", b"103"),))
    assert one.respond(1, ((b":status", b"200"), (b"x", b"y" * 40_000)), end=False)
    one.send(1, (b"ab", b"", b"c"), end=False)
    one.trail(1, ((b"sum", b"1"),))
    frames = said(one.out(WRITE_BYTES))
    assert [(kind, flags) for kind, flags, _, _ in frames] == [(1, 4), (1, 0), (9, 0), (9, 4), (0, 0), (1, 5)]
    assert one.events() == [StreamEnded(1, 0)]
    decoder = hpack.Decoder()
    decoder.max_header_list_size = 1 << 20
    decoder.max_allowed_table_size = 0
    blocks = [frames[0][3], b"".join(load for _, _, _, load in frames[1:4]), frames[5][3]]
    assert [next(iter(decoder.decode(one, raw=True))) for one in blocks] == [
        (b":status", b"103"), (b":status", b"200"), (b"sum", b"1")
    ]  # fmt: skip
    assert not one.respond(1, ((b":status", b"200"),), end=True)


def test_a_repeated_block_is_known_until_the_table_changes() -> None:
    encoder, one = hpack.Encoder(), session()
    heads: list[Head] = []
    for number in range(1, 15, 2):
        extra = [("x", "changed")] if number == 9 else []
        (event,) = one.feed(asks(number, encoder.encode([*FIRST, ("accept", "text/html"), *extra])))
        assert isinstance(event, Requested)
        assert event.head.headers[4:] == ((b"accept", b"text/html"), *((b"x", b"changed") for _ in extra))
        heads.append(event.head)
    assert heads[1] is heads[2] is heads[3] and heads[5] is heads[6]
    assert len({id(head) for head in (heads[0], heads[1], heads[4], heads[5])}) == 4


def test_what_is_known_is_bounded() -> None:
    one = session()
    for number in range(1, 2_000, 2):
        one.feed(asks(number, block(("x", str(number) * 30))))
        one.answer(number, b"\x88", b"abc", True)
        assert sum(map(len, one._known)) == one._known_bytes <= H2_KNOWN_BYTES_MAX
        one.out(WRITE_BYTES)


TOKENS = st.sampled_from(
    ["accept", "x-a", "x-b", "cookie", "X-Bad", "te", "connection", "content-length", ":path"]
)
FIELDS = st.lists(st.tuples(TOKENS, st.sampled_from(["", "a", "trailers", "0", " b", "c\n"])), max_size=3)
NUMBERS = st.sampled_from([0, 1, 1, 3, 3, 5, 7, 2])
STEPS = st.one_of(
    st.tuples(st.just("ask"), NUMBERS, st.sampled_from([5, 5, 5, 4, 1, 37, 13]), FIELDS),
    st.tuples(st.just("data"), NUMBERS, st.sampled_from([0, 1, 1, 8]), st.binary(max_size=5)),
    st.tuples(
        st.just("other"),
        NUMBERS,
        st.sampled_from([0, 1, 4]),
        st.tuples(st.sampled_from([2, 3, 4, 6, 7, 8, 9, 200]), st.sampled_from([0, 4, 5, 6, 8]), st.booleans()),
    ),
)


def built(steps: list[tuple[str, int, int, object]]) -> bytes:
    """The frames of a client with one table; some are as they should be."""
    encoder, out = hpack.Encoder(), []
    for what, number, flags, more in steps:
        if what == "ask":
            assert isinstance(more, list)
            load = encoder.encode([*FIRST, *more])
            load = (b"\0" if flags & 8 else b"") + (bytes(5) if flags & 32 else b"") + load
            out.append(asks(number, load, flags))
        elif what == "data":
            assert isinstance(more, bytes)
            out.append(frame(codes.DATA, flags, number, more))
        else:
            assert isinstance(more, tuple)
            kind, size, ones = more
            out.append(frame(kind, flags, number, (b"\1" if ones else b"\0") * size))
    return b"".join(out)


@settings(max_examples=300, deadline=None)
@given(st.lists(STEPS, max_size=8), st.lists(st.integers(1, 40), max_size=20))
def test_frames_mean_the_same_in_any_pieces(steps: list[tuple[str, int, int, object]], cuts: list[int]) -> None:
    data = PREFACE + SETTINGS + built(steps)
    whole, parts = Session(Strings()), Session(Strings())
    events, found, at = whole.feed(data), [], 0
    for cut in [*cuts, len(data)]:
        found += parts.feed(data[at : at + cut])
        at += cut
    assert [plain(event) for event in found] == [plain(event) for event in events]
    assert parts.out(WRITE_BYTES) == whole.out(WRITE_BYTES)


def plain(event: object) -> tuple[object, ...]:
    if isinstance(event, Requested):
        return event.stream_id, event.head.headers, event.end_stream
    assert isinstance(event, tuple)
    return type(event).__name__, *event


def asked_of_another(data: bytes) -> tuple[list[object], bool]:
    """What libnghttp2 makes of it; whether it ends the connection."""
    other = Connection(Role.SERVER, Configuration())
    other.initiate_connection({})
    found: list[object] = []
    over = False
    try:
        other.receive_data(data)
    except NGH2Error:
        over = True
    for event in other.events():
        if isinstance(event, RequestReceived):
            found.append((event.stream_id, tuple(event.headers), event.end_stream))
        elif isinstance(event, DataReceived | TrailersReceived):
            found.append((event.stream_id,))
    return found, over or any(kind == 7 for kind, *_ in said(other.data_to_send()))


@settings(max_examples=300, deadline=None)
@given(st.lists(STEPS, max_size=8))
def test_what_another_server_takes_for_requests_we_do(steps: list[tuple[str, int, int, object]]) -> None:
    """And nothing beyond it: what one of both is stricter in ends the connection there."""
    data = PREFACE + SETTINGS + built(steps)
    theirs, over = asked_of_another(data)
    one = Session(Strings())
    ours = [
        plain(event) if isinstance(event, Requested) else (event.stream_id,)
        for event in one.feed(data)
        if isinstance(event, Requested | BodyCame | TrailersCame)
    ]
    asked = [event for event in theirs if len(event) == 3]  # type: ignore[arg-type]
    taken = [event for event in ours if len(event) == 3]
    if one._over or over:
        assert taken == asked[: len(taken)] or asked == taken[: len(asked)]
    else:
        assert taken == asked


def refused() -> list[bytes]:
    return [asks(2 * n + 1, block()) for n in range(H2_STREAMS_MAX + 1)]


CONNECTION = {
    "3.4 no preface": (b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", codes.PROTOCOL_ERROR),
    "3.4 no SETTINGS first": (PREFACE + frame(6, 0, 0, bytes(8)), codes.PROTOCOL_ERROR),
    "3.4 only an acknowledgement first": (PREFACE + frame(4, 1, 0, b""), codes.PROTOCOL_ERROR),
    "5.1.1 a number below the last": (
        PREFACE + SETTINGS + asks(5, block()) + asks(3, block()), codes.PROTOCOL_ERROR),
    "6.1 more than the connection's window": (
        PREFACE + SETTINGS + b"".join(asks(n, block(method="POST"), 4) for n in range(1, 11, 2))
        + b"".join(frame(0, 0, n, bytes(16_384)) * 14 for n in range(1, 11, 2)), codes.FLOW_CONTROL_ERROR),
    "6.1 padded without padding": (
        PREFACE + SETTINGS + asks(1, block(), 4) + frame(0, 8, 1, b""), codes.FRAME_SIZE_ERROR),
    "6.2 too small for its priority": (PREFACE + SETTINGS + asks(1, b"abc", 37), codes.FRAME_SIZE_ERROR),
    "6.3 PRIORITY on stream 0": (PREFACE + SETTINGS + frame(2, 0, 0, bytes(5)), codes.PROTOCOL_ERROR),
    "6.8 a short GOAWAY": (PREFACE + SETTINGS + frame(7, 0, 0, bytes(7)), codes.FRAME_SIZE_ERROR),
    "6.9.2 a first window that makes one too large": (
        PREFACE + SETTINGS + asks(1, block(), 4) + frame(8, 0, 1, b"\0\0\0\1")
        + codes.settings({4: codes.WINDOW_BYTES_MAX}), codes.FLOW_CONTROL_ERROR),
    "RFC 9218 2.1 a setting of 2": (PREFACE + codes.settings({9: 2}), codes.PROTOCOL_ERROR),
    "a flood of PRIORITY": (
        PREFACE + SETTINGS + frame(2, 0, 1, bytes(5)) * (H2_BARREN_MAX + 1), codes.ENHANCE_YOUR_CALM),
    "a flood of empty DATA": (
        PREFACE + SETTINGS + asks(1, block(), 4) + frame(0, 0, 1, b"") * (H2_BARREN_MAX + 1),
        codes.ENHANCE_YOUR_CALM),
}  # fmt: skip


@pytest.mark.parametrize("name", CONNECTION)
def test_what_ends_the_connection(name: str) -> None:
    data, code = CONNECTION[name]
    one = Session(Strings())
    one.feed(data)
    found = why(one)
    assert found == [(codes.GOAWAY, 0, code)] and one.events() == [Ended()]
    assert one.feed(PREFACE) == [] and one.out(WRITE_BYTES) == b""


STREAM = {
    "5.1 DATA behind the end": (asks(1, block()) + frame(0, 1, 1, b"x"), codes.STREAM_CLOSED),
    "5.1 HEADERS behind the end": (asks(1, block()) + asks(1, block()), codes.STREAM_CLOSED),
    "5.1.2 too many": (b"".join(refused()), codes.REFUSED_STREAM),
    "6.9.1 more than the stream's window": (
        asks(1, block(method="POST"), 4) + frame(0, 0, 1, bytes(16_384)) * 17, codes.FLOW_CONTROL_ERROR),
    "8.1 a head within a body": (
        asks(1, block(method="POST"), 4) + asks(1, hpack.Encoder().encode([("a", "b")]), 4), codes.PROTOCOL_ERROR),
}  # fmt: skip


@pytest.mark.parametrize("name", STREAM)
def test_what_ends_a_stream(name: str) -> None:
    data, code = STREAM[name]
    one = session()
    (ended,) = (event for event in one.feed(data) if isinstance(event, StreamEnded))
    assert ended.error_code == code
    assert why(one) == [(codes.RST_STREAM, ended.stream_id, code)]
    # What was on its way is no error, and other streams go on.
    assert [type(event) for event in one.feed(asks(ended.stream_id + 2, block()))] in ([Requested], [StreamEnded])


def test_a_stream_that_we_gave_up_may_go_on_for_a_while() -> None:
    one = session(asks(1, block(method="POST"), 4))
    one.reset(1, codes.NO_ERROR)
    trailers = hpack.Encoder().encode([("a", "b")])
    assert not one.feed(frame(0, 0, 1, bytes(16_384)) * 16 + asks(1, trailers))
    assert why(one) == [(codes.RST_STREAM, 1, codes.NO_ERROR)]
    # Its bytes are given back to the others.
    assert one._room_bytes + one._owed_bytes == H2_CONNECTION_WINDOW_BYTES
    for number in range(3, 3 * H2_REMEMBERED_MAX, 2):
        one.feed(asks(number, block(method="POST"), 4))
        one.reset(number, codes.CANCEL)
    assert len(one._given_up) <= H2_REMEMBERED_MAX


def test_heads_of_streams_given_up_do_not_pile_up_unread() -> None:
    one, number, most = session(), -1, 0
    while not one._over and number < 2_000:
        number += 2
        one.feed(asks(number, block()))
        one.respond(number, ((b":status", b"200"), (b"x", b"y" * 60_000)), end=False)
        one.feed(frame(codes.RST_STREAM, 0, number, b"\0\0\0\x08"))
        most = max(most, one._out_bytes)
    assert one._over and most <= H2_UNREAD_BYTES_MAX + 70_000


def test_what_is_used_of_bodies_may_be_sent_again() -> None:
    one = session(asks(1, block(method="POST"), 4))
    for _ in range(64):
        for event in one.feed(frame(codes.DATA, 8, 1, b"\x09" + bytes(16_383))):
            assert isinstance(event, BodyCame) and len(event.data) == 16_383 - 9
            one.consumed(1, len(event.data))
    granted = {0: 0, 1: 0}
    for kind, _, number, load in said(one.out(WRITE_BYTES)):
        assert kind == codes.WINDOW_UPDATE
        granted[number] += int.from_bytes(load, "big")
    assert 64 * 16_384 - granted[0] <= H2_CONNECTION_WINDOW_BYTES // 2
    assert 64 * 16_384 - granted[1] <= H2_STREAM_WINDOW_BYTES // 2


def test_the_client_may_go_and_so_may_we() -> None:
    one = session(asks(1, block()), frame(codes.GOAWAY, 0, 0, bytes(8)))
    one.answer(1, b"\x88", b"abc", True)
    assert one.out(WRITE_BYTES) and one.events() == [StreamEnded(1, 0), Ended()]
    other = session(asks(1, block()))
    other.go_away(codes.NO_ERROR, at_once=False)
    other.go_away(codes.NO_ERROR, at_once=False)
    assert not other.feed(asks(3, block(method="POST"), 4) + frame(0, 0, 3, b"x"))
    assert why(other) == [(codes.GOAWAY, 0, codes.NO_ERROR)] and other.events() == []
    other.answer(1, b"\x88", b"", True)
    assert said(other.out(WRITE_BYTES)) == [(codes.HEADERS, 5, 1, b"\x20\x88")]
    assert other.events() == [StreamEnded(1, 0), Ended()]
