"""What has been written to a client and its machine has not taken yet."""

import fcntl
import socket
import struct
import termios
from asyncio import WriteTransport


class Backlog:
    """What waits in the kernel counts as waiting: of that, a slow client may have megabytes."""

    def __init__(self) -> None:
        self.written_bytes = 0
        """Since the last look; added to by the writer."""
        self._waiting_bytes = 0

    def moved(self, transport: WriteTransport) -> int:
        """Looks: how many bytes the client's machine has taken since the last time."""
        waiting_bytes = transport.get_write_buffer_size() + _unconfirmed_bytes(transport)
        moved_bytes = self._waiting_bytes + self.written_bytes - waiting_bytes
        self._waiting_bytes, self.written_bytes = waiting_bytes, 0
        return max(moved_bytes, 0)


def free(transport: WriteTransport) -> None:
    """Lets the kernel drop what waits there when the connection is ended now; else it would try on for minutes."""
    if (connection := transport.get_extra_info("socket")) is not None and not transport.is_closing():
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _unconfirmed_bytes(transport: WriteTransport) -> int:
    """In the socket's send queue; 0 where the system cannot tell."""
    try:
        number = transport.get_extra_info("socket").fileno()
        return int(struct.unpack("i", fcntl.ioctl(number, termios.TIOCOUTQ, bytes(4)))[0])
    except (OSError, AttributeError):
        return 0
