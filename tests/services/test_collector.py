"""Hits from journal to report through a real NATS server and a real collector process, both killed on the way."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import duckdb
import msgspec
import pytest
from nats.js.api import ConsumerConfig

from hits import seal
from nearmile.base.errors import NearmileError
from nearmile.base.geography import Point
from nearmile.config.layout import Config, lay_out
from nearmile.config.network import Nameserver, Network, Region, Site
from nearmile.reports.disk import JOURNAL, Journal, has_hits
from nearmile.reports.hit import Cache
from nearmile.reports.store import Store, open_store
from nearmile.services import children, collector, natsserver
from nearmile.services.bus import FAULTS, HITS_STREAM, MESSAGE_ID, Bus, BusDown
from nearmile.services.children import Child
from nearmile.services.collector import CONSUMER
from nearmile.services.runtime import Runtime
from nearmile.services.shipper import Shipper
from waiting import PATIENCE_S, until

HERE = Point(0, 0)
Totals = Counter[tuple[str, str]]


def config_at(loopback: str) -> Config:
    network = Network(
        name="hits-test",
        zone="hits.test",
        regions={"a": Region(city="A", point=HERE), "b": Region(city="B", point=HERE)},
        nameservers=(Nameserver(tier="top", city="A", point=HERE), Nameserver(tier="low", city="A", point=HERE)),
    )
    site = Site(hostnames=("www.shop.test",), origin="http://127.0.0.1:1", serial=7)
    return lay_out(network, {"shop": site}, {}, 1, loopback)


class Stage:
    """NATS and the collector as processes, an edge's journal and shipper here."""

    def __init__(self, root: Path, loopback: str) -> None:
        self.root, self.config = root, config_at(loopback)
        (root / "config.json").write_bytes(msgspec.json.encode(self.config))
        self._nats_command = natsserver.prepare(root, self.config)
        self.running: dict[str, Child] = {}
        self.edge = Runtime(root, "a-1")
        self.journal = Journal(root / "hits", "a-1", "a", self.edge.epoch)
        self.shipper = Shipper(self.edge, self.journal)

    @property
    def bus(self) -> Bus:
        return self.edge.bus

    async def start(self, name: str) -> None:
        command = self._nats_command if name == "nats" else children.command(self.root, self.config.process(name))
        self.running[name] = await children.start(command, self.root / f"{name}.log")

    async def kill(self, name: str, signum: int = signal.SIGKILL) -> None:
        child = self.running.pop(name)
        child.signal(signum)
        await child.wait()

    async def ship(self) -> None:
        """Brings all hits to the stream, in as many turns as that takes."""
        await self.shipper.ship()
        while self.journal.unsealed or self.journal.pending(1):
            await self.shipper.ship()

    async def report(
        self, by: list[str], last_s: int | None = None, timeout_s: float = PATIENCE_S
    ) -> dict[str, Any]:
        question = msgspec.json.encode({"last_s": last_s, "by": by})
        reply: dict[str, Any] = msgspec.json.decode(await self.bus.request("report", question, timeout_s))
        return reply

    async def totals(self, by: list[str]) -> Totals:
        """The report's hits, with its bytes under "bytes"; nothing while nobody answers."""
        totals: Totals = Counter()
        try:
            reply = await self.report(by, timeout_s=1)
        except BusDown:
            return totals
        assert "error" not in reply, reply
        for row in reply["rows"]:
            totals["hits", "/".join(str(row[name]) for name in by)] += row["hits"]
            totals["bytes", "/".join(str(row[name]) for name in by)] += row["bytes"]
        return totals

    async def until_reported(self, by: list[str], expected: Totals, timeout_s: float = PATIENCE_S) -> None:
        deadline_s = time.monotonic() + timeout_s
        while (seen := await self.totals(by)) != expected:
            assert time.monotonic() < deadline_s, (seen, expected)
            await asyncio.sleep(0.02)


def serve(journal: Journal, random: Random, count: int, expected: Totals) -> None:
    """Records that many hits, as an edge would, and adds them to what is expected by country and cache."""
    for _ in range(count):
        country, cache = random.choice(("DE", "US", "")), random.choice(tuple(Cache))
        sent_bytes = random.randrange(1 << 40)
        place = journal.place_id(country, "")
        journal.record(int(time.time() * 1000), 7, place, 200, cache, sent_bytes, random.random() < 0.9)
        expected["hits", f"{country}/{cache.name.lower()}"] += 1
        expected["bytes", f"{country}/{cache.name.lower()}"] += sent_bytes


def on_stage(root: Path, loopback: str, act: Callable[[Stage], Awaitable[None]]) -> None:
    async def run() -> None:
        stage = Stage(root, loopback)
        await stage.start("nats")
        stage.bus.start()
        try:
            assert await stage.bus.connected(PATIENCE_S)
            await act(stage)
        finally:
            await stage.bus.close()
            for name in list(stage.running):
                await stage.kill(name)

    asyncio.run(run())


def test_a_hit_is_in_the_report(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        await stage.start("collector")
        shipping = asyncio.create_task(stage.shipper.run())
        # Nobody has made the stream yet: hits wait on the edge's disk, the collector for the stream.
        stage.journal.record(int(time.time() * 1000), 7, stage.journal.place_id("JP", "Tokyo"), 200, 0, 10, True)
        await until(lambda: bool(stage.journal.pending(1)))
        await stage.bus.create_stores()
        await stage.until_reported(["site", "country", "state"], Counter(_row("shop/JP/Tokyo", 1, 10)))
        stage.journal.record(int(time.time() * 1000), 9, stage.journal.place_id("JP", "Tokyo"), 404, 1, 5, True)
        rows = Counter(_row("shop/200/hit/a-1/a", 1, 10)) + Counter(_row("serial 9/404/miss/a-1/a", 1, 5))
        await stage.until_reported(["site", "status", "cache", "server", "region"], rows)
        reply = await stage.report(["state"], 3600)
        assert reply["rows"] == [{"state": "Tokyo", "hits": 2, "bytes": 15}]
        assert (reply["window_s"], reply["lost"], reply["missing"]) == (3600, 0, {})
        assert "did you mean 'country'?" in (await stage.report(["county"]))["error"]
        assert "error" in msgspec.json.decode(await stage.bus.request("report", b"\xff{", PATIENCE_S))
        stage.edge.stopping.set()
        await shipping
        await stage.kill("collector", signal.SIGTERM)
        assert "Traceback" not in (stage.root / "collector.log").read_text()

    on_stage(tmp_path, "127.35.0.0/16", act)


def test_kills_duplicates_and_damage_change_no_sum(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        await stage.bus.create_stores()
        random, expected = Random(35), Counter[tuple[str, str]]()
        other = Journal(tmp_path / "other", "b-1", "b", 1)
        await stage.start("collector")
        shipping = asyncio.create_task(stage.shipper.run())
        for victim in ("collector", "nats", "collector", "nats", "collector"):
            for _ in range(random.randrange(5, 40)):
                serve(stage.journal, random, random.randrange(600), expected)
                await asyncio.sleep(random.random() * 0.05)
            await stage.kill(victim)
            serve(stage.journal, random, 100, expected)
            await stage.start(victim)
            serve(other, random, 100, expected)
            await send_twice_and_damaged(stage, other, random)
        await stage.until_reported(["country", "cache"], expected)
        assert (await stage.report([]))["missing"] == {}
        assert len(list((stage.root / "processes" / "collector" / "damaged").iterdir())) >= 10
        stage.edge.stopping.set()
        await shipping
        assert stage.journal.pending(1) == []

    on_stage(tmp_path, "127.35.0.0/16", act)


async def send_twice_and_damaged(stage: Stage, journal: Journal, random: Random) -> None:
    """Sends the journal's one segment under two message ids, between copies torn or with a bit changed."""
    journal.roll()
    seal(journal)
    (segment,) = journal.pending(2)
    data = journal.read(segment)
    flipped = bytearray(data)
    flipped[random.randrange(len(data))] ^= 0x40
    for payload in (bytes(flipped), data, data[: len(data) // 2], data):
        while True:
            try:
                await stage.bus.js.publish("hits.b-1", payload, headers={MESSAGE_ID: os.urandom(8).hex()})
                break
            except (*FAULTS, BusDown):
                await asyncio.sleep(0.05)
    journal.forget(segment)


def test_its_place_in_the_stream_is_found_again(tmp_path: Path) -> None:
    """NATS lost it: by a damaged file, as of an earlier release, and by somebody's command."""

    async def act(stage: Stage) -> None:
        await stage.bus.create_stores()
        random, expected = Random(7), Counter[tuple[str, str]]()
        shipping = asyncio.create_task(stage.shipper.run())
        await stage.bus.js.add_consumer(HITS_STREAM, ConsumerConfig(durable_name=CONSUMER, ack_wait=0.2))
        place = await stage.bus.js.pull_subscribe_bind(CONSUMER, HITS_STREAM)
        serve(stage.journal, random, 10, expected)
        await place.fetch(1, PATIENCE_S)  # by somebody who dies before it is counted
        await stage.kill("nats")
        (file,) = (tmp_path / "nats").rglob(f"{CONSUMER}/o.dat")
        file.write_bytes(os.urandom(40))
        await stage.start("nats")
        await stage.start("collector")
        await stage.until_reported(["country", "cache"], expected)
        await stage.bus.js.delete_consumer(HITS_STREAM, CONSUMER)
        serve(stage.journal, random, 10, expected)
        await stage.until_reported(["country", "cache"], expected)
        stage.edge.stopping.set()
        await shipping

    on_stage(tmp_path, "127.35.0.0/16", act)


def test_a_damaged_database_is_set_aside(tmp_path: Path) -> None:
    folder = tmp_path / "processes" / "collector"
    folder.mkdir(parents=True)
    (folder / "hits.duckdb").write_bytes(b"not a database" * 1000)

    async def act(stage: Stage) -> None:
        await stage.bus.create_stores()
        stage.journal.record(int(time.time() * 1000), 7, 0, 200, 0, 10, True)
        await stage.ship()
        await stage.start("collector")
        await stage.until_reported(["site"], Counter(_row("shop", 1, 10)))
        assert [path.read_bytes()[:14] for path in folder.glob("*.damaged-*")] == [b"not a database"]

    on_stage(tmp_path, "127.35.0.0/16", act)


@pytest.mark.parametrize(
    "fault",
    [
        duckdb.IOException('Could not write file "hits.duckdb": No space left on device'),
        duckdb.TransactionException(
            'Failed to commit: Cannot open file "hits.duckdb.wal": Operation not permitted'
        ),
        NearmileError("hits.duckdb cannot be opened (Permission denied)"),
    ],
)
def test_a_disk_that_was_full_or_locked_is_used_again_soon(
    fault: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In the same process: one that ends young again and again is put to sleep for minutes."""
    monkeypatch.setattr(collector, "REOPEN_PAUSE_S", 0.05)
    monkeypatch.setattr(collector, "ACK_WAIT_S", 1.0)
    full = iter((True, False, True, False, False, True))  # as it is opened, tidied, and as hits are counted

    def unless_full(work: Callable[..., Any]) -> Callable[..., Any]:
        def tried(*arguments: Any) -> Any:
            if next(full, False):
                raise fault
            return work(*arguments)

        return tried

    monkeypatch.setattr(collector, "open_store", unless_full(open_store))
    monkeypatch.setattr(Store, "apply", unless_full(Store.apply))
    monkeypatch.setattr(Store, "forget_old", unless_full(Store.forget_old))

    async def act(stage: Stage) -> None:
        await stage.bus.create_stores()
        runtime = Runtime(tmp_path, "collector")
        runtime.bus.start()
        running = asyncio.create_task(collector.run(runtime))
        stage.journal.record(int(time.time() * 1000), 7, 0, 200, 0, 10, True)
        await stage.ship()
        await until(lambda: runtime.detail.get("hits") == 1)
        await stage.until_reported(["site"], Counter(_row("shop", 1, 10)))
        runtime.stopping.set()
        await running
        await runtime.bus.close()

    on_stage(tmp_path, "127.35.0.0/16", act)
    told = [record.getMessage() for record in caplog.records if record.name == "nearmile.collector"]
    assert [line.partition(":")[0] for line in told if "stream (" not in line] == [
        "the report store fails, and hits wait in their stream"
    ]


def test_who_asks_for_reports_hears_of_a_store_that_cannot_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise NearmileError("hits.duckdb cannot be opened (Permission denied)")

    monkeypatch.setattr(collector, "open_store", refuse)

    async def act(stage: Stage) -> None:
        runtime = Runtime(tmp_path, "collector")
        runtime.bus.start()
        running = asyncio.create_task(collector.run(runtime))

        async def error() -> str:
            try:
                return str((await stage.report(["site"]))["error"])
            except BusDown:  # nobody answers yet
                return ""

        while not (told := await error()):
            await asyncio.sleep(0.02)
        assert told == "the report store cannot be opened now; the collector's log says why"
        runtime.stopping.set()
        await running
        await runtime.bus.close()

    on_stage(tmp_path, "127.35.0.0/16", act)


def test_a_store_that_is_at_fault_itself_ends_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise duckdb.IOException("no such column")

    monkeypatch.setattr(collector, "open_store", fail)
    (tmp_path / "config.json").write_bytes(msgspec.json.encode(config_at("127.35.0.0/16")))
    with pytest.raises(duckdb.Error, match="no such column"):
        asyncio.run(collector.run(Runtime(tmp_path, "collector")))


def _row(name: str, hits: int, sent_bytes: int) -> dict[tuple[str, str], int]:
    return {("hits", name): hits, ("bytes", name): sent_bytes}


def test_hits_of_servers_that_are_no_more_are_counted(tmp_path: Path) -> None:
    """A region that was taken out of the documents: one server was stopped with the bus down, one was killed."""

    async def act(stage: Stage) -> None:
        expected: Totals = Counter()
        for name in ("gone-by-1", "gone-by-2", "a-1"):
            left = Journal(tmp_path / "processes" / name / JOURNAL, name, name[:-2], 1)
            for count in (20, 5):
                serve(left, Random(count), count, Counter() if name == "a-1" else expected)
                if name == "gone-by-1":
                    left.roll()
                    seal(left)
        await stage.bus.create_stores()
        await stage.start("collector")
        await stage.until_reported(["country", "cache"], expected)
        report = await stage.report(["server", "region"])
        assert {(row["server"], row["region"], row["hits"]) for row in report["rows"]} == {
            ("gone-by-1", "gone-by", 25),
            ("gone-by-2", "gone-by", 25),
        }
        assert not any(has_hits(tmp_path / "processes" / name / JOURNAL) for name in ("gone-by-1", "gone-by-2"))
        assert has_hits(tmp_path / "processes" / "a-1" / JOURNAL), "which sends its own"

    on_stage(tmp_path, "127.44.0.0/16", act)
