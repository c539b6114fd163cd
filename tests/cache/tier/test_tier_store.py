"""The disk tier as a whole: what is stored is found, after a restart too; what is purged or damaged never is."""

import asyncio
import errno
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nearmile.cache.entry import Damaged
from nearmile.cache.purge import EVERYTHING, Order, Position, marks_of
from nearmile.cache.shares import Shares
from nearmile.cache.store import LARGE_SHARE, MemoryStore
from nearmile.cache.tier import store as tier_store
from nearmile.cache.tier.disk import DIARY, Files, Job, Run
from nearmile.cache.tier.index import Kill
from nearmile.cache.tier.record import PIECE_BYTES, object_name
from nearmile.cache.tier.store import DiskStore
from tier_world import DISK_BYTES, HEAD, MEMORY_BYTES, SITE, body_of, folder_bytes, kept, opened, put, segments

KEYS = [SITE + b"/%d" % number for number in range(100)]


def key(number: int) -> bytes:
    return KEYS[number]


def crash(disk: DiskStore) -> None:
    """What was given is written; nothing is closed."""
    disk._writer.close()


def order(memory: MemoryStore, seq: int, kind: Any, *values: str, soft_at_s: float | None = None) -> None:
    """A purge order, carried out as a server does."""
    for mark in marks_of(Order("id", 1, kind, values)):
        memory.mark(mark, soft_at_s)
    memory.reached(Position("log", seq))


def found(folder: Path, *keys: bytes) -> list[bytes | None]:
    """What a new start finds."""

    async def look() -> list[bytes | None]:
        memory, disk = opened(folder)
        bodies = [await body_of(memory, each) for each in keys]
        crash(disk)
        return bodies

    return asyncio.run(look())


async def test_what_memory_refuses_is_served_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = bytes(range(256)) * (PIECE_BYTES // 200)  # small enough to be read at once, and more than one piece
    memory, disk = opened(tmp_path, memory_bytes=64 << 20)
    put(memory, key(1), body)
    crash(disk)
    memory, disk = opened(tmp_path, memory_bytes=64 << 20)
    monkeypatch.setattr(memory, "restore", lambda *_: None)
    assert await body_of(memory, key(1)) == body
    crash(disk)


async def test_what_memory_lost_is_found_and_comes_back(tmp_path: Path) -> None:
    memory, disk = opened(tmp_path)
    for number, each in enumerate(KEYS):
        put(memory, each, b"%d" % number * 400)
    disk.flush()
    gone = next(number for number, each in enumerate(KEYS) if memory.get(each, ()) is None)
    assert await body_of(memory, key(gone)) == b"%d" % gone * 400
    assert memory.get(key(gone), ()) is not None and disk.hits == 1
    for number, each in enumerate(KEYS):
        assert await body_of(memory, each) == b"%d" % number * 400
    assert await body_of(memory, b"other") is None
    assert disk.detail()["disk_objects"] == 100 and disk.detail()["disk_failing"] == 0
    assert folder_bytes(tmp_path) - (tmp_path / DIARY).stat().st_size == disk.used_bytes
    disk.close()


async def test_many_who_ask_share_a_read(tmp_path: Path) -> None:
    memory, disk = opened(tmp_path)
    put(memory, key(0), b"body")
    disk.close()
    memory, disk = opened(tmp_path)
    entries = await asyncio.gather(*(memory.find(key(0), ()) for _ in range(50)))
    assert len(set(map(id, entries))) == 1 and entries[0] is not None and disk.hits == 1
    gone = asyncio.create_task(memory.find(key(0), ()))
    gone.cancel()
    assert await body_of(memory, key(0)) == b"body"
    crash(disk)


async def test_variants_are_found_by_their_fields(tmp_path: Path) -> None:
    memory, disk = opened(tmp_path)
    terms = kept(vary=(b"accept",))
    for value in (b"a", b"b"):
        memory.put(key(0), ((b"accept", value),), terms, HEAD, value, 0)
    crash(disk)
    memory, disk = opened(tmp_path)
    assert memory.vary(key(0)) == (b"accept",)
    assert await body_of(memory, key(0), ((b"accept", b"b"),)) == b"b"
    assert await body_of(memory, key(0), ((b"accept", b"c"),)) is None
    assert memory.mark(b"=" + key(0)) == 2
    assert await body_of(memory, key(0), ((b"accept", b"a"),)) is None
    crash(disk)


@pytest.mark.parametrize("close", [True, False])
def test_a_restart_finds_everything(tmp_path: Path, close: bool) -> None:
    memory, disk = opened(tmp_path)
    for each in KEYS:
        put(memory, each, each)
    put(memory, key(1), b"newer")
    (disk.close if close else lambda: crash(disk))()
    assert found(tmp_path, *KEYS) == [KEYS[0], b"newer", *KEYS[2:]]


def test_purges_outlive_a_crash(tmp_path: Path) -> None:
    memory, disk = opened(tmp_path)
    for each in KEYS[:8]:
        put(memory, each, each, b"even" if each[-1] % 2 == 0 else b"odd")
    order(memory, 1, "url", "/0")
    order(memory, 2, "tag", "odd")
    order(memory, 3, "prefix", "/4")
    put(memory, key(3), b"new", b"odd")
    crash(disk)
    assert found(tmp_path, *KEYS[:8]) == [None, None, key(2), b"new", None, None, key(6), None]
    memory, disk = opened(tmp_path)
    assert disk.position == Position("log", 3)
    order(memory, 4, "tag", "even", soft_at_s=1000.0)
    order(memory, 5, "url", "/3", soft_at_s=1001.0)
    crash(disk)
    memory, disk = opened(tmp_path)

    async def look() -> list[float]:
        entries = [await memory.find(key(number), ()) for number in (2, 3)]
        return [entry.kept.fresh_until_s for entry in entries if entry is not None]

    assert asyncio.run(look()) == [1000.0, 1001.0]
    memory.mark(EVERYTHING)
    crash(disk)
    assert found(tmp_path, *KEYS[:8]) == [None] * 8 and not segments(tmp_path)


def test_too_many_purges_are_remembered_as_one_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tier_store, "MARKS_MAX", 3)
    monkeypatch.setattr(tier_store, "NOTES_MAX", 5)
    memory, disk = opened(tmp_path)
    put(memory, key(0), b"old")
    for number in range(9):
        order(memory, number, "tag", f"t{number}")
    put(memory, key(1), b"young")
    crash(disk)
    assert found(tmp_path, key(0), key(1)) == [None, b"young"]


def test_records_younger_than_the_notes_that_were_lost_can_be_purged(tmp_path: Path) -> None:
    memory, disk = opened(tmp_path)
    disk.flush()
    start_bytes = (tmp_path / DIARY).stat().st_size
    for number in range(9):
        order(memory, number, "tag", "other")
    put(memory, key(0), b"body", b"tag")
    crash(disk)
    with (tmp_path / DIARY).open("r+b") as file:
        file.truncate(start_bytes)
    memory, disk = opened(tmp_path)
    order(memory, 1, "tag", "tag")
    crash(disk)
    assert found(tmp_path, key(0)) == [None]


async def test_a_purge_during_a_read_is_obeyed(tmp_path: Path) -> None:
    memory, disk = opened(tmp_path)
    for each in KEYS[:3]:
        put(memory, each, b"body", b"tag")
    disk.close()
    memory, disk = opened(tmp_path)
    reads = [asyncio.create_task(memory.find(each, ())) for each in KEYS[:3]]
    await asyncio.sleep(0)
    memory.mark(b"=" + key(0))
    memory.mark(b"#" + SITE + b"tag")
    put(memory, key(2), b"new")
    old, tagged, new = await asyncio.gather(*reads)
    assert old is None and tagged is None
    assert new is None or new.body == b"new"
    crash(disk)


async def test_large_bodies_come_in_pieces_and_damage_is_never_sent(tmp_path: Path) -> None:
    body = bytes(range(251)) * 5000
    memory = MemoryStore(1 << 20)
    disk = DiskStore(tmp_path, 64 << 20, memory)
    assert len(body) > memory.entry_bytes_max == int((1 << 20) * LARGE_SHARE)
    put(memory, key(0), body)
    pending = await memory.find(key(0), ())
    assert pending is not None and await pending.whole() == body
    disk.flush()
    entry = await memory.find(key(0), ())
    assert entry is not None and entry.body == b"" and entry.body_bytes == len(body)
    assert memory.get(key(0), ()) is None and await entry.whole() == body
    away = entry.elsewhere
    assert away is not None
    cuts = [(0, 1), (5, PIECE_BYTES), (PIECE_BYTES - 1, PIECE_BYTES + 1), (600_000, len(body))]
    for start, end in cuts:
        assert b"".join([bytes(piece) async for piece in away.pieces(start, end)]) == body[start:end]
    (segment,) = segments(tmp_path)
    data = bytearray(segment.read_bytes())
    data[-1] ^= 1
    segment.write_bytes(data)
    sent = b""
    with pytest.raises(Damaged):
        async for piece in away.pieces(0, len(body)):
            sent += bytes(piece)
    assert sent == body[: len(body) // PIECE_BYTES * PIECE_BYTES]
    assert await memory.find(key(0), ()) is None and disk.damaged == 1
    disk.close()


def test_a_flipped_bit_is_a_miss_and_is_counted(tmp_path: Path) -> None:
    memory, disk = opened(tmp_path)
    put(memory, key(0), b"body of the first")
    put(memory, key(1), b"body of the second")
    crash(disk)
    (segment,) = segments(tmp_path)
    segment.write_bytes(segment.read_bytes().replace(b"body of the first", b"body of the forst"))
    assert found(tmp_path, key(0), key(1)) == [None, b"body of the second"]
    assert found(tmp_path, key(0)) == [None]


def test_what_is_new_gathers_for_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tier_store, "GATHER_BYTES_MAX", 1000)
    memory, calls = MemoryStore(MEMORY_BYTES), list[Any]()
    disk = DiskStore(tmp_path, DISK_BYTES, memory)
    disk.gather(lambda _, back: calls.append(back))
    put(memory, key(0), b"first")
    put(memory, key(1), b"second")
    assert len(calls) == 1 and len(disk) == 0
    calls[0]()
    assert len(disk) == 2
    put(memory, key(2), b"gathers")
    put(memory, key(3), b"x" * 1001)
    assert len(calls) == 2 and len(disk) == 4, "large bodies do not wait"
    put(memory, key(4), b"purged")
    order(memory, 1, "prefix", "/4")
    put(memory, key(5), b"killed")
    crash(disk)
    expected = [b"first", b"second", b"gathers", None, b"killed"]
    assert found(tmp_path, key(0), key(1), key(2), key(4), key(5)) == expected


def test_an_order_wakes_the_writer_once_and_later(tmp_path: Path) -> None:
    memory, calls = MemoryStore(MEMORY_BYTES), list[Any]()
    disk = DiskStore(tmp_path, DISK_BYTES, memory)
    disk.gather(lambda _, back: calls.append(back))
    put(memory, key(0), b"first")
    disk.flush()
    calls.clear()
    order(memory, 1, "prefix", "/1")
    order(memory, 2, "url", "/0")
    assert len(calls) == 1
    with_none_of_it = tmp_path.with_suffix(".killed")
    shutil.copytree(tmp_path, with_none_of_it)
    crash(disk)
    _, then = opened(with_none_of_it)
    assert then.position is None and len(then) == 1, "the log has both orders again"
    crash(then)
    assert found(tmp_path, key(0)) == [None]


async def test_a_record_being_read_does_not_take_the_place_of_a_newer_response(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, reading, go = Files.load, threading.Event(), threading.Event()

    def slow(*arguments: Any) -> Any:
        reading.set()
        go.wait(10)
        return load(*arguments)

    memory, disk = opened(tmp_path)
    put(memory, key(0), b"old")
    disk.flush()
    memory._objects.clear()
    monkeypatch.setattr(Files, "load", slow)
    asked = asyncio.create_task(body_of(memory, key(0)))
    await asyncio.to_thread(reading.wait, 10)
    put(memory, key(0), b"new")
    go.set()
    assert await asked == b"new"
    assert await body_of(memory, key(0)) == b"new"
    crash(disk)


def failing(monkeypatch: pytest.MonkeyPatch, kinds: type | tuple[type, ...]) -> threading.Event:
    """From now on such jobs fail, until the event is set."""
    done, do = threading.Event(), Files.do

    def refuse(files: Files, job: Job) -> None:
        if isinstance(job, kinds) and not done.is_set():
            raise OSError(errno.ENOSPC, "No space left on device")
        do(files, job)

    monkeypatch.setattr(Files, "do", refuse)
    return done


def test_a_full_disk_leaves_it_to_memory_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        memory, disk = opened(tmp_path)
        put(memory, key(0), b"before")
        disk.flush()
        room = failing(monkeypatch, Run)
        for each in KEYS[1:20]:
            put(memory, each, each)
        disk.flush()
        assert disk.failing and not disk.working and disk.detail()["disk_failing"] == 1
        large = b"x" * (memory.capacity_bytes // 4)
        put(memory, key(30), large)
        assert await body_of(memory, key(30)) == large  # memory takes it, while nobody else does
        for each in KEYS[1:20]:
            assert await body_of(memory, each) in (each, None)
        assert sum("cannot be written" in message for message in caplog.messages) == 1
        room.set()
        disk._writer._rests_until_s = 0
        put(memory, key(40), b"after")
        disk.flush()
        assert not disk.failing and disk.detail()["disk_failing"] == 0
        crash(disk)

    asyncio.run(run())
    assert found(tmp_path, key(0), key(40)) == [b"before", b"after"]


def test_a_disk_that_cannot_forget_begins_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    memory, disk = opened(tmp_path)
    put(memory, key(0), b"purged")
    put(memory, key(1), b"kept")
    disk.flush()
    room = failing(monkeypatch, Kill)
    assert memory.mark(b"=" + key(0)) == 1
    disk.flush()
    room.set()
    memory.reached(Position("log", 1))
    disk.close()
    assert "the next start is without it" in caplog.text
    assert found(tmp_path, key(0), key(1)) == [None, None]


def test_a_disk_that_cannot_be_read_is_a_miss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    memory, disk = opened(tmp_path)
    put(memory, key(0), b"body")
    disk.close()

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Files, "load", fail)
    assert found(tmp_path, key(0)) == [None]
    assert "cannot be read" in caplog.text


def test_a_folder_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="file"):
        opened(tmp_path / "file")


def test_a_slow_disk_costs_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go, do = threading.Event(), Files.do

    def slow(files: Files, job: Job) -> None:
        go.wait(10)
        do(files, job)

    async def run() -> None:
        monkeypatch.setattr(Files, "do", slow)
        monkeypatch.setattr(tier_store, "QUEUE_BYTES_MAX", 20_000)
        memory, disk = opened(tmp_path)
        put(memory, key(0), b"old")
        for each in KEYS:
            put(memory, each, each * 200)
        assert disk.dropped > 50 and disk._writer.waiting_bytes <= 20_000
        monkeypatch.setattr(tier_store, "READS_MAX", 0)
        monkeypatch.setattr(disk, "_reading", Shares(0))
        memory._objects.clear()
        assert await body_of(memory, key(0)) is None
        monkeypatch.setattr(tier_store, "READS_MAX", 9)
        assert await body_of(memory, key(0)) == key(0) * 200  # it waits to be written
        go.set()
        crash(disk)

    asyncio.run(run())
    assert found(tmp_path, key(0), key(99)) == [key(0) * 200, None]


def test_another_object_of_the_same_name_is_not_taken_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tier_store, "object_name", lambda _: 7)
    memory, disk = opened(tmp_path)
    put(memory, key(0), b"zero")
    crash(disk)
    assert found(tmp_path, key(1), key(0)) == [None, b"zero"]


async def test_another_variant_of_the_same_name_is_not_taken_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tier_store, "variant_name", lambda key, _: object_name(key) | 1 << 63)
    memory, disk = opened(tmp_path)
    fields, terms = ((b"accept", b"text/html"),), kept(vary=(b"accept",))
    memory.put(key(0), fields, terms, HEAD, b"html", 0)
    crash(disk)
    memory, disk = opened(tmp_path)
    asked = [memory.find(key(0), ((b"accept", value),)) for value in (b"image/png", b"text/html", b"image/png")]
    bodies = [None if entry is None else bytes(entry.body) for entry in await asyncio.gather(*asked)]
    assert bodies == [None, b"html", None]
    crash(disk)


async def test_memory_and_disk_are_bounded(tmp_path: Path) -> None:
    memory, disk = opened(tmp_path)
    for number in range(2000):
        put(memory, SITE + b"%d" % number, b"x" * (number % 7 * 1000))
        if number % 50 == 0:
            disk.flush()
            assert folder_bytes(tmp_path) <= DISK_BYTES + (64 << 10)
            assert memory.used_bytes <= MEMORY_BYTES
        if number % 3 == 0 and number:
            assert await body_of(memory, SITE + b"%d" % (number - 1)) is not None
    crash(disk)
    memory, disk = opened(tmp_path, disk_bytes=DISK_BYTES // 4)
    disk.flush()
    assert folder_bytes(tmp_path) <= DISK_BYTES // 4 + (64 << 10)
    crash(disk)


numbers = st.integers(0, 5)
steps = st.one_of(
    st.tuples(st.just("put"), numbers, st.integers(0, 3000)),
    st.tuples(st.just("put"), numbers, st.integers(0, 3000)),
    st.tuples(st.just("url"), numbers, st.just(0)),
    st.tuples(st.just("tag"), st.integers(0, 1), st.just(0)),
    st.tuples(st.just("all"), st.just(0), st.just(0)),
    st.tuples(st.just("get"), numbers, st.just(0)),
    st.tuples(st.just("reopen"), st.just(0), st.just(0)),
    st.tuples(st.just("damage"), st.integers(0, 1 << 30), st.integers(1, 255)),
    st.tuples(st.just("cut"), st.integers(0, 1 << 30), st.just(0)),
)


class Model:
    """A cache, what it may have, and the log of purge orders that outlives it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.memory, self.disk = opened(folder, memory_bytes=6000)
        self.known: dict[bytes, bytes] = {}
        self.log: list[tuple[Any, str]] = []
        self.whole = True
        self.count = 0

    async def step(self, what: str, number: int, value: int) -> None:
        memory, each = self.memory, KEYS[number % len(KEYS)]
        match what:
            case "put":
                self.count += 1
                self.known[each] = b"%d " % self.count + bytes(value)
                put(memory, each, self.known[each], b"t%d" % (number % 2))
            case "url":
                self.known.pop(each, None)
                self.purge("url", f"/{number}")
            case "tag":
                for other in range(number, 6, 2):
                    self.known.pop(KEYS[other], None)
                self.purge("tag", f"t{number}")
            case "all":
                self.known.clear()
                self.purge("all", "")
            case "get":
                body = await body_of(memory, each)
                assert body == self.known.get(each) or (body is None and not self.whole)
            case "reopen" | "damage" | "cut":
                crash(self.disk)
                self.damage(what, number, value)
                self.restart()

    def purge(self, kind: Any, value: str) -> None:
        self.log.append((kind, value))
        order(self.memory, len(self.log), kind, *([value] if value else []))

    def damage(self, what: str, number: int, value: int) -> None:
        files = sorted(path for path in self.folder.iterdir() if path.stat().st_size)
        if what == "reopen" or not files:
            return
        path = files[number % len(files)]
        data = bytearray(path.read_bytes())
        at = number // len(files) % len(data)
        if what == "damage":
            data[at] ^= value
        else:
            del data[at:]
        path.write_bytes(data)
        self.whole = False

    def restart(self) -> None:
        """As the follower of the log does before anything is served."""
        self.memory, self.disk = opened(self.folder, memory_bytes=6000)
        position = self.disk.position
        if position is None:
            self.memory.mark(EVERYTHING)
            self.memory.reached(Position("log", len(self.log)))
            self.whole = self.whole and not self.log
            return
        for seq in range(position.seq, len(self.log)):
            kind, value = self.log[seq]
            order(self.memory, seq + 1, kind, *([value] if value else []))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(steps, min_size=5, max_size=40))
def test_never_a_wrong_body_and_never_one_that_was_purged(
    tmp_path: Path, asked: list[tuple[str, int, int]]
) -> None:
    async def run() -> None:
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        model = Model(tmp_path / "cache")
        model.purge("url", "/none")
        for step in asked:
            await model.step(*step)
        for number in range(6):
            await model.step("get", number, 0)
        crash(model.disk)

    asyncio.run(run())
