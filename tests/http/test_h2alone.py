"""One request at a time: the short way and the long one say the same, and leave the same behind."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from h2_wire import WRITE_BYTES, asks, session
from nearmile.http import h2frames as codes
from nearmile.http.h2 import Requested, Session
from nearmile.http.h2frames import frame

# GET, https, /, a.example, said without HPACK's table, and so known when they come again; the other accepts all.
PLAIN = b"\x82\x87\x84\x01\x09a.example"
BLOCKS = (PLAIN, PLAIN + b"\x0f\x04\x03*/*")
# What a client says beside requests: the second closes the window of new streams, the third that of all.
OTHERS = (
    frame(codes.WINDOW_UPDATE, 0, 0, (20_000).to_bytes(4, "big")),
    codes.settings({codes.INITIAL_WINDOW_SIZE: 10}),
    codes.settings({codes.INITIAL_WINDOW_SIZE: 60_000}),
    frame(codes.PING, 0, 0, bytes(8)),
    frame(codes.GOAWAY, 0, 0, bytes(8)),
)
READS = st.lists(
    st.tuples(
        st.sampled_from(["one", "one", "one", "two", "half", "other", "last"]),
        st.sampled_from(BLOCKS),
        st.sampled_from([5, 5, 37, 4, 1, 13]),
        st.sampled_from([0, 3, 1_000, 16_384, 16_385, 30_000]),
        st.sampled_from(OTHERS),
        st.sampled_from([1, 2, 2, 2, 2, 4]),
    ),
    max_size=30,
)


def hear(one: Session, data: bytes, body: bytes) -> bytes:
    """The long way: a read is walked over, its requests are answered, and all goes out."""
    for event in one.feed(data):
        if isinstance(event, Requested):
            one.answer(event.stream_id, b"\x88", body, True)
    return one.out(WRITE_BYTES)


def hear_alone(one: Session, data: bytes, body: bytes, taken: "Counter[str]") -> bytes:
    """The short way where there is one."""
    if (alone := one.alone(data)) is None:
        return hear(one, data, body)
    taken["alone"] += 1
    if whole := one.answer_alone(alone[0], b"\x88", body):
        taken["whole"] += 1
        assert not one.pending
        return whole
    one.answer(alone[0], b"\x88", body, True)
    return one.out(WRITE_BYTES)


@settings(max_examples=150, deadline=None)
@given(READS)
def test_the_short_way_says_the_same(reads: list[tuple[str, bytes, int, int, bytes, int]]) -> None:
    short, long, number, kept = session(), session(), -1, b""
    for what, fields, flags, body_bytes, other, step in reads:
        number += step
        load = (bytes(5) if flags & 32 else b"") + (b"\0" if flags & 8 else b"") + fields
        data = kept + asks(number, load, flags)
        kept = b""
        if what == "two":
            number += 2
            data += asks(number, fields)
        elif what == "half":
            data, kept = data[:12], data[12:]
        elif what == "other":
            data += other
        elif what == "last":
            for one in (short, long):
                one.go_away(codes.NO_ERROR, at_once=False)
        body = bytes(body_bytes)
        assert hear_alone(short, data, body, Counter()) == hear(long, data, body)
        assert short.events() == long.events()
        for name in ("_last", "_barren", "_window_bytes", "_out_bytes", "_held", "_over"):
            assert getattr(short, name) == getattr(long, name), name
        assert short._streams.keys() == long._streams.keys()


def test_most_single_requests_go_the_short_way() -> None:
    one, taken = session(), Counter[str]()
    for number in range(1, 21, 2):
        hear_alone(one, asks(number, BLOCKS[0]), b"abc", taken)
    # The first has to be learned. Its answer says once that HPACK's table is not used.
    assert taken == {"alone": 9, "whole": 9}
    assert one.alone(b"") is None and one.alone(asks(25, BLOCKS[0])) is None
    assert one.alone(asks(21, BLOCKS[0]) + b"\0") is None and one.alone(asks(21, BLOCKS[1])) is None
