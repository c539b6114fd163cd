"""Real controllers on a real NATS server: what dies leaves the map in time, whoever else dies meanwhile."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import msgspec
import pytest

from nearmile.base.geography import Point
from nearmile.config import layout
from nearmile.config.layout import Config, at_version, lay_out
from nearmile.config.network import Health, Nameserver, Network, Region, Site
from nearmile.fleet.beat import SUBJECT, Beat
from nearmile.mapping.controller import PutMap
from nearmile.mapping.map import Map, Units, decode
from nearmile.services import children, natsserver
from nearmile.services.bus import KV_CONFIG, KV_CURRENT, KV_MAP, Bus, BusDown
from nearmile.services.children import Child
from nearmile.services.controller import Shell
from nearmile.services.runtime import Runtime
from nearmile.services.state import process_folder, write_atomically
from waiting import PATIENCE_S, until

PARIS, TOKYO = Point(48.86, 2.35), Point(35.68, 139.69)
EVERYBODY = {"paris-1", "paris-2", "tokyo-1", "tokyo-2"}


def config_at(loopback: str, dead_after_ms: int = 1250) -> Config:
    network = Network(
        name="controller-test",
        zone="controller.test",
        controllers=2,
        health=Health(dead_after_ms=dead_after_ms),
        regions={"paris": Region(city="Paris", point=PARIS), "tokyo": Region(city="Tokyo", point=TOKYO)},
        nameservers=(
            Nameserver(tier="top", city="Paris", point=PARIS),
            Nameserver(tier="low", city="Paris", point=PARIS),
        ),
    )
    return lay_out(network, {}, {}, 1, loopback)


class Stage:
    """NATS and controllers as processes; the edges are beats sent from here."""

    def __init__(self, root: Path, loopback: str, dead_after_ms: int = 1250) -> None:
        self.root, self.config = root, config_at(loopback, dead_after_ms)
        write_atomically(root / "config.json", msgspec.json.encode(self.config))
        self._nats_command = natsserver.prepare(root, self.config)
        me = self.config.process("nats")
        self.bus = Bus(f"nats://{me.address}:{me.port}", (root / "token").read_text(), "test")
        self.running: dict[str, Child] = {}
        self.maps: list[Map] = []
        self.config_version = 0
        self.epoch = dict.fromkeys(EVERYBODY, 1)
        self.silent: set[str] = set()
        self.bus.watch(KV_MAP, KV_CURRENT, self._seen)
        self.bus.watch(KV_CONFIG, KV_CURRENT, self._config_seen)

    async def start(self, *names: str) -> None:
        for name in names:
            nats = name == "nats"
            command = self._nats_command if nats else children.command(self.root, self.config.process(name))
            self.running[name] = await children.start(command, self.root / f"{name}.log")

    async def kill(self, *names: str) -> None:
        for name in names:
            child = self.running.pop(name)
            child.signal(signal.SIGKILL)
            await child.wait()

    async def beat(self) -> None:
        seq = 0
        while True:
            seq += 1
            for name in EVERYBODY - self.silent:
                beat = Beat(name=name, role="edge", epoch=self.epoch[name], seq=seq, ready=True)
                self.bus.publish(f"{SUBJECT}.{name}", msgspec.msgpack.encode(beat))
            await asyncio.sleep(self.config.network.health.beat_ms / 1000)

    async def until_living(self, names: set[str], after: int = 0) -> None:
        """Waits until a map later than the first ``after`` ones names just these."""
        await until(lambda: len(self.maps) > after and _living(self.maps[-1]) == names)

    def _seen(self, _revision: int, value: bytes) -> None:
        self.maps.append(decode(value))

    def _config_seen(self, _revision: int, value: bytes) -> None:
        self.config_version = layout.decode(value).version


def _living(map_: Map) -> set[str]:
    return {server.name for region in map_.regions for server in region.servers}


def on_stage(
    root: Path, loopback: str, act: Callable[[Stage], Awaitable[None]], dead_after_ms: int = 1250
) -> None:
    async def run() -> None:
        stage = Stage(root, loopback, dead_after_ms)
        await stage.start("nats")
        stage.bus.start()
        beating = asyncio.create_task(stage.beat())
        try:
            assert await stage.bus.connected(PATIENCE_S)
            await act(stage)
        finally:
            beating.cancel()
            await stage.bus.close()
            await stage.kill(*stage.running)

    asyncio.run(run())


def test_who_is_reported_dead_leaves_the_map_before_its_silence_tells(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        await stage.start("controller-1")
        await stage.until_living(EVERYBODY)
        assert stage.maps[-1].units["JP"] == (1, 0)
        assert stage.maps[-1].units["FR"] == (0, 1)
        await until(lambda: stage.config_version == 1)
        stage.silent.add("tokyo-1")
        stage.bus.publish("exit.tokyo-1", b"tokyo-1")
        await stage.until_living(EVERYBODY - {"tokyo-1"})
        stage.silent.clear()
        stage.epoch["tokyo-1"] = 2
        await stage.until_living(EVERYBODY)
        versions = [map_.version for map_ in stage.maps]
        assert versions == sorted(set(versions))

    on_stage(tmp_path, "127.34.0.0/16", act, dead_after_ms=60_000)  # longer than `until` waits


def test_who_hangs_leaves_the_map_by_its_silence(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        await stage.start("controller-1")
        await stage.until_living(EVERYBODY)
        stage.silent.add("paris-2")
        await stage.until_living(EVERYBODY - {"paris-2"})
        stage.silent.clear()
        await stage.until_living(EVERYBODY)

    on_stage(tmp_path, "127.34.0.0/16", act)


def test_the_next_controller_takes_over_and_counts_on(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        await stage.start("controller-1")
        await stage.until_living(EVERYBODY)
        await stage.start("controller-2")
        led = stage.maps[-1]
        await stage.kill("controller-1")
        stage.silent.add("paris-1")
        await stage.until_living(EVERYBODY - {"paris-1"}, len(stage.maps))
        assert stage.maps[-1].term > led.term
        assert stage.maps[-1].version > led.version

    on_stage(tmp_path, "127.34.64.0/18", act)


def test_nothing_is_lost_when_the_bus_loses_all(tmp_path: Path) -> None:
    """NATS comes back without its data: versions go on from the controller's disk, and the configuration too."""

    async def act(stage: Stage) -> None:
        await stage.start("controller-1")
        await stage.until_living(EVERYBODY)
        led = stage.maps[-1]
        await until((process_folder(stage.root, "controller-1") / "map.bin").exists)
        await stage.kill("controller-1", "nats")
        for path in sorted((stage.root / "nats").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        newer = at_version(stage.config, 2)
        write_atomically(stage.root / "config.json", msgspec.json.encode(newer))
        await stage.start("nats", "controller-1")
        await stage.until_living(EVERYBODY, len(stage.maps))
        assert stage.maps[-1].term > led.term
        assert stage.maps[-1].version > led.version
        await until(lambda: stage.config_version == 2)

    on_stage(tmp_path, "127.34.128.0/18", act)


def test_a_configuration_of_a_thousand_sites_reaches_everybody(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        sites = {f"s{n}": Site(hostnames=(f"www.s{n}.test",), origin="http://127.0.0.9") for n in range(1000)}
        large = lay_out(stage.config.network, sites, {}, 2, stage.config.loopback)
        write_atomically(stage.root / "config.json", msgspec.json.encode(large))
        await stage.start("controller-1")
        await stage.until_living(EVERYBODY)
        await until(lambda: stage.config_version == 2)

    on_stage(tmp_path, "127.35.0.0/18", act)


def test_a_map_that_the_bus_does_not_take_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class TooSmall:
        up, tries = True, 0

        async def put(self, bucket: str, _key: str, _value: bytes, _revision: int) -> int:
            self.tries += 1
            raise BusDown(f"cannot write {bucket}: nats: maximum payload exceeded")

        async def get(self, _bucket: str, _key: str) -> None:
            return None

    async def run() -> None:
        root = tmp_path
        write_atomically(root / "config.json", msgspec.json.encode(config_at("127.35.64.0/18")))
        runtime = Runtime(root, "controller-1")
        shell, bus = Shell(runtime), TooSmall()
        shell._bus = cast(Bus, bus)
        made = Map(version=1, term=1, made_at_s=0.0, regions=(), units=Units(), fallback=())
        for _ in range(3):
            await shell._put(PutMap(made, 0), KV_MAP, KV_CURRENT, b"")
        assert bus.tries == 3

    asyncio.run(run())
    assert [record.getMessage() for record in caplog.records] == [
        "the map is not published: cannot write map: nats: maximum payload exceeded"
    ]


def test_a_bus_that_goes_and_comes_moves_nobody(tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        await stage.start("controller-1")
        await stage.until_living(EVERYBODY)
        seen = len(stage.maps)
        await stage.kill("nats")
        await asyncio.sleep(2 * stage.config.network.health.dead_after_ms / 1000)  # silence, but nobody's fault
        await stage.start("nats")
        stage.silent.add("tokyo-2")
        await stage.until_living(EVERYBODY - {"tokyo-2"}, seen)
        assert all(_living(map_) == EVERYBODY for map_ in stage.maps[seen - 1 : -1])

    on_stage(tmp_path, "127.34.192.0/18", act)
