"""What HTTP/3's sessions are given in place of a connection of QUIC."""

from typing import Any

from qh3.quic.events import StreamDataReceived

from nearmile.http.h3 import BodyCame, Event, Session, StreamEnded
from nearmile.http.qpack import Sections
from nearmile.http.quic import Run


class Wire:
    """In place of a connection of QUIC: what came, and what is to go."""

    def __init__(self) -> None:
        self.came: list[Any] = []
        self.sent: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.reset: dict[int, int] = {}
        self.stopped: dict[int, int] = {}
        self.closed: int | None = None
        self.kept_bytes = 0
        self.room = 1 << 10

    def next_event(self) -> Any:
        """Of what came."""
        return self.came.pop(0) if self.came else None

    def send_stream_data(self, stream: int, data: bytes, end: bool) -> None:
        """Takes what is to go."""
        self.sent[stream] = self.sent.get(stream, b"") + data
        if end:
            self.ended.add(stream)

    def get_send_buffer_size(self, stream: int) -> int:
        """What waits."""
        return self.kept_bytes

    def runs_to_send(self, now_s: float) -> list[Run]:
        """Nothing."""
        return []

    def reset_stream(self, stream: int, code: int) -> None:
        """Notes it."""
        self.reset[stream] = code

    def stop_stream(self, stream: int, code: int) -> None:
        """Notes it."""
        self.stopped[stream] = code

    def close(self, code: int) -> None:
        """Notes it."""
        self.closed = code


def session() -> tuple[Session, Wire]:
    """A session on one."""
    wire = Wire()
    return Session(wire, Sections()), wire  # type: ignore[arg-type]


def told(number: int, data: bytes, end: bool = True, step: int = 0) -> tuple[list[Event], Wire]:
    """What a stream says, in one piece or in many."""
    here, wire = session()
    step = step or max(len(data), 1)
    pieces = [data[at : at + step] for at in range(0, len(data), step)] or [b""]
    wire.came = [StreamDataReceived(piece, False, number) for piece in pieces]
    wire.came[-1] = StreamDataReceived(pieces[-1], end, number)
    return here.events(), wire


def sense(number: int, data: bytes, end: bool, step: int) -> tuple[object, ...]:
    """What a stream means, however it is cut."""
    events, wire = told(number, data, end, step)
    if wire.closed is not None:
        return ()  # what was noticed first depends on the pieces
    body = b"".join(event.data for event in events if isinstance(event, BodyCame))
    return [event for event in events if isinstance(event, StreamEnded)], body, wire.reset
