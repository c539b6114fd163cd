"""What a server says: windows kept to the byte, streams in turn."""

from hypothesis import given, settings
from hypothesis import strategies as st

from h2_wire import WRITE_BYTES, asks, block, said, session
from nearmile.http import h2frames as codes
from nearmile.http.h2 import Session
from nearmile.http.h2frames import frame
from nearmile.http.h2send import StreamEnded
from nearmile.http.limits import H2_HELD_BYTES_MAX


def grant(stream: int, size_bytes: int) -> bytes:
    return frame(codes.WINDOW_UPDATE, 0, stream, size_bytes.to_bytes(4, "big"))


def bodies(data: bytes) -> dict[int, bytes]:
    """By stream."""
    found: dict[int, bytes] = {}
    for kind, _, number, load in said(data):
        if kind == codes.DATA:
            found[number] = found.get(number, b"") + load
    return found


ORDERS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 60_000)),
        st.tuples(st.just("window"), st.integers(0, 5), st.integers(1, 30_000)),
        st.tuples(st.just("first"), st.integers(0, 70_000)),
        st.tuples(st.just("out"), st.sampled_from([20_000, WRITE_BYTES])),
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(ORDERS)
def test_windows_are_kept_and_bodies_whole(orders: list[tuple[str, int]]) -> None:
    one: Session = session()
    bodies_bytes: dict[int, int] = {}
    windows, first_bytes, number = {0: codes.WINDOW_BYTES}, codes.WINDOW_BYTES, -1
    came: dict[int, bytes] = {}

    def let_out(size_bytes: int) -> bool:
        data = one.out(size_bytes)
        for stream, body in bodies(data).items():
            came[stream] = came.get(stream, b"") + body
            windows[stream] -= len(body)
            windows[0] -= len(body)
            assert windows[0] >= 0 and windows[stream] + first_bytes >= 0
        return bool(data)

    for what, *more in orders:
        if what == "ask":
            number += 2
            bodies_bytes[number], windows[number] = more[0], 0
            one.feed(asks(number, block()))
            one.answer(number, b"\x88", bytes(more[0]), at_once=bool(more[0] % 2))
        elif what == "window":
            stream = 2 * more[0] - 1 if more[0] else 0
            if stream in windows:
                windows[stream] += more[1]
                one.feed(grant(stream, more[1]))
        elif what == "first":
            let_out(WRITE_BYTES)  # answers put together before were within what was granted then
            first_bytes = more[0]
            one.feed(codes.settings({codes.INITIAL_WINDOW_SIZE: first_bytes}))
        else:
            let_out(more[0])
    first_bytes += 1 << 20
    one.feed(codes.settings({codes.INITIAL_WINDOW_SIZE: first_bytes}) + grant(0, 1 << 30))
    windows[0] += 1 << 30
    while let_out(WRITE_BYTES):
        pass
    assert {stream: len(body) for stream, body in came.items()} == {n: b for n, b in bodies_bytes.items() if b}
    assert not one._streams


def test_long_bodies_go_in_turn() -> None:
    one = session(grant(0, 1 << 20), codes.settings({codes.INITIAL_WINDOW_SIZE: 1 << 20}))
    for number in (1, 3, 5):
        one.feed(asks(number, block()))
        assert one.answer(number, b"\x88", bytes(100_000), True) == 100_000
    found = [number for kind, _, number, _ in said(one.out(WRITE_BYTES)) if kind == codes.DATA]
    assert found == [1, 3, 5, 1, 3, 5, 1]
    assert one.queued_bytes(1) == 100_000 - 3 * 16_384 and one.queued_bytes(9) == 0
    one.reset(1, codes.INTERNAL_ERROR)
    while one.out(WRITE_BYTES):
        pass
    assert one.events() == [StreamEnded(3, 0), StreamEnded(5, 0)]


def test_answers_put_together_are_bounded() -> None:
    one = session(grant(0, 1 << 30))
    one.feed(b"".join(asks(number, block()) for number in range(1, 200, 2)))
    one.answer(1, b"\x88", bytes(10_000), True)
    waiting = [one.answer(number, b"\x88", bytes(10_000), True) for number in range(3, 200, 2)]
    assert 0 < waiting.count(0) <= H2_HELD_BYTES_MAX // 10_000 + 1
    assert one._out_bytes <= H2_HELD_BYTES_MAX + 20_000
    assert one.answer(1, b"\x88", b"abc", True) is not None and one.answer(99_999, b"\x88", b"abc", True) is None


def test_a_body_that_waits_for_the_request_to_end() -> None:
    one = session(asks(1, block(method="POST"), 4))
    one.respond(1, ((b":status", b"200"),), end=True)
    one.out(WRITE_BYTES)
    assert one.events() == []
    one.feed(frame(codes.DATA, codes.END_STREAM, 1, b""))
    assert not one.out(WRITE_BYTES) and one.events() == [StreamEnded(1, 0)]
