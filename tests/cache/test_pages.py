"""Bodies in the kernel's pages: what was written is read, uncopied where it can be, and given back."""

import errno
import os
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearmile.cache.pages import (
    CUT_BYTES_MIN,
    PAGE_BYTES,
    PAGES_BYTES_MIN,
    Pages,
    Shelf,
    cut_body,
    kept_bytes,
    raw,
)
from nearmile.cache.policy import Storable
from nearmile.cache.store import MemoryStore

BODY = os.urandom(PAGES_BYTES_MIN + 5)
KEPT = Storable(200, 0.0, 60.0, 0, 0, False, False, (), None, None, 0)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a connection that do not block."""
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    yield ends
    for end in ends:
        end.close()


def test_a_large_body_is_kept_in_pages_and_a_small_one_is_not() -> None:
    shelf = Shelf(2)
    body = shelf.keep(BODY)
    assert isinstance(body, Pages) and len(body) == len(BODY) and len(shelf) == 1
    assert bytes(body) == BODY == bytes(raw(body))
    assert shelf.keep(body) is body and shelf.keep(b"x") == b"x"


def test_their_number_is_bounded_and_whoever_lets_go_gives_one_back() -> None:
    shelf, descriptors = Shelf(2), len(os.listdir("/proc/self/fd"))
    bodies = [shelf.keep(BODY) for _ in range(3)]
    assert [isinstance(body, Pages) for body in bodies] == [True, True, False]
    bodies[0] = cut_body(bodies[0], 0, CUT_BYTES_MIN)
    view = raw(bodies[0])
    assert len(shelf) == 2, "a cut keeps all of it"
    bodies.clear()
    assert len(shelf) == 0 and bytes(view) == BODY[:CUT_BYTES_MIN], "who reads may go on"
    del view
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_where_the_system_refuses_bodies_are_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(2)
    kept = shelf.keep(BODY)

    def refuse(*_: object, **__: object) -> int:
        raise OSError(errno.EMFILE, "no more")

    monkeypatch.setattr("mmap.mmap", refuse)
    assert raw(kept) == BODY, "copied where it cannot be mapped"
    monkeypatch.setattr(os, "pwrite", refuse)
    assert shelf.keep(BODY) is BODY and len(shelf) == 1
    monkeypatch.setattr(os, "memfd_create", refuse)
    assert shelf.keep(BODY) is BODY and shelf.room(PAGES_BYTES_MIN) is None
    monkeypatch.delattr(os, "memfd_create")
    assert Shelf(2).keep(BODY) is BODY


@given(st.integers(0, len(BODY)), st.integers(0, len(BODY)), st.integers(0, len(BODY)))
@settings(max_examples=50, deadline=None)
def test_a_cut_is_what_a_slice_is(start: int, end: int, again: int) -> None:
    pages = Shelf(1).keep(BODY)
    cut = cut_body(pages, start, end)
    assert len(cut) == len(BODY[start:end]) and bytes(cut) == BODY[start:end]
    assert bytes(cut[again:]) == BODY[start:end][again:] == bytes(raw(cut[again:]))


def test_what_is_written_in_parts_is_one_body() -> None:
    pages = Shelf(1).room(len(BODY))
    assert pages is not None
    parts = [pages.write(at, BODY[at : at + 100_000]) for at in range(0, len(BODY), 100_000)]
    assert [bytes(part) for part in parts] == [BODY[at : at + 100_000] for at in range(0, len(BODY), 100_000)]
    assert bytes(pages) == BODY


def test_a_socket_takes_what_it_has_room_for(pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair
    body, got = Shelf(1).keep(BODY), b""
    assert isinstance(body, Pages)
    assert 0 < body.send(here.fileno(), 1000) <= 1000
    got += there.recv(len(BODY))
    rest: Pages = body[len(got) :]
    while taken := rest.send(here.fileno(), len(BODY)):
        rest = rest[taken:]
    assert rest, "it is full"
    while len(got) < len(BODY):
        got += there.recv(len(BODY))
        rest = rest[rest.send(here.fileno(), len(BODY)) :] if rest else rest
    assert got == BODY
    there.close()
    with pytest.raises(OSError, match="pipe"):
        body.send(here.fileno(), len(BODY))


def test_the_store_counts_whole_pages_and_gives_them_back() -> None:
    shelf = Shelf(4)
    store = MemoryStore(4 * PAGES_BYTES_MIN, shelf=shelf)
    entry = store.put(b"k", (), KEPT, b"", BODY, 0)
    assert entry is not None and isinstance(entry.body, Pages)
    assert kept_bytes(len(BODY)) <= store.used_bytes < kept_bytes(len(BODY)) + 1000
    assert len(BODY) + PAGE_BYTES <= kept_bytes(len(BODY)) and kept_bytes(PAGES_BYTES_MIN - 1) < PAGES_BYTES_MIN
    for number in range(8):
        store.put(b"%d" % number, (), KEPT, b"", BODY, 0)
        assert len(shelf) <= 4
    store.purge_all()
    while store.sweep(10):
        pass
    del entry
    assert len(shelf) == len(store) == 0
