"""What a process does with the configurations and maps it is told of."""

import asyncio
import errno
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from nearmile.base.errors import NearmileError
from nearmile.base.geography import Point
from nearmile.config.layout import Config, at_version, lay_out
from nearmile.config.layout import encode as encode_config
from nearmile.config.network import Nameserver, Network, Region, Site
from nearmile.fleet.beat import Beat
from nearmile.mapping.map import Map, Units, encode
from nearmile.services import state
from nearmile.services.runtime import Runtime
from waiting import until

POINT = Point(0, 0)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    servers = tuple(Nameserver(tier=tier, city="A", point=POINT) for tier in ("top", "low"))
    network = Network(name="n", zone="n.test", regions={"a": Region(city="A", point=POINT)}, nameservers=servers)
    made = lay_out(network, {}, {}, 5)
    (tmp_path / "config.json").write_bytes(msgspec.json.encode(made))
    return made


def map_of(version: int, term: int = 1) -> bytes:
    map_ = Map(version=version, term=term, made_at_s=0.0, regions=(), units=Units(), fallback=())
    return encode(map_)


def test_only_later_versions_are_taken_and_kept_over_a_restart(tmp_path: Path, config: Config) -> None:
    runtime, seen = Runtime(tmp_path, "a-1"), list[int]()
    runtime.on_config(lambda each: seen.append(each.version))
    for version in (4, 5, 7, 6, 7):
        new = at_version(config, version)
        runtime._take_config(1, encode_config(new) if version % 2 else msgspec.json.encode(new))
    assert seen == [5, 7]
    assert (tmp_path / "processes" / "a-1" / "config.json").stat().st_mode & 0o777 == 0o600
    assert Runtime(tmp_path, "a-1").config.version == 7


def test_sites_that_stay_are_in_memory_once(tmp_path: Path, config: Config) -> None:
    """As they are on the disk at the start, and as each configuration from the bus brings them."""
    site = Site(hostnames=("www.test",), origin="http://127.0.0.1:1")
    config = lay_out(config.network, {"www": site}, {}, 5)
    (tmp_path / "config.json").write_bytes(msgspec.json.encode(config))
    runtime = Runtime(tmp_path, "a-1")
    [at_start] = runtime.config.sites
    for version in (6, 7):
        runtime._take_config(1, encode_config(at_version(config, version)))
        assert runtime.config.version == version and runtime.config.sites[0] is at_start


def test_maps_go_forward_by_term_then_version(tmp_path: Path, config: Config) -> None:
    runtime, seen = Runtime(tmp_path, "a-1"), list[tuple[int, int]]()
    runtime.on_map(lambda each: seen.append((each.term, each.version)))
    for term, version in ((1, 3), (1, 2), (2, 4), (1, 9), (2, 5)):
        runtime._take_map(1, map_of(version, term))
    assert seen == [(1, 3), (2, 4), (2, 5)]
    again = Runtime(tmp_path, "a-1").map
    assert again is not None and (again.term, again.version) == (2, 5)


@pytest.mark.parametrize("garbage", [b"", b"{", b"[]", b'{"version": "x"}', b"\xff\xfe", b"\x28\xb5\x2f\xfd"])
def test_garbage_replaces_nothing(
    tmp_path: Path, config: Config, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    kept = state.process_folder(tmp_path, "a-1") / "map.bin"
    kept.write_bytes(garbage)
    runtime = Runtime(tmp_path, "a-1")
    assert f"{kept} cannot be read and is not used: " in caplog.text
    runtime._take_map(1, map_of(3))
    runtime._take_map(2, garbage)
    runtime._take_config(2, garbage)
    assert runtime.map is not None and runtime.map.version == 3
    assert runtime.config.version == 5
    assert "a configuration from the bus cannot be read" in caplog.text


def test_what_a_role_cannot_use_is_taken_back(tmp_path: Path, config: Config) -> None:
    runtime, seen = Runtime(tmp_path, "a-1"), list[int]()

    def refuse_seven(each: Config) -> None:
        if each.version == 7:
            raise ValueError("not with me")

    runtime.on_config(lambda each: seen.append(each.version))
    runtime.on_config(refuse_seven)
    runtime._take_config(1, msgspec.json.encode(at_version(config, 7)))
    assert seen == [5, 7, 5]
    assert Runtime(tmp_path, "a-1").config.version == 5, "what did not work is not kept"


def test_a_start_goes_by_the_last_good_where_the_newest_was_refused(tmp_path: Path, config: Config) -> None:
    def refuse(each: Config) -> None:
        if each.version == 7:
            raise NearmileError("not with me")

    runtime = Runtime(tmp_path, "a-1")
    runtime.on_config(refuse)
    runtime._take_config(1, msgspec.json.encode(at_version(config, 7)))
    for applied, starts_with in ((7, 5), (8, 8)):
        (tmp_path / "config.json").write_bytes(msgspec.json.encode(at_version(config, applied)))
        assert Runtime(tmp_path, "a-1").config.version == starts_with


def test_what_cannot_be_taken_back_either_stays_in_use(
    tmp_path: Path, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    """A database may have gone that is open still: the watch must outlive that, and the next version is taken."""
    runtime, seen = Runtime(tmp_path, "a-1"), list[int]()

    def take(each: Config) -> None:
        if seen and each.version != 8:
            raise NearmileError("places.mmdb cannot be read")
        seen.append(each.version)

    runtime.on_config(take)
    for version in (7, 8):
        runtime._take_config(version, msgspec.json.encode(at_version(config, version)))
    assert (seen, runtime.config.version) == ([5, 8], 8)
    assert [record.message for record in caplog.records] == [
        "a new Config cannot be used; the last one that worked stays: places.mmdb cannot be read",
        "the Config that worked cannot be taken up again; what is in use stays: places.mmdb cannot be read",
    ]


async def test_a_heartbeat_tells_the_configuration_whose_parts_are_all_in_use(
    tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, told, settled = Runtime(tmp_path, "a-1"), list[int](), [True]
    runtime.settled = lambda: settled[0]

    def take(_subject: str, beat: bytes) -> None:
        told.append(msgspec.msgpack.decode(beat, type=Beat).config_version)
        settled[0] = len(told) != 1
        runtime._take_config(1, encode_config(at_version(config, 7)))

    monkeypatch.setattr(runtime.bus, "publish", take)
    beating = asyncio.create_task(runtime._beat())
    await until(lambda: len(told) >= 3)
    beating.cancel()
    assert told[:3] == [5, 5, 7]


def test_a_disk_that_is_full_ends_nothing(
    tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object, mode: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    runtime, seen = Runtime(tmp_path, "a-1"), list[int]()
    runtime.on_config(lambda each: seen.append(each.version))
    monkeypatch.setattr(state, "write_atomically", full)
    runtime._take_config(1, msgspec.json.encode(at_version(config, 7)))
    runtime._take_map(1, map_of(3))
    assert (seen, runtime.config.version, runtime.map and runtime.map.version) == ([5, 7], 7, 3)
    assert [record.message.split("/")[-1] for record in caplog.records] == [
        f"{name} cannot be written, the next start goes by what is there: No space left on device"
        for name in ("config.json", "map.bin")
    ]


def test_what_cannot_be_read_of_the_last_run_is_not_there(tmp_path: Path, config: Config) -> None:
    for name in ("config.json", "map.bin", "atlas.bin"):
        (tmp_path / "processes" / "a-1" / name).mkdir(parents=True)
    runtime = Runtime(tmp_path, "a-1")
    assert (runtime.config.version, runtime.map, runtime.atlas) == (5, None, None)


def test_a_process_that_no_configuration_has_says_so(tmp_path: Path, config: Config) -> None:
    with pytest.raises(NearmileError, match="configuration 5 has no process a-9 any more"):
        Runtime(tmp_path, "a-9")


def test_a_process_that_cannot_start_says_why_in_a_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nearmile.services.runtime", str(tmp_path), "a-1"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert f"ERROR nearmile: {tmp_path} holds no network; start one" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
