"""An origin that speaks HTTP/2 with a library that is not ours (h2), as well or as badly as its handler likes."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import h2.config
import h2.connection
import h2.events
import h2.settings

Fields = list[tuple[str, str]]


class Stream(NamedTuple):
    """A request: its head, and what comes of its body."""

    origin: "H2Origin"
    connection: "Connection"
    number: int
    head: dict[str, str]
    body: bytearray
    ended: asyncio.Event

    async def respond(self, body: bytes = b"", *fields: tuple[str, str], status: int = 200) -> None:
        """A whole response, in the windows that there are."""
        self.head_only(*fields, status=status)
        await self.data(body, end=True)

    def head_only(self, *fields: tuple[str, str], status: int = 200) -> None:
        """A response's head."""
        self.connection.h2.send_headers(self.number, [(":status", str(status)), *fields])
        self.connection.flush()

    async def data(self, body: bytes, end: bool = False) -> None:
        """A part of its body."""
        connection = self.connection
        while body:
            room = min(
                connection.h2.local_flow_control_window(self.number),
                connection.h2.max_outbound_frame_size,
                len(body),
            )
            if not room:
                connection.room.clear()
                await connection.room.wait()
                continue
            connection.h2.send_data(self.number, body[:room])
            body = body[room:]
            connection.flush()
        if end:
            connection.h2.end_stream(self.number)
            connection.flush()


Handler = Callable[[Stream], Awaitable[None]]


class Connection:
    """One of the origin's."""

    def __init__(self, origin: "H2Origin", writer: asyncio.StreamWriter) -> None:
        self.origin, self.writer = origin, writer
        config = h2.config.H2Configuration(
            client_side=False,
            header_encoding="latin-1",
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        self.h2 = h2.connection.H2Connection(config)
        self.h2.local_settings = h2.settings.Settings(client=False, initial_values=origin.settings)
        self.h2.initiate_connection()
        self.streams: dict[int, Stream] = {}
        self.room = asyncio.Event()
        self.resets: list[int] = []
        self.flush()

    def flush(self) -> None:
        """Sends what the library has to say."""
        self.writer.write(self.h2.data_to_send())

    def take(self, data: bytes) -> None:
        """Bytes came."""
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                head = {str(name): str(value) for name, value in event.headers}
                stream = Stream(self.origin, self, event.stream_id, head, bytearray(), asyncio.Event())
                self.streams[event.stream_id] = stream
                self.origin.asked.append(stream)
                task = asyncio.ensure_future(self.origin.handler(stream))
                self.origin.tasks.append(task)
            elif isinstance(event, h2.events.DataReceived):
                self.streams[event.stream_id].body.extend(event.data)
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                self.streams[event.stream_id].ended.set()
            elif isinstance(event, h2.events.StreamReset):
                self.resets.append(event.stream_id)
        self.room.set()
        self.flush()


class H2Origin:
    """Calls ``handler`` for each request, and keeps what it was asked."""

    def __init__(self, handler: Handler, settings: dict[h2.settings.SettingCodes, int] | None = None) -> None:
        self.handler = handler
        self.settings = settings or {h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 100}
        self.asked: list[Stream] = []
        self.connections: list[Connection] = []
        self.tasks: list[asyncio.Future[None]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        connection = Connection(self, writer)
        self.connections.append(connection)
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                connection.take(data)
        for task in self.tasks:
            task.cancel()
        writer.close()
