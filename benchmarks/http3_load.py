"""Asks over HTTP/3 as fast as answers come: ``http3_load.py HOST PORT NAME TARGET CONNECTIONS STREAMS SECONDS``.

Prints how many requests were answered, and the bytes of their heads and bodies. What is under way after that time
is waited for. Certificates are not checked.
"""

import select
import socket
import ssl
import sys
import time
from contextlib import suppress

from measure import BROWSER
from qh3.quic.configuration import QuicConfiguration
from qh3.quic.connection import QuicConnection
from qh3.quic.events import ConnectionTerminated, StreamDataReceived, StreamReset

from nearmile.http.h3frames import varint
from nearmile.http.qpack import START, Sections

WINDOW_BYTES = 16 << 20
ROUND, RUN_BYTES = 16, 64 << 10
SOL_UDP, UDP_GRO = 17, 104  # linux/udp.h
SETTINGS = b"\x00\x04\x00"  # a control stream with no settings


class Client:
    """One connection."""

    def __init__(self, server: tuple[str, int], name: str, request: bytes, streams: int) -> None:
        self.server, self.request, self.streams = server, request, streams
        self.answered = self.bytes = self.open = 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW_BYTES)
        self.socket.setsockopt(SOL_UDP, UDP_GRO, 1)
        self.socket.connect(server)
        self.quic = QuicConnection(
            configuration=QuicConfiguration(
                is_client=True,
                alpn_protocols=["h3"],
                server_name=name,
                verify_mode=ssl.CERT_NONE,
                max_data=4 * WINDOW_BYTES,
                max_stream_data=WINDOW_BYTES,
            )
        )
        self.quic.connect(server, time.monotonic())
        self.ready = False

    def flush(self) -> None:
        """Sends what there is to send."""
        for data, _ in self.quic.datagrams_to_send(time.monotonic()):
            try:
                self.socket.send(data)
            except BlockingIOError:
                return

    def read(self, asking: bool) -> None:
        """Takes what has come; where still ``asking``, asks again for what was answered."""
        with suppress(BlockingIOError):
            for _ in range(ROUND):
                data, told, *_ = self.socket.recvmsg(RUN_BYTES, socket.CMSG_SPACE(4))
                size = int.from_bytes(told[0][2], sys.byteorder) if told else len(data)
                self.quic.receive_gro_buffer(data, size, self.server, time.monotonic())
        while (event := self.quic.next_event()) is not None:
            if isinstance(event, StreamDataReceived) and not event.stream_id & 3:
                self.bytes += len(event.data)
                if event.end_stream:
                    self.answered += 1
                    self.open -= 1
            elif isinstance(event, ConnectionTerminated | StreamReset):
                sys.exit(f"the server gave up: {event}")
        if not self.ready and self.quic._handshake_complete:
            self.ready = True
            self.quic.send_stream_data(2, SETTINGS)
        while asking and self.ready and self.open < self.streams:
            self.quic.send_stream_data(self.quic.get_next_available_stream_id(), self.request, True)
            self.open += 1
        self.flush()


def main() -> None:
    """See the module."""
    host, port, name, target, connections, streams, seconds = sys.argv[1:]
    pseudo = (
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b":authority", name.encode()),
        (b":path", target.encode()),
    )
    browser = tuple((name.lower().encode(), value.encode()) for name, value in BROWSER.items())
    section = START + Sections().lines(pseudo + browser)
    request = varint(1) + varint(len(section)) + section
    clients = [Client((host, int(port)), name, request, int(streams)) for _ in range(int(connections))]
    poll = select.epoll()
    by_number = {client.socket.fileno(): client for client in clients}
    for number, client in by_number.items():
        poll.register(number, select.EPOLLIN)
        client.flush()
    end_s = time.monotonic() + float(seconds)
    now_s = time.monotonic()
    while now_s < end_s or any(client.open for client in clients):
        for number, _ in poll.poll(0.005):
            by_number[number].read(now_s < end_s)
        now_s = time.monotonic()
        for client in clients:
            timer_s = client.quic.get_timer()
            if timer_s is not None and timer_s <= now_s:
                client.quic.handle_timer(now_s)
                client.flush()
    print(sum(client.answered for client in clients), sum(client.bytes for client in clients))


if __name__ == "__main__":
    main()
