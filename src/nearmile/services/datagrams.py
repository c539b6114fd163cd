"""Datagrams by the dozen: one call of the kernel takes what waits, and one sends all answers (Linux).

Asked for singly, a datagram costs two calls, two tuples of an address and an exception at the end: more than its
answer. The kernel's structures stand in memory that is made once; only lengths are written for each datagram.
"""

import ctypes
import socket
from collections.abc import Callable
from struct import Struct as Format

# Datagrams taken at one wakeup, before other work (TCP, maps, heartbeats) has its turn: below a millisecond.
BURST = 64
NAME_BYTES = 28  # of an IPv6 address and port; IPv4 takes 16
HEADER_BYTES, VECTOR_BYTES = 64, 16
_HEADER = Format("@PI4xPNPNi4xI4x")  # struct mmsghdr: name and its length, one vector, no control, flags, length
_NAME, _LENGTH, _VECTOR = Format("@PI"), Format("@I"), Format("@PN")
_RECEIVED_AT, _FILLED_AT, _NAME_LENGTH_AT = 56, 8, 8
_SIZE = Format("@N")


class Datagrams:
    """Answers what waits in a socket; queries longer than ``query_bytes`` come cut to that and one byte more."""

    def __init__(self, sock: socket.socket, query_bytes: int, response_bytes: int) -> None:
        self._fd, self._is_v6 = sock.fileno(), sock.family == socket.AF_INET6
        libc = ctypes.CDLL(None)
        self._receive, self._send = libc.recvmmsg, libc.sendmmsg
        self._receive.argtypes = ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p
        self._send.argtypes = ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int
        self._query_bytes, self._response_bytes = query_bytes + 1, response_bytes
        self._names, self._names_at = _memory(BURST * NAME_BYTES)
        self._queries, self._asked, self._room, self._asked_at = self._table(self._query_bytes)
        self._responses, self._told, self._vectors, self._told_at = self._table(self._response_bytes)

    def _table(self, slot_bytes: int) -> tuple[memoryview, memoryview, memoryview, int]:
        """Room for a burst: the bytes, the headers, the vectors, and where the headers are."""
        slots, slots_at = _memory(BURST * slot_bytes)
        vectors, vectors_at = _memory(BURST * VECTOR_BYTES)
        headers, headers_at = _memory(BURST * HEADER_BYTES)
        for number in range(BURST):
            _VECTOR.pack_into(vectors, number * VECTOR_BYTES, slots_at + number * slot_bytes, slot_bytes)
            name_at, vector_at = self._names_at + number * NAME_BYTES, vectors_at + number * VECTOR_BYTES
            _HEADER.pack_into(headers, number * HEADER_BYTES, name_at, NAME_BYTES, vector_at, 1, 0, 0, 0, 0)
        return slots, headers, vectors, headers_at

    def exchange(self, answer: Callable[[bytes, str], bytes | None]) -> int:
        """Answers a burst, and says how many came; a response that cannot leave at once is dropped."""
        count: int = self._receive(self._fd, self._asked_at, BURST, socket.MSG_DONTWAIT, None)
        filled = 0
        for number in range(count):  # -1 where nothing waits
            header_at, slot_at = number * HEADER_BYTES, number * self._query_bytes
            (size,) = _LENGTH.unpack_from(self._asked, header_at + _RECEIVED_AT)
            response = answer(bytes(self._queries[slot_at : slot_at + size]), self._address(number))
            if response is not None:
                self._fill(filled, number, response)
                filled += 1
            _LENGTH.pack_into(self._asked, header_at + _NAME_LENGTH_AT, NAME_BYTES)
        self._leave(filled)
        return max(count, 0)

    def _address(self, number: int) -> str:
        at = number * NAME_BYTES
        if self._is_v6:
            return socket.inet_ntop(socket.AF_INET6, self._names[at + 8 : at + 24])
        return socket.inet_ntoa(self._names[at + 4 : at + 8])

    def _fill(self, place: int, number: int, response: bytes) -> None:
        size, slot_at = len(response), place * self._response_bytes
        self._responses[slot_at : slot_at + size] = response
        _SIZE.pack_into(self._vectors, place * VECTOR_BYTES + _FILLED_AT, size)
        (name_bytes,) = _LENGTH.unpack_from(self._asked, number * HEADER_BYTES + _NAME_LENGTH_AT)
        _NAME.pack_into(self._told, place * HEADER_BYTES, self._names_at + number * NAME_BYTES, name_bytes)

    def _leave(self, filled: int) -> None:
        done = 0
        while done < filled:
            sent = self._send(self._fd, self._told_at + done * HEADER_BYTES, filled - done, socket.MSG_DONTWAIT)
            done += max(sent, 1)  # the first of those left could not be sent


def _memory(size_bytes: int) -> tuple[memoryview, int]:
    """Memory that stays where it is, and where that is."""
    buffer = ctypes.create_string_buffer(size_bytes)
    return memoryview(buffer).cast("B"), ctypes.addressof(buffer)
