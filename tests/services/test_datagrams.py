"""Datagrams in bursts, on real sockets."""

import socket

import pytest

from nearmile.services.datagrams import BURST, Datagrams

BYTES = 100


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_each_gets_its_answer(family: socket.AddressFamily, address: str) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as server:
        server.bind((address, 0))
        datagrams = Datagrams(server, BYTES, BYTES)
        assert datagrams.exchange(lambda packets, peers: packets) == 0
        clients = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(3)]
        for client in clients:
            client.bind((address, 0))
            client.settimeout(5)
        seen = []

        def answer(packet: bytes, peer: str) -> bytes | None:
            seen.append((len(packet), peer))
            return None if packet.startswith(b"no") else packet.upper()[:BYTES]

        for size in (1, 50, BYTES, BYTES + 1, 5000):  # in one memory, again and again
            for number, client in enumerate(clients):
                client.sendto((b"abn"[number : number + 1] + b"o" * size)[:size], server.getsockname())
            assert datagrams.exchange(lambda *asked: list(map(answer, *asked))) == 3
            for number, client in enumerate(clients):
                if number != 2 or size == 1:
                    expected = (b"ABN"[number : number + 1] + b"O" * size)[: min(size, BYTES)]
                    assert client.recvfrom(BYTES + 1)[0] == expected
        assert [size for size, _ in seen[::3]] == [1, 50, BYTES, BYTES + 1, BYTES + 1]
        assert {peer for _, peer in seen} == {address}
        for client in clients:
            client.close()


def test_a_burst_is_bounded() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            for _ in range(BURST + 5):
                client.sendto(b"x", server.getsockname())
            datagrams = Datagrams(server, BYTES, BYTES)
            assert [datagrams.exchange(lambda packets, peers: packets) for _ in range(3)] == [BURST, 5, 0]
