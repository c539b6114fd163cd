"""Fills: every reader gets every byte once, from the beginning, whatever the order of events."""

from hypothesis import given, settings
from hypothesis import strategies as st

from nearmile.cache.pages import PAGES_BYTES_MIN, Shelf
from nearmile.edge.fill import Fill, Verdict
from nearmile.edge.limits import LAG_BYTES_MAX
from nearmile.edge.wake import Future


def no_future() -> Future:
    raise AssertionError("nobody waits in these tests")


def new(storing: bool) -> Fill[str]:
    fill: Fill[str] = Fill(no_future)
    fill.decide(Verdict.SHARED, "head", storing)
    return fill


STEPS = st.lists(
    st.tuples(st.sampled_from(["feed", "join", "read", "leave", "give up"]), st.integers(0, 5)), max_size=60
)


@given(STEPS, st.booleans())
@settings(max_examples=200, deadline=None)
def test_readers_get_all_whatever_the_order(steps: list[tuple[str, int]], storing: bool) -> None:
    fill, sent = new(storing), b""
    readers = {n: (fill.join(), bytearray()) for n in range(2)}
    for step, number in steps:
        if step == "feed":
            sent += bytes([65 + number]) * (number + 1)
            fill.feed(bytes([65 + number]) * (number + 1))
        elif step == "join" and fill.joinable and number not in readers:
            readers[number] = (fill.join(), bytearray())
        elif step == "read" and number in readers:
            reader, got = readers[number]
            got += b"".join(map(bytes, fill.read(reader)))
        elif step == "leave" and number in readers:
            fill.leave(readers.pop(number)[0])
        elif step == "give up":
            fill.give_up_storing()
        if not fill.storing and not readers:
            assert fill.kept_bytes == 0, "nobody will read it"
    for reader, got in readers.values():
        assert got + b"".join(map(bytes, fill.read(reader))) == sent
    if fill.storing:
        assert fill.body() == sent


def test_a_late_reader_joins_only_what_is_still_whole() -> None:
    fill = new(storing=False)
    reader = fill.join()
    fill.feed(b"a")
    assert fill.joinable
    fill.read(reader)
    assert fill.joinable and fill.lags()
    fill.read(reader)
    assert not fill.joinable and not fill.lags()
    stored = new(storing=True)
    reader = stored.join()
    stored.feed(b"a")
    stored.read(reader)
    assert stored.joinable


def test_lag_is_of_the_slowest_reader_and_never_while_storing() -> None:
    fill = new(storing=False)
    quick, slow = fill.join(), fill.join()
    fill.feed(b"x" * LAG_BYTES_MAX)
    fill.feed(b"x")
    fill.read(quick)
    assert fill.lags()
    fill.leave(slow)
    assert not fill.lags() and fill.kept_bytes == 0
    stored = new(storing=True)
    stored.feed(b"x" * (LAG_BYTES_MAX + 1))
    assert not stored.lags()


def test_the_end() -> None:
    fill = new(storing=True)
    assert not fill.over
    fill.finish(complete=False)
    assert fill.broken and fill.over and not fill.joinable


@given(st.lists(st.integers(1, 200_000), max_size=8), st.integers(0, 1), st.booleans())
@settings(max_examples=30, deadline=None)
def test_a_large_body_is_read_from_the_pages_it_will_be_stored_in(
    sizes: list[int], more: int, give_up: bool
) -> None:
    shelf, sent = Shelf(1), b""
    fill: Fill[str] = Fill(no_future)
    pages = shelf.room(max(sum(sizes) - more, PAGES_BYTES_MIN))
    fill.decide(Verdict.SHARED, "head", True, pages)
    reader, got = fill.join(), b""
    for number, size in enumerate(sizes):
        chunk = bytes([65 + number]) * size
        fill.feed(chunk)
        sent += chunk
        if number % 2:
            got += b"".join(map(bytes, fill.read(reader)))
    if give_up:
        del pages
        fill.give_up_storing()
        assert len(shelf) == 0, "what nobody stores takes no more than what its readers lack"
    else:
        assert bytes(fill.body()) == sent and (fill.body() is pages) == (len(sent) == len(pages or b""))
    assert got + b"".join(map(bytes, fill.read(reader))) == sent
