"""The connections to one peer: as many as are needed, kept alive, of HTTP/1.1 or shared ones of HTTP/2.

The pool counts what is under way, queues what is too much, and knows how well the peer is.
"""

import asyncio
import contextlib
import logging
import os
import ssl
from collections import deque
from collections.abc import Callable
from typing import cast

from nearmile.edge import limits
from nearmile.edge.origins.h2link import H2Exchange, H2Link
from nearmile.edge.origins.health import Health, State
from nearmile.edge.origins.link import Link
from nearmile.edge.origins.peer import Busy, Peer, Trust, Unsent

log = logging.getLogger("nearmile.origins")

ALPN = {"offer": ["h2", "http/1.1"], "never": ["http/1.1"], "always": ["h2"]}
Channel = Link | H2Exchange
"""What one request goes by."""


class Pool:
    """The connections to one peer, what is known of its health, and who waits for it."""

    def __init__(self, peer: Peer, loop: asyncio.AbstractEventLoop, context: ssl.SSLContext | None) -> None:
        self.peer, self.loop, self.context = peer, loop, context
        self.health = Health(probed=peer.probe is not None)
        self.probe_at_s = 0.0
        self.links: set[Link | H2Link] = set()
        self.requests = 0
        """Under way."""
        self._idle: list[Link] = []
        self._shared: list[H2Link] = []
        self._opening: asyncio.Future[None] | None = None
        self.multiplexed: bool | None = peer.http2 == "always" or (None if context is not None else False)
        """Whether the peer speaks HTTP/2; None where it has not been asked yet."""
        self._waiters: deque[asyncio.Future[bool]] = deque()
        self._complained_at_s = -limits.COMPLAINT_S

    @property
    def unused(self) -> bool:
        """Little is lost when the pool is forgotten."""
        return not self.links and not self.requests

    async def enter(self) -> None:
        """Waits until one more request may be under way; ``leave`` ends it. Raises Busy."""
        if self.requests < self.peer.requests_max:
            self.requests += 1
            return
        if len(self._waiters) >= self.peer.requests_max:
            raise Busy("too many requests wait for this site's origin")
        turn: asyncio.Future[bool] = self.loop.create_future()
        self._waiters.append(turn)
        late = self.loop.call_later(limits.QUEUE_TIMEOUT_S, self._turn_away, turn)
        try:
            if not await turn:
                raise Busy("the requests before this one at the site's origin take too long")
        except asyncio.CancelledError:
            if not turn.cancelled() and turn.result():
                self.leave()
            with contextlib.suppress(ValueError):
                self._waiters.remove(turn)
            raise
        finally:
            late.cancel()

    def _turn_away(self, turn: "asyncio.Future[bool]") -> None:
        if not turn.done():
            self._waiters.remove(turn)
            turn.set_result(False)

    def leave(self) -> None:
        """A request is over: the next may go."""
        while self._waiters:
            turn = self._waiters.popleft()
            if not turn.done():
                turn.set_result(True)
                return
        self.requests -= 1

    def enter_idle(self) -> Link | None:
        """An idle connection, with ``enter``; None where that is not all it takes, or the peer is not well."""
        if self.requests >= self.peer.requests_max or self.health.state is not State.UP:
            return None
        link = self._take_idle()
        self.requests += link is not None
        return link

    def _take_idle(self) -> Link | None:
        """The latest used, so that others may go."""
        while self._idle:
            if (link := self._idle.pop()).usable:
                return link
        return None

    async def channel(self, fresh: bool) -> Channel:
        """Room on a connection of HTTP/2, an idle one, or a new one.

        Until it is known which protocol the peer speaks, or while that is HTTP/2, one connection is opened at a
        time, for all who wait. Raises Unsent.
        """
        while True:
            for shared in self._shared:
                if shared.has_room and not (fresh and shared.reused):
                    return H2Exchange(shared)
            if not fresh and (link := self._take_idle()) is not None:
                return link
            if self._opening is None or self.multiplexed is False:
                break
            await asyncio.shield(self._opening)
        if self._idle and len(self.links) >= self.peer.requests_max:
            self._idle.pop(0).abort()
        if self.multiplexed is False:
            return _channel(await self._open())
        self._opening = opening = self.loop.create_future()
        opening.add_done_callback(lambda done: done.cancelled() or done.exception())  # there may be nobody else
        try:
            made = await self._open()
            self.multiplexed = isinstance(made, H2Link)
            opening.set_result(None)
        except Unsent as error:
            opening.set_exception(error)
            raise
        finally:
            self._opening = None
            if not opening.done():
                opening.set_result(None)  # whoever waits opens another
        return _channel(made)

    async def _open(self) -> Link | H2Link:
        return await self.loop.create_task(self._connect())  # which alone can have a time-out

    async def _connect(self) -> Link | H2Link:
        peer, trust = self.peer, self.peer.trust
        try:
            async with asyncio.timeout(peer.connect_timeout_s):
                transport, _ = await self.loop.create_connection(
                    lambda: _Opening(self._protocol),
                    peer.host,
                    peer.port,
                    local_addr=(peer.local, 0) if peer.local else None,
                    ssl=self.context,
                    server_hostname=None if trust is None else trust.name,
                )
        except TimeoutError:
            raise Unsent("the origin takes no connection in time", 504, "it takes no connection in time") from None
        except ssl.SSLCertVerificationError as error:
            raise Unsent("the origin cannot be trusted", 502, _untrusted(trust, error)) from None
        except ssl.SSLError as error:
            detail = f"TLS fails ({error.reason or error}); does it speak TLS 1.2 or newer at that port?"
            raise Unsent("the origin takes no connection", 502, detail) from None
        except OSError as error:
            raise Unsent("the origin takes no connection", 502, f"it takes no connection ({error})") from None
        link = cast(Link | H2Link, transport.get_protocol())
        if not link.usable:
            raise Unsent("the origin takes no connection", 502, "it ends connections at once")
        self.links.add(link)
        if isinstance(link, H2Link):
            self._shared.append(link)
        return link

    def _protocol(self, transport: asyncio.BaseTransport) -> Link | H2Link:
        """What a new connection speaks (ALPN, RFC 7301)."""
        tls = transport.get_extra_info("ssl_object")
        chosen = "" if tls is None else tls.selected_alpn_protocol()
        if self.peer.http2 == "always" or chosen == "h2":
            return H2Link(self.peer, self.loop, self._lost)
        return Link(self.peer, self.loop, self._idle.append, self._lost)

    def _lost(self, link: Link | H2Link) -> None:
        self.links.discard(link)
        with contextlib.suppress(ValueError):
            if isinstance(link, H2Link):
                self._shared.remove(link)
            else:
                self._idle.remove(link)

    def answered(self) -> None:
        """The peer is well."""
        if self.health.answered():
            log.info("site %s: %s answers again", self.peer.site, self.peer)

    def failed(self, error: str) -> None:
        """It is not: tells the operator, now and then."""
        now_s = self.loop.time()
        aside = self.health.failed(now_s)
        if now_s - self._complained_at_s >= limits.COMPLAINT_S:
            self._complained_at_s = now_s
            pause = f"; others are preferred for {self.health.pause_s:.0f} s" if aside else ""
            log.warning("site %s: %s: %s%s", self.peer.site, self.peer, error, pause)


class _Opening(asyncio.Protocol):
    """A connection that has just come about: goes on as what it is to speak."""

    def __init__(self, choose: Callable[[asyncio.BaseTransport], Link | H2Link]) -> None:
        self._choose = choose

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio."""
        link = self._choose(transport)
        cast(asyncio.Transport, transport).set_protocol(link)
        link.connection_made(transport)


def _channel(link: Link | H2Link) -> Channel:
    return link if isinstance(link, Link) else H2Exchange(link)


def _untrusted(trust: Trust | None, error: ssl.SSLCertVerificationError) -> str:
    """What is wrong with a certificate, and what to do."""
    name = trust.name if trust is not None else ""
    what = error.verify_message.rstrip(".")
    return (
        f"its certificate is not accepted for {name}: {what}; if it is right, name its authority's file in "
        f"`upstream.authority`, or the name it is for in `upstream.server_name`"
    )


def system_authorities() -> tuple[float, ...]:
    """Differs where they have changed."""
    paths = ssl.get_default_verify_paths()
    with contextlib.suppress(OSError):
        return tuple(os.stat(path).st_mtime for path in (paths.cafile, paths.capath) if path is not None)
    return ()


def new_context(authorities: str | None, http2: str) -> ssl.SSLContext:
    """As a client's: checks the certificate and its name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(ALPN[http2])
    if authorities is None:
        context.load_default_certs()
    elif authorities:
        with contextlib.suppress(ssl.SSLError):  # then nobody is trusted
            context.load_verify_locations(cadata=authorities)
    return context
