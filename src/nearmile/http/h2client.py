"""One HTTP/2 connection's protocol, client side, without IO: bytes in, events out; orders in, bytes out.

All that is known of libnghttp2 (by way of ``ngh2``) stands here, so that another library can take its place. It
checks frames, HPACK, flow control and RFC 9113's rules for responses by itself.
"""

from collections.abc import Iterable

from ngh2 import Configuration, Connection, Role
from ngh2.enums import ErrorCode, Setting
from ngh2.events import (
    ConnectionClosed,
    DataReceived,
    InformationalResponseReceived,
    ResponseReceived,
    StreamClosed,
    TrailersReceived,
)
from ngh2.exceptions import ConnectionStateError, NGH2Error, StreamProtocolError

from nearmile.http.fields import BadMessage, Pairs, parse_fields, parse_pairs
from nearmile.http.head import ResponseHead, write_fields
from nearmile.http.limits import (
    FIELDS_MAX,
    H2_CONTINUATIONS_MAX,
    H2_HELD_ACKS_MAX,
    H2_LINK_STREAMS_MAX,
    H2_LINK_WINDOW_BYTES,
    H2_RESPONSE_WINDOW_BYTES,
    RESPONSE_HEAD_BYTES_MAX,
    TRAILER_BYTES_MAX,
)

# Events, told apart by their type; all but the last have ``stream_id``.
Responded, Informed, BodyCame, TrailersCame = (
    ResponseReceived,
    InformationalResponseReceived,
    DataReceived,
    TrailersReceived,
)
StreamEnded, Ended = StreamClosed, ConnectionClosed
NO_ERROR, CANCEL, PROTOCOL_ERROR = ErrorCode.NO_ERROR, ErrorCode.CANCEL, ErrorCode.PROTOCOL_ERROR
REFUSED = ErrorCode.REFUSED_STREAM
"""The peer has not processed the request in any way (RFC 9113 section 8.7); also of streams beyond its GOAWAY."""

_CONFIGURATION = Configuration(
    auto_window_update=False,
    max_outbound_ack=H2_HELD_ACKS_MAX,
    max_continuations=H2_CONTINUATIONS_MAX,
    max_inbound_header_list_size=RESPONSE_HEAD_BYTES_MAX,
    max_inbound_header_count=FIELDS_MAX,
    peer_max_concurrent_streams=H2_LINK_STREAMS_MAX,
)
_SETTINGS = {
    Setting.ENABLE_PUSH: 0,
    Setting.INITIAL_WINDOW_SIZE: H2_RESPONSE_WINDOW_BYTES,
    Setting.MAX_HEADER_LIST_SIZE: RESPONSE_HEAD_BYTES_MAX,
}


class ClientSession:
    """The client's side.

    Streams are named by their number. Orders for streams that have ended meanwhile are no errors.
    """

    def __init__(self) -> None:
        self._connection = Connection(Role.CLIENT, _CONFIGURATION)
        self._connection.initiate_connection(_SETTINGS)
        self._connection.set_local_window_size(H2_LINK_WINDOW_BYTES)

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

    def feed(self, data: bytes) -> list[object]:
        """Bytes from the server; returns what they mean. Raises BadMessage where the connection is beyond use."""
        try:
            self._connection.receive_data(data)
        except NGH2Error as error:
            raise BadMessage(f"HTTP/2 that is none ({error})", 502) from None
        return self._connection.events()  # type: ignore[return-value]

    @property
    def takes_more(self) -> bool:
        """Whether a request can still be sent: the server is not going away."""
        try:
            return self._connection.can_send_request
        except ConnectionStateError:
            return False

    @property
    def streams_max(self) -> int:
        """How many requests the server wants under way at a time."""
        try:
            said = self._connection.remote_settings.get(Setting.MAX_CONCURRENT_STREAMS, H2_LINK_STREAMS_MAX)
        except ConnectionStateError:
            return 0
        return min(said, H2_LINK_STREAMS_MAX)

    def ask(self, headers: Pairs, end: bool) -> int | None:
        """Sends a request's head; returns its stream's number, None where there can be no more."""
        try:
            return self._connection.send_request(headers, end_stream=end)
        except NGH2Error:
            return None

    def queued_bytes(self, stream: int) -> int:
        """What of a stream's body waits."""
        try:
            return self._connection.queued_body_size(stream)
        except NGH2Error:
            return 0

    def go_away(self) -> None:
        """Says goodbye."""
        try:
            self._connection.terminate_connection(NO_ERROR)
        except ConnectionStateError:
            return


def response_of(headers: Pairs) -> ResponseHead:
    """A response's head, read by the one strict parser; raises BadMessage (RFC 9113 section 8.3.2)."""
    status = headers[0][1] if headers and headers[0][0] == b":status" else b""
    fields = headers[1:]
    if len(status) != 3 or not status.isdigit() or status < b"100":
        raise BadMessage("a malformed status", 502)
    head = parse_fields(_lines(fields), response=True)
    if head.chunked:
        raise BadMessage("framing that HTTP/2 does not have", 502)
    return ResponseHead(int(status), 1, head)


def trailers_of(headers: Pairs) -> Pairs:
    """The fields behind a response, read as strictly; raises BadMessage."""
    if sum(len(name) + len(value) for name, value in headers) > TRAILER_BYTES_MAX:
        raise BadMessage("the trailer is too large", 502)
    return parse_pairs(_lines(headers))


def _lines(fields: Pairs) -> bytes:
    """As lines of HTTP/1.1."""
    if any(name.startswith(b":") or b"\r" in value or b"\n" in value for name, value in fields):
        raise BadMessage("a malformed field", 502)
    return write_fields(fields)
