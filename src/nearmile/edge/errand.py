"""What runs the coroutines of requests: as a task of asyncio does, with less around it."""

from asyncio import CancelledError
from collections.abc import Callable, Coroutine
from typing import Any

from nearmile.edge.wake import Loop


class Errand:
    """A coroutine that begins in a later turn of the event loop, and goes on when what it waits for has come.

    ``done`` is told of its end, with what it raised, unless it was cancelled. It has no place among all tasks,
    which takes 9 us; so nothing works in it that has to be in a task, as asyncio.timeout.
    """

    __slots__ = ("_awaited", "_cancelled", "_done", "_loop", "_work")

    def __init__(
        self, loop: Loop, work: Coroutine[Any, Any, None], done: Callable[[Exception | None], None]
    ) -> None:
        self._loop, self._work, self._done = loop, work, done
        self._awaited: Any = None
        self._cancelled = False
        loop.call_soon(self._go_on)

    def cancel(self) -> None:
        """Ends it where it waits."""
        self._cancelled = self._awaited is None or not self._awaited.cancel()

    def _go_on(self, _come: object = None) -> None:
        self._awaited = None
        try:
            if self._cancelled:
                self._cancelled = False
                future = self._work.throw(CancelledError())
            else:
                future = self._work.send(None)
        except StopIteration:
            self._done(None)
        except CancelledError:
            pass
        except Exception as error:
            self._done(error)
        else:
            if future is None:
                self._loop.call_soon(self._go_on)
                return
            future._asyncio_future_blocking = False  # between futures and whatever runs coroutines
            self._awaited = future
            future.add_done_callback(self._go_on)
