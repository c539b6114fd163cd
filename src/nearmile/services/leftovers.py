"""Hits of servers that the documents have no more, from the journals that they left on this machine's disk.

A server ships its own, and what it could not send waits for its next start. One that was killed, or had no bus,
and was then taken out of the documents has no next start: so the collector ships them.
"""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

from nearmile.reports.disk import JOURNAL, Journal, has_hits
from nearmile.services.runtime import Runtime
from nearmile.services.shipper import SEAL_S, Shipper

log = logging.getLogger("nearmile.leftovers")


async def ship(runtime: Runtime) -> None:
    """Sends them all, one server's after the other's; returns when nothing is left that can be sent."""
    for name, folder in _left(runtime):
        try:
            journal = Journal(folder, name, name.rpartition("-")[0], runtime.epoch)
        except OSError as error:
            log.error("hits of %s, which is no server any more, cannot be read from %s: %s", name, folder, error)
            continue
        log.warning("sends the hits that %s, which is no server any more, left in %s", name, folder)
        shipper = Shipper(runtime, journal)
        while journal.holds_hits:
            await shipper.ship()
            await asyncio.sleep(SEAL_S)


def _left(runtime: Runtime) -> Iterator[tuple[str, Path]]:
    servers = {process.name for process in runtime.config.processes}
    for folder in sorted(runtime.folder.parent.glob(f"*/{JOURNAL}")):
        if folder.parent.name not in servers and has_hits(folder):
            yield folder.parent.name, folder
