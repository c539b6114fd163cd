"""The edge role: one server of a region, composed of its cache, its journal, its sites and real sockets."""

import asyncio
import contextlib
import ctypes
import gc
import logging
import resource
import shutil
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import msgspec

from nearmile.cache.pages import Shelf
from nearmile.cache.store import MemoryStore
from nearmile.cache.tier.disk import memory_room
from nearmile.cache.tier.store import DiskStore
from nearmile.cache.trial import adaptive
from nearmile.config.layout import Config
from nearmile.edge.clients.server import EdgeServer
from nearmile.edge.node import MB, Node
from nearmile.edge.origins.client import Origins
from nearmile.edge.visitors import Visitors
from nearmile.mapping.places import Places
from nearmile.reports.disk import JOURNAL, open_journal
from nearmile.services import state
from nearmile.services.acme.issued import Issued
from nearmile.services.certificates import Certificates
from nearmile.services.measures import Measures
from nearmile.services.purges import Purges
from nearmile.services.runtime import Runtime, listening_on
from nearmile.services.shipper import Shipper
from nearmile.services.site_files import read_files

log = logging.getLogger("nearmile.edge")

DISK = "cache"
SHAPES = "rules.json"
QUIC_KEY = "quic.key"
DETAIL_S = 0.1
# Young objects are looked at every 10,000 allocations, all of them only after 200 million.
COLLECTOR_THRESHOLDS = (10_000, 20, 1_000)
# Of all descriptors, as files of large bodies; each that is mapped takes two. The others are for connections.
SHELF_SHARE = 1 / 8
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
# QUIC's copy of a response on its way takes up to twice its size.
HEAP_PIECE_BYTES_MAX = 4 << 20


async def run(runtime: Runtime) -> None:
    """The whole life of an edge server."""
    files_max = _raise_file_limit()
    _tune_allocator()
    me, loop = runtime.me, asyncio.get_running_loop()
    places = Places.open(runtime.config.network)
    journal = open_journal(runtime.folder / JOURNAL, me.name, me.region, runtime.epoch)

    def place_id(address: str) -> int:
        place = places.lookup(address)
        return journal.place_id(place.country, place.state)

    limits = runtime.config.network.edge
    memory_bytes, folder = limits.memory_mb * MB, runtime.folder / DISK
    shelf = Shelf(int(files_max * SHELF_SHARE))
    store = MemoryStore(memory_bytes, adaptive(memory_bytes, limits.optimise), shelf)
    # It may take minutes, and meanwhile heartbeats tell that we live.
    disk = await asyncio.to_thread(_open_disk, store, folder, limits.disk_mb)
    if disk is not None:
        disk.gather(loop.call_later)
    visitors = Visitors(place_id, lambda address: places.lookup(address).country)
    node = Node(me, loop, time.time, store, Origins(loop), visitors, journal.record, runtime)
    node.position = None if disk is None else disk.position
    node.shapes = _read_shapes(runtime.folder / SHAPES)

    certificates = Certificates(runtime.root, runtime.folder)
    issued = Issued(runtime.bus, runtime.folder, certificates.changed.set)
    node.challenge = lambda token: loop.create_task(issued.challenge(token))

    def take_config(config: Config) -> None:
        nonlocal places
        places = Places.open(config.network)
        certificates.take_config(config)
        issued.take_config(config)
        node.take_config(config, read_files)
        runtime.keep(SHAPES, msgspec.json.encode(node.shapes))

    runtime.on_config(take_config)
    runtime.on_map(node.take_map)

    purges = Purges(runtime.bus, node)
    purging = asyncio.create_task(purges.run())
    shipper = Shipper(runtime, journal)
    shipping = asyncio.create_task(shipper.run())
    server = EdgeServer(node)
    _tune_collector()
    await purges.settled()
    await asyncio.to_thread(certificates.refresh)
    runtime.settled = lambda: certificates.settled
    await _listen(runtime, server, certificates)
    runtime.full, runtime.take_counts = lambda: server.full, journal.take_counts
    runtime.ready = True
    measures = Measures(runtime, node.round_trips, node.downloads, node.beacons)
    await _until_told(runtime, _tell(runtime, server, disk), certificates.run(), measures.run())
    await server.close()
    await shipping
    await shipper.flush()
    purging.cancel()
    if disk is not None:
        await loop.run_in_executor(None, disk.close)


async def _until_told(runtime: Runtime, *works: Coroutine[Any, Any, None]) -> None:
    """Does all these until the process shall stop."""
    tasks = [asyncio.create_task(work) for work in works]
    await runtime.stopping.wait()
    runtime.ready = False
    for task in tasks:
        task.cancel()


async def _listen(runtime: Runtime, server: EdgeServer, certificates: Certificates) -> None:
    """Opens all doors; HTTP/3's first, which the others then speak of."""
    me, edge = runtime.me, runtime.config.network.edge
    if edge.http3:
        key = state.secret(runtime.folder / QUIC_KEY)
        with listening_on(me.address, edge.https_port, "edge.https_port"):
            server.listen_udp(me.address, edge.https_port, certificates.identity, key)
    with listening_on(me.address, me.port, "edge.http_port"):
        await server.listen(me.address, me.port)
    with listening_on(me.address, edge.https_port, "edge.https_port"):
        await server.listen_secure(me.address, edge.https_port, certificates.context)
    log.info("%s serves %s:%d, with TLS at %d", me.name, me.address, me.port, edge.https_port)


def _open_disk(store: MemoryStore, folder: Path, disk_mb: int) -> DiskStore | None:
    """What an earlier run stored, and a place for more; without a disk, memory does what it can."""
    # As much as the store has: with less, much is still in that store when its turn in the log comes, and goes to
    # disk for that. Taken from the store instead, it would cost the hits that cost least.
    disk_log = memory_room(folder, store.capacity_bytes if disk_mb else 0)
    if not disk_mb:
        # What is left there would miss the purges to come.
        shutil.rmtree(folder, ignore_errors=True)
        return None
    try:
        disk = DiskStore(folder, disk_mb * MB, store, disk_log)
    except OSError as error:
        log.error("the cache has no disk, memory goes on alone: %s", error)
        return None
    where = "on the disk too" if disk_log is None else f"in memory, {disk_log.capacity_bytes >> 20} MB"
    log.info("the cache starts with %d responses on disk; what is new waits %s", len(disk), where)
    return disk


def _read_shapes(path: Path) -> dict[int, str]:
    """Under which rules what is on the disk was stored. What cannot be known counts as stored under none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[int, str])
    except (OSError, msgspec.DecodeError):
        return {}


def _raise_file_limit() -> int:
    """Each client takes a descriptor, each origin's connection another; returns how many there may be."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def _tune_allocator() -> None:
    """Keeps what is as large as QUIC's copy of a response in the heap, and that much of the heap where it is free.

    Such a copy grows with what is on its way, and goes with the response. With pages of its own, which the system
    has back at once, one of 1 MB took 240 page faults, up to a fifth of that response's time over HTTP/3; so the
    process takes 7 MB more, 69 after five minutes of mixed load with 16 MB of cache. Left to itself, glibc keeps
    pieces of up to 32 MB in the heap, whose gaps grow with them. Others have no such call.
    """
    with contextlib.suppress(AttributeError):
        for which in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
            ctypes.CDLL(None).mallopt(which, HEAP_PIECE_BYTES_MAX)


def _tune_collector() -> None:
    """Keeps the garbage collector from walking the cache.

    A full collection over 200,000 stored objects takes 110 ms (measured), at a time of its own choosing. What
    leaves the cache leaves no cycles, and what a request leaves behind is found while it is young.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)


async def _tell(runtime: Runtime, server: EdgeServer, disk: DiskStore | None) -> None:
    """Keeps the heartbeat's details current."""
    while True:
        store = server.node.store
        runtime.detail |= {
            "connections": server.connections,
            "connections_refused": server.refused,
            "cache_bytes": store.used_bytes,
            "fills": len(server.node.fills),
        }
        if disk is not None:
            runtime.detail |= disk.detail()
        await asyncio.sleep(DETAIL_S)
