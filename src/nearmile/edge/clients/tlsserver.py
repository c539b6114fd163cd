"""TLS between a client and the connection that serves it: a protocol to the loop, a transport to the connection.

OpenSSL works on memory here (``ssl.MemoryBIO``) and sees neither socket nor loop. So a response is encrypted at
once and handed to the kernel in one call, what the kernel has not taken is known to the record, and the encryption
of a long response waits until its client reads. (uvloop's own TLS knows what was sent to within 64 KB, and looked
no cheaper where the two were compared.)
"""

import asyncio
import contextlib
import math
import ssl
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol, cast

from nearmile.edge import limits
from nearmile.edge.backlog import Backlog, handshake_ms
from nearmile.edge.clients.door import Door
from nearmile.edge.clients.rounds import InRound

RECORD_BYTES_MAX = 16_384  # of plaintext, RFC 8446 section 5.1


class Secured(Protocol):
    """The connection of a client that has shaken hands: a protocol of asyncio."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio."""
        ...

    def connection_lost(self, exc: Exception | None) -> None:
        """Of asyncio."""
        ...

    def pause_writing(self) -> None:
        """Of asyncio."""
        ...

    def resume_writing(self) -> None:
        """Of asyncio."""
        ...

    def receive(self, data: bytes) -> None:
        """See InRound."""
        ...

    def conclude(self) -> None:
        """What was told to ``write_last`` has been written."""
        ...


Chosen = Callable[[str | None], Secured]


class TlsTransport(InRound, asyncio.Transport, asyncio.Protocol):
    """One client; itself a guest of the door until it has shaken hands, then its connection is."""

    def __init__(self, door: Door, context: ssl.SSLContext, chosen: Chosen) -> None:
        """``chosen`` makes the connection for the protocol that the client chose (ALPN, RFC 7301)."""
        super().__init__(door.round)
        self._door, self._chosen = door, chosen
        self.peer, self.trusted = "", False
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._transport: asyncio.Transport
        self._protocol: Secured | None = None
        """None until hands are shaken."""
        self._closing = False
        self._finish: Callable[[TlsTransport], None] | None = None
        """How to end once all that waits is on its way; decided, nothing more is read."""
        self._finished = False
        self._ended = False
        """The client has no more to say."""
        self._quiet_sweeps = 0
        self._barren_bytes = 0
        """Received since plaintext last came of it."""
        self._replies = 0
        """Times that TLS itself had something to say after the handshake."""
        self._waiting: deque[memoryview] = deque()
        self._waiting_bytes = 0
        """Plaintext that waits to be encrypted, until the kernel takes what was before."""
        self._blocked = False
        """The kernel has not taken all that was encrypted."""
        self._backlog = Backlog()
        self._last = b""
        """Encrypted, to be written when the round ends."""
        self._plain_bytes = 0
        """Encrypted last."""
        self._plain_per_byte = 1.0
        """Of what was written last: the rest of a byte is TLS's own."""
        self._high_bytes = 0
        self._paused = False

    # --- a protocol to the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=0, low=0)
        self.peer = transport.get_extra_info("peername")[0]
        self.trusted = self._door.node.visitors.trusts(self.peer)
        self._door.opened(self)
        self._door.shaken(self, partial(handshake_ms, self._transport))

    def connection_lost(self, exc: Exception | None) -> None:
        """Of asyncio."""
        self._closing = True
        protocol, self._protocol = self._protocol, None
        if protocol is None:
            self._door.closed(self)
        else:
            protocol.connection_lost(exc)
        self._waiting.clear()

    def receive(self, data: bytes) -> None:
        """See InRound."""
        if self._finish is not None:
            return
        self._incoming.write(data)
        if self._protocol is None and not self._shake_hands():
            return
        try:
            plain = self._tls.read(RECORD_BYTES_MAX)
            if self._incoming.pending:
                plain = self._read_on(plain)
        except ssl.SSLWantReadError:
            self._mind_barren(len(data))
            return
        except ssl.SSLError:
            self._give_up()
            return
        self._barren_bytes = 0
        if plain:
            self._protocol.receive(plain)  # type: ignore[union-attr]
        else:
            self._ended = True
            self.close()

    def eof_received(self) -> bool:
        """Of asyncio: what waits may still be on its way."""
        self.catch_up()
        self._ended = True
        if self._protocol is None or self._finished:
            return False
        self.close()
        return True

    def pause_writing(self) -> None:
        """Of asyncio."""
        self._blocked = True
        self._backlog.pause(self._transport)

    def resume_writing(self) -> None:
        """Of asyncio."""
        if self._transport.is_closing():
            # Whatever is written now is dropped, and must not count as sent.
            return
        self._blocked = False
        self._encrypt()
        if self._paused and self._protocol is not None and not self.get_write_buffer_size():
            self._paused = False
            self._protocol.resume_writing()

    # --- the handshake

    def _shake_hands(self) -> bool:
        """One step; returns whether it was the last."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        except ssl.SSLError:
            self._give_up()
            return False
        self._flush()
        self._door.closed(self)
        self._protocol = self._chosen(self._tls.selected_alpn_protocol())
        self._protocol.connection_made(self)
        return bool(self._incoming.pending) and self._finish is None

    def sweep(self) -> None:
        """See Guest."""
        self._quiet_sweeps += 1
        limit_s = limits.HANDSHAKE_TIMEOUT_S if self._finish is None else limits.LINGER_S
        if self._blocked:
            limit_s = limits.STALLED_TIMEOUT_S
        if self._quiet_sweeps * limits.SWEEP_S > limit_s:
            self.abort()

    def turn_away(self) -> None:
        """See Guest."""
        self.abort()

    def stop(self) -> None:
        """See Guest."""
        if self._finish is None:
            self.abort()

    # --- reading

    def _read_on(self, plain: bytes) -> bytes:
        """All whole records that have come, at once: their answers are written at once, too."""
        pieces = [plain]
        try:
            while plain and self._incoming.pending:
                plain = self._tls.read(RECORD_BYTES_MAX)
                pieces.append(plain)
        except ssl.SSLWantReadError:
            pass
        return b"".join(pieces)

    def _mind_barren(self, size_bytes: int) -> None:
        """Part of a record has come, or what is for TLS alone: changes of keys, of which many may be asked for."""
        self._barren_bytes += size_bytes
        if self._outgoing.pending:
            self._replies += 1
            self._flush()
        if self._barren_bytes > limits.TLS_BARREN_BYTES_MAX or self._replies > limits.TLS_REPLIES_MAX:
            self.abort()

    def _give_up(self) -> None:
        """TLS cannot go on, and says why in an alert."""
        self._closing = True
        self._finish = TlsTransport._part
        self._flush()
        self._transport.close()

    # --- a transport to the connection

    def write(self, data: Any) -> None:
        """Of asyncio."""
        if len(data) <= limits.TLS_WRITE_BYTES and data and not self._blocked and self._finish is None:
            self._send(data)
        else:
            self.writelines((data,))

    def write_last(self, data: bytes) -> None:
        """As ``write``, but at the end of the round, with which the connection is told to ``conclude``."""
        if len(data) <= limits.TLS_WRITE_BYTES and not (self._blocked or self._last) and self._finish is None:
            self._last = self._sealed(data)
            self.round.at_end(self, len(data))
        else:
            self.write(data)
            self.conclude()

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        """Of asyncio: as few records as can be, and no more of them than the kernel takes."""
        pieces = tuple(list_of_data)
        size_bytes = sum(map(len, pieces))
        if self._finish is not None or not size_bytes:
            return
        if size_bytes <= limits.TLS_WRITE_BYTES and not self._blocked:
            self._send(b"".join(pieces))
        else:
            self._waiting.extend(memoryview(piece) for piece in pieces)
            self._waiting_bytes += size_bytes
            self._encrypt()
        if self._blocked:
            self._mind_full()

    def _mind_full(self) -> None:
        if not self._paused and self.get_write_buffer_size() > self._high_bytes:
            self._paused = True
            cast(Secured, self._protocol).pause_writing()

    def _send(self, data: bytes) -> None:
        self._put_last()
        self._put(self._sealed(data))

    def _sealed(self, data: bytes) -> bytes:
        self._tls.write(data)
        self._plain_bytes = len(data)
        return self._outgoing.read()

    def _put(self, encrypted: bytes) -> None:
        self._transport.write(encrypted)
        if self._blocked:
            self._plain_per_byte = self._plain_bytes / len(encrypted)
            self._mind_full()

    def conclude(self) -> None:
        """See InRound."""
        self._put_last()
        if self._protocol is not None:
            self._protocol.conclude()

    def _put_last(self) -> None:
        if self._last:
            last, self._last = self._last, b""
            self._put(last)

    def _encrypt(self) -> None:
        """Goes on with what waits; ends as was asked when nothing does."""
        while self._waiting and not self._blocked:
            part: list[memoryview] = []
            room_bytes = limits.TLS_WRITE_BYTES
            while self._waiting and room_bytes:
                piece = self._waiting.popleft()
                if len(piece) > room_bytes:
                    self._waiting.appendleft(piece[room_bytes:])
                    piece = piece[:room_bytes]
                part.append(piece)
                room_bytes -= len(piece)
            self._waiting_bytes -= limits.TLS_WRITE_BYTES - room_bytes
            self._send(b"".join(part))
        if self._finish is not None and not self._finished and not (self._waiting or self._blocked):
            self._finished = True
            # Our side has no more to say (close_notify, RFC 8446 section 6.1), and does not wait for the client's.
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()
            self._flush()
            self._finish(self)

    def _flush(self) -> None:
        """What TLS has to say by itself."""
        self._put_last()
        if self._outgoing.pending:
            self._transport.write(self._outgoing.read())

    def write_eof(self) -> None:
        """Of asyncio."""
        if self._finish is None:
            self._finish = TlsTransport._end_ours
            self._encrypt()

    def _end_ours(self) -> None:
        self._transport.write_eof()

    def close(self) -> None:
        """Of asyncio."""
        if not self._closing:
            self._closing, self._finished = True, False
            self._finish = TlsTransport._part
            self._encrypt()

    def _part(self) -> None:
        """Hears out a client still sending, since a reset would cost it our last words (RFC 9112 section 9.6)."""
        if self._ended:
            self._transport.close()
        else:
            self._door.loop.call_soon(self._linger)

    def _linger(self) -> None:
        """As a guest by itself again, whose connection is over; what it sends is dropped."""
        if self._protocol is not None:
            protocol, self._protocol = self._protocol, None
            protocol.connection_lost(None)
            self._quiet_sweeps = 0
            self._transport.resume_reading()
            self._door.opened(self)

    def abort(self) -> None:
        """Of asyncio."""
        self._closing = True
        self._transport.abort()

    def is_closing(self) -> bool:
        """Of asyncio."""
        return self._closing

    def can_write_eof(self) -> bool:
        """Of asyncio."""
        return True

    def pause_reading(self) -> None:
        """Of asyncio."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Of asyncio."""
        self._transport.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Of asyncio; ``low`` is always 0."""
        self._high_bytes = high or 0

    def get_write_buffer_size(self) -> int:
        """Of asyncio, in bytes of plaintext: those whose ciphertext the kernel has not taken."""
        if not self._blocked:
            return self._waiting_bytes
        return self._waiting_bytes + math.ceil(self._backlog.unsent_bytes(self._transport) * self._plain_per_byte)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Of asyncio."""
        self._protocol = cast(Secured, protocol)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Of asyncio."""
        return self._transport.get_extra_info(name, default)
