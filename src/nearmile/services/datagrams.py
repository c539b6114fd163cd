"""Datagrams by the dozen: one call of the kernel takes what waits, and one sends all answers (Linux).

Asked for singly, a datagram costs two calls, two tuples of an address and an exception at the end: more than its
answer. The kernel's structures stand in memory that is made once. A query becomes its answer where it is, and they
share the address, so for each datagram only one length is read, and one written.

To wake costs more than to answer. So where two and more come at a time they may gather for a moment, as in network
cards (interrupt moderation): each waits a quarter of a millisecond at most, for half the work.
"""

import ctypes
import mmap
import socket
import sys
import time
from collections.abc import Sequence
from struct import Struct as Format
from typing import Protocol

from nearmile.dns.memo import Memo
from nearmile.dns.prepared import NUMBER_BYTES

# Datagrams taken at one wakeup, before other work (TCP, maps, heartbeats) has its turn: below a millisecond.
BURST = 64
# How long they gather (the kernel adds 50 us), where the last burst was more than one and far from a whole one.
GATHER_S = 200e-6
GATHER_MIN, GATHER_MAX = 2, BURST // 4
NAME_BYTES = 28  # of an IPv6 address and port; IPv4 takes 16
NAME_BYTES_V4 = ADDRESS_BYTES_V6 = 16
HEADER_BYTES, VECTOR_BYTES, WORD_BYTES, LONG_BYTES = 64, 16, 4, 8
_HEADER = Format("@PI4xPNPNi4xI4x")  # struct mmsghdr: name and its length, one vector, no control, flags, length
_VECTOR = Format("@PN")
_RECEIVED_AT, _ADDRESS_AT, _ADDRESS_V6_AT = 56, 4, 8
# Addresses as text, 150 bytes each: resolvers ask again and again.
KNOWN_MAX = 65_536


class Answering(Protocol):
    """Who answers; neither raises."""

    def ready(self, queries: Sequence[bytes], resolvers: Sequence[str]) -> Sequence[bytes | None]:
        """For queries without their numbers the responses without theirs, where they are known."""

    def answer(self, packet: bytes, resolver: str) -> bytes | None:
        """The response to a whole packet, or None for none."""


class Datagrams:
    """Answers what waits in a socket; queries longer than ``query_bytes`` come cut to that and one byte more."""

    def __init__(self, sock: socket.socket, query_bytes: int, response_bytes: int) -> None:
        self._fd, self._is_v6 = sock.fileno(), sock.family == socket.AF_INET6
        libc = ctypes.CDLL(None)
        self._receive, self._send = libc.recvmmsg, libc.sendmmsg
        self._receive.argtypes = ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p
        self._send.argtypes = ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int
        self._names, self._names_at = _memory(BURST * NAME_BYTES)
        memory = [_memory(max(query_bytes + 1, response_bytes)) for _ in range(BURST)]
        self._slots, slots_at = [slot for slot, _ in memory], [at for _, at in memory]
        asked, vectors_asked, self._asked_at = self._table(slots_at, query_bytes + 1)
        told, vectors, self._told_at = self._table(slots_at, 0)
        self._kept = vectors_asked, told  # the kernel's alone
        self._sizes = memoryview(asked).cast("I")[_RECEIVED_AT // WORD_BYTES :: HEADER_BYTES // WORD_BYTES]
        self._addresses = memoryview(self._names).cast("I")[_ADDRESS_AT // WORD_BYTES :: NAME_BYTES // WORD_BYTES]
        self._filled = memoryview(vectors).cast("L")[1 :: VECTOR_BYTES // LONG_BYTES]
        self._last = 0
        self._known: Memo[int | bytes, str] = Memo(KNOWN_MAX)

    def _table(self, slots_at: list[int], room_bytes: int) -> tuple[mmap.mmap, mmap.mmap, int]:
        """For each slot, where that much has room, a header and a vector, and where the headers are."""
        name_bytes = NAME_BYTES if self._is_v6 else NAME_BYTES_V4  # the kernel writes the same
        vectors, vectors_at = _memory(BURST * VECTOR_BYTES)
        headers, headers_at = _memory(BURST * HEADER_BYTES)
        for number, slot_at in enumerate(slots_at):
            _VECTOR.pack_into(vectors, number * VECTOR_BYTES, slot_at, room_bytes)
            name_at, vector_at = self._names_at + number * NAME_BYTES, vectors_at + number * VECTOR_BYTES
            _HEADER.pack_into(headers, number * HEADER_BYTES, name_at, name_bytes, vector_at, 1, 0, 0, 0, 0)
        return headers, vectors, headers_at

    def exchange(self, server: Answering) -> int:
        """Answers a burst, and says how many came; a response that cannot leave at once is dropped."""
        if GATHER_MIN <= self._last <= GATHER_MAX:
            time.sleep(GATHER_S)
        count: int = self._receive(self._fd, self._asked_at, BURST, socket.MSG_DONTWAIT, None)
        self._last = count
        if count < 1:  # -1 where nothing waits
            return 0
        slots, filled = self._slots[:count], self._filled
        queries = [slot[NUMBER_BYTES:size] for slot, size in zip(slots, self._sizes, strict=False)]
        askers, first = self._askers(count), 0
        for number, (slot, response) in enumerate(zip(slots, server.ready(queries, askers), strict=True)):
            if response is not None:
                size = filled[number] = NUMBER_BYTES + len(response)
                slot[NUMBER_BYTES:size] = response
            elif not self._answer(server, number, askers[number]):
                self._leave(first, number)
                first = number + 1
        self._leave(first, count)
        return count

    def _answer(self, server: Answering, number: int, asker: str) -> bool:
        """Whether there is an answer."""
        slot = self._slots[number]
        response = server.answer(slot[: self._sizes[number]], asker)
        if response is None:
            return False
        size = self._filled[number] = len(response)
        slot[:size] = response
        return True

    def _askers(self, count: int) -> list[str]:
        keys: Sequence[int | bytes]
        if self._is_v6:
            starts = range(_ADDRESS_V6_AT, count * NAME_BYTES, NAME_BYTES)
            keys = [self._names[at : at + ADDRESS_BYTES_V6] for at in starts]
        else:
            keys = self._addresses[:count].tolist()
        return self._known.get_each(keys, self._text)

    def _text(self, key: int | bytes) -> str:
        text = self._known.get(key)
        if text is None:
            packed = key if isinstance(key, bytes) else key.to_bytes(WORD_BYTES, sys.byteorder)
            text = socket.inet_ntop(socket.AF_INET6 if self._is_v6 else socket.AF_INET, packed)
            self._known.put(key, text)
        return text

    def _leave(self, first: int, end: int) -> None:
        while first < end:
            sent = self._send(self._fd, self._told_at + first * HEADER_BYTES, end - first, socket.MSG_DONTWAIT)
            first += max(sent, 1)  # the first of those left could not be sent


def _memory(size_bytes: int) -> tuple[mmap.mmap, int]:
    """Memory that stays where it is, and where that is; of all kinds, slices of this one cost least."""
    memory = mmap.mmap(-1, size_bytes)
    return memory, ctypes.addressof(ctypes.c_char.from_buffer(memory))
