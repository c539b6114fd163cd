"""Requests at a given rate, whatever the server does: what a client waited for each, from when it was due.

Times between requests are exponential, as of many clients that know nothing of each other. A request that finds
all connections busy waits, and that time counts: a stall of the server shows in all that were due meanwhile, where
a load that waits for the response before it asks again would leave them out (coordinated omission). Where a
connection was free and the load itself was late, time counts from when the request was sent. It looks at the
sockets and the clock in turn without ever sleeping, so that no timer's coarseness counts as the server's, and so
notes when it was itself stopped: where the clock went on and its processor's time did not.

python open_load.py ADDRESS PORT RATE SECONDS SEED; prints JSON.
"""

import gc
import json
import random
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from itertools import accumulate
from typing import NamedTuple

from canary import STOP_S
from edge_origin import COUNT, sizes
from measure import LINES

CONNECTIONS, ZIPF = 128, 0.9
# One buffer for all that is received: a new one of that size for each takes longer than the rest of a request.
RECEIVED = bytearray(1 << 20)
HEAD_BYTES_MAX = 4096
# How long after the last was due all must have been answered.
PATIENCE_S = 10.0
# As wrk says it, since a server's peak is one of the same requests: the long head takes nginx 1.3 us, Varnish 1.7.
REQUEST = "\r\n".join(("GET /{} HTTP/1.1", *LINES, "", ""))


def plan(rate: float, seconds: float, seed: int) -> list[tuple[float, int]]:
    """When each request is due, and for which object."""
    chance = random.Random(seed)
    count = int(rate * seconds)
    ranks = chance.choices(
        range(COUNT), cum_weights=list(accumulate(1 / (n + 1) ** ZIPF for n in range(COUNT))), k=count
    )
    due = accumulate(chance.expovariate(rate) for _ in range(count))
    return [(at_s, rank * 2003 % COUNT) for at_s, rank in zip(due, ranks, strict=True)]


class Wires(NamedTuple):
    """What is needed of a connection at each request: looked up once."""

    send: Callable[[bytes], int]
    receive: Callable[[bytearray], int]


class Generator:
    """Sends what is due on free connections, and notes when each response was complete."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.poll = select.epoll()
        self.wires: dict[int, Wires] = {}
        self.free: deque[int] = deque()
        self.waiting: dict[int, tuple[float, int]] = {}
        """By connection: when its time began, and the bytes still to come; before the head, -1 less those."""
        self.sizes = sizes()
        self.requests = [REQUEST.format(number).encode() for number in range(COUNT)]
        self.took: list[tuple[float, float]] = []
        """Of each request, when its time began and how long it took, in seconds."""
        self.stops: list[tuple[float, float]] = []
        """When the machine did not let this process run: from and to."""
        for _ in range(CONNECTIONS):
            connection = socket.create_connection(address)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setblocking(False)
            self.wires[connection.fileno()] = Wires(connection.send, connection.recv_into)
            self.poll.register(connection, select.EPOLLIN)
            self.free.append(connection.fileno())

    def run(self, planned: list[tuple[float, int]]) -> float:
        """Carries out the plan; returns the seconds it took. Times are of the clock that all processes share."""
        clock, poll, free, at, count = time.perf_counter, self.poll.poll, self.free, 0, len(planned)
        begun_s = now_s = looked_s = clock()
        full_s, used_s, until_s = 0.0, time.thread_time(), begun_s + planned[-1][0] + PATIENCE_S
        while len(self.took) < count:
            before_s, now_s = now_s, clock()
            if now_s - before_s > STOP_S:
                before_used_s, used_s = used_s, time.thread_time()
                stopped_s = min(now_s - before_s, now_s - looked_s - (used_s - before_used_s))
                looked_s = now_s
                if stopped_s > STOP_S:
                    self.stops.append((before_s, before_s + stopped_s))
            while at < count and (due_s := begun_s + planned[at][0]) <= now_s:
                if not free:
                    full_s = now_s
                    break
                number = planned[at][1]
                connection = free.popleft()
                self.waiting[connection] = (due_s if due_s <= full_s else clock(), -1 - self.sizes[number])
                self.wires[connection].send(self.requests[number])
                at += 1
            for connection, _ in poll(0):
                self.receive(connection)
            if now_s > until_s:
                sys.exit(f"{count - len(self.took)} requests were not answered")
        return clock() - begun_s

    def receive(self, connection: int) -> None:
        """Takes what has come of a response."""
        size = self.wires[connection].receive(RECEIVED)
        since_s, left = self.waiting[connection]
        if left < 0:
            end = RECEIVED.find(b"\r\n\r\n", 0, HEAD_BYTES_MAX) + 4
            if not 4 <= end <= size or not RECEIVED.startswith(b"HTTP/1.1 200 "):
                sys.exit(f"this is no response to count on: {bytes(RECEIVED[: min(size, 200)])!r}")
            left = end - 1 - left
        left -= size
        self.waiting[connection] = (since_s, left)
        if left == 0:
            self.took.append((since_s, time.perf_counter() - since_s))
            self.free.append(connection)


def main() -> None:
    """Carries out one run."""
    address, port, rate, seconds, seed = sys.argv[1:]
    generator = Generator((address, int(port)))
    planned = plan(float(rate), float(seconds), int(seed))
    gc.collect()
    gc.disable()
    elapsed_s = generator.run(planned)
    print(json.dumps({"per_s": len(planned) / elapsed_s, "stops": generator.stops, "took": generator.took}))


if __name__ == "__main__":
    main()
