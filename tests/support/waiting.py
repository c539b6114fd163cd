"""Waiting for what happens in its own time, for as long as a busy machine may take."""

import asyncio
from collections.abc import Callable

PATIENCE_S = 30.0


async def until(condition: Callable[[], bool]) -> None:
    """Returns when the condition holds; TimeoutError where it does not in PATIENCE_S."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.005)
