"""The controller's making of the atlas: in a thread, when databases or regions have changed, and onto the bus.

What was made last is on the disk, so a controller that starts has an atlas at once.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from nearmile.base.errors import NearmileError
from nearmile.config.layout import Config
from nearmile.mapping.atlas import Atlas, pack
from nearmile.mapping.controller import regions_of
from nearmile.mapping.places import database_files, installed_folder
from nearmile.mapping.survey import basis_of, make_atlas
from nearmile.services.bus import KV_ATLAS, KV_CURRENT, BusDown, Conflict
from nearmile.services.runtime import Runtime
from nearmile.services.trouble import START_S, Trouble

log = logging.getLogger("nearmile.controller")
# How soon a controller that has come to lead publishes the atlas that it goes by.
LOOK_S = 0.25


class Atlases:
    """``leading`` says whether this controller publishes; ``made`` is told of each atlas to go by."""

    def __init__(self, runtime: Runtime, leading: Callable[[], bool], made: Callable[[Atlas], None]) -> None:
        self._runtime, self._leading, self._made = runtime, leading, made
        self._atlas: Atlas | None = None
        self._packed = b""
        self._published = ""
        self._unpublished = Trouble(
            log, "the mapping units are not published", "the mapping units are published", START_S
        )
        self._working: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins with what this process or another has made, as long as nothing else is known."""
        self._runtime.on_atlas(self._seen)
        self._working = asyncio.get_running_loop().create_task(self._work())

    def stop(self) -> None:
        """Ends it."""
        if self._working is not None:
            self._working.cancel()

    def _seen(self, atlas: Atlas) -> None:
        self._published = atlas.digest
        if self._atlas is None or not self._leading():
            self._take(atlas)

    def _take(self, atlas: Atlas) -> None:
        known, self._atlas = self._atlas, atlas  # also where it has come out the same: it is of another basis
        if known is None or known.digest != atlas.digest:
            self._packed = b""
            self._made(atlas)

    async def _work(self) -> None:
        failed: Config | None = None
        while True:
            config = self._runtime.config
            if config is not failed:
                try:
                    await self._make(config)
                    failed = None
                except (NearmileError, OSError) as error:
                    log.error("the mapping units stay as they were: %s", error)
                    failed = config
            await self._publish()
            await asyncio.sleep(LOOK_S)

    async def _make(self, config: Config) -> None:
        network = config.network
        files = database_files(network.geography, installed_folder())
        networks = Path(network.networks) if network.networks is not None else None
        regions = [region.point for region in regions_of(config)]
        basis = basis_of(network, [*files, *([networks] if networks is not None else [])], regions)
        if self._atlas is not None and self._atlas.basis == basis:
            return
        atlas = await asyncio.to_thread(make_atlas, network, files, networks, regions)
        log.info("%d mapping units", len(atlas.names))
        self._take(atlas)

    async def _publish(self) -> None:
        if self._atlas is None or self._published == self._atlas.digest or not self._leading():
            return
        self._packed = self._packed or await asyncio.to_thread(pack, self._atlas)
        try:
            held = await self._runtime.bus.get(KV_ATLAS, KV_CURRENT)
            await self._runtime.bus.put(KV_ATLAS, KV_CURRENT, self._packed, held[0] if held is not None else 0)
            self._published = self._atlas.digest
            self._unpublished.tell("")
        except (BusDown, Conflict) as error:  # the next look tries again
            if self._runtime.bus.up:
                self._unpublished.tell(str(error))
