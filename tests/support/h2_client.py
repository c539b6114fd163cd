"""A client of HTTP/2 that is not ours (the library h2), on one connection, for tests of the edge server."""

import asyncio
import contextlib
import ssl
from typing import NamedTuple

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from edge_world import ADDRESSES, HOST

SECURE_PORT = 8443


class Answer(NamedTuple):
    """What a stream brought."""

    status: int
    fields: dict[str, str]
    body: bytes
    error: int | None
    interim: tuple[int, ...]
    trailers: dict[str, str] = {}  # noqa: RUF012


class H2Client:
    """Reads what comes as long as somebody waits for a stream; ``window`` False leaves windows as they are."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, window: bool = True) -> None:
        self.reader, self.writer, self.window = reader, writer, window
        # Tests also send what is wrong.
        config = h2.config.H2Configuration(
            header_encoding="latin-1", validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self.h2 = h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        self.goaway: int | None = None
        self.ended = False
        self.got: dict[int, Answer] = {}
        self.done: set[int] = set()
        self.flush()

    @property
    def over(self) -> bool:
        """Whether the server takes no more requests here."""
        return self.ended or self.goaway is not None

    def flush(self) -> None:
        """Sends what the library has to say."""
        self.writer.write(self.h2.data_to_send())

    def ask(
        self,
        path: str,
        *fields: tuple[str, str],
        method: str = "GET",
        end: bool = True,
        authority: str = HOST,
    ) -> int:
        """Opens a stream."""
        stream = int(self.h2.get_next_available_stream_id())
        pseudo = [(":method", method), (":scheme", "https"), (":authority", authority), (":path", path)]
        self.h2.send_headers(stream, [*pseudo, *fields], end_stream=end)
        self.flush()
        return stream

    async def get(self, path: str, *fields: tuple[str, str], method: str = "GET") -> Answer:
        """One request and its response."""
        return await self.answer(self.ask(path, *fields, method=method))

    async def upload(self, stream: int, body: bytes) -> None:
        """Sends a body as the windows allow, until the answer is complete or the connection over."""
        while body and not (self.ended or stream in self.done):
            size = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size, len(body))
            if size == 0:
                await self.read()
                continue
            self.h2.send_data(stream, body[:size])
            body = body[size:]
            self.flush()
        if not (self.ended or stream in self.done):
            self.h2.end_stream(stream)
            self.flush()

    async def answer(self, stream: int) -> Answer:
        """Waits for the end of a stream."""
        while stream not in self.done and not self.ended:
            await self.read()
        return self.got.get(stream, Answer(0, {}, b"", None, ()))

    async def read(self) -> None:
        """Takes what has come, or waits for it."""
        data = b""
        with contextlib.suppress(ConnectionError):
            data = await self.reader.read(65536)
        if not data:
            await self.close()
            return
        for event in self.h2.receive_data(data):
            self._take(event)
        if self.goaway is None:
            self.flush()

    async def close(self) -> None:
        """Ends the connection, without goodbyes."""
        self.ended = True
        self.writer.transport.abort()
        await asyncio.sleep(0)

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ResponseReceived):
            fields = {str(name): str(value) for name, value in event.headers}
            interim = self._have(event.stream_id).interim
            self.got[event.stream_id] = Answer(int(fields.pop(":status")), fields, b"", None, interim)
        elif isinstance(event, h2.events.InformationalResponseReceived):
            status = next(int(value) for name, value in event.headers if str(name) == ":status")
            have = self._have(event.stream_id)
            self.got[event.stream_id] = have._replace(interim=(*have.interim, status))
        elif isinstance(event, h2.events.TrailersReceived):
            trailers = {str(name): str(value) for name, value in event.headers}
            self.got[event.stream_id] = self._have(event.stream_id)._replace(trailers=trailers)
        elif isinstance(event, h2.events.DataReceived):
            have = self._have(event.stream_id)
            self.got[event.stream_id] = have._replace(body=have.body + event.data)
            if self.window and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self.done.add(event.stream_id)
        elif isinstance(event, h2.events.StreamReset):
            self.got[event.stream_id] = self._have(event.stream_id)._replace(error=int(event.error_code))
            self.done.add(event.stream_id)
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.goaway = int(event.error_code or 0)

    def _have(self, stream: int) -> Answer:
        return self.got.get(stream, Answer(0, {}, b"", None, ()))


def trusting(certificate: str, *protocols: str) -> ssl.SSLContext:
    """A client's settings: whom it trusts, and what it speaks."""
    context = ssl.create_default_context(cafile=certificate)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


async def connect(trust: ssl.SSLContext, window: bool = True) -> H2Client:
    """A connection over TLS to the first edge server."""
    reader, writer = await asyncio.open_connection(ADDRESSES[0], SECURE_PORT, ssl=trust, server_hostname=HOST)
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
    return H2Client(reader, writer, window)
