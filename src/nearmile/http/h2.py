"""One HTTP/2 connection's protocol, server side, without IO: bytes in, events out; orders in, bytes out.

All that is known of libnghttp2 (by way of ``ngh2``) stands here, so that another library can take its place.
It checks frames, HPACK, flow control and RFC 9113's rules for requests by itself: what breaks them ends the stream
or the connection before an event is made of it. What it calls a flood ends the connection at once.
"""

from collections.abc import Iterable

from ngh2 import Configuration, Connection, Role
from ngh2.enums import ErrorCode, Setting
from ngh2.events import ConnectionClosed, DataReceived, RequestReceived, StreamClosed, TrailersReceived
from ngh2.exceptions import ConnectionStateError, NGH2Error, StreamProtocolError

from nearmile.http.limits import (
    FIELDS_MAX,
    H2_CONNECTION_WINDOW_BYTES,
    H2_CONTINUATIONS_MAX,
    H2_HELD_ACKS_MAX,
    H2_STREAM_WINDOW_BYTES,
    H2_STREAMS_MAX,
    HEAD_BYTES_MAX,
)

Headers = tuple[tuple[bytes, bytes], ...]

# Events, told apart by their type; a request has ``stream_id``, ``headers`` and ``end_stream``.
Requested, BodyCame, TrailersCame = RequestReceived, DataReceived, TrailersReceived
StreamEnded, Ended = StreamClosed, ConnectionClosed
NO_ERROR, INTERNAL_ERROR, PROTOCOL_ERROR = ErrorCode.NO_ERROR, ErrorCode.INTERNAL_ERROR, ErrorCode.PROTOCOL_ERROR
CANCEL, ENHANCE_YOUR_CALM = ErrorCode.CANCEL, ErrorCode.ENHANCE_YOUR_CALM

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # RFC 9113 section 3.4
_CONFIGURATION = Configuration(
    auto_window_update=False,
    max_outbound_ack=H2_HELD_ACKS_MAX,
    max_continuations=H2_CONTINUATIONS_MAX,
    max_inbound_header_list_size=HEAD_BYTES_MAX,
    # A browser may send each cookie as a field of its own (RFC 9113 section 8.2.3); they are joined before they
    # are counted strictly.
    max_inbound_header_count=4 * FIELDS_MAX,
)
_SETTINGS = {
    Setting.MAX_CONCURRENT_STREAMS: H2_STREAMS_MAX,
    Setting.INITIAL_WINDOW_SIZE: H2_STREAM_WINDOW_BYTES,
    Setting.MAX_HEADER_LIST_SIZE: HEAD_BYTES_MAX,
    Setting.NO_RFC7540_PRIORITIES: 1,
}


class Flood(Exception):
    """The connection is beyond use, without a word of the library's own; ``last_words`` are to be sent."""

    def __init__(self, reason: str, error: int) -> None:
        super().__init__(reason)
        # GOAWAY of 8 bytes on stream 0: no stream is promised to have been served (RFC 9113 section 6.8).
        self.last_words = b"\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00" + error.to_bytes(4, "big")


class Side:
    """What both sides of a connection do.

    Streams are named by their number. Orders for streams that have ended meanwhile are no errors.
    """

    def __init__(
        self, role: Role, configuration: Configuration, settings: dict[Setting, int], window_bytes: int
    ) -> None:
        self._connection = Connection(role, configuration)
        self._connection.initiate_connection(settings)
        self._connection.set_local_window_size(window_bytes)

    def out(self, size_bytes: int) -> bytes:
        """Bytes to send now, about as many as that; empty when windows or streams have no more."""
        try:
            return self._connection.data_to_send(size_bytes)
        except ConnectionStateError:
            return b""

    def events(self) -> list[object]:
        """What sending has brought about: streams that ended, the connection's end."""
        return self._connection.events()  # type: ignore[return-value]

    def send(self, stream: int, pieces: Iterable[bytes | memoryview], end: bool) -> None:
        """Queues parts of a body; they are kept by reference until the windows let them go."""
        try:
            for piece in pieces:
                self._connection.send_data(stream, piece)
            if end:
                self._connection.end_stream(stream)
        except (ConnectionStateError, StreamProtocolError):
            return

    def consumed(self, stream: int, size_bytes: int) -> None:
        """So much of a body has been used: the peer may send as much again."""
        try:
            self._connection.acknowledge_received_data(size_bytes, stream)
        except (ConnectionStateError, StreamProtocolError, ValueError):
            return

    def reset(self, stream: int, error: int) -> None:
        """Ends a stream at once, and forgets what of it waits."""
        try:
            self._connection.reset_stream(stream, error)
        except ConnectionStateError:
            return


class Session(Side):
    """The server's."""

    def __init__(self) -> None:
        super().__init__(Role.SERVER, _CONFIGURATION, _SETTINGS, H2_CONNECTION_WINDOW_BYTES)

    def feed(self, data: bytes) -> list[object]:
        """Bytes from the client; returns what they mean. Raises Flood."""
        try:
            self._connection.receive_data(data)
        except ConnectionStateError:
            return []
        except NGH2Error as error:
            flood = "Flood" in str(error) or "Too many" in str(error) or "exceeds" in str(error)
            raise Flood(str(error), ENHANCE_YOUR_CALM if flood else PROTOCOL_ERROR) from None
        return self._connection.events()  # type: ignore[return-value]

    def respond(self, stream: int, headers: Headers, end: bool) -> bool:
        """Sends the head of a response, `:status` first; returns whether the stream could still take it."""
        try:
            self._connection.send_response(stream, headers, end_stream=end)
        except (ConnectionStateError, StreamProtocolError):
            return False
        return True

    def interim(self, stream: int, headers: Headers) -> None:
        """Sends an interim response (RFC 9110 section 15.2)."""
        try:
            self._connection.send_informational_response(stream, headers)
        except (ConnectionStateError, StreamProtocolError):
            return

    def trail(self, stream: int, trailers: Headers) -> None:
        """Ends a body with trailer fields."""
        try:
            self._connection.send_trailers(stream, trailers)
        except (ConnectionStateError, StreamProtocolError):
            return

    def queued_bytes(self, stream: int) -> int:
        """What of a stream's body waits."""
        return self._connection.queued_body_size(stream)

    def go_away(self, error: int, at_once: bool) -> None:
        """Takes no more streams; ``at_once`` ends those that there are."""
        try:
            if at_once:
                self._connection.terminate_connection(error)
            else:
                self._connection.send_goaway(error)
        except ConnectionStateError:
            return
