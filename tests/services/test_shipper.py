"""The shipper against a stream that fails on demand; test_collector.py has the real one."""

import asyncio
import errno
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from nats.js.errors import NoStreamResponseError

from hits import seal
from nearmile.reports.disk import SLOTS_MIN, Journal
from nearmile.reports.segment import SEGMENT_RECORDS_MAX, Segment, decode
from nearmile.services import shipper as shipper_module
from nearmile.services.bus import MESSAGE_ID
from nearmile.services.runtime import Runtime
from nearmile.services.shipper import IN_FLIGHT_MAX, Shipper
from virtual import run_virtually

NOW_MS = 1_700_000_000_000


class Stream:
    """What the shipper sees of the bus: up or down, and a stream that takes messages, refuses them, or hangs."""

    def __init__(self) -> None:
        self.up = True
        self.refuse_from: int | None = None
        self.hang = False
        self.names: list[str] = []
        self.hits = 0
        self.in_flight = self.in_flight_max = 0

    @property
    def js(self) -> "Stream":
        return self

    async def publish(
        self, subject: str, data: bytes, timeout: float, stream: str, headers: dict[str, str]
    ) -> None:
        assert (subject, stream) == ("hits.a-1", "HITS")
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        await asyncio.sleep(timeout if self.hang else 0)
        self.in_flight -= 1
        if self.refuse_from is not None and len(self.names) >= self.refuse_from:
            raise NoStreamResponseError
        segment = decode(data)
        assert isinstance(segment, Segment)
        self.hits += segment.header.hits
        self.names.append(headers[MESSAGE_ID])


class Edge:
    """An edge process's journal and shipper."""

    def __init__(self, folder: Path) -> None:
        self.stream, self.stopping, self.detail = Stream(), asyncio.Event(), dict[str, float]()
        self.journal = Journal(folder, "a-1", "a", 1)
        runtime = SimpleNamespace(
            me=SimpleNamespace(name="a-1"),
            bus=self.stream,
            stopping=self.stopping,
            detail=self.detail,
            config=SimpleNamespace(sites=()),
        )
        self.shipper = Shipper(cast(Runtime, runtime), self.journal)

    def serve(self, count: int = 1) -> None:
        for _ in range(count):
            self.journal.record(NOW_MS, 7, 0, 200, 0, 10, True)

    def serve_segments(self, count: int) -> None:
        for _ in range(count):
            self.serve()
            self.journal.roll()
            seal(self.journal)


def with_edge(folder: Path, act: Callable[[Edge], Awaitable[None]]) -> None:
    async def run() -> None:
        await act(Edge(folder))

    run_virtually(lambda _loop: run(), seed=1)


def test_segments_go_in_order_a_few_at_a_time_and_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipper_module, "STEP_PAUSE_S", 0)  # the stream answers within no time, too

    async def act(edge: Edge) -> None:
        edge.serve_segments(3 * IN_FLIGHT_MAX + 1)
        edge.serve(5)
        await edge.shipper.ship()
        assert edge.stream.names == [f"a-1-1-{seq}" for seq in range(3 * IN_FLIGHT_MAX + 2)]
        assert edge.stream.in_flight_max == IN_FLIGHT_MAX
        assert edge.journal.pending(1) == []
        assert edge.detail == {"hits_unsent_bytes": 0, "hits_lost": 0}

    with_edge(tmp_path, act)


def test_who_is_behind_seals_without_a_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipper_module, "HURRY_SLOTS", 2)
    for name in ("STEP_PAUSE_S", "PIECE_PAUSE_S"):
        monkeypatch.setattr(shipper_module, name, 100.0)

    async def act(edge: Edge) -> None:
        edge.stream.up = False
        edge.serve(3 * SEGMENT_RECORDS_MAX + 1)
        await asyncio.wait_for(edge.shipper.ship(), 50)
        assert len(edge.journal.pending(10)) == 3

    with_edge(tmp_path, act)


def test_hits_wait_in_full_segments_while_the_bus_is_down(tmp_path: Path) -> None:
    async def act(edge: Edge) -> None:
        edge.stream.up = False
        for _ in range(3):
            edge.serve()
            await edge.shipper.ship()
        assert edge.journal.pending(1) == []
        edge.serve(SEGMENT_RECORDS_MAX)
        await edge.shipper.ship()
        assert len(edge.journal.pending(10)) == 1
        edge.stream.up = True
        await edge.shipper.ship()
        assert (edge.stream.hits, len(edge.stream.names)) == (SEGMENT_RECORDS_MAX + 3, 2)

    with_edge(tmp_path, act)


def test_a_full_disk_costs_no_hits_while_there_is_room_in_slots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(edge: Edge) -> None:
        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(Journal, "_seal", full)
            patch.setattr(Journal, "_new_slot", full)
            for _ in range(4 * SLOTS_MIN):
                edge.serve(100)
                await edge.shipper.ship()
        for _ in range(2):
            await edge.shipper.ship()
        assert (edge.stream.hits, edge.journal.lost) == (100 * 4 * SLOTS_MIN, 0)

    with_edge(tmp_path, act)


def test_what_the_stream_refuses_is_sent_again(tmp_path: Path) -> None:
    async def act(edge: Edge) -> None:
        edge.stream.refuse_from = 3
        edge.serve_segments(10)
        await edge.shipper.ship()
        assert len(edge.journal.pending(100)) == 7
        edge.stream.refuse_from = None
        await edge.shipper.ship()
        assert sorted(edge.stream.names) == sorted(f"a-1-1-{seq}" for seq in range(10))

    with_edge(tmp_path, act)


def test_a_damaged_segment_holds_up_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def act(edge: Edge) -> None:
        edge.serve_segments(3)
        (tmp_path / "1-1.seg").write_bytes(b"")  # a computer that lost its power may leave this
        await edge.shipper.ship()
        assert edge.stream.names == ["a-1-1-0", "a-1-1-2"] and not edge.journal.pending(1)

    with_edge(tmp_path, act)
    assert "the hits of segment a-1-1-1 are lost: 0 bytes are no segment" in caplog.text


def test_that_hits_wait_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "nearmile.shipper")

    async def act(edge: Edge) -> None:
        edge.serve_segments(3)
        edge.stream.refuse_from = 0
        for _ in range(3):
            await edge.shipper.ship()
        edge.stream.refuse_from = None
        for _ in range(2):
            await edge.shipper.ship()

    with_edge(tmp_path, act)
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
    assert "hits wait on disk: segment a-1" in caplog.text


def test_a_segment_that_has_gone_does_not_hold_up_the_others(tmp_path: Path) -> None:
    async def act(edge: Edge) -> None:
        edge.serve_segments(2)
        (tmp_path / "1-0.seg").unlink()
        await edge.shipper.ship()
        assert edge.stream.names == ["a-1-1-1"]
        assert edge.journal.pending(1) == []

    with_edge(tmp_path, act)


def test_the_end_sends_the_last_hits(tmp_path: Path) -> None:
    async def act(edge: Edge) -> None:
        edge.serve()
        running = asyncio.create_task(edge.shipper.run())
        while not edge.stream.names:
            await asyncio.sleep(0.001)
        edge.serve()
        edge.stopping.set()
        await running
        assert edge.stream.hits == 2

    with_edge(tmp_path, act)


def test_the_end_does_not_wait_for_a_bus_that_hangs(tmp_path: Path) -> None:
    async def act(edge: Edge) -> None:
        edge.stream.hang = True
        edge.serve()
        clock = asyncio.get_running_loop().time
        began_s = clock()
        await edge.shipper.flush(0.5)
        assert clock() - began_s < shipper_module.ACK_TIMEOUT_S / 2
        assert len(edge.journal.pending(10)) == 1

    with_edge(tmp_path, act)
