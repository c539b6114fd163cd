"""HTTP/2 as the cache suite speaks it: the library h2, with prior knowledge, one stream at a time."""

import asyncio
from typing import NamedTuple

import h2.config
import h2.connection
import h2.events

from suite_run import Speak
from suite_wire import Client, Head, Pairs, Response

# They are about a connection of HTTP/1.1, and a stream that has one is refused (RFC 9113 section 8.2.2).
NOT_HERE = frozenset(("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "te"))


class _Connection(NamedTuple):
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    h2: h2.connection.H2Connection


class H2Client:
    """One connection to the cache, opened again when the cache has closed it (suite_run.Wire)."""

    def __init__(self, address: str, port: int, host: str) -> None:
        self._address, self._port, self._host = address, port, host
        self._connection: _Connection | None = None

    async def fetch(self, method: str, target: str, pairs: Pairs, body: bytes) -> Response:
        """One exchange."""
        wire = self._connection or await self._connect()
        stream = wire.h2.get_next_available_stream_id()
        pseudo = [(":method", method), (":scheme", "http"), (":authority", self._host), (":path", target)]
        fields = [(name.lower(), value) for name, value in pairs if name.lower() not in NOT_HERE]
        wire.h2.send_headers(stream, [*pseudo, *fields], end_stream=not body)
        if body:
            wire.h2.send_data(stream, body, end_stream=True)
        got: Response | None = None
        interim: list[tuple[int, Pairs]] = []
        while True:
            wire.writer.write(wire.h2.data_to_send())
            data = await wire.reader.read(65536)
            if not data:
                self.close()
                raise ConnectionResetError("the connection ended before the response")
            for event in wire.h2.receive_data(data):
                if isinstance(event, h2.events.InformationalResponseReceived):
                    head = _head(event.headers)
                    interim.append((int(head.line[1]), head.pairs))
                elif isinstance(event, h2.events.ResponseReceived):
                    head = _head(event.headers)
                    got = Response(int(head.line[1]), head, "", interim)
                elif isinstance(event, h2.events.DataReceived):
                    assert got is not None
                    got.body += event.data.decode("latin-1")
                    wire.h2.acknowledge_received_data(event.flow_controlled_length, stream)
                elif isinstance(event, h2.events.StreamEnded):
                    assert got is not None
                    wire.writer.write(wire.h2.data_to_send())
                    return got
                elif isinstance(event, h2.events.StreamReset):
                    raise ConnectionResetError(f"the stream was reset ({event.error_code})")
                elif isinstance(event, h2.events.ConnectionTerminated):
                    self.close()
                    raise ConnectionResetError(f"the connection was ended ({event.error_code})")

    async def _connect(self) -> _Connection:
        reader, writer = await asyncio.open_connection(self._address, self._port)
        config = h2.config.H2Configuration(header_encoding="latin-1", validate_inbound_headers=False)
        self._connection = _Connection(reader, writer, h2.connection.H2Connection(config))
        self._connection.h2.initiate_connection()
        return self._connection

    def close(self) -> None:
        """Ends the connection."""
        if self._connection is not None:
            self._connection.writer.close()
        self._connection = None


def _head(headers: object) -> Head:
    assert isinstance(headers, list)
    pairs = [(str(name), str(value)) for name, value in headers]
    status = next(value for name, value in pairs if name == ":status")
    return Head(("HTTP/2", status, ""), [pair for pair in pairs if not pair[0].startswith(":")])


PROTOCOLS: dict[str, Speak] = {"HTTP/1.1": Client, "HTTP/2": H2Client}
