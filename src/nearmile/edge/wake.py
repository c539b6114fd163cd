"""How coroutines of one event loop wait for each other's news."""

from collections.abc import Awaitable, Callable, Coroutine, Generator
from concurrent.futures import Executor
from types import coroutine
from typing import Any, Protocol, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Future(Protocol, Awaitable[None]):
    """What of an event loop's future is needed here."""

    def done(self) -> bool:
        """Whether it is decided or cancelled."""
        ...

    def set_result(self, result: None) -> None:
        """Wakes who waits."""
        ...


class Loop(Protocol):
    """What of the event loop the request phases need."""

    def create_future(self) -> Future:
        """A future of this loop."""
        ...

    def create_task(self, coro: Coroutine[Any, Any, None]) -> Any:
        """Runs a coroutine."""
        ...

    def call_soon(self, callback: Callable[[Unpack[Ts]], object], *args: *Ts) -> Any:
        """Calls it in a later turn."""
        ...

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> Awaitable[T]:
        """Runs a function on a thread."""
        ...


class Signal:
    """Wakes everyone who waits at the moment it fires; nothing is remembered for those who come later."""

    __slots__ = ("_new_future", "_waiting")

    def __init__(self, new_future: Callable[[], Future]) -> None:
        self._new_future = new_future
        self._waiting: list[Future] = []

    def wait(self) -> Future:
        """To be awaited: done when the signal fires."""
        future = self._new_future()
        self._waiting.append(future)
        return future

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
