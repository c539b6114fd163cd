"""Waiting for what happens in its own time, for as long as a busy machine may take."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

PATIENCE_S = 30.0
# So often the same is taken for the last word: turns of the loop, so that no pause of the machine counts as rest.
LOOKS = 20
Seen = TypeVar("Seen")


async def until(condition: Callable[[], bool]) -> None:
    """Returns when the condition holds; TimeoutError where it does not in PATIENCE_S."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.005)


async def at_rest(look: Callable[[], Seen]) -> Seen:
    """What ``look`` sees once it has stayed the same; TimeoutError where it does not in PATIENCE_S."""
    async with asyncio.timeout(PATIENCE_S):
        seen, same = look(), 0
        while same < LOOKS:
            await asyncio.sleep(0.01)
            before, seen = seen, look()
            same = same + 1 if seen == before else 0
    return seen
