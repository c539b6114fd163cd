"""What name servers and edge servers tell the controllers of beacons."""

import asyncio
from collections.abc import Callable

import msgspec

from nearmile.mapping.beacons import SUBJECT, TELL_S, Report, Side, Sighting
from nearmile.services.runtime import Runtime


async def tell(runtime: Runtime, side: Side, take: Callable[[], tuple[Sighting, ...]]) -> None:
    """Tells what was seen since the last time, until it is cancelled."""
    while True:
        await asyncio.sleep(TELL_S)
        if seen := take():
            runtime.bus.publish(f"{SUBJECT}.{runtime.me.name}", msgspec.msgpack.encode(Report(side, seen)))
