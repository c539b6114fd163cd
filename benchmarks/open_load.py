"""Requests at a given rate, whatever the server does: what a client waited for each, from when it was due.

Times between requests are exponential, as of many clients that know nothing of each other. A request that finds
all connections busy waits, and that time counts: a stall of the server shows in all that were due meanwhile, where
a load that waits for the response before it asks again would leave them out (coordinated omission). It looks at
the sockets and the clock in turn without ever sleeping, so that no timer's coarseness counts as the server's.

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
from itertools import accumulate

from edge_origin import COUNT, sizes

CONNECTIONS, ZIPF = 128, 0.9
RECEIVE_BYTES = 1 << 20
# How long after the last was due all must have been answered.
PATIENCE_S = 10.0
REQUEST = (
    "GET /{} HTTP/1.1\r\nHost: www.bench.test\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0\r\n"
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
    "Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-US,en;q=0.9\r\n\r\n"
)


def plan(rate: float, seconds: float, seed: int) -> list[tuple[float, int]]:
    """When each request is due, and for which object."""
    chance = random.Random(seed)
    count = int(rate * seconds)
    ranks = chance.choices(
        range(COUNT), cum_weights=list(accumulate(1 / (n + 1) ** ZIPF for n in range(COUNT))), k=count
    )
    due = accumulate(chance.expovariate(rate) for _ in range(count))
    return [(at_s, rank * 2003 % COUNT) for at_s, rank in zip(due, ranks, strict=True)]


class Generator:
    """Sends what is due on free connections, and notes when each response was complete."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.poll = select.epoll()
        self.sockets: dict[int, socket.socket] = {}
        self.free: deque[int] = deque()
        self.waiting: dict[int, tuple[float, int]] = {}
        """By connection: when its request was due, and the bytes still to come; before the head, -1 less those."""
        self.sizes = sizes()
        self.requests = [REQUEST.format(number).encode() for number in range(COUNT)]
        self.took_s: list[float] = []
        for _ in range(CONNECTIONS):
            connection = socket.create_connection(address)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setblocking(False)
            self.sockets[connection.fileno()] = connection
            self.poll.register(connection, select.EPOLLIN)
            self.free.append(connection.fileno())

    def run(self, planned: list[tuple[float, int]]) -> float:
        """Carries out the plan; returns the seconds it took."""
        clock, poll, free, at, count = time.perf_counter, self.poll.poll, self.free, 0, len(planned)
        begun_s = clock()
        until_s = planned[-1][0] + PATIENCE_S
        while len(self.took_s) < count:
            now_s = clock() - begun_s
            while at < count and free and planned[at][0] <= now_s:
                due_s, number = planned[at]
                connection = free.popleft()
                self.waiting[connection] = (due_s, -1 - self.sizes[number])
                self.sockets[connection].send(self.requests[number])
                at += 1
            for connection, _ in poll(0):
                self.receive(connection, begun_s)
            if now_s > until_s:
                sys.exit(f"{count - len(self.took_s)} requests were not answered")
        return clock() - begun_s

    def receive(self, connection: int, begun_s: float) -> None:
        """Takes what has come of a response."""
        data = self.sockets[connection].recv(RECEIVE_BYTES)
        due_s, left = self.waiting[connection]
        if left < 0:
            end = data.find(b"\r\n\r\n") + 4
            if end < 4 or not data.startswith(b"HTTP/1.1 200 "):
                sys.exit(f"this is no response to count on: {data[:200]!r}")
            left, data = -1 - left, data[end:]
        left -= len(data)
        self.waiting[connection] = (due_s, left)
        if left == 0:
            self.took_s.append(time.perf_counter() - begun_s - due_s)
            self.free.append(connection)


def main() -> None:
    """Carries out one run."""
    address, port, rate, seconds, seed = sys.argv[1:]
    generator = Generator((address, int(port)))
    planned = plan(float(rate), float(seconds), int(seed))
    gc.disable()
    elapsed_s = generator.run(planned)
    took_ms = sorted(1000 * one for one in generator.took_s)
    of = [took_ms[int(len(took_ms) * share)] for share in (0.5, 0.99, 0.999)]
    print(json.dumps({"per_s": len(took_ms) / elapsed_s, "p50_ms": of[0], "p99_ms": of[1], "p999_ms": of[2]}))


if __name__ == "__main__":
    main()
