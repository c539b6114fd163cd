"""An event loop with a clock and a network of its own: nothing in it takes longer than its computing.

Time passes when nobody has anything left to do now. What is sent arrives after a pause that a seed decides, in its
order on each connection. So a seed is a run, and the same one every time.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

EPOCH_S = 1_800_000_000.0
DELAY_S = 0.02
Address = tuple[str, int]
Factory = Callable[[], asyncio.Protocol]
END, RESET = b"end", b"reset"


class Wire(asyncio.Transport):
    """One end of a connection."""

    def __init__(self, loop: "VirtualLoop", mine: Address, theirs: Address, protocol: asyncio.Protocol) -> None:
        super().__init__({"sockname": mine, "peername": theirs})
        self.loop, self.protocol = loop, protocol
        # Its own: connections are swept in no order.
        self._chance = Random(f"{loop.seed} {mine} {theirs}")
        self.other: Wire
        self._coming: deque[tuple[bytes, bytes]] = deque()
        """What has been sent here: what it is, where it is not just data; the data."""
        self._arrives_s = 0.0
        self._arrived = 0
        self._due = self._paused = self._closing = self._lost = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._closing:
            self._send(b"", bytes(data))

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(map(bytes, list_of_data)))

    def write_eof(self) -> None:
        self._send(END)

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        self._part(END)

    def abort(self) -> None:
        self._part(RESET)

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        self._soon()

    def is_reading(self) -> bool:
        return not self._paused

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self.protocol

    def _part(self, how: bytes) -> None:
        if not self._closing:
            self._closing = True
            self._send(how)
            self.loop.call_soon(self._lose, None)

    def _send(self, what: bytes, data: bytes = b"") -> None:
        other, now_s = self.other, self.loop.time()
        other._coming.append((what, data))
        other._arrives_s = max(other._arrives_s, now_s + self._chance.uniform(0, DELAY_S))
        self.loop.call_at(other._arrives_s, other._arrive)

    def _arrive(self) -> None:
        self._arrived += 1
        self._soon()

    def _soon(self) -> None:
        if not self._due:
            self._due = True
            self.loop.call_soon(self._take)

    def _take(self) -> None:
        self._due = False
        if not self._arrived or self._paused or self._lost:
            return
        self._arrived -= 1
        what, data = self._coming.popleft()
        if what == RESET:
            self._lose(ConnectionResetError("reset"))
        elif what == END and not self._closing:
            if not self.protocol.eof_received():
                self.close()
        elif not self._closing:
            self.protocol.data_received(data)
        # One thing in a turn: streams of asyncio miss the end of a connection that comes with its last data.
        self._soon()

    def _lose(self, error: Exception | None) -> None:
        if not self._lost:
            self._lost = self._closing = True
            self.protocol.connection_lost(error)


class Listener:
    """Of a server."""

    def __init__(self, close: Callable[[], None]) -> None:
        self.close = close


class VirtualLoop(asyncio.BaseEventLoop):
    """Raises what nobody handled when it is done."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed, self.chance = seed, Random(seed)
        self.errors: list[str] = []
        self._now_s = 0.0
        self._selector = self
        self._listening: dict[Address, Factory] = {}
        self._ports = 0
        self.set_exception_handler(self._told)

    def _told(self, _loop: asyncio.AbstractEventLoop, said: dict[str, Any]) -> None:
        # Streams of Python 3.11 tell that one was cancelled who still served as the test ended.
        if not isinstance(said.get("exception"), asyncio.CancelledError):
            self.errors.append(str(said))

    def time(self) -> float:
        return self._now_s

    def wall_s(self) -> float:
        """What clocks say."""
        return EPOCH_S + self._now_s

    def select(self, timeout: float | None) -> list[Any]:
        """In place of a selector's: time passes."""
        assert timeout is not None, "everybody waits, and nothing will ever happen"
        self._now_s += timeout
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> "asyncio.Future[Any]":
        """What takes a thread takes a while."""
        done = self.create_future()
        self.call_later(self.chance.uniform(0, DELAY_S), done.set_result, func(*args))
        return done

    async def create_server(self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:
        self._listening[host, port] = protocol_factory
        return Listener(lambda: self._listening.pop((host, port), None) and None)

    async def create_connection(
        self, protocol_factory: Any, host: Any = None, port: Any = None, **more: Any
    ) -> Any:
        await asyncio.sleep(self.chance.uniform(0, DELAY_S))
        listening = self._listening.get((host, port))
        if listening is None:
            raise ConnectionRefusedError("nobody listens there")
        self._ports += 1
        mine = ((more.get("local_addr") or ("127.0.0.1", 0))[0], self._ports)
        near = Wire(self, mine, (host, port), protocol_factory())
        far = Wire(self, (host, port), mine, listening())
        near.other, far.other = far, near
        far.protocol.connection_made(far)
        near.protocol.connection_made(near)
        return near, near.protocol


def run_virtually(test: Callable[[VirtualLoop], Coroutine[Any, Any, None]], seed: int) -> None:
    """Runs a test in a loop of that seed."""
    loop = VirtualLoop(seed)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(test(loop))
    assert not loop.errors, loop.errors
