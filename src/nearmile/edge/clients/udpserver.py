"""The socket of HTTP/3: datagrams of all clients, sorted to their connections, and what those send.

Reading goes in rounds of bounded length, each connection flushed once a round. Runs of datagrams of one size are
handed to the kernel together (UDP_SEGMENT): 40 of them take a sixth of the time, on loopback.
"""

import errno
import os
import socket
import struct
import time
from collections.abc import Callable

from nearmile.edge import limits
from nearmile.edge.clients.door import Door
from nearmile.edge.clients.h3server import H3Connection
from nearmile.http.h3 import Session
from nearmile.http.qpack import Sections
from nearmile.http.quic import CID_BYTES, Address, Choose, Lobby, Newcomer, Run, Tickets, Transport
from nearmile.http.streams import headers_of

SOL_UDP, UDP_SEGMENT = 17, 103  # linux/udp.h; without them, as on other systems, each datagram goes by itself
RECEIVE_BYTES = 2048  # more than any datagram of an Ethernet has


class UdpServer:
    """All clients of HTTP/3. Raises OSError where the address is taken."""

    def __init__(self, door: Door, address: str, port: int, choose: Choose, key: bytes) -> None:
        self.door = door
        self.full = False
        self.sections = Sections()
        self.now_s: Callable[[], float] = time.monotonic
        self._choose = choose
        self._lobby, self._tickets = Lobby(key, os.urandom), Tickets()
        self._names: dict[bytes, H3Connection] = {}
        self._named: dict[H3Connection, set[bytes]] = {}
        self._shaking: dict[H3Connection, None] = {}
        """Those of which it is not known yet that their handshake is over."""
        self._unsent: list[Run] = []
        self._waiting: dict[H3Connection, None] = {}
        self._again = False
        self._by_segments = True
        self._socket = _open(address, port)
        door.node.offer_h3(port)
        self.hit_lines = self.sections.lines(headers_of(b"\r\n" + door.node.secure_hit_end)[1:])
        door.loop.add_reader(self._socket, self._readable)

    def close(self) -> None:
        """After the last connection."""
        self.door.loop.remove_reader(self._socket)
        self.door.loop.remove_writer(self._socket)
        self._socket.close()

    # --- receiving

    def _readable(self) -> None:
        """One round."""
        got: dict[tuple[H3Connection, Address], list[bytes]] = {}
        receive, names = self._socket.recvfrom, self._names
        for _ in range(limits.UDP_ROUND):
            try:
                data, address = receive(RECEIVE_BYTES)
            except BlockingIOError:
                break
            except OSError:  # an ICMP message about what was sent before
                continue
            # A short header has our connection id at once, a long one behind version and length.
            start = 6 if data and data[0] & 0x80 else 1
            connection = names.get(data[start : start + CID_BYTES]) or self._meet(data, address)
            if connection is not None:
                got.setdefault((connection, address), []).append(data)
        for (connection, address), datagrams in got.items():
            connection.take(datagrams, address)

    def _meet(self, data: bytes, address: Address) -> H3Connection | None:
        """A datagram that no connection is named in."""
        to, found = self._lobby.look(data, address, time.time(), self._doubtful())
        if (known := self._names.get(to)) is not None:
            return known
        if isinstance(found, bytes):
            self.send(None, [Run([found], address)])
        if not isinstance(found, Newcomer) or self.door.closing or self._choose(None) is None:
            return None
        transport = Transport(found, self._choose, self._tickets, self._lobby.reset_token)
        connection = H3Connection(self.door, self, Session(transport, self.sections), address[0])
        if connection.over:
            return None
        self._named[connection] = set()
        self._shaking[connection] = None
        # What it is called until it has heard our name for it, and that name.
        self.name(connection, to)
        self.name(connection, transport.host_cid)
        return connection

    def _doubtful(self) -> bool:
        """Whether as many handshakes are under way as may be. Anybody's datagram asks this: whatever the number of
        clients, it looks at no more than those, and once at each that is over."""
        under_way, over = 0, []
        for connection in self._shaking:
            if connection.session.shaken:
                over.append(connection)
            elif (under_way := under_way + 1) >= limits.QUIC_SHAKING_MAX:
                break
        for connection in over:
            del self._shaking[connection]
        return under_way >= limits.QUIC_SHAKING_MAX

    def name(self, connection: H3Connection, cid: bytes) -> None:
        """See Post."""
        self._names[cid] = connection
        self._named[connection].add(cid)

    def unname(self, cid: bytes) -> None:
        """See Post."""
        if (connection := self._names.pop(cid, None)) is not None:
            self._named[connection].discard(cid)

    def leave(self, connection: H3Connection) -> None:
        """See Post."""
        for cid in self._named.pop(connection, ()):
            del self._names[cid]
        self._waiting.pop(connection, None)
        self._shaking.pop(connection, None)

    # --- sending

    def send(self, connection: H3Connection | None, runs: list[Run]) -> None:
        """See Post."""
        if self.full:
            if connection is not None:  # what belongs to none can be lost
                self._unsent += runs
            return
        for number, run in enumerate(runs):
            try:
                while run.pieces:
                    self._send_some(run)
            except BlockingIOError:
                self.full = True
                self._unsent = runs[number:]
                self.door.loop.add_writer(self._socket, self._writable)
                return

    def _send_some(self, run: Run) -> None:
        """Sends the first datagrams of a run, as many as can go together, and takes them off it."""
        pieces = run.pieces[: limits.UDP_RUN if self._by_segments else 1]
        try:
            if len(pieces) == 1:
                self._socket.sendto(pieces[0], run.address)
            else:
                how = [(SOL_UDP, UDP_SEGMENT, struct.pack("H", len(pieces[0])))]
                self._socket.sendmsg(pieces, how, 0, run.address)
        except BlockingIOError:
            raise
        except OSError as error:
            if len(pieces) > 1 and error.errno in (errno.EIO, errno.EINVAL, errno.ENOPROTOOPT):
                self._by_segments = False
                return
            # Nobody there, or the way is narrower than thought: as if it was lost on it.
        del run.pieces[: len(pieces)]

    def wait(self, connection: H3Connection) -> None:
        """See Post."""
        self._waiting[connection] = None
        if not self.full and not self._again:
            self._again = True
            self.door.loop.call_soon(self._flush_waiting)

    def _writable(self) -> None:
        self.door.loop.remove_writer(self._socket)
        self.full = False
        unsent, self._unsent = self._unsent, []
        self.send(None, unsent)
        self._flush_waiting()

    def _flush_waiting(self) -> None:
        self._again = False
        waiting, self._waiting = self._waiting, {}
        for connection in waiting:
            connection.flush()


def _open(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    found = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        # As far as the system lets us (net.core.rmem_max): a burst of all clients must find room.
        found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, limits.UDP_BUFFER_BYTES)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, limits.UDP_BUFFER_BYTES)
        found.bind((address, port))
    except OSError:
        found.close()
        raise
    return found
