"""The snapshot: all that is useful comes back, nothing damaged does, and the file is gone."""

from hashlib import blake2b
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nearmile.cache.directives import Fields
from nearmile.cache.disk import MARK, load, save
from nearmile.cache.key import object_key
from nearmile.cache.policy import Storable
from nearmile.cache.purge import Order, Position
from nearmile.cache.store import MemoryStore

CAPACITY_BYTES = 1_000_000
NOW_S = 1000.0
HERE = Position("log", 7)


def kept(vary: tuple[bytes, ...] = (), fresh_until_s: float = NOW_S + 60, etag: bytes | None = None) -> Storable:
    return Storable(200, 900.0, fresh_until_s, 0, 0, False, False, vary, etag, None, 0)


def encoding(value: bytes) -> Fields:
    return ((b"accept-encoding", value),)


def read(path: Path, store: MemoryStore) -> tuple[int, int]:
    loaded = load(path, store)
    return loaded.responses, loaded.damaged


def contents(store: MemoryStore) -> list[tuple[bytes, bytes, bytes, Storable]]:
    return [(entry.key, entry.head, entry.body, entry.kept) for entry in store]


def filled() -> MemoryStore:
    store = MemoryStore(CAPACITY_BYTES)
    for number in range(5):
        store.put(b"key %d" % number, (), kept(etag=b'"x"'), b"head %d" % number, b"body %d " % number * 20, 0)
    for value in (b"br", b"gzip"):
        store.put(b"varied", encoding(value), kept((b"accept-encoding",)), b"head", b"in " + value, 0)
    return store


def test_a_store_comes_back_whole_and_the_file_goes(tmp_path: Path) -> None:
    path, store, again = tmp_path / "cache", filled(), MemoryStore(CAPACITY_BYTES)
    assert save(store, path, NOW_S, HERE) == 7
    assert read(path, again) == (7, 0)
    assert contents(again) == contents(store) and again.used_bytes == store.used_bytes
    found = again.get(b"varied", encoding(b"gzip"))
    assert found is not None and found.body == b"in gzip"
    assert list(tmp_path.iterdir()) == []


def test_no_snapshot_is_an_empty_one(tmp_path: Path) -> None:
    path, store = tmp_path / "cache", MemoryStore(CAPACITY_BYTES)
    assert read(path, store) == (0, 0)
    assert save(store, path, NOW_S, HERE) == 0
    assert read(path, store) == (0, 0)


def test_what_is_of_no_more_use_is_not_saved(tmp_path: Path) -> None:
    store = MemoryStore(CAPACITY_BYTES)
    store.put(b"expired", (), kept(fresh_until_s=NOW_S), b"", b"", 0)
    store.put(b"validatable", (), kept(fresh_until_s=NOW_S, etag=b'"x"'), b"", b"", 0)
    assert save(store, tmp_path / "cache", NOW_S, HERE) == 1


def test_a_smaller_store_takes_what_fits(tmp_path: Path) -> None:
    save(filled(), tmp_path / "cache", NOW_S, HERE)
    small = MemoryStore(2500)
    assert read(tmp_path / "cache", small) == (7, 0)
    assert 0 < small.used_bytes <= small.capacity_bytes


def test_a_failed_save_leaves_the_old_snapshot(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    path.mkdir()
    with pytest.raises(OSError, match="cache"):
        save(filled(), path, NOW_S, HERE)
    assert path.is_dir() and [each.name for each in tmp_path.iterdir()] == ["cache"]


def test_one_damaged_record_costs_no_other(tmp_path: Path) -> None:
    path, again = tmp_path / "cache", MemoryStore(CAPACITY_BYTES)
    save(filled(), path, NOW_S, HERE)
    path.write_bytes(path.read_bytes().replace(b"body 2 body 2", b"body 2 bodY 2", 1))
    assert read(path, again) == (6, 1)
    assert again.get(b"key 2", ()) is None and again.get(b"key 3", ()) is not None


def test_the_position_comes_back_and_nothing_without_it(tmp_path: Path) -> None:
    path, again = tmp_path / "cache", MemoryStore(CAPACITY_BYTES)
    save(filled(), path, NOW_S, HERE)
    whole = path.read_bytes()
    assert load(path, again).position == HERE
    path.write_bytes(whole[:40] + b"?" + whole[41:])
    again = MemoryStore(CAPACITY_BYTES)
    assert (read(path, again), contents(again)) == ((0, 1), [])
    save(filled(), path, NOW_S, None)
    assert load(path, again).position is None


def test_what_a_prefix_purged_is_not_saved(tmp_path: Path) -> None:
    path, store, again = tmp_path / "cache", MemoryStore(CAPACITY_BYTES), MemoryStore(CAPACITY_BYTES)
    for target in (b"/a/1", b"/a/2", b"/b"):
        store.put(object_key(1, target), (), kept(), b"", b"", 0)
    store.purge(Order("1", 1, "prefix", ("/a/",)), NOW_S)
    assert save(store, path, NOW_S, HERE) == 1
    assert read(path, again) == (1, 0) and again.get(object_key(1, b"/b"), ()) is not None


def test_a_record_of_another_version_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    payload = msgspec.msgpack.encode([b"key", "of another shape"])
    path.write_bytes(MARK + len(payload).to_bytes(8, "big") + blake2b(payload, digest_size=16).digest() + payload)
    assert read(path, MemoryStore(CAPACITY_BYTES)) == (0, 1)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_damage_yields_a_wrong_body(tmp_path: Path, data: st.DataObject) -> None:
    path, store, again = tmp_path / "cache", filled(), MemoryStore(CAPACITY_BYTES)
    save(store, path, NOW_S, HERE)
    damaged = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(damaged) - 1))
    garbage = data.draw(st.binary(max_size=60))
    cut = data.draw(st.integers(0, 60))
    damaged[at : at + cut] = garbage
    path.write_bytes(damaged)
    load(path, again)
    assert set(map(str, contents(again))) <= set(map(str, contents(store)))
    assert not path.exists()
