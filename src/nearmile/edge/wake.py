"""How coroutines of one event loop wait for each other's news."""

from collections.abc import Awaitable, Callable, Generator
from types import coroutine
from typing import Protocol


class Future(Protocol, Awaitable[None]):
    """What of an event loop's future is needed here."""

    def done(self) -> bool:
        """Whether it is decided or cancelled."""
        ...

    def set_result(self, result: None) -> None:
        """Wakes who waits."""
        ...


class Signal:
    """Wakes everyone who waits at the moment it fires; nothing is remembered for those who come later."""

    __slots__ = ("_new_future", "_waiting")

    def __init__(self, new_future: Callable[[], Future]) -> None:
        self._new_future = new_future
        self._waiting: list[Future] = []

    async def wait(self) -> None:
        """Sleeps until the signal fires."""
        future = self._new_future()
        self._waiting.append(future)
        await future

    def fire(self) -> None:
        """Wakes all."""
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for future in waiting:
                if not future.done():
                    future.set_result(None)


@coroutine
def turn() -> Generator[None, None, None]:
    """Lets everybody else who is ready have a turn first."""
    yield
