"""What every process of the network does alike: configuration, map, bus, heartbeats, last known good, a clean end.

A role is a coroutine ``run(runtime)`` in the module of its name. It sets itself up, says ``runtime.ready = True``,
waits for ``runtime.stopping`` and tidies up.
"""

import asyncio
import contextlib
import faulthandler
import importlib
import logging
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar, cast

import msgspec
import uvloop

from nearmile.base.errors import NearmileError
from nearmile.config import layout
from nearmile.config.layout import Config, Process
from nearmile.fleet.beat import SUBJECT, Beat
from nearmile.mapping.atlas import Atlas, unpack
from nearmile.mapping.map import Map, decode
from nearmile.services import state
from nearmile.services.bus import KV_ATLAS, KV_CONFIG, KV_CURRENT, KV_MAP, Bus

log = logging.getLogger("nearmile")
T = TypeVar("T")
# Of the sites with the most requests heartbeats tell: a network's hottest are among them, in 1 KB.
SERIALS_MAX = 64
REFUSED = "refused"  # the number of the last configuration that could not be used


class RoleModule(Protocol):
    """The module ``nearmile.services.<role>``."""

    run: Callable[["Runtime"], Awaitable[None]]


class Runtime:
    """One process: who it is, what it knows, whom it can talk to."""

    def __init__(self, root: Path, name: str) -> None:
        self.root = root
        self.folder = state.process_folder(root, name)
        # One for all that come: those of the disk and of the bus are mostly the same.
        self._decode_config = layout.Decoder().decode
        initial = state.read_config(root, self._decode_config)
        kept = _last_good(self.folder / "config.json", self._decode_config)
        refused = _last_good(self.folder / REFUSED, int)
        is_good = kept is not None and (kept.version >= initial.version or refused == initial.version)
        self.config = kept if kept is not None and is_good else initial
        try:
            self.me: Process = self.config.process(name)
        except KeyError:  # it has been taken out of the documents while it was being started
            raise NearmileError(f"configuration {self.config.version} has no process {name} any more") from None
        self.map = _last_good(self.folder / state.MAP_FILE, decode)
        self.atlas = _last_good(self.folder / state.ATLAS_FILE, unpack)
        self.bus = Bus.of(root, self.config, name)
        self.stopping = asyncio.Event()
        self.ready = False
        self.leaving = False
        """Whether it has been told to leave all answers, though it runs on."""
        self.full: Callable[[], bool] = lambda: False
        """Whether no more clients should come for now, where the role knows."""
        self.settled: Callable[[], bool] = lambda: True
        """Whether all that the configuration brings is in use, where the role knows."""
        self.requests = 0
        """Requests answered since the start; the role counts, the heartbeat tells the rate."""
        self.take_counts: Callable[[], Counter[int]] = Counter
        """Requests by the site's serial since the last call, where the role knows."""
        self.detail: dict[str, float] = {}
        self.epoch = int(time.time() * 1000)
        self._on_config: list[Callable[[Config], None]] = []
        self._on_map: list[Callable[[Map], None]] = []
        self._on_atlas: list[Callable[[Atlas], None]] = []

    def on_config(self, callback: Callable[[Config], None]) -> None:
        """Calls back with the configuration now and with every later one."""
        self._on_config.append(callback)
        callback(self.config)

    def on_map(self, callback: Callable[[Map], None]) -> None:
        """Calls back with the map now, if one is known, and with every later one."""
        self._on_map.append(callback)
        if self.map is not None:
            callback(self.map)

    def on_atlas(self, callback: Callable[[Atlas], None]) -> None:
        """Calls back with the atlas of mapping units now, if one is known, and with every later one."""
        self._on_atlas.append(callback)
        if self.atlas is not None:
            callback(self.atlas)

    def keep(self, name: str, data: bytes) -> None:
        """Writes a file for the next start. A disk that does not take it ends nothing of what runs."""
        try:
            state.write_atomically(self.folder / name, data, mode=0o600)
        except OSError as error:
            why = error.strerror
            log.error("%s cannot be written, the next start goes by what is there: %s", self.folder / name, why)

    async def live(self, role: RoleModule) -> None:
        """The whole life of the process."""
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self.stopping.set)
        loop.add_signal_handler(signal.SIGUSR1, self._leave)
        self.bus.watch(KV_CONFIG, KV_CURRENT, self._take_config)
        self.bus.watch(KV_MAP, KV_CURRENT, self._take_map)
        self.bus.watch(KV_ATLAS, KV_CURRENT, self._take_atlas)
        self.bus.start()
        beating = asyncio.create_task(self._beat())
        try:
            await role.run(self)
        finally:
            self.ready = False
            beating.cancel()
            await self.bus.close()

    def _leave(self) -> None:
        self.leaving = True

    def _take_config(self, _revision: int, value: bytes) -> None:
        new = _decode(value, self._decode_config, "a configuration from the bus")
        if new is None or new.version <= self.config.version:
            return
        if _adopt(self._on_config, new, self.config):
            self.config = new
        else:
            self.keep(REFUSED, b"%d" % new.version)  # a start must not fail by it, either
        self.keep("config.json", msgspec.json.encode(self.config))

    def _take_map(self, _revision: int, value: bytes) -> None:
        new = _decode(value, decode, "a map from the bus")
        old = self.map
        if new is None or (old is not None and (new.term, new.version) <= (old.term, old.version)):
            return
        if _adopt(self._on_map, new, old):
            self.map = new
            self.keep(state.MAP_FILE, value)

    def _take_atlas(self, _revision: int, value: bytes) -> None:
        new = _decode(value, unpack, "an atlas from the bus")
        if new is None or (self.atlas is not None and new.digest == self.atlas.digest):
            return
        if _adopt(self._on_atlas, new, self.atlas):
            self.atlas = new
            self.keep(state.ATLAS_FILE, value)

    async def _beat(self) -> None:
        seq, requests, cpu_s, at_s = 0, 0, time.process_time(), time.monotonic()
        version = 0
        while True:
            await asyncio.sleep(self.config.network.health.beat_ms / 1000)
            seq += 1
            now_s, now_cpu_s = time.monotonic(), time.process_time()
            elapsed_s = max(now_s - at_s, 1e-3)
            counts = self.take_counts()
            hottest = counts.most_common(SERIALS_MAX)
            version = self.config.version if self.settled() else version
            beat = Beat(
                name=self.me.name,
                role=self.me.role,
                epoch=self.epoch,
                seq=seq,
                ready=self.ready and not self.leaving and not self.stopping.is_set(),
                full=self.full(),
                requests_per_s=(self.requests - requests) / elapsed_s,
                cpu=(now_cpu_s - cpu_s) / elapsed_s,
                config_version=version,
                map_version=self.map.version if self.map is not None else 0,
                serials={serial: hits / elapsed_s for serial, hits in hottest},
                others_per_s=(counts.total() - sum(hits for _, hits in hottest)) / elapsed_s,
                detail=self.detail,
            )
            requests, cpu_s, at_s = self.requests, now_cpu_s, now_s
            self.bus.publish(f"{SUBJECT}.{self.me.name}", msgspec.msgpack.encode(beat))


def _adopt(callbacks: list[Callable[[T], None]], new: T, old: T | None) -> bool:
    """Hands everybody the new value; where somebody cannot use it, all get the old one back, which worked."""
    what = type(new).__name__
    if _told(callbacks, new, f"a new {what} cannot be used; the last one that worked stays"):
        return True
    if old is not None:
        for callback in callbacks:
            _told((callback,), old, f"the {what} that worked cannot be taken up again; what is in use stays")
    return False


def _told(callbacks: Iterable[Callable[[T], None]], value: T, otherwise: str) -> bool:
    """Whatever goes wrong: a value that cannot be used must not end what runs well without it."""
    try:
        for callback in callbacks:
            callback(value)
    except NearmileError as error:
        log.error("%s: %s", otherwise, error)
    except Exception:
        log.exception(otherwise)
    else:
        return True
    return False


def _decode(data: bytes, read: Callable[[bytes], T], what: object) -> T | None:
    """None where the bytes are not what they should be: a bad message never replaces what works."""
    try:
        return read(data)
    except ValueError as error:
        log.error("%s cannot be read and is not used: %s", what, error)
        return None


def _last_good(path: Path, read: Callable[[bytes], T]) -> T | None:
    try:
        return _decode(path.read_bytes(), read, path)
    except FileNotFoundError:
        return None
    except OSError as error:
        log.error("%s cannot be read, the bus will tell: %s", path, error)
        return None


@contextlib.contextmanager
def listening_on(address: str, port: int, key: str) -> Iterator[None]:
    """Says which address it is that cannot be listened on, and the key of network.toml that has its port."""
    try:
        yield
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise NearmileError(f"cannot listen on {address} port {port} ({why}); free it or change {key}") from error


def main() -> None:
    """``python -m nearmile.services.runtime STATE NAME``: how the agent starts a process."""
    root, name = Path(sys.argv[1]), sys.argv[2]
    logging.basicConfig(
        level=os.environ.get("NEARMILE_LOG", "INFO"), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )

    faulthandler.enable()  # who is aborted, since it hangs, says where

    async def live() -> None:
        runtime = Runtime(root, name)
        module = importlib.import_module(f"nearmile.services.{runtime.me.role}")
        await runtime.live(cast(RoleModule, module))

    try:
        uvloop.run(live())
    except NearmileError as error:
        log.error("%s", error)
        sys.exit(1)


if __name__ == "__main__":
    main()
