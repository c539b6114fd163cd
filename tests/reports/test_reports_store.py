"""The report store: exact sums whatever is repeated, reordered, killed or damaged on the way to it."""

import errno
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hits import seal
from nearmile.base.errors import NearmileError
from nearmile.config.network import Reports
from nearmile.reports.disk import Journal, SegmentId
from nearmile.reports.hit import CACHE_WORDS, COMPLETE, PACKER, written
from nearmile.reports.segment import SENT_BYTES_MAX, Segment, decode, drafting, encoding, to_end
from nearmile.reports.store import DAY_S, ROWS_MAX, Store, StoreHeld, open_store

NOW_S = 1_700_000_000
PLACES = [("", ""), ("DE", "Hessen"), ("US", "Ohio")]


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store(Path(":memory:"), Reports())
    yield store
    store.close()


def segment(
    seq: int = 0,
    server: str = "fra-1",
    lost: int = 0,
    rows: tuple[tuple[int, int, int, int, int], ...] = ((10, 7, 1, 200, 0),),
    age_s: int = 0,
) -> Segment:
    """A segment of rows (bytes, serial, place, status, cache)."""
    records = written(b"".join(PACKER.pack(*row, COMPLETE, (NOW_S - age_s) * 1000) for row in rows))
    drafted = to_end(drafting(records, len(PLACES)))
    decoded = decode(b"".join(encoding(drafted, server, server[:3], 1000, seq, lost, PLACES)))
    assert isinstance(decoded, Segment)
    return decoded


def hits(store: Store) -> int:
    return sum(int(row["hits"]) for row in store.report(None, (), NOW_S).rows)


def test_a_segment_counts_once(store: Store) -> None:
    assert [header.seq for header in store.apply([segment(0), segment(1), segment(0)])] == [0, 1]
    assert store.apply([segment(1)]) == []
    assert store.apply([]) == []
    assert hits(store) == 2


def test_rows_by_every_column(store: Store) -> None:
    store.name_sites({7: "old"})
    store.name_sites({7: "shop"})
    store.apply([segment(0, rows=((10, 7, 1, 200, 0), (20, 7, 1, 200, 0), (5, 8, 2, 404, 1)))])
    store.apply([segment(1, rows=((3, 0, 2, 400, 1),))])
    columns = ("site", "region", "country", "state", "status", "cache", "server")
    rows = store.report(None, columns, NOW_S).rows
    assert [tuple(row.values()) for row in rows] == [
        ("shop", "fra", "DE", "Hessen", 200, "hit", "fra-1", 2, 30),
        ("", "fra", "US", "Ohio", 400, "miss", "fra-1", 1, 3),
        ("serial 8", "fra", "US", "Ohio", 404, "miss", "fra-1", 1, 5),
    ]
    assert list(rows[0]) == [*columns, "hits", "bytes"]
    assert store.report(None, (), NOW_S).rows == [{"hits": 4, "bytes": 38}]


def test_sums_do_not_overflow(store: Store) -> None:
    store.apply([segment(seq, rows=((SENT_BYTES_MAX, 7, 0, 200, 0),) * 8192) for seq in range(10)])
    assert store.report(None, (), NOW_S).rows == [{"hits": 81920, "bytes": 81920 * SENT_BYTES_MAX}]


def test_the_window_is_whole_seconds_and_includes_this_one(store: Store) -> None:
    store.apply([segment(seq, age_s=age_s, lost=1) for seq, age_s in enumerate((0, 1, 59, 60, 5000))])
    for last_s, count in ((1, 1), (2, 2), (60, 3), (61, 4), (0, 5), (None, 5)):
        report = store.report(last_s, (), NOW_S)
        assert report.rows == [{"hits": count, "bytes": 10 * count}]
        assert (report.window_s, report.lost) == (last_s or 0, count)
    assert store.report(10, (), NOW_S + 100).rows == []


def test_missing_segments_are_named(store: Store) -> None:
    store.apply([segment(0), segment(3), segment(1, "lon-1")])
    assert store.report(None, (), NOW_S).missing == {"fra-1": 2, "lon-1": 1}
    store.apply([segment(2), segment(1), segment(0, "lon-1")])
    assert store.report(None, (), NOW_S).missing == {}


def test_a_wrong_column_is_explained(store: Store) -> None:
    with pytest.raises(NearmileError, match="no column 'staet'; did you mean 'state'"):
        store.report(None, ("staet",), NOW_S)
    with pytest.raises(NearmileError, match="there are site, region"):
        store.report(None, ('1; DROP TABLE "hits"',), NOW_S)
    with pytest.raises(NearmileError, match="each column once"):
        store.report(None, ("site", "site"), NOW_S)


def test_a_long_report_is_cut_and_says_so(store: Store) -> None:
    rows = tuple((1, serial, 0, 200, 0) for serial in range(1, ROWS_MAX + 11))
    store.apply([segment(0, rows=(*rows, rows[0]))])
    report = store.report(None, ("site",), NOW_S)
    assert (len(report.rows), report.omitted_rows, report.omitted_hits) == (ROWS_MAX, 10, 10)


def test_old_hits_go(store: Store) -> None:
    store.reports = Reports(keep_raw_days=2, keep_rollup_days=10)
    store.apply([segment(seq, age_s=age * DAY_S, lost=1) for seq, age in enumerate((0, 3, 11))])
    store.forget_old(NOW_S)
    assert hits(store) == 2
    assert store._db.execute("SELECT count(*) FROM hits").fetchone() == (1,)
    assert store.report(None, (), NOW_S).lost == 2
    assert store.apply([segment(0), segment(1)]) == []


def test_raw_hits_are_not_kept_where_nobody_wants_them(store: Store) -> None:
    store.reports = Reports(keep_raw_days=0)
    store.apply([segment(0)])
    assert (hits(store), store._db.execute("SELECT count(*) FROM hits").fetchone()) == (1, (0,))


def test_a_failed_transaction_leaves_nothing_behind(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise duckdb.IOException("disk")

    with monkeypatch.context() as patch:
        patch.setattr(store, "_save_runs", fail)
        with pytest.raises(duckdb.IOException):
            store.apply([segment(0)])
    assert hits(store) == 0
    assert len(store.apply([segment(0)])) == 1
    assert store.report(None, ("server", "country"), NOW_S).rows == [
        {"server": "fra-1", "country": "DE", "hits": 1, "bytes": 10}
    ]


def test_what_was_applied_is_known_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "hits.duckdb"
    for round_ in range(3):
        store = open_store(path, Reports(), 1)
        assert len(store.apply([segment(0), segment(2), segment(round_ + 10)])) == (3 if round_ == 0 else 1)
        assert hits(store) == 3 + round_
        store.close()


@pytest.mark.parametrize("garbage", [b"garbage" * 1000, b""])
def test_a_damaged_file_is_set_aside(tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "hits.duckdb"
    path.write_bytes(garbage)
    store = open_store(path, Reports(), 42)
    assert len(store.apply([segment(0)])) == 1
    store.close()
    assert [aside.read_bytes() for aside in tmp_path.glob("*.damaged-42")] == [garbage]


@pytest.mark.parametrize("first", [4096, 12288])
def test_a_file_with_a_damaged_header_or_tables_is_set_aside(tmp_path: Path, first: int) -> None:
    path = tmp_path / "hits.duckdb"
    store = open_store(path, Reports(), 1)
    store.apply([segment(0)])
    store.close()
    whole = bytearray(path.read_bytes())
    for at in range(first, len(whole), 4096):
        whole[at : at + 64] = bytes(64)
    path.write_bytes(whole)
    store = open_store(path, Reports(), 42)
    assert (hits(store), len(list(tmp_path.glob("*.damaged-42")))) == (0, 1)
    store.close()


def test_only_names_that_are_new_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each configuration brings them all: 5,000 took seven seconds, in which nothing was counted."""
    path, names = tmp_path / "hits.duckdb", {serial: f"site-{serial}" for serial in range(1, 5001)}
    written, transaction = list[Store](), Store._transaction

    def note(self: Store) -> AbstractContextManager[None]:
        written.append(self)
        return transaction(self)

    monkeypatch.setattr(Store, "_transaction", note)
    for _ in range(2):
        store = open_store(path, Reports(), 42)
        store.name_sites(names)
        store.name_sites(names)
        store.close()
    assert len(written) == 1
    store = open_store(path, Reports(), 42)
    store.name_sites(names | {7: "other"})
    assert len(written) == 2
    store.apply([segment(0)])
    assert store.report(None, ("site",), NOW_S).rows[0]["site"] == "other"
    store.close()


def test_a_file_that_another_process_holds_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "hits.duckdb"
    holder = f"import duckdb; db = duckdb.connect({str(path)!r}); print(); input()"
    with subprocess.Popen(
        [sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(StoreHeld, match="another process"):
            open_store(path, Reports(), 42)
        process.communicate(b"\n")
    open_store(path, Reports(), 42).close()
    assert [file.name for file in tmp_path.iterdir()] == ["hits.duckdb"]


def test_a_file_that_cannot_be_opened_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "hits.duckdb"
    path.mkdir()
    with pytest.raises(NearmileError, match=f"{path} cannot be opened .Is a directory."):
        open_store(path, Reports(), 42)
    assert path.is_dir()


def test_a_damaged_file_that_cannot_be_set_aside_is_the_folders_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "hits.duckdb"
    path.write_bytes(b"not a database" * 1000)

    def refuse(self: Path, _aside: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(NearmileError, match=f"{path} cannot be opened .Permission denied."):
        open_store(path, Reports(), 42)


def test_neither_pandas_nor_arrow_is_needed(store: Store) -> None:
    store.apply([segment(0)])
    assert not {"pandas", "pyarrow"} & set(sys.modules)


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("record"), st.sampled_from((1, 2, 30, 8192))),
        st.tuples(st.sampled_from(("seal", "kill", "restart store")), st.just(0)),
        st.tuples(st.sampled_from(("deliver", "acknowledge")), st.integers(0, 5)),
    ),
    max_size=20,
)


@given(EVENTS)
@settings(max_examples=8, deadline=None)
def test_any_history_gives_exactly_what_was_recorded(events: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        History(Path(folder)).run(events)


class History:
    """A server's journal and a store, with deliveries that repeat and overtake each other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.expected: Counter[tuple[str, str]] = Counter()
        self.journal = Journal(folder / "journal", "a-1", "a", 1)
        self.store = open_store(folder / "hits.duckdb", Reports(), 1)
        self.sent: list[Segment] = []
        self.number = 0

    def run(self, events: list[tuple[str, int]]) -> None:
        for name, value in [*events, ("seal", 0), ("deliver", 0), *[("acknowledge", 0)] * 3]:
            getattr(self, name.replace(" ", "_"))(value)
        self.store.apply(self.read(self.journal.pending(10_000)))
        report = self.store.report(None, ("country", "cache"), NOW_S)
        found: Counter[tuple[str, str]] = Counter()
        for row in report.rows:
            found[f"{row['country']} {row['cache']}", "hits"] = int(row["hits"])
            found[f"{row['country']} {row['cache']}", "bytes"] = int(row["bytes"])
        assert found == self.expected
        assert (report.lost, report.missing) == (0, {})
        self.store.close()

    def record(self, count: int) -> None:
        for _ in range(count):
            self.number += 1
            country, cache = PLACES[self.number % 3][0], self.number % 5
            place = self.journal.place_id(country, "")
            self.journal.record(NOW_S * 1000, 7, place, 200, cache, self.number, True)
            self.expected[f"{country} {CACHE_WORDS[cache]}", "hits"] += 1
            self.expected[f"{country} {CACHE_WORDS[cache]}", "bytes"] += self.number

    def seal(self, _: int) -> None:
        self.journal.roll()
        seal(self.journal)

    def kill(self, _: int) -> None:
        self.journal = Journal(self.folder / "journal", "a-1", "a", 1)

    def restart_store(self, _: int) -> None:
        self.store.close()
        self.store = open_store(self.folder / "hits.duckdb", Reports(), 1)

    def deliver(self, skip: int) -> None:
        """Some segments, latest first, with old ones again; nobody learns that they arrived."""
        arrived = self.read(self.journal.pending(10)[skip:][::-1])
        self.store.apply([*arrived, *self.sent[skip:], *arrived])
        self.sent += arrived

    def acknowledge(self, skip: int) -> None:
        for segment in self.journal.pending(10)[skip:]:
            self.store.apply(self.read([segment]))
            self.journal.forget(segment)

    def read(self, ids: list[SegmentId]) -> list[Segment]:
        found = [decode(self.journal.read(segment)) for segment in ids]
        assert all(isinstance(content, Segment) for content in found)
        return [content for content in found if isinstance(content, Segment)]
