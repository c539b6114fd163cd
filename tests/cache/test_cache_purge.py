"""Marks against a naive model; tags and positions as they are written; what is purged is never got."""

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearmile.cache import purge
from nearmile.cache.directives import Fields
from nearmile.cache.entry import Entry
from nearmile.cache.key import object_key
from nearmile.cache.policy import Storable, decide_store, stored_fields
from nearmile.cache.purge import (
    ANY_TAG,
    Kind,
    Order,
    Position,
    marks_of,
    may_concern,
    read_position,
    tags_of,
    write_position,
)
from nearmile.cache.store import MemoryStore

NOW_S = 1000.0


def kept(*tags: bytes, fresh_until_s: float = NOW_S + 60) -> Storable:
    return Storable(200, NOW_S, fresh_until_s, 0, 0, False, False, (), b'"x"', None, 0, None, tags)


def order(kind: Kind, *values: str, serial: int = 1, soft: bool = False) -> Order:
    return Order("id", serial, kind, values, soft)


@pytest.mark.parametrize(
    ("fields", "tags"),
    [
        (((b"surrogate-key", b"a  b a"),), (b"a", b"b")),
        (((b"cache-tag", b"b, a"), (b"xkey", b"c")), (b"a", b"b", b"c")),
        (((b"surrogate-key", b" "),), ()),
        (((b"content-type", b"a"),), ()),
        (((b"xkey", b" ".join(b"%d" % number for number in range(1001))),), (ANY_TAG,)),
        (((b"xkey", b"x" * 17_000),), (ANY_TAG,)),
    ],
)
def test_tags(fields: Fields, tags: tuple[bytes, ...]) -> None:
    assert tags_of(fields) == tags


def test_tags_are_terms_and_not_told() -> None:
    fields = ((b"cache-control", b"max-age=60"), (b"surrogate-key", b"a b"), (b"nearmile-applied", b"1 x"))
    terms = decide_store(b"GET", (), 200, fields, 0, NOW_S, NOW_S)
    assert terms is not None and terms.tags == (b"a", b"b")
    assert [name for name, _ in stored_fields(fields, NOW_S)] == [b"cache-control", b"date"]
    entry = Entry(b"k", b"", terms, b"HTTP/1.1 200 OK\r\na: b\r\n", b"", 0)
    assert entry.fields() == ((b"a", b"b"), (b"surrogate-key", b"a b")), "a 304 without tags leaves them"


@given(st.integers(0, 1 << 60), st.text("0123456789-:TZ+.", min_size=1))
def test_positions_come_back(seq: int, log: str) -> None:
    assert read_position(write_position(Position(log, seq))) == Position(log, seq)


def test_what_is_no_position() -> None:
    assert [read_position(value) for value in (None, b"", b"x y", b"-1 x", b"9" * 30)] == [None] * 5
    assert Position("a", 2).covers(Position("a", 2)) and not Position("a", 1).covers(Position("a", 2))
    assert not Position("b", 9).covers(Position("a", 1))


@pytest.mark.parametrize(
    ("what", "gone"),
    [
        (order("url", "/a/1"), {b"/a/1"}),
        (order("url", "/a/1", "/b"), {b"/a/1", b"/b"}),
        (order("prefix", "/a/"), {b"/a/1", b"/a/2"}),
        (order("prefix", "/a/", "/b"), {b"/a/1", b"/a/2", b"/b"}),
        (order("tag", "red"), {b"/a/1", b"/b", b"/any"}),
        (order("tag", "blue"), {b"/a/2", b"/any"}),
        (order("tag", "re"), {b"/any"}),
        (order("all"), {b"/a/1", b"/a/2", b"/b", b"/any"}),
        (order("all", serial=2), set()),
        (order("tag", "red", serial=2), set()),
    ],
)
@pytest.mark.parametrize("soft", [False, True])
def test_every_kind_takes_its_own(what: Order, gone: set[bytes], soft: bool) -> None:
    store = MemoryStore(100_000)
    tags = {b"/a/1": (b"red",), b"/a/2": (b"blue",), b"/b": (b"blew", b"red"), b"/any": (ANY_TAG,)}
    for target, named in tags.items():
        store.put(object_key(1, target), (), kept(*named), b"", b"", store.generation)
    before = store.generation
    store.purge(Order(what.id, what.serial, what.kind, what.values, soft), NOW_S + 1)
    found = {target: store.get(object_key(1, target), ()) for target in tags}
    fresh = {target for target, entry in found.items() if entry is not None and entry.fresh_until_s > NOW_S + 1}
    assert fresh == tags.keys() - gone
    assert {target for target, entry in found.items() if entry is None} == (set() if soft else gone)
    for target, named in tags.items():
        # A fill that began before is refused if it would have been concerned, by what is known at its end.
        again = store.put(object_key(1, target), (), kept(*named), b"", b"", before)
        assert (again is None) == (target in gone)
        if target in gone:
            assert any(may_concern(mark, object_key(1, target)) for mark in marks_of(what))


def test_what_came_after_a_purge_stays() -> None:
    store = MemoryStore(100_000)
    key = object_key(1, b"/a")
    store.purge(order("url", "/a"), NOW_S)
    store.put(key, (), kept(b"t"), b"", b"", store.generation)
    store.purge(order("prefix", "/b"), NOW_S)
    entry = store.get(key, ())
    assert entry is not None and entry.fresh_until_s > NOW_S, "the purge of its URL came before it"
    store.purge(order("url", "/a", soft=True), NOW_S)
    assert entry.fresh_until_s == NOW_S


def test_the_sweep_gives_the_room_back_and_lets_marks_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearmile.cache.store.MARKS_MAX", 100)
    store = MemoryStore(1_000_000)
    for number in range(100):
        store.put(object_key(1, b"/%d" % number), (), kept(b"even" if number % 2 == 0 else b"odd"), b"", b"", 0)
    store.purge(order("tag", "even"), NOW_S)
    assert len(store) == 100
    while store.sweep(7):
        pass
    assert len(store) == 50 and not store.sweep(7)
    before = store.generation
    for number in range(100):
        store.purge(order("tag", f"nobody-{number}"), NOW_S)
    assert store.put(object_key(1, b"/new"), (), kept(), b"", b"", before) is None, "too old to be told"
    assert len(store) == 50


def test_no_mark_is_forgotten_before_it_was_carried_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearmile.cache.store.MARKS_MAX", 10)
    monkeypatch.setattr("nearmile.cache.store.SWEEP_SLICE", 1)
    store = MemoryStore(1_000_000)
    for number in range(300):
        store.put(object_key(1, b"/%d" % number), (), kept(b"%d" % number), b"", b"", 0)
    for number in range(300):
        store.purge(order("tag", str(number)), NOW_S)
    assert [store.get(object_key(1, b"/%d" % number), ()) for number in range(300)] == [None] * 300
    assert len(store._marks) <= 10


TARGETS = st.sampled_from(["/", "/a", "/a/b", "/a/c", "/b"])
TAGS = st.sets(st.sampled_from(["x", "y", "*"]), max_size=2)
ORDERS = st.one_of(
    st.builds(lambda value, soft: order("url", value, soft=soft), TARGETS, st.booleans()),
    st.builds(lambda value, soft: order("prefix", value, soft=soft), TARGETS, st.booleans()),
    st.builds(lambda value, soft: order("tag", value, soft=soft), st.sampled_from("xy"), st.booleans()),
    st.builds(lambda serial, soft: order("all", serial=serial, soft=soft), st.integers(1, 2), st.booleans()),
)


def concerned(what: Order, serial: int, target: str, tags: set[str]) -> bool:
    """The definition, in plain words."""
    if what.serial != serial:
        return False
    match what.kind:
        case "url":
            return target in what.values
        case "prefix":
            return target.startswith(what.values)
        case "tag":
            return bool(tags & {*what.values, "*"})
        case "all":
            return True


@settings(max_examples=150)
@given(st.lists(ORDERS, max_size=12), st.integers(1, 2), TARGETS, TAGS, st.integers(0, 12))
def test_marks_are_as_their_definition(
    orders: list[Order], serial: int, target: str, tags: set[str], after: int
) -> None:
    marks, since = purge.Marks(), 0
    for number, one in enumerate(orders):
        if number == after:
            since = marks.generation
        for mark in marks_of(one):
            marks.add(mark, float(number) if one.soft else None)
    if after >= len(orders):
        since = marks.generation
    mine = [(n, one) for n, one in enumerate(orders) if n >= after and concerned(one, serial, target, tags)]
    named = tuple(sorted(tag.encode() for tag in tags))
    found = marks.good_until_s(object_key(serial, target.encode()), named, since, alone=True)
    if any(not one.soft for _, one in mine):
        assert found == -inf
    elif mine:
        assert found in {float(n) for n, _ in mine}
    else:
        assert found == inf
