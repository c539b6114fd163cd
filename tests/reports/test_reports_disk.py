"""The journal: whatever is recorded is sealed once, through kills, full disks and bounds."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

import hits
from nearmile.reports import disk
from nearmile.reports.disk import Journal, open_journal
from nearmile.reports.hit import RECORD_BYTES
from nearmile.reports.segment import PIECE_BYTES, SEGMENT_RECORDS_MAX, Segment, decode, to_end

NOW_MS = 1_700_000_000_000


def record(journal: Journal, first: int, count: int) -> None:
    """Hits whose sizes are the numbers from ``first`` on."""
    for number in range(first, first + count):
        journal.record(NOW_MS, 7, 0, 200, 0, number, True)


def segments(journal: Journal) -> list[Segment]:
    found = [decode(journal.read(segment)) for segment in journal.pending(10_000)]
    assert all(isinstance(segment, Segment) for segment in found)
    return [segment for segment in found if isinstance(segment, Segment)]


def numbers(journal: Journal) -> list[int]:
    return [int(number) for segment in segments(journal) for number in segment.records["sent_bytes"]]


def seal(journal: Journal) -> None:
    journal.roll()
    hits.seal(journal)


def test_hits_are_counted_by_serial_as_they_come(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "fra-1", "fra", 5)

    def come(serial: int, hits: int) -> None:
        for _ in range(hits):
            journal.record(NOW_MS, serial, 0, 200, 0, 10, True)

    come(7, 3)
    assert journal.take_counts() == {7: 3}
    assert not journal.take_counts()
    come(9, 1)
    seal(journal)
    assert not Journal(tmp_path / "other", "fra-2", "fra", 5).take_counts()
    come(7, 2)
    assert journal.take_counts() == {7: 2, 9: 1}
    come(7, SEGMENT_RECORDS_MAX + 1)
    assert journal.take_counts() == {7: SEGMENT_RECORDS_MAX + 1}


def test_a_hit_is_sealed_with_its_place_and_identity(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "fra-1", "fra", 5)
    hessen = journal.place_id("DE", "Hessen")
    assert (journal.place_id("", ""), journal.place_id("DE", "Hessen")) == (0, hessen)
    journal.record(NOW_MS, 7, hessen, 200, 1, 10, False)
    seal(journal)
    seal(journal)  # nothing came: nothing is sealed
    record(journal, 0, 1)
    seal(journal)
    first, second = segments(journal)
    assert (first.header.server, first.header.region, first.header.epoch, first.header.seq) == (
        "fra-1",
        "fra",
        5,
        0,
    )
    assert first.header.places == {hessen: ("DE", "Hessen")}
    assert first.records.tolist()[0] == (10, 7, hessen, 200, 1, 0, bytes(4), NOW_MS)
    assert second.header.seq == 1
    ids = journal.pending(10)
    assert [journal.message_id(segment) for segment in ids] == ["fra-1-5-0", "fra-1-5-1"]
    journal.forget(ids[0])
    assert journal.pending(10) == ids[1:]


def test_what_two_seal_at_once_is_sealed_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "a", "a", 1)
    for first in (0, 3):
        record(journal, first, 3)
        journal.roll()
    mine, others = to_end(journal.drafting()), to_end(journal.drafting())
    assert mine is not None and others is not None
    journal.seal(*mine)
    journal.seal(*others)
    seal(journal)
    assert numbers(journal) == list(range(6))


def test_others_have_their_turn_while_a_slot_is_sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(disk, "sleep", pauses.append)
    journal = Journal(tmp_path, "a", "a", 1)
    record(journal, 0, SEGMENT_RECORDS_MAX)
    journal.roll()
    closed = to_end(journal.drafting())
    assert closed is not None
    del pauses[:]
    journal.seal(*closed, 0.25)
    whole_bytes = SEGMENT_RECORDS_MAX * RECORD_BYTES  # summed up, written, and cleared
    assert len(pauses) >= 3 * whole_bytes // PIECE_BYTES and set(pauses) == {0.25}
    assert numbers(journal) == list(range(SEGMENT_RECORDS_MAX))


def test_full_slots_roll_by_themselves(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "a", "a", 1)
    count = SEGMENT_RECORDS_MAX * (disk.SLOTS_MIN + 1) + 5
    record(journal, 0, count)
    seal(journal)
    assert numbers(journal) == list(range(count))
    assert [segment.header.seq for segment in segments(journal)] == list(range(disk.SLOTS_MIN + 2))


@pytest.mark.parametrize("count", [0, 1, SEGMENT_RECORDS_MAX, SEGMENT_RECORDS_MAX + 1])
def test_what_a_killed_process_left_is_sealed_under_its_epoch(tmp_path: Path, count: int) -> None:
    killed = Journal(tmp_path, "a", "a", 5)
    killed._open_next(NOW_MS)
    record(killed, 0, count)
    journal = Journal(tmp_path, "a", "a", 4)  # the clock went back
    assert journal.epoch == 6
    record(journal, count, 1)
    seal(journal)
    assert numbers(journal) == list(range(count + 1))
    assert segments(journal)[0].header.epoch == (5 if count else 6)
    again = Journal(tmp_path, "a", "a", 9)
    seal(again)
    assert numbers(again) == list(range(count + 1))


def test_a_kill_between_sealing_and_clearing_counts_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path, "a", "a", 1)
    record(journal, 0, 3)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(disk._Slot, "clear", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        seal(journal)
    again = Journal(tmp_path, "a", "a", 2)
    record(again, 3, 1)
    seal(again)
    assert numbers(again) == [0, 1, 2, 3]


def test_places_survive_a_torn_line_and_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path, "a", "a", 1)
    ohio = journal.place_id("US", "Ohio")
    long = journal.place_id("\udcffUS", "é" * 100)
    with open(tmp_path / "places", "ab") as file:
        file.write(b'["FR","Pa')
    again = Journal(tmp_path, "a", "a", 2)
    assert (again.place_id("US", "Ohio"), again.place_id("US", "é" * 20)) == (ohio, long)
    paris = again.place_id("FR", "Paris")
    assert Journal(tmp_path, "a", "a", 3).place_id("FR", "Paris") == paris
    monkeypatch.setattr(disk, "PLACES_MAX", paris + 1)
    assert again.place_id("FR", "Lyon") == 0


@pytest.mark.parametrize("name", ["account", "places", "slot-0", "5-0.seg", "", "x.tmp", "slot-x", "account!"])
def test_what_cannot_be_read_keeps_no_edge_from_starting(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "journal"
    journal = Journal(folder, "a", "a", 5)
    record(journal, 0, 1)
    seal(journal)
    if name == "account!":
        (folder / "account").write_bytes(b"\xff" * 24)
    elif name:
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir()
    else:
        folder.rename(tmp_path / "old")
        folder.touch()
    again = open_journal(folder, "a", "a", 9)
    record(again, 1, 1)
    seal(again)
    assert numbers(again)[-1] == 1 and again.epoch == 9
    kept = [path for path in tmp_path.rglob("5-0.seg") if path.is_file()]
    assert kept or name == "5-0.seg", "what was to be sent is there, if only aside"


def test_where_there_is_no_disk_hits_wait_in_memory(tmp_path: Path) -> None:
    program = """
import pathlib, sys
from nearmile.reports.disk import open_journal
from nearmile.reports.segment import to_end
journal = open_journal(pathlib.Path(sys.argv[1]), "a", "a", 9)
journal.record(1_700_000_000_000, 7, journal.place_id("DE", ""), 200, 0, 10, True)
journal.roll()
journal.seal(*to_end(journal.drafting()))
print(journal._folder, len(journal.pending(10)))
"""
    (tmp_path / "no folder").write_text("")
    command = [sys.executable, "-c", program, str(tmp_path / "no folder" / "journal")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    where, pending = done.stdout.split()
    assert pending == "1" and "nor can a new one be begun" in done.stderr
    assert not Path(where).exists(), "it goes with the process"


def test_the_oldest_unsent_go_and_are_counted(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "a", "a", 1, unsent_bytes_max=10 * disk.BLOCK_BYTES)
    for first in range(0, 300, 10):
        record(journal, first, 10)
        seal(journal)
    kept = segments(journal)
    assert journal.unsent_bytes <= 11 * disk.BLOCK_BYTES
    assert sum(s.header.hits + s.header.lost for s in kept) == 300
    assert numbers(journal)[-1] == 299


def test_a_full_disk_is_counted_and_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(disk, "SLOTS_MIN", 0)
        journal = Journal(tmp_path, "a", "a", 1)
        patch.setattr(os, "posix_fallocate", full)
        record(journal, 0, 5)
    assert journal.lost == 5
    again = Journal(tmp_path, "a", "a", 2)
    again.record(NOW_MS + disk.REFUSED_PAUSE_MS, 7, 0, 200, 0, 5, True)
    with monkeypatch.context() as patch:
        patch.setattr(disk, "encoding", full)
        with pytest.raises(OSError, match="full"):
            seal(again)
    hits.seal(again)
    (segment,) = segments(again)
    assert (segment.header.hits, segment.header.lost, again.lost) == (1, 5, 0)


WRITER = """
import os, sys, time
from pathlib import Path
from nearmile.reports.disk import Journal
from nearmile.reports.segment import to_end
journal = Journal(Path(sys.argv[1]), "a", "a", int(time.time() * 1000))
number = int(sys.argv[2])
while True:
    journal.record(int(time.time() * 1000), 7, 0, 200, 0, number, True)
    number += 1
    os.write(1, number.to_bytes(8, "little"))
    if number % 1000 == 0:
        journal.roll()
        journal.seal(*to_end(journal.drafting()))
"""


def test_kill_9_at_any_moment_loses_and_repeats_nothing(tmp_path: Path) -> None:
    random, first = Random(35), 0
    for _ in range(5):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(first)], stdout=subprocess.PIPE
        )
        assert writer.stdout is not None
        told = writer.stdout.read(8 * random.randrange(1, 20_000))
        writer.send_signal(signal.SIGKILL)
        told += writer.stdout.read()
        writer.stdout.close()
        writer.wait()
        acknowledged = int.from_bytes(told[-(len(told) % 8) - 8 :][:8], "little")
        journal = Journal(tmp_path, "a", "a", 0)
        seal(journal)
        recorded = numbers(journal)
        assert recorded == list(range(len(recorded)))
        assert acknowledged <= len(recorded) <= acknowledged + 1
        first = len(recorded)
    by_epoch: dict[int, list[int]] = {}
    for segment in segments(journal):
        by_epoch.setdefault(segment.header.epoch, []).append(segment.header.seq)
    assert all(seqs == list(range(len(seqs))) for seqs in by_epoch.values())
