"""Datagrams by the dozen: one call of the kernel takes what waits, and one sends all answers (Linux).

Asked for singly, a datagram costs two calls, two tuples of an address and an exception at the end: more than its
answer. The kernel's structures stand in memory that is made once. A query and its answer have the same place in it
and share the asker's address, so for each datagram only one length is read, and one written.
"""

import ctypes
import mmap
import socket
from collections.abc import Callable, Sequence
from struct import Struct as Format

from nearmile.dns.memo import Memo

# Datagrams taken at one wakeup, before other work (TCP, maps, heartbeats) has its turn: below a millisecond.
BURST = 64
NAME_BYTES = 28  # of an IPv6 address and port; IPv4 takes 16
NAME_BYTES_V4 = 16
HEADER_BYTES, VECTOR_BYTES, WORD_BYTES, LONG_BYTES = 64, 16, 4, 8
_HEADER = Format("@PI4xPNPNi4xI4x")  # struct mmsghdr: name and its length, one vector, no control, flags, length
_VECTOR = Format("@PN")
_RECEIVED_AT, _ADDRESS_AT, _ADDRESS_V6_AT, _ADDRESS_V6_END = 56, 4, 8, 24
# Addresses as text, 150 bytes each: resolvers ask again and again.
KNOWN_MAX = 65_536
Answers = Callable[[Sequence[bytes], Sequence[str]], Sequence[bytes | None]]


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
        self._queries, asked, vectors_asked, self._asked_at = self._table(self._query_bytes)
        self._responses, told, vectors, self._told_at = self._table(self._response_bytes)
        self._kept = vectors_asked, told  # the kernel's alone
        self._sizes = memoryview(asked).cast("I")[_RECEIVED_AT // WORD_BYTES :: HEADER_BYTES // WORD_BYTES]
        self._addresses = memoryview(self._names).cast("I")[_ADDRESS_AT // WORD_BYTES :: NAME_BYTES // WORD_BYTES]
        self._filled = memoryview(vectors).cast("L")[1 :: VECTOR_BYTES // LONG_BYTES]
        self._known: Memo[int | bytes, str] = Memo(KNOWN_MAX)

    def _table(self, slot_bytes: int) -> tuple[mmap.mmap, mmap.mmap, mmap.mmap, int]:
        """Room for a burst: the bytes, the headers, the vectors, and where the headers are."""
        name_bytes = NAME_BYTES if self._is_v6 else NAME_BYTES_V4  # the kernel writes the same
        slots, slots_at = _memory(BURST * slot_bytes)
        vectors, vectors_at = _memory(BURST * VECTOR_BYTES)
        headers, headers_at = _memory(BURST * HEADER_BYTES)
        for number in range(BURST):
            _VECTOR.pack_into(vectors, number * VECTOR_BYTES, slots_at + number * slot_bytes, slot_bytes)
            name_at, vector_at = self._names_at + number * NAME_BYTES, vectors_at + number * VECTOR_BYTES
            _HEADER.pack_into(headers, number * HEADER_BYTES, name_at, name_bytes, vector_at, 1, 0, 0, 0, 0)
        return slots, headers, vectors, headers_at

    def exchange(self, answers: Answers) -> int:
        """Answers a burst, and says how many came; a response that cannot leave at once is dropped."""
        count: int = self._receive(self._fd, self._asked_at, BURST, socket.MSG_DONTWAIT, None)
        if count < 1:  # -1 where nothing waits
            return 0
        queries, sizes, step = self._queries, self._sizes, self._query_bytes
        packets = [queries[at * step : at * step + sizes[at]] for at in range(count)]
        responses, filled, step, first = self._responses, self._filled, self._response_bytes, 0
        for number, response in enumerate(answers(packets, self._askers(count))):
            if response is None:
                self._leave(first, number)
                first = number + 1
            else:
                size = filled[number] = len(response)
                responses[number * step : number * step + size] = response
        self._leave(first, count)
        return count

    def _askers(self, count: int) -> list[str]:
        keys: Sequence[int | bytes]
        if self._is_v6:
            starts = range(_ADDRESS_V6_AT, count * NAME_BYTES, NAME_BYTES)
            keys = [self._names[at : at + _ADDRESS_V6_END - _ADDRESS_V6_AT] for at in starts]
        else:
            keys = self._addresses[:count]
        return [self._known.get(key) or self._text(number, key) for number, key in enumerate(keys)]

    def _text(self, number: int, key: int | bytes) -> str:
        at = number * NAME_BYTES
        if self._is_v6:
            text = socket.inet_ntop(socket.AF_INET6, self._names[at + _ADDRESS_V6_AT : at + _ADDRESS_V6_END])
        else:
            text = socket.inet_ntoa(self._names[at + _ADDRESS_AT : at + _ADDRESS_V6_AT])
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
