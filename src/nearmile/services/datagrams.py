"""Datagrams by the dozen: one call of the kernel takes what waits, and one sends all answers (Linux).

Asked for singly, a datagram costs two calls, two tuples of an address and an exception at the end: more than its
answer. The kernel's structures stand in memory that is made once. A query becomes its answer where it is, and they
share the address, so for each datagram only one length is read, and one written.

To wake costs more than to answer. So where two and more come at a time they may gather for a moment, as in network
cards (interrupt moderation): each waits a quarter of a millisecond at most, for half the work.

For each datagram that leaves a socket which an event loop watches, the kernel goes through those who wait for room
in it. So from a whole burst on the loop does not watch, but asks in each turn, until nothing comes.
"""

import asyncio
import ctypes
import mmap
import socket
import time
from collections.abc import Sequence
from ipaddress import ip_address
from struct import Struct as Format
from typing import Protocol

from nearmile.dns.prepared import NUMBER_BYTES

# Datagrams taken at a time, before other work (TCP, maps, heartbeats) has its turn: 0.1 ms. More stay in no cache.
BURST = 32
# How long they gather (the kernel adds 50 us), where the last burst was more than one and far from a whole one.
GATHER_S = 200e-6
GATHER_MIN, GATHER_MAX = 2, BURST // 2
NAME_BYTES = 28  # of an IPv6 address and port; IPv4 takes 16
NAME_BYTES_V4 = 16
HEADER_BYTES, VECTOR_BYTES, LONG_BYTES = 64, 16, 8
_HEADER = Format("@PI4xPNPNi4xI4x")  # struct mmsghdr: name and its length, one vector, no control, flags, length
_VECTOR = Format("@PN")
# What of all headers, and of all names, is read at once: an IPv4 address is a number, an IPv6 address bytes.
_SIZES = Format("=" + "56xI4x" * BURST)
_ADDRESSES_V4, _ADDRESSES_V6 = Format(">" + "4xI20x" * BURST), Format("=" + "8x16s4x" * BURST)

Packed = int | bytes
"""An address, as ``ipaddress`` takes it."""


class Answering(Protocol):
    """Who answers; neither raises."""

    def ready(self, queries: Sequence[bytes], resolvers: Sequence[Packed]) -> Sequence[bytes | None]:
        """For queries without their numbers the responses without theirs, where they are known."""

    def answer(self, packet: bytes, resolver: str) -> bytes | None:
        """The response to a whole packet, or None for none."""


class Datagrams:
    """Answers what waits in a socket; queries longer than ``query_bytes`` come cut to that and one byte more."""

    def __init__(self, sock: socket.socket, query_bytes: int, response_bytes: int) -> None:
        self._fd, is_v6 = sock.fileno(), sock.family == socket.AF_INET6
        libc = ctypes.CDLL(None)
        self._receive, self._send = libc.recvmmsg, libc.sendmmsg
        self._receive.argtypes = ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p
        self._send.argtypes = ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int
        self._names, self._names_at = _memory(BURST * NAME_BYTES)
        memory = [_memory(max(query_bytes + 1, response_bytes)) for _ in range(BURST)]
        self._slots, slots_at = [slot for slot, _ in memory], [at for _, at in memory]
        self._addresses, name_bytes = (_ADDRESSES_V6, NAME_BYTES) if is_v6 else (_ADDRESSES_V4, NAME_BYTES_V4)
        self._asked, vectors_asked, self._asked_at = self._table(slots_at, query_bytes + 1, name_bytes)
        told, vectors, self._told_at = self._table(slots_at, 0, name_bytes)
        self._kept = vectors_asked, told  # the kernel's alone
        self._filled = memoryview(vectors).cast("L")[1 :: VECTOR_BYTES // LONG_BYTES]
        self._last = 0
        self._next: asyncio.Handle | None = None

    def _table(self, slots_at: list[int], room_bytes: int, name_bytes: int) -> tuple[mmap.mmap, mmap.mmap, int]:
        """For each slot, where that much has room, a header and a vector, and where the headers are."""
        vectors, vectors_at = _memory(BURST * VECTOR_BYTES)
        headers, headers_at = _memory(BURST * HEADER_BYTES)
        for number, slot_at in enumerate(slots_at):
            _VECTOR.pack_into(vectors, number * VECTOR_BYTES, slot_at, room_bytes)
            name_at, vector_at = self._names_at + number * NAME_BYTES, vectors_at + number * VECTOR_BYTES
            _HEADER.pack_into(headers, number * HEADER_BYTES, name_at, name_bytes, vector_at, 1, 0, 0, 0, 0)
        return headers, vectors, headers_at

    def attend(self, server: Answering, loop: asyncio.AbstractEventLoop) -> None:
        """Answers what comes, until ``leave``."""
        loop.add_reader(self._fd, self._come, server, loop)

    def leave(self, loop: asyncio.AbstractEventLoop) -> None:
        """What comes from now on waits."""
        loop.remove_reader(self._fd)
        if self._next is not None:
            self._next.cancel()

    def _come(self, server: Answering, loop: asyncio.AbstractEventLoop) -> None:
        if self.exchange(server) == BURST:
            loop.remove_reader(self._fd)
            self._next = loop.call_soon(self._ask, server, loop)

    def _ask(self, server: Answering, loop: asyncio.AbstractEventLoop) -> None:
        if self.exchange(server):
            self._next = loop.call_soon(self._ask, server, loop)
        else:
            self.attend(server, loop)

    def exchange(self, server: Answering) -> int:
        """Answers a burst, and says how many came; a response that cannot leave at once is dropped."""
        if GATHER_MIN <= self._last <= GATHER_MAX:
            time.sleep(GATHER_S)
        count: int = self._receive(self._fd, self._asked_at, BURST, socket.MSG_DONTWAIT, None)
        self._last = count
        if count < 1:  # -1 where nothing waits
            return 0
        slots, filled, sizes = self._slots[:count], self._filled, _SIZES.unpack_from(self._asked)
        queries = [slot[NUMBER_BYTES:size] for slot, size in zip(slots, sizes, strict=False)]
        askers, first = self._addresses.unpack_from(self._names)[:count], 0
        for number, (slot, response) in enumerate(zip(slots, server.ready(queries, askers), strict=True)):
            if response is not None:
                size = filled[number] = NUMBER_BYTES + len(response)
                slot[NUMBER_BYTES:size] = response
            elif (whole := server.answer(slot[: sizes[number]], str(ip_address(askers[number])))) is not None:
                size = filled[number] = len(whole)
                slot[:size] = whole
            else:
                self._send_some(first, number)
                first = number + 1
        self._send_some(first, count)
        return count

    def _send_some(self, first: int, end: int) -> None:
        while first < end:
            sent = self._send(self._fd, self._told_at + first * HEADER_BYTES, end - first, socket.MSG_DONTWAIT)
            first += max(sent, 1)  # the first of those left could not be sent


def _memory(size_bytes: int) -> tuple[mmap.mmap, int]:
    """Memory that stays where it is, and where that is; of all kinds, slices of this one cost least."""
    memory = mmap.mmap(-1, size_bytes)
    return memory, ctypes.addressof(ctypes.c_char.from_buffer(memory))
