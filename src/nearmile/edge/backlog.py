"""What waits in the kernel or for it: written to a client whose machine has not taken it, or come and not read.

The kernel knows how much of a connection it took; a transport that failed to write has forgotten what it held.
"""

import fcntl
import socket
import struct
import termios
from asyncio import WriteTransport

from nearmile.mapping.downloads import Delivery

BYTES_ACKED = struct.Struct("=120xQ")
"""Where Linux' struct tcp_info has tcpi_bytes_acked (RFC 4898, tcpEStatsAppHCThruOctetsAcked)."""
RTT = struct.Struct("=68xI")
"""Where it has tcpi_rtt, in microseconds."""
DELIVERY = struct.Struct("=7xB92xI16xQ20xI4xIQQQ")
"""Where it has tcpi_delivery_rate_app_limited, tcpi_total_retrans, tcpi_bytes_acked, tcpi_min_rtt (microseconds),
tcpi_data_segs_out, tcpi_delivery_rate (bytes a second), tcpi_busy_time and tcpi_rwnd_limited (microseconds)."""
# Before so much has arrived, a rate is that of slow start.
DELIVERED_BYTES_MIN = 256 << 10


class Backlog:
    """What waits in the kernel counts as waiting: of that, a slow client may have megabytes."""

    def __init__(self) -> None:
        self.written_bytes = 0
        """Since the last look; added to by the writer."""
        self._waiting_bytes = 0
        self._total_bytes = 0
        """Written in the life of the connection, as of the last pause."""

    def pause(self, transport: WriteTransport) -> None:
        """To be called when the kernel has not taken all that was written."""
        self._total_bytes = _taken_bytes(transport) + transport.get_write_buffer_size()

    def unsent_bytes(self, transport: WriteTransport) -> int:
        """Of what was written until the last pause, what the kernel has not taken, even where the client is gone.

        Where the system cannot tell: as of that pause.
        """
        return max(self._total_bytes - _taken_bytes(transport), 0)

    def moved(self, transport: WriteTransport, rest_bytes: int = 0) -> int:
        """Looks: how many bytes the client's machine has taken since the last time.

        ``rest_bytes`` of what was written have not been handed to the transport yet.
        """
        waiting_bytes = rest_bytes + transport.get_write_buffer_size() + _queued_bytes(transport, termios.TIOCOUTQ)
        moved_bytes = self._waiting_bytes + self.written_bytes - waiting_bytes
        self._waiting_bytes, self.written_bytes = waiting_bytes, 0
        return max(moved_bytes, 0)


def free(transport: WriteTransport) -> None:
    """Lets the kernel drop what waits there when the connection is ended now; else it would try on for minutes."""
    if (connection := transport.get_extra_info("socket")) is not None and not transport.is_closing():
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def unread(transport: WriteTransport) -> bool:
    """Whether something has come that nobody has read yet."""
    return _queued_bytes(transport, termios.FIONREAD) > 0


def handshake_ms(transport: WriteTransport) -> float:
    """The round trip that the kernel has measured by the handshake of a connection just accepted; 0 for none."""
    found = _kernel_says(transport, RTT)
    return found[0] / 1000 if found else 0.0


def delivery(transport: WriteTransport) -> Delivery | None:
    """How a connection's bytes arrive, as the kernel has it; None for few, or where it cannot tell."""
    found = _kernel_says(transport, DELIVERY)
    if not found:
        return None
    idle, again, acked_bytes, least_us, segments, bytes_per_s, busy_us, window_us = found
    if acked_bytes < DELIVERED_BYTES_MIN or not segments:
        return None
    limited = bool(idle & 1) or window_us > busy_us / 2
    return Delivery(least_us / 1000, float(bytes_per_s), limited, segments, again / segments)


def _taken_bytes(transport: WriteTransport) -> int:
    """What the kernel has taken in the life of a connection: what was acknowledged, and what is on its way."""
    found = _kernel_says(transport, BYTES_ACKED)
    return found[0] + _queued_bytes(transport, termios.TIOCOUTQ) if found else 0


def _kernel_says(transport: WriteTransport, where: struct.Struct) -> tuple[int, ...]:
    """Of struct tcp_info; nothing where there is none, as not everywhere, or it is shorter."""
    try:
        connection = transport.get_extra_info("socket")
        return where.unpack(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, where.size))
    except (OSError, AttributeError, struct.error):
        return ()


def _queued_bytes(transport: WriteTransport, queue: int) -> int:
    """In one of the socket's queues (TIOCOUTQ, FIONREAD); 0 where the system cannot tell, or it is closed."""
    try:
        number = transport.get_extra_info("socket").fileno()
        return int(struct.unpack("i", fcntl.ioctl(number, queue, bytes(4)))[0])
    except (OSError, AttributeError, ValueError):
        return 0
