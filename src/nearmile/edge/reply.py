"""Writing one response to a client: the head with what every response of ours carries, the body in its framing."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from nearmile.cache import coding
from nearmile.cache.hints import EARLY_HINTS, KEPT, hint_fields, links_of
from nearmile.cache.pages import Body
from nearmile.cache.policy import Storable
from nearmile.cache.purge import STALE, VARY, tag_fields
from nearmile.edge.messages import interim_head, page
from nearmile.edge.node import Node
from nearmile.edge.rules.site import NO_RULES
from nearmile.edge.trailers import wants_trailers
from nearmile.http.body import LAST_CHUNK, encode_chunk
from nearmile.http.fields import Pairs
from nearmile.http.head import Request, ResponseHead, write_fields

CHUNKED = b"transfer-encoding: chunked\r\n"
CLOSE = b"connection: close\r\n"
BODILESS = frozenset((204, 304))
STATED = -1


class Client(Protocol):
    """The connection a request came on. Whoever waits here is cancelled when it is lost."""

    peer: str
    trusted: bool
    secure: bool
    """It came over TLS."""
    multiplexed: bool
    """A stream of HTTP/2: it needs no framing in bytes, and its end is not its connection's."""
    handed_bytes: int
    """Bytes that the kernel has taken of what was written since this was last set to 0."""

    async def write(self, pieces: Sequence[Body]) -> None:
        """Sends, and returns when the kernel has taken it all."""
        ...

    def body(self) -> AsyncIterator[list[bytes]]:
        """The request's body as it comes; raises BadMessage."""
        ...

    def switch(self) -> AsyncIterator[list[bytes]]:
        """What comes on the connection, or the stream, from now on, whatever it is, until it ends."""
        ...

    @property
    def body_read(self) -> bool:
        """Whether the request's body, if there is one, has been read to its end."""
        ...


class Reply:
    """One response. ``keep_alive`` says whether the connection serves another request afterwards."""

    def __init__(self, node: Node, client: Client, request: Request, internal: bool) -> None:
        self.node, self.client = node, client
        self.internal = internal
        """Another server asks."""
        self.minor, self.bodiless = request.minor, request.method == b"HEAD"
        self.keep_alive = request.keep_alive
        self.rules = NO_RULES
        """Of the site, once it is known."""
        self.early_hints = "off"
        """Of the site."""
        self._hinted: tuple[bytes, ...] = ()
        self.for_neighbour = b""
        """Field lines that go into the answer to another server's question."""
        self.status = 0
        """0 until a head is made."""
        self._head = b""
        self._chunked = False
        self._asked = request.fields.pairs
        self.trailers: Pairs = ()
        """With what a stream ends."""

    def begin(self, status: int, start: bytes, how: bytes, age_s: int | None, length: int | None) -> None:
        """Makes the head, to go out with the first of the body.

        ``start`` is status line and fields; ``how`` goes into Cache-Status (RFC 9211); ``length`` is the body's:
        None where it is not known, ``STATED`` where ``start`` has it.
        """
        if not self.client.body_read and not self.client.multiplexed:
            # What is still to come of this request would be taken for the next one.
            self.keep_alive = False
        framing = b""
        if length == STATED:
            pass
        elif status not in BODILESS and length is not None:
            framing = b"content-length: %d\r\n" % length
        elif status not in BODILESS and not self.bodiless and not self.client.multiplexed:
            # HTTP/1.0 knows no chunks: there the end of the connection ends the body.
            self._chunked = self.minor == 1
            self.keep_alive = self.keep_alive and self._chunked
            framing = CHUNKED if self._chunked else b""
        age = b"" if age_s is None else b"age: %d\r\n" % age_s
        close = b"" if self.keep_alive else CLOSE
        node = self.node
        alt_svc = node.alt_svc if self.client.secure else b""
        ours = b"%b%bcache-status: %b; %b\r\n" % (alt_svc, node.via, node.name, how)
        self._head = b"".join((start, age, ours, self.for_neighbour, framing, close, b"\r\n"))
        self.bodiless = self.bodiless or status in BODILESS
        self.status = status
        self.client.handed_bytes = 0

    def tell_neighbour(self, kept: Storable, stale: bool) -> None:
        """Who keeps this response must be able to purge it by its tags, and to code it.

        And must not take it for fresh where it is ``stale``, or stands in for an origin that fails.
        """
        if self.internal:
            ours = tag_fields(kept.tags) + (((VARY, b"ours"),) if coding.is_ours(kept) else ())
            if stale:
                ours += ((STALE, b"%d" % max(0, self.node.now_s() - kept.fresh_until_s)),)
            self.for_neighbour += write_fields(ours)

    async def hint(self, head: ResponseHead) -> None:
        """An interim response of the origin; older clients know none (RFC 9110 section 15.2)."""
        pairs = head.fields.pairs
        nothing_new = bool(self._hinted) and links_of(pairs, self._hinted) == self._hinted
        if head.status == EARLY_HINTS and (nothing_new or (head.fields.get(KEPT) and not self._may_repeat)):
            return
        if self.minor == 1:
            await self.client.write((interim_head(head.status, pairs, self.internal),))

    async def hint_again(self, links: tuple[bytes, ...]) -> None:
        """Tells a client that has to wait what was hinted at before what is stored came (RFC 8297), once."""
        if links and not self._hinted and self._may_repeat:
            self._hinted = links
            await self.client.write((interim_head(EARLY_HINTS, hint_fields(links), self.internal),))

    @property
    def _may_repeat(self) -> bool:
        """Whether hints that the origin does not send now are for this client."""
        known = self.client.multiplexed or self.internal or self.early_hints == "all"
        return known and self.early_hints != "off" and self.minor == 1

    async def switch(self, status: int, start: bytes) -> None:
        """The head behind which another protocol begins; ``start`` is status line and fields."""
        self.keep_alive, self.status = False, status
        self.client.handed_bytes = 0
        how = b"%bcache-status: %b; fwd=bypass\r\n" % (self.node.via, self.node.name)
        await self.client.write((start + how + b"\r\n",))

    async def send(self, pieces: Sequence[Body]) -> None:
        """The next parts of the body."""
        if self.bodiless:
            return
        out: list[Body] = list(pieces)
        if self._chunked:
            out = [encode_chunk(bytes(piece)) for piece in pieces if piece]
        if self._head:
            out.insert(0, self._head)
            self._head = b""
        await self.client.write(out)

    async def end(self, trailers: Pairs = ()) -> None:
        """The whole body has been sent; ``trailers`` follow where there is a way, and a client that knows it."""
        out = self._head
        if self.bodiless:
            pass
        elif self.client.multiplexed:
            self.trailers = trailers
        elif self._chunked and trailers and wants_trailers(self._asked):
            out += b"0\r\n%b\r\n" % write_fields(trailers)
        elif self._chunked:
            out += LAST_CHUNK
        if out:
            self._head = b""
            await self.client.write((out,))

    async def whole(self, status: int, start: bytes, how: bytes, age_s: int | None, *body: Body) -> None:
        """A response with its body at hand, in parts, whose length ``start`` states."""
        self.begin(status, start, how, age_s, STATED)
        await self.send(body)
        await self.end()

    async def page(self, status: int, text: str, fields: Pairs = ()) -> None:
        """A small page of our own, with further ``fields``."""
        rules = self.rules
        start, body = page(status, text, self.node.now_s(), rules.pages.get(status))
        start += write_fields(fields) + rules.page_lines
        await self.whole(status, start, b"fwd=bypass; detail=edge", None, body)
