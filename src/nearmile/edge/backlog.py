"""What waits in the kernel: written to a client whose machine has not taken it yet, or come and not read yet."""

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
        waiting_bytes = transport.get_write_buffer_size() + _queued_bytes(transport, termios.TIOCOUTQ)
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


def _queued_bytes(transport: WriteTransport, queue: int) -> int:
    """In one of the socket's queues (TIOCOUTQ, FIONREAD); 0 where the system cannot tell, or it is closed."""
    try:
        number = transport.get_extra_info("socket").fileno()
        return int(struct.unpack("i", fcntl.ioctl(number, queue, bytes(4)))[0])
    except (OSError, AttributeError, ValueError):
        return 0
