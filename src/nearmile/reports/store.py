"""The report store: DuckDB in one file. Each segment is applied whole, in a transaction, and only once.

Hits are kept twice: ``rollups``, sums by second that reports are made of, and ``hits``, one row each, to check and
bill from. Names of servers, places and sites stand beside them under small numbers.
"""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from nearmile.base.errors import NearmileError
from nearmile.config.network import Reports
from nearmile.reports.hit import CACHE_WORDS, COMPLETE
from nearmile.reports.ledger import Ledger, Run
from nearmile.reports.segment import PLACES_MAX, Header, Segment

log = logging.getLogger("nearmile.store")

DAY_S = 86_400
# A reply travels in one message of the bus, and nobody reads more; a row of all columns is below 300 bytes.
ROWS_MAX = 3000
# The collector shares its machine with the servers it counts for. Nothing is downloaded while we run.
_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "threads": "2",
    "memory_limit": "1GB",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}
# Faults of the machine, which say nothing about the file.
_HELD = "Could not set lock"
_NOT_DAMAGE = (
    "No space left",
    "Permission denied",
    "Operation not permitted",
    "Too many open files",
    "Read-only",
    "Cannot allocate",
)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS servers (id UINTEGER, name VARCHAR, region VARCHAR);
CREATE TABLE IF NOT EXISTS places (id UINTEGER, country VARCHAR, state VARCHAR);
CREATE TABLE IF NOT EXISTS sites (serial UINTEGER PRIMARY KEY, name VARCHAR);
CREATE TABLE IF NOT EXISTS applied (
    server VARCHAR, epoch UBIGINT, first UBIGINT, last UBIGINT, until_ms UBIGINT);
CREATE TABLE IF NOT EXISTS losses (server UINTEGER, until_ms UBIGINT, hits UBIGINT);
CREATE TABLE IF NOT EXISTS rollups (
    second UINTEGER, server UINTEGER, serial UINTEGER, place UINTEGER, status USMALLINT, cache UTINYINT,
    hits UINTEGER, complete UINTEGER, bytes UBIGINT);
CREATE TABLE IF NOT EXISTS hits (
    time_ms UBIGINT, server UINTEGER, serial UINTEGER, place UINTEGER, status USMALLINT, cache UTINYINT,
    complete BOOLEAN, bytes UBIGINT);
"""
_DELETE_RUNS = """
DELETE FROM applied USING (SELECT unnest(?::VARCHAR[]) AS server, unnest(?::UBIGINT[]) AS epoch) AS changed
WHERE applied.server = changed.server AND applied.epoch = changed.epoch
"""
_INSERT_RUNS = """
INSERT INTO applied SELECT unnest(?::VARCHAR[]), unnest(?::UBIGINT[]), unnest(?::UBIGINT[]), unnest(?::UBIGINT[]),
unnest(?::UBIGINT[])
"""
_NAME_SITES = "INSERT OR REPLACE INTO sites SELECT unnest(?::UINTEGER[]), unnest(?::VARCHAR[])"
_COLUMNS = {
    # What was refused before a site was known has the serial 0.
    "site": "CASE WHEN serial = 0 THEN '' ELSE coalesce(sites.name, 'serial ' || serial) END",
    "region": "servers.region",
    "country": "places.country",
    "state": "places.state",
    "status": "status",
    "cache": f"{list(CACHE_WORDS)}[cache + 1]",
    "server": "servers.name",
}
Array = npt.NDArray[Any]


class StoreHeld(NearmileError):
    """Another process has the database open."""


class Report(Struct, frozen=True):
    """Sums of hits and bytes, most hits first.

    ``lost``: hits known to be lost in the window. ``missing``: segments by server that have not arrived though
    later ones have. ``omitted_rows`` and ``omitted_hits`` stand for rows beyond ``ROWS_MAX``.
    """

    window_s: int
    rows: list[dict[str, str | int]]
    lost: int
    missing: dict[str, int]
    omitted_rows: int
    omitted_hits: int


class Store:
    """The open database; belongs to one thread. Raises duckdb.Error where the disk or the file fails."""

    def __init__(self, path: Path, reports: Reports) -> None:
        self.reports = reports
        self._db = duckdb.connect(str(path), config=_SETTINGS)
        self._db.execute(_SCHEMA)
        self._load()

    def close(self) -> None:
        """Writes everything into the one file and lets it go."""
        self._db.close()

    def apply(self, segments: Sequence[Segment]) -> list[Header]:
        """Counts the segments that were not counted before, all or none of them; returns their headers."""
        new = [
            s for s in segments if self._ledger.add(s.header.server, s.header.epoch, s.header.seq, _until_ms(s))
        ]
        if not new:
            return []
        with self._transaction():
            self._insert("rollups", _columns([self._rollup_columns(s) for s in new]))
            if self.reports.keep_raw_days:
                self._insert("hits", _columns([self._hit_columns(s) for s in new]))
            for s in new:
                if s.header.lost:
                    loss = [self._server(s.header), _until_ms(s), s.header.lost]
                    self._db.execute("INSERT INTO losses VALUES (?, ?, ?)", loss)
            self._save_runs({(s.header.server, s.header.epoch) for s in new})
        return [s.header for s in new]

    def name_sites(self, names: Mapping[int, str]) -> None:
        """What sites are called, by serial; sites that went keep their names."""
        new = dict(names.items() - self._names.items())
        if new:
            with self._transaction():
                self._db.execute(_NAME_SITES, [list(new), list(new.values())])
            self._names |= new

    def report(self, last_s: int | None, by: Sequence[str], now_s: int) -> Report:
        """Hits and bytes by the named columns, of the last ``last_s`` seconds including this one; 0, None: of all.

        NearmileError names a column that does not exist, and those that do.
        """
        _check_columns(by)
        since_s = max(0, now_s - last_s + 1) if last_s else 0
        sums = ["sum(rollups.hits)", "sum(rollups.bytes)"]
        order = [f"{len(by) + 1} DESC", *(str(number) for number in range(1, len(by) + 1))]
        # Only the expressions above come here; what people write is looked up in them.
        query = f"""SELECT {", ".join([*(_COLUMNS[name] for name in by), *sums])} FROM rollups
            JOIN servers ON servers.id = rollups.server JOIN places ON places.id = rollups.place
            LEFT JOIN sites USING (serial) WHERE second >= ? GROUP BY ALL HAVING count(*) > 0
            ORDER BY {", ".join(order)}"""  # noqa: S608
        found = self._db.execute(query, [since_s])
        rows = [dict(zip((*by, "hits", "bytes"), row, strict=True)) for row in found.fetchmany(ROWS_MAX)]
        rest = found.fetchall()
        lost = self._db.execute("SELECT sum(hits) FROM losses WHERE until_ms >= ?", [since_s * 1000]).fetchone()
        return Report(
            window_s=last_s or 0,
            rows=rows,
            lost=int(lost[0] or 0) if lost else 0,
            missing=self._ledger.missing(since_s * 1000),
            omitted_rows=len(rest),
            omitted_hits=sum(row[-2] for row in rest),
        )

    def forget_old(self, now_s: int) -> None:
        """Drops what is older than the configuration keeps."""
        raw_s = max(0, now_s - self.reports.keep_raw_days * DAY_S)
        rollup_s = max(0, now_s - self.reports.keep_rollup_days * DAY_S)
        with self._transaction():
            self._db.execute("DELETE FROM hits WHERE time_ms < ?", [raw_s * 1000])
            self._db.execute("DELETE FROM rollups WHERE second < ?", [rollup_s])
            self._db.execute("DELETE FROM losses WHERE until_ms < ?", [rollup_s * 1000])
            self._db.execute("DELETE FROM applied WHERE until_ms < ?", [rollup_s * 1000])
        self._ledger.forget(rollup_s * 1000)
        self._db.execute("CHECKPOINT")

    def _load(self) -> None:
        """Takes the small tables into memory."""
        rows = self._db.execute("SELECT name, region, id FROM servers").fetchall()
        self._servers: dict[tuple[str, str], int] = {(name, region): number for name, region, number in rows}
        rows = self._db.execute("SELECT country, state, id FROM places").fetchall()
        self._places: dict[tuple[str, str], int] = {(country, state): number for country, state, number in rows}
        self._names: dict[int, str] = dict(self._db.execute("SELECT serial, name FROM sites").fetchall())
        rows = self._db.execute("SELECT server, epoch, first, last, until_ms FROM applied").fetchall()
        self._ledger = Ledger(Run(*row) for row in rows)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing, in memory as on disk."""
        self._db.execute("BEGIN")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(duckdb.Error):
                self._db.execute("ROLLBACK")
            self._load()
            raise

    def _insert(self, table: str, columns: dict[str, Array]) -> None:
        self._db.register("columns_in", columns)
        try:
            self._db.execute(f"INSERT INTO {table} BY NAME SELECT * FROM columns_in")  # noqa: S608 (our own names)
        finally:
            self._db.unregister("columns_in")

    def _server(self, header: Header) -> int:
        key = header.server, header.region
        if key not in self._servers:
            self._db.execute("INSERT INTO servers VALUES (?, ?, ?)", [len(self._servers), *key])
            self._servers[key] = len(self._servers)
        return self._servers[key]

    def _place_numbers(self, header: Header) -> Array:
        """The segment's place numbers -> the store's."""
        numbers = np.zeros(PLACES_MAX, np.uint32)
        for number, place in header.places.items():
            if place not in self._places:
                self._db.execute("INSERT INTO places VALUES (?, ?, ?)", [len(self._places), *place])
                self._places[place] = len(self._places)
            numbers[number] = self._places[place]
        return numbers

    def _rollup_columns(self, segment: Segment) -> dict[str, Array]:
        rows = segment.rollup
        return {"second": rows["second"], "hits": rows["hits"], "complete": rows["complete"]} | self._common(
            segment, rows
        )

    def _hit_columns(self, segment: Segment) -> dict[str, Array]:
        rows = segment.records
        return {"time_ms": rows["time_ms"], "complete": rows["flags"] & COMPLETE != 0} | self._common(
            segment, rows
        )

    def _common(self, segment: Segment, rows: Array) -> dict[str, Array]:
        return {
            "server": np.full(len(rows), self._server(segment.header), np.uint32),
            "serial": rows["serial"],
            "place": self._place_numbers(segment.header)[rows["place"]],
            "status": rows["status"],
            "cache": rows["cache"],
            "bytes": rows["sent_bytes"],
        }

    def _save_runs(self, epochs: set[tuple[str, int]]) -> None:
        """Replaces the ledger's rows of these epochs: two statements, however many they are."""
        keys = [list(column) for column in zip(*epochs, strict=True)]
        self._db.execute(_DELETE_RUNS, keys)
        runs = [run for epoch in epochs for run in self._ledger.runs(*epoch)]
        self._db.execute(_INSERT_RUNS, [list(column) for column in zip(*runs, strict=True)])


def open_store(path: Path, reports: Reports, now_ms: int) -> Store:
    """Opens the store; a damaged file is set aside under a new name, and an empty one begun.

    Raises StoreHeld where another process has it open, else NearmileError or duckdb.Error: see ``of_machine``.
    """
    try:
        return _open(path, reports, now_ms)
    except OSError as error:
        raise NearmileError(f"{error.filename or path} cannot be opened ({error.strerror})") from None


def _open(path: Path, reports: Reports, now_ms: int) -> Store:
    if path.exists():
        path.open("r+b").close()
    try:
        return Store(path, reports)
    except duckdb.Error as error:
        if _HELD in str(error):
            raise StoreHeld(f"{path} is open in another process; end that one first") from error
        if of_machine(error):
            raise
        aside = path.with_name(f"{path.name}.damaged-{now_ms}")
        log.error("%s is damaged (%s): set aside as %s; reports begin anew", path, error, aside.name)
        path.rename(aside)
        wal = path.with_name(f"{path.name}.wal")
        if wal.exists():
            wal.rename(f"{aside}.wal")
    return Store(path, reports)


def of_machine(error: duckdb.Error | NearmileError) -> bool:
    """Whether it is a fault of the machine, as a full disk or a file that must not be opened.

    Such a fault says nothing about what is in the file, nor about us.
    """
    return isinstance(error, NearmileError) or any(fault in str(error) for fault in _NOT_DAMAGE)


def _until_ms(segment: Segment) -> int:
    latest: np.uint64 = segment.records["time_ms"].max()
    return int(latest)


def _columns(parts: list[dict[str, Array]]) -> dict[str, Array]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _check_columns(by: Sequence[str]) -> None:
    for name in by:
        if name not in _COLUMNS:
            near = get_close_matches(name, _COLUMNS, 1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise NearmileError(f"reports have no column {name!r}; {hint}there are {', '.join(_COLUMNS)}")
    if len(set(by)) < len(by):
        raise NearmileError(f"a report names each column once, not {', '.join(by)}")
