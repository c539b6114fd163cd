"""The files: what is done to them is there for the next who opens them, and only that."""

import os
from pathlib import Path

import pytest

from nearmile.cache.pages import Pages, Shelf
from nearmile.cache.purge import Marks, Position
from nearmile.cache.tier import disk as tier_disk
from nearmile.cache.tier.disk import (
    DIARY,
    RUN_MAX,
    Files,
    Job,
    Loaded,
    Room,
    Run,
    Sync,
    Tell,
    Write,
    in_runs,
    load_piece,
    memory_room,
)
from nearmile.cache.tier.index import Copy, Index, Kill, Unlink
from nearmile.cache.tier.orders import Closed, start_of, write_note
from nearmile.cache.tier.places import Place
from nearmile.cache.tier.record import PIECE_BYTES, Header, Lead, Meta, object_name, write_lead, write_meta
from tier_world import HEAD, kept

LOG = 1 << 20
POSITION = Position("log", 7)
META = Meta(b"key", (), b"", kept(), HEAD)


def write(place: Place, body: bytes, generation: int = 0) -> Write:
    data = write_meta(META)
    name = object_name(b"key")
    header = Header(len(data), len(body), name, name, generation, 1)
    return Write(
        place._replace(length=len(write_lead(header, data, body)) + len(body)), Lead(header, META, b""), data, body
    )


def opened(folder: Path, files_max: int) -> tuple[Files, Shelf]:
    """What an earlier one wrote."""
    shelf = Shelf(files_max)
    files = Files(folder, Room(folder, LOG), shelf)
    files.open(Index(4 << 20, LOG))
    return files, shelf


def begun(folder: Path) -> Files:
    files = Files(folder, Room(folder, LOG), Shelf(8))
    files.do(Tell(write_note(start_of(files.boot, POSITION, Marks())), True))
    return files


def test_a_record_is_there_for_the_next(tmp_path: Path) -> None:
    files, job = begun(tmp_path), write(Place(0, 0, 0), b"body", generation=9)
    files.do(Run((job,)))
    index = Index(1 << 20, LOG)
    position, marks, newest = Files(tmp_path, Room(tmp_path, LOG), Shelf()).open(index)
    assert (position, len(marks), newest) == (POSITION, 0, 9)
    assert index.place(object_name(b"key")) == job.place
    found = files.load(job.place, 1 << 20)
    assert isinstance(found, Loaded) and found.lead.meta == META and found.body == b"body"
    assert files.load(Place(5, 0, 100), 1 << 20) is None


def test_killed_copied_and_unlinked(tmp_path: Path) -> None:
    files, job = begun(tmp_path), write(Place(0, 0, 0), b"body")
    files.do(Run((job,)))
    target = job.place._replace(segment=1)
    files.do(Copy(job.place, target))
    files.do(Kill(job.place))
    assert files.load(job.place, 1 << 20) is None and files.load(target, 1 << 20) is not None
    files.do(Kill(job.place._replace(offset=10_000)))
    assert (tmp_path / "0000000000.segment").stat().st_size == job.place.length
    files.do(Unlink(0))
    files.do(Unlink(0))
    index = Index(1 << 20, LOG)
    Files(tmp_path, Room(tmp_path, LOG), Shelf()).open(index)
    assert index.place(object_name(b"key")) == target
    with pytest.raises(OSError, match="shorter"):
        files.do(Copy(job.place, target))


def test_a_large_body_is_read_in_verified_pieces(tmp_path: Path) -> None:
    files, body = begun(tmp_path), os.urandom(3 * PIECE_BYTES + 5)
    job = write(Place(0, 0, 0), body)
    files.do(Run((job,)))
    found = files.load(job.place, 1000)
    assert found is not None and found.body == body[:PIECE_BYTES]
    files.do(Unlink(0))  # Who reads goes on reading.
    assert b"".join(load_piece(found, n) or b"" for n in range(4)) == body
    os.pwrite(found.file.fd, b"\x00" if body[-1] else b"\x01", found.body_at + len(body) - 1)
    assert load_piece(found, 3) is None


@pytest.mark.parametrize("files_max", [0, 8])
def test_a_large_body_that_memory_takes_is_read_into_pages(tmp_path: Path, files_max: int) -> None:
    body, place = os.urandom(3 * PIECE_BYTES + 5), Place(0, 0, 0)
    begun(tmp_path).do(Run((job := write(place, body),)))
    files, shelf = opened(tmp_path, files_max)
    found = files.load(job.place, 1 << 20)
    assert found is not None and isinstance(found.body, Pages) == bool(files_max) and bytes(found.body) == body
    os.pwrite(found.file.fd, b"\x00" if body[-1] else b"\x01", found.body_at + len(body) - 1)
    assert bytes(found.body) == body and files.load(job.place, 1 << 20) is None, "the disk changed, memory did not"
    os.ftruncate(found.file.fd, job.place.length - 1)
    assert files.load(job.place, 1 << 20) is None
    del found
    assert len(shelf) == 0


def test_a_head_larger_than_guessed_is_read(tmp_path: Path) -> None:
    files, data = begun(tmp_path), write_meta(Meta(b"key", (), b"", kept(), HEAD * 400))
    header = Header(len(data), 5, 1, 1, 0, 1)
    place = Place(0, 0, header.record_bytes)
    files.do(Run((Write(place, Lead(header, META, b""), data, b"large"),)))
    found = files.load(place, 1000)
    assert found is not None and found.body == b"large"


def test_without_a_diary_nothing_is_believed(tmp_path: Path) -> None:
    files = begun(tmp_path)
    files.do(Run((write(Place(0, 0, 0), b"body"),)))
    files.distrust()
    files.do(Tell(b"more", False))
    assert not (tmp_path / DIARY).exists()
    index = Index(1 << 20, LOG)
    assert Files(tmp_path, Room(tmp_path, LOG), Shelf()).open(index)[0] is None
    assert len(index) == 0 and list(tmp_path.iterdir()) == []


def test_closed_means_synced_and_noted(tmp_path: Path) -> None:
    files = begun(tmp_path)
    files.do(Run((write(Place(0, 0, 0), b"body"),)))
    files.do(Sync(write_note(Closed())))
    files.boot = "another"
    index = Index(1 << 20, LOG)
    assert files.open(index)[0] == POSITION and len(index) == 1


def test_what_is_behind_a_damage_is_lost_and_before_it_is_not(tmp_path: Path) -> None:
    files, one = begun(tmp_path), write(Place(0, 0, 0), b"body")
    files.do(Run((one,)))
    forged = write(Place(0, 0, 0), b"forged")
    inner = write_lead(forged.lead.header, forged.meta, b"forged") + b"forged"
    files.do(Run((write(Place(0, one.place.length, 0), inner),)))
    path = tmp_path / "0000000000.segment"
    data = bytearray(path.read_bytes())
    data[one.place.length + 5] ^= 1
    path.write_bytes(data)
    index = Index(1 << 20, LOG)
    Files(tmp_path, Room(tmp_path, LOG), Shelf()).open(index)
    assert index.place(object_name(b"key")) == one.place


def test_what_follows_each_other_is_written_at_once(tmp_path: Path) -> None:
    first = write(Place(0, 0, 0), b"first")
    second = write(Place(0, first.place.length, 0), b"second")
    apart, kill = write(Place(2, 0, 0), b"apart"), Kill(first.place)
    expected: list[Job] = [Run((first, second)), kill, Run((second,)), Run((apart,))]
    assert list(in_runs((first, second, kill, second, apart))) == expected
    empty = write(Place(0, 0, 0), b"")
    many = [empty._replace(place=Place(0, n, 1)) for n in range(RUN_MAX + 1)]
    assert [len(run.writes) for run in in_runs(many) if isinstance(run, Run)] == [RUN_MAX, 1]
    files = begun(tmp_path)
    files.do(expected[0])
    for one in (first, second):
        found = files.load(one.place, 1 << 20)
        assert found is not None and found.body == one.body


def test_the_log_is_in_memory_and_on_the_disk_after_a_proper_end(tmp_path: Path) -> None:
    disk, log = tmp_path / "disk", tmp_path / "log"
    log.mkdir()
    files = Files(disk, Room(log, LOG), Shelf())
    files.do(Tell(write_note(start_of(files.boot, POSITION, Marks())), True))
    new, old = write(Place(0, 0, 0), b"new"), write(Place(1, 0, 0), b"old")
    files.do(Run((new,)))
    files.do(Run((old,)))
    assert [path.name for path in log.iterdir()] == ["0000000000.segment"]
    files.do(Sync(write_note(Closed())))
    assert not log.exists() and len(list(disk.glob("*.segment"))) == 2
    assert files.load(new.place, 1 << 20) is not None, "who still reads goes on"
    log.mkdir()
    again, index = Files(disk, Room(log, LOG), Shelf()), Index(1 << 20, LOG)
    assert again.open(index)[0] == POSITION and len(list(log.iterdir())) == len(list(disk.glob("*.segment"))) == 1
    again.do(Sync(write_note(Closed())))
    log.mkdir()
    small = Files(disk, Room(log, 10), Shelf())
    small.open(index := Index(1 << 20, 10))
    assert len(index) == 1 and not list(log.iterdir()), "what the log has no room for is gone"
    small.distrust()
    assert Files(disk, Room(log, LOG), Shelf()).open(Index(1 << 20, LOG))[0] is None and not list(log.iterdir())


def test_memory_for_a_folder_is_its_own_and_goes_when_it_is_not_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = tmp_path / "memory"
    monkeypatch.setattr(tier_disk, "_MEMORY", memory)
    assert memory_room(tmp_path / "a", 1 << 20) is None, "there is no such memory"
    memory.mkdir()
    room, other = memory_room(tmp_path / "a", 1 << 20), memory_room(tmp_path / "b", 1 << 20)
    assert room is not None and other is not None and room.folder != other.folder
    assert room.folder.stat().st_mode & 0o777 == 0o700
    (room.folder / "0000000000.segment").write_bytes(b"x")
    assert memory_room(tmp_path / "a", 1 << 20) == room and list(room.folder.iterdir())
    assert memory_room(tmp_path / "a", 1 << 60) is None and not room.folder.exists()
    assert memory_room(tmp_path / "b", 0) is None and not other.folder.exists()
    other.folder.mkdir(0o755)
    assert memory_room(tmp_path / "b", 1 << 20) is None, "somebody else may have made it"
    other.folder.rmdir()
    other.folder.symlink_to(tmp_path)
    assert memory_room(tmp_path / "b", 1 << 20) is None
