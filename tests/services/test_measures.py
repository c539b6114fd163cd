"""What an edge measures: targets over real sockets, clients' handshakes as the kernel has them, told by unit."""

import asyncio
import socket
import time
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import uvloop

from nearmile.base.geography import Point
from nearmile.config.probes import Target
from nearmile.edge.backlog import delivery, handshake_ms
from nearmile.edge.samples import Samples
from nearmile.mapping.atlas import Atlas, made
from nearmile.mapping.beacons import Sightings
from nearmile.mapping.map import Map, MapRegion, Server, Units
from nearmile.mapping.measured import CLIENTS_TOLD_MAX, Report
from nearmile.services import measures
from nearmile.services.measures import Measures
from nearmile.services.runtime import Runtime
from waiting import PATIENCE_S, until

LOCAL = "127.0.0.1"


def atlas() -> Atlas:
    """127.0.0.0/8 is Japan."""
    columns = np.array([0, 127 << 24, 128 << 24], np.uint64), np.array([0, 1, 0], np.uint32)
    return made("", ("JP",), (Point(36, 138),), (1.0,), columns, (np.zeros(1, np.uint64), np.zeros(1, np.uint32)))


class FakeRuntime:
    """As much of a process as measuring needs."""

    def __init__(self, *targets: Target, every_s: float = 0.02) -> None:
        self.me = SimpleNamespace(name="tokyo-1", region="tokyo", address=LOCAL)
        probes = SimpleNamespace(targets=targets, every_s=every_s)
        self.config = SimpleNamespace(network=SimpleNamespace(probes=probes), sites=())
        self.sent: list[tuple[str, bytes]] = []
        self.bus = SimpleNamespace(publish=lambda subject, data: self.sent.append((subject, data)))

    def on_atlas(self, callback: object) -> None:
        callback(atlas())  # type: ignore[operator]

    def on_map(self, callback: object) -> None:
        region = MapRegion("tokyo", Point(36, 138), (Server("tokyo-1", LOCAL, 80),))
        callback(Map(version=1, term=1, made_at_s=0, regions=(region,), units=Units(), fallback=(0,)))  # type: ignore[operator]


def made_of(
    runtime: FakeRuntime, round_trips: Samples | None = None, downloads: Samples | None = None
) -> Measures:
    none = Samples(lambda: 0.0)
    return Measures(cast(Runtime, runtime), round_trips or none, downloads or none, Sightings())


class Resolver(asyncio.DatagramProtocol):
    """Answers every question after a while."""

    def __init__(self, delay_s: float) -> None:
        self.delay_s = delay_s

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        reply = data[:2] + b"\x80\5" + data[4:]
        asyncio.get_running_loop().call_later(self.delay_s, self.transport.sendto, reply, address)


def test_targets_are_asked_by_dns_and_tcp_and_the_silent_are_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "PATIENCE_S", 0.2)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        began_s = time.perf_counter()
        transport, _ = await loop.create_datagram_endpoint(lambda: Resolver(0.03), local_addr=("127.0.0.2", 0))
        port = transport.get_extra_info("sockname")[1]
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.3", 0)
        targets = (
            Target(address="127.0.0.2", port=port),
            Target(address="127.0.0.3", port=server.sockets[0].getsockname()[1], by="tcp"),
            Target(address="127.0.0.4", port=9),
        )
        mine = made_of(FakeRuntime(*targets))
        task = asyncio.create_task(mine.run())
        found: dict[str, float] = {}

        def all_told() -> bool:
            found.update(mine.report().targets.get("JP", {}))
            return len(found) == 2

        await until(all_told)
        task.cancel()
        transport.close()
        server.close()
        assert set(found) == {"127.0.0.2", "127.0.0.3"}
        took_ms = (time.perf_counter() - began_s) * 1000
        assert 30 <= found["127.0.0.2"] < took_ms and 0 <= found["127.0.0.3"] < took_ms

    uvloop.run(scenario())


def test_clients_are_told_by_unit_and_some_of_many() -> None:
    samples = Samples(lambda: 0.0)
    for n in range(40):
        samples.heard(f"127.0.0.{n}", 10.0 + n)
    samples.heard("9.9.9.9", 5.0)  # nobody knows where
    mine = made_of(FakeRuntime(), samples)
    report = mine.report()
    assert report.region == "tokyo" and set(report.clients) == {"JP"} and report.targets == {}
    assert len(report.clients["JP"]) == CLIENTS_TOLD_MAX
    assert mine.report() == Report("tokyo")


def test_downloads_are_told_where_a_site_is_mapped_by_them() -> None:
    downloads, runtime = Samples(lambda: 0.0), FakeRuntime()
    mine = made_of(runtime, downloads=downloads)
    for sites in ((), (SimpleNamespace(serial=7, document=SimpleNamespace(traffic="downloads", regions=())),)):
        downloads.heard("127.0.0.9", -12.5)
        runtime.config.sites = sites
        assert [*mine.report().downloads.get("JP", {}).values()] == [-12.5] * len(sites)


def test_the_kernel_knows_how_a_large_body_came() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        met: asyncio.Future[asyncio.Transport] = loop.create_future()
        began_s = time.perf_counter()

        class Sends(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                met.set_result(cast(asyncio.Transport, transport))

        server = await loop.create_server(Sends, LOCAL, 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        transport = await met
        assert delivery(transport) is None
        transport.write(bytes(4 << 20))
        await asyncio.wait_for(reader.readexactly(4 << 20), PATIENCE_S)
        found, took_s = delivery(transport), time.perf_counter() - began_s
        assert found is not None and 0 < found.rtt_ms < took_s * 1000 and found.loss <= 1
        assert found.bytes_per_s > 0 and found.segments > 10
        writer.close()
        transport.close()
        server.close()

    uvloop.run(scenario())
    assert delivery(cast(asyncio.Transport, SimpleNamespace(get_extra_info=lambda _: None))) is None


def test_all_of_an_ipv6_clients_own_is_one() -> None:
    assert measures._number("2001:db8::1") == measures._number("2001:db8:0:ff07::9%eth0")
    assert measures._number("2001:db8::1") != measures._number("2001:db8:1::1")


def test_the_kernel_knows_a_handshake() -> None:
    async def scenario() -> float:
        loop = asyncio.get_running_loop()
        met: asyncio.Future[float] = loop.create_future()

        class Meets(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                met.set_result(handshake_ms(cast(asyncio.Transport, transport)))

        server = await loop.create_server(Meets, LOCAL, 0)
        with socket.create_connection(server.sockets[0].getsockname()):
            found = await asyncio.wait_for(met, PATIENCE_S)
        server.close()
        return found

    began_s = time.perf_counter()
    assert 0 < uvloop.run(scenario()) < (time.perf_counter() - began_s) * 1000
    assert handshake_ms(cast(asyncio.Transport, SimpleNamespace(get_extra_info=lambda _: None))) == 0.0
