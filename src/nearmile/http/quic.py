"""QUIC without IO (RFC 9000, 9001): which datagram belongs to whom, and one connection's packets, by ``qh3``.

    datagram -> Lobby.look: a known connection's | a new client's | an answer without a connection | nothing

Connections of qh3 choose no certificate by name, tie no stateless reset to a key, and extend windows whatever the
application does, and let clients ask before the handshake is over: ``Transport`` sees to that.
"""

import hmac
import logging
from collections.abc import Callable, Iterable
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from msgspec import Struct
from qh3 import tls
from qh3._hazmat import pull_quic_header
from qh3.quic.configuration import QuicConfiguration
from qh3.quic.connection import QuicConnection
from qh3.quic.crypto import derive_key_iv_hp
from qh3.quic.packet import QuicPacketType, encode_quic_retry, encode_quic_version_negotiation

from nearmile.http.limits import (
    QUIC_CONNECTION_WINDOW_BYTES,
    QUIC_DATAGRAM_BYTES,
    QUIC_IDLE_S,
    QUIC_STREAM_WINDOW_BYTES,
    QUIC_TICKETS_MAX,
    QUIC_TOKEN_S,
)

# It tells of every client that parts, at level WARNING: whoever likes could fill our logs.
logging.getLogger("quic").setLevel(logging.ERROR)

Address = tuple[str, int]
Identity = QuicConfiguration
"""A certificate with its key, and the settings of the connections that show it."""
Choose = Callable[[str | None], Identity | None]
"""By the name that a client asks for, or by none."""

CID_BYTES = 8
INITIAL_BYTES_MIN = 1200  # RFC 9000 section 14.1
VERSION_1 = 1
TAG_BYTES = 16
# RFC 9001 sections 5.2 and 5: of the first packets of version 1.
INITIAL_SALT = bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a")
FIRST_SUITE, FIRST_ALGORITHMS = tls.CipherSuite.AES_128_GCM_SHA256, ("aes-128-gcm", "aes-128-ecb")
SHA256 = tls.cipher_suite_hash(FIRST_SUITE)
# RFC 9000 section 10.3: at least 5 bytes that look random, then the token; and shorter than what it answers.
RESET_BYTES_MIN = 5 + TAG_BYTES


class UnrecognizedName(tls.Alert):
    """No site has the name that the client asks for (RFC 6066 section 3)."""

    description = tls.AlertDescription.unrecognized_name


def identity(certificate_pem: bytes, key_pem: bytes) -> Identity:
    """Raises ValueError where they cannot be used."""
    found = QuicConfiguration(
        is_client=False,
        alpn_protocols=["h3"],
        connection_id_length=CID_BYTES,
        idle_timeout=QUIC_IDLE_S,
        max_data=QUIC_CONNECTION_WINDOW_BYTES,
        max_stream_data=QUIC_STREAM_WINDOW_BYTES,
        max_datagram_size=QUIC_DATAGRAM_BYTES,
    )
    try:
        found.load_cert_chain(certificate_pem, key_pem)
    except Exception as error:  # its errors have no common kind
        raise ValueError(str(error)) from None
    return found


class Run(NamedTuple):
    """Datagrams for one address, of one size but for the last, which may be smaller."""

    pieces: list[bytes]
    address: Address


def runs_of(sent: Iterable[tuple[Any, ...]]) -> list[Run]:
    """Of datagrams with their addresses, in their order."""
    runs: list[Run] = []
    for address, same_way in groupby(sent, itemgetter(1)):
        room_bytes = 0  # for the last of a run
        for size_bytes, same_size in groupby(map(itemgetter(0), same_way), len):
            pieces = list(same_size)
            if size_bytes < room_bytes:
                runs[-1].pieces.append(pieces.pop(0))
                room_bytes = 0
            if pieces:
                runs.append(Run(pieces, address))
                room_bytes = size_bytes
    return runs


class Path(NamedTuple):
    """What a connection has learned of its way to the client: how long a packet takes there and back (above 0),
    how much may be under way, and how many packets were lost."""

    rtt_s: float
    window_bytes: int
    lost: int


class Newcomer(Struct, frozen=True):
    """What a client's first datagram says. ``retried``: the connection id of the Retry that it answers;
    ``nameless``: its own connection id is empty, as browsers' are."""

    original: bytes
    retried: bytes | None
    nameless: bool


class Lobby:
    """What a server decides of datagrams before they have a connection. Holds nothing of any client."""

    def __init__(self, key: bytes, random_bytes: Callable[[int], bytes]) -> None:
        self._key, self._random_bytes = key, random_bytes

    def look(
        self, data: bytes, address: Address, now_s: float, doubtful: bool
    ) -> tuple[bytes, Newcomer | bytes | None]:
        """Of a datagram whose connection is not known by its first bytes: the connection id that it is for, and
        who comes, or what to answer, or None.

        ``doubtful``: clients must show that their address is theirs (RFC 9000 section 8.1.2).
        """
        try:
            version, kind, _, to, sender, token, *_ = pull_quic_header(data, 0, CID_BYTES)
        except ValueError:
            return b"", None
        if not data[0] & 0x80:
            return to, self._reset(to, len(data))
        if len(data) < INITIAL_BYTES_MIN:
            return to, None
        if version != VERSION_1:
            return to, None if not version else encode_quic_version_negotiation(to, sender, [VERSION_1])
        if kind != QuicPacketType.INITIAL or len(to) < CID_BYTES:
            return to, None
        if token:
            original = self._read_token(token, address, to, now_s)
            return to, None if original is None else Newcomer(original, to, not sender)
        # See Transport: to whom has no name of its own, ours is the one that the client made up.
        if not doubtful and (sender or len(to) == CID_BYTES):
            return to, Newcomer(to, None, not sender)
        retried = self._random_bytes(CID_BYTES)
        return to, encode_quic_retry(
            VERSION_1, retried, sender, to, self._write_token(address, to, retried, int(now_s))
        )

    def reset_token(self, cid: bytes) -> bytes:
        """What ends a connection of ours that we know nothing of any more (RFC 9000 section 10.3.2)."""
        return self._tag(b"reset", cid)

    def _reset(self, to: bytes, size_bytes: int) -> bytes | None:
        if size_bytes <= RESET_BYTES_MIN:
            return None
        noise = self._random_bytes(min(size_bytes - 1, 2 * RESET_BYTES_MIN) - TAG_BYTES)
        return bytes([0x40 | noise[0] & 0x3F]) + noise[1:] + self.reset_token(to)

    def _write_token(self, address: Address, original: bytes, retried: bytes, at_s: int) -> bytes:
        told = at_s.to_bytes(8, "big") + original
        return self._tag(b"retry", told, retried, repr(address).encode()) + told

    def _read_token(self, token: bytes, address: Address, retried: bytes, now_s: float) -> bytes | None:
        """The connection id that the client chose at first."""
        told = token[TAG_BYTES:]
        right = self._tag(b"retry", told, retried, repr(address).encode())
        if not hmac.compare_digest(token[:TAG_BYTES], right):
            return None
        return told[8:] if 0 <= now_s - int.from_bytes(told[:8], "big") <= QUIC_TOKEN_S else None

    def _tag(self, *parts: bytes) -> bytes:
        framed = b"".join(len(part).to_bytes(2, "big") + part for part in parts)
        return hmac.digest(self._key, framed, "sha256")[:TAG_BYTES]


class Tickets:
    """By which clients that come again need no certificate (RFC 8446 section 4.6.1), the newest of all clients.

    Each is good for once and never for early data, so nothing that was recorded can be played again.
    """

    def __init__(self) -> None:
        self._kept: dict[bytes, tls.SessionTicket] = {}

    def keep(self, ticket: tls.SessionTicket) -> None:
        """Of a handshake that is over."""
        if len(self._kept) >= QUIC_TICKETS_MAX:
            del self._kept[next(iter(self._kept))]
        self._kept[ticket.ticket] = ticket

    def take(self, identity: bytes) -> tls.SessionTicket | None:
        """What a client shows; None: it has to shake hands as a stranger."""
        return self._kept.pop(identity, None)


class Transport(QuicConnection):
    """One connection, server side."""

    def __init__(
        self, newcomer: Newcomer, choose: Choose, tickets: Tickets, reset_token: Callable[[bytes], bytes]
    ) -> None:
        first = choose(None)
        assert first is not None, "without a certificate nobody is let in"
        super().__init__(
            configuration=first,
            original_destination_connection_id=newcomer.original,
            retry_source_connection_id=newcomer.retried,
            session_ticket_fetcher=tickets.take,
            session_ticket_handler=tickets.keep,
        )
        self.held = False
        """Streams are not read, so that their windows stay as they are."""
        self._made: list[tuple[Any, ...]] = []
        """Datagrams that are not sent yet."""
        self._troubled = False
        """Something was lost, or not acknowledged in time; what was sent again since may still be under way."""
        self._lost = 0
        """Packets, when nothing was."""
        self._newcomer, self._choose, self._reset_token = newcomer, choose, reset_token
        if newcomer.nameless:
            self.host_cid = newcomer.retried or newcomer.original

    @property
    def shaken(self) -> bool:
        """The handshake is over."""
        return self._handshake_complete

    @property
    def room(self) -> int:
        """How many datagrams may be under way besides those that are. Of what qh3 2.1 is handed beyond that it
        makes frames in advance, and fails where the stream of one ends before that is sent."""
        core = self._require_core()
        return max(core.congestion_window - core.bytes_in_flight, 0) // QUIC_DATAGRAM_BYTES

    @property
    def path(self) -> Path | None:
        """None where nothing was acknowledged yet."""
        core = self._require_core()
        if not core.latest_rtt or not core.smoothed_rtt:
            return None
        return Path(min(core.latest_rtt, core.smoothed_rtt), core.congestion_window, core.loss_total)

    def runs_to_send(self, now_s: float) -> list[Run]:
        """As QuicConnection's ``datagrams_to_send``; but where less may be sent to an address that is not
        validated than a packet takes (RFC 9000 section 8.1), which that calls an error, the rest waits for the
        client's next word."""
        self._make(now_s)
        made, self._made = self._made, []
        return runs_of(made)

    def receive_many_datagrams(self, datagrams: list[bytes], addr: Address, now: float) -> None:
        """As QuicConnection's; but where something was sent again, what may be sent is made before streams end by
        what has come: qh3 2.1 fails where a part of one of those still waits then."""
        held, core = self.held, self._core
        if core is not None and core.loss_total != self._lost:
            self._troubled = self._handshake_complete
        self.held = held or self._troubled
        super().receive_many_datagrams(datagrams, addr, now)
        if core is not None and self._troubled:
            self._lost, self._troubled = core.loss_total, core.bytes_in_flight > 0
            self._make(now)
            self.held = held
            self._drain_core()

    def handle_timer(self, now: float) -> None:
        """As QuicConnection's."""
        super().handle_timer(now)
        self._troubled = self._handshake_complete and (self._troubled or self._require_core().pto_count > 0)

    def _make(self, now_s: float) -> None:
        if self._core is not None:
            try:
                # Not a loop of Python's: of a large response there are hundreds.
                self._made.extend(iter(partial(self._core.poll_transmit, now_s), None))
            except RuntimeError:
                if self._handshake_complete:
                    raise

    def forget(self) -> None:
        """The connection is over: takes apart what points at itself in qh3, so that it is freed when dropped."""
        if self._tls is not None:
            vars(self._tls.tls).clear()
            vars(self._tls).clear()

    def let_go(self) -> None:
        """Reads streams again."""
        self.held = False
        self._drain_core()

    def _drain_core(self) -> None:
        if not self.held:
            super()._drain_core()

    def _create_core(self, remote_addr: Address, initial_dcid: bytes, now: float) -> None:
        """Where the client's connection id is empty, qh3 would go on to call it by the one that it called us.

        So it is told the empty one from the start. The keys of the first packets, which come of what the client
        called us (RFC 9001 section 5.2), are then to be given to it, and what the client calls us is our name.
        """
        if not self._newcomer.nameless:
            super()._create_core(remote_addr, initial_dcid, now)
            return
        super()._create_core(remote_addr, b"", now)
        initial = hmac.digest(INITIAL_SALT, initial_dcid, "sha256")
        for direction, label in (("send", b"server in"), ("receive", b"client in")):
            secret = tls.hkdf_expand_label(SHA256, initial, label, b"", 32)
            keys = derive_key_iv_hp(cipher_suite=FIRST_SUITE, secret=secret, version=VERSION_1)
            self._call_core(
                self._require_core().install_packet_key,
                direction,
                0,
                FIRST_ALGORITHMS,
                *keys,
                0,
                secret,
                VERSION_1,
            )

    def _create_tls(self, remote_source_cid: bytes | None) -> Any:
        bridge = super()._create_tls(remote_source_cid)
        # Which qh3 takes for not known yet.
        bridge.remote_initial_source_connection_id = b""
        bridge.stateless_reset_token = self._reset_token(self.host_cid)
        parameters = (tls.ExtensionType.QUIC_TRANSPORT_PARAMETERS, bridge.serialize_transport_parameters())
        context: Any = bridge.tls
        context.handshake_extensions = [parameters]
        context._max_early_data = None
        go_on = context._server_handle_hello

        def choose(hello: Any, *out: Any) -> None:
            start = hello.tell()
            said = tls.pull_client_hello(hello)
            chosen = self._choose(said.server_name)
            if chosen is None:
                raise UnrecognizedName("no site of that name")
            hello.seek(start)
            context.certificate, context.certificate_chain = chosen.certificate, chosen.certificate_chain
            context.certificate_private_key = chosen.private_key
            if said.early_data:  # which qh3 would take with any ticket
                context.get_session_ticket_cb = None
            go_on(hello, *out)

        context._server_handle_hello = choose
        return bridge
