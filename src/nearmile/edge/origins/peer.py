"""Whom an edge server asks for what it does not have, what it asks, and how that can fail."""

from collections.abc import Callable
from copy import copy
from typing import Literal, Self

from msgspec import Struct
from msgspec.structs import replace

from nearmile.base.addresses import bracketed
from nearmile.edge import limits
from nearmile.http.fields import Pairs
from nearmile.http.head import ResponseHead

IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"))  # RFC 9110 section 9.2.2


Http2 = Literal["offer", "never", "always"]
"""Whether HTTP/2 is spoken: where TLS agrees on it, not at all, or always (without TLS by prior knowledge)."""


class Trust(Struct, frozen=True, cache_hash=True):
    """How a server must prove who it is (TLS)."""

    name: str
    """What its certificate must be for; said to it by SNI where it is no address."""
    authorities: str | None = None
    """PEM of those to trust; None: the system's. Empty: nobody, so that no connection comes about."""


class Probe(Struct, frozen=True):
    """How to look now and then whether a server is well."""

    host: bytes
    target: bytes
    interval_s: float


class Peer(Struct, frozen=True, kw_only=True, cache_hash=True):
    """An origin of a site, or another server of the network. Two sites never share one, nor its connections."""

    host: str
    port: int
    site: str
    local: str = ""
    """The address to speak from; empty: any."""
    trust: Trust | None = None
    """None: without TLS."""
    http2: Http2 = "offer"
    probe: Probe | None = None
    requests_max: int = limits.REQUESTS_PER_ORIGIN_MAX
    connect_timeout_s: float = limits.CONNECT_TIMEOUT_S
    first_byte_timeout_s: float = limits.FIRST_BYTE_TIMEOUT_S
    between_bytes_timeout_s: float = limits.BETWEEN_BYTES_TIMEOUT_S
    idle_timeout_s: float = limits.WEBSOCKET_IDLE_S
    """Of a connection that has switched to another protocol."""

    def __str__(self) -> str:
        """As the log names it."""
        return f"{'http' if self.trust is None else 'https'}://{bracketed(self.host)}:{self.port}"


class Origin(Struct, frozen=True):
    """A site's origins, or servers of the network in place of them, in order of preference."""

    peers: tuple[Peer, ...]
    host: bytes = b""
    """What they get as Host; empty: what the client asked for."""
    over_errors: bool = False
    """An answer that says that the origin fails is reason enough to ask the next."""
    last_resort: bool = True
    """They are asked even when all are put aside."""

    def without_http2(self) -> "Origin":
        """The same over HTTP/1.1, for what a stream cannot do."""
        return replace(self, peers=tuple(replace(peer, http2="never", probe=None) for peer in self.peers))


class Question(Struct, frozen=True, kw_only=True):
    """A request to a peer, of whichever protocol."""

    method: bytes
    target: bytes
    host: bytes
    pairs: Pairs
    """Without Host and framing."""
    framing: int | Literal["chunked"] | None = None
    """The length of its body, if that is known; None: there is no body."""
    reading: Callable[[ResponseHead], ResponseHead] | None = None
    """What the answer's head is taken to say; None: what it does."""
    switches: bool = False
    """The peer may answer 101 and go on with another protocol."""

    @property
    def repeatable(self) -> bool:
        """Whether it may be sent again when nobody knows what became of it (RFC 9110 section 9.2.2)."""
        return not self.framing and self.method in IDEMPOTENT


class UpstreamError(Exception):
    """No (whole) answer; ``status`` and ``fields`` are what to tell a client that has got nothing yet.

    The text is for the client as well; ``detail`` is for the operator alone.
    """

    def __init__(self, reason: str, status: int = 502, detail: str = "", fields: Pairs = ()) -> None:
        super().__init__(reason)
        self.status, self.detail, self.fields = status, detail, fields

    def anew(self) -> Self:
        """The same, not raised yet: who keeps what he raised keeps the frames that keep himself."""
        return copy(self)


class Unsent(UpstreamError):
    """Nothing of the request has been sent: whatever it is, it may go to another peer."""


class Busy(Unsent):
    """As many requests as may are under way already."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, 503, fields=((b"retry-after", b"%d" % limits.BUSY_RETRY_S),))


class Refused(UpstreamError):
    """The peer has not processed the request in any way (RFC 9113 section 8.7)."""


class BrokenOff(UpstreamError):
    """The request will not be whole, which is no fault of the peer's."""


class Died(UpstreamError):
    """The connection ended before any byte of the answer."""
