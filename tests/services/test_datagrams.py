"""Datagrams in bursts, on real sockets."""

import asyncio
import socket
from collections.abc import Sequence

import pytest

from ipv6 import needs_ipv6
from nearmile.services.datagrams import BURST, Datagrams, Packed

BYTES = 100


class Echo:
    """Answers in capitals, where a datagram does not begin with "no"; remembers what was asked."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, str]] = []

    def ready(self, queries: Sequence[bytes], resolvers: Sequence[Packed]) -> list[bytes | None]:
        return [None] * len(queries)

    def answer(self, packet: bytes, resolver: str) -> bytes | None:
        self.seen.append((len(packet), resolver))
        return None if packet.startswith(b"no") else packet.upper()[:BYTES]


class Prepared(Echo):
    """Has an answer ready for longer queries."""

    def ready(self, queries: Sequence[bytes], resolvers: Sequence[Packed]) -> list[bytes | None]:
        return [query[:1] + b"ready" if len(query) > 12 else None for query in queries]


@pytest.mark.parametrize(
    ("family", "address"),
    [(socket.AF_INET, "127.0.0.1"), pytest.param(socket.AF_INET6, "::1", marks=needs_ipv6)],
)
def test_each_gets_its_answer(family: socket.AddressFamily, address: str) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as server:
        server.bind((address, 0))
        datagrams = Datagrams(server, BYTES, BYTES)
        echo = Echo()
        assert datagrams.exchange(echo) == 0
        clients = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(3)]
        for client in clients:
            client.bind((address, 0))
            client.settimeout(5)
        for size in (1, 50, BYTES, BYTES + 1, 5000):  # in one memory, again and again
            for number, client in enumerate(clients):
                client.sendto((b"abn"[number : number + 1] + b"o" * size)[:size], server.getsockname())
            assert datagrams.exchange(echo) == 3
            for number, client in enumerate(clients):
                if number != 2 or size == 1:
                    expected = (b"ABN"[number : number + 1] + b"O" * size)[: min(size, BYTES)]
                    assert client.recvfrom(BYTES + 1)[0] == expected
        assert [size for size, _ in echo.seen[::3]] == [1, 50, BYTES, BYTES + 1, BYTES + 1]
        assert {peer for _, peer in echo.seen} == {address}
        for client in clients:
            client.close()


def test_a_burst_is_bounded() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            for _ in range(BURST + 5):
                client.sendto(b"x", server.getsockname())
            datagrams = Datagrams(server, BYTES, BYTES)
            assert [datagrams.exchange(Echo()) for _ in range(3)] == [BURST, 5, 0]


def test_a_query_becomes_what_is_ready_for_it() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(5)
            client.connect(server.getsockname())
            for query in (b"ABx............", b"short", b"CDy............"):
                client.send(query)
            assert Datagrams(server, BYTES, BYTES).exchange(Prepared()) == 3
            assert [client.recv(BYTES) for _ in range(3)] == [b"ABxready", b"SHORT", b"CDyready"]


async def test_who_is_attended_to_gets_all_answers() -> None:
    loop = asyncio.get_running_loop()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        server.bind(("127.0.0.1", 0))
        client.connect(server.getsockname())
        client.setblocking(False)
        datagrams, echo = Datagrams(server, BYTES, BYTES), Echo()
        datagrams.attend(echo, loop)
        for count in (1, BURST - 1, 3 * BURST, 2 * BURST + 1, 1):  # watched, and asked without being watched
            for _ in range(count):
                client.send(b"x")
            assert [await loop.sock_recv(client, BYTES) for _ in range(count)] == [b"X"] * count
        for _ in range(2 * BURST):
            client.send(b"y")
        while len(echo.seen) < 6 * BURST + 2 + BURST:
            await asyncio.sleep(0)
        datagrams.leave(loop)  # with as many left, which nobody answers
        await asyncio.sleep(0)
        assert len(echo.seen) == 7 * BURST + 2
