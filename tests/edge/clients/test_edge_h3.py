"""HTTP/3 to an edge server, by a client of another library, over loopback."""

import asyncio
import contextlib
import dataclasses
import random
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import h2_client
from edge_world import ADDRESSES, HOST, Asked, Client, Handler, World, config, response, run, world
from h2_client import SECURE_PORT, trusting
from h3_client import H3Client
from nearmile.edge import limits
from nearmile.edge.clients import server
from nearmile.http.h3frames import INTERNAL_ERROR, MESSAGE_ERROR
from nearmile.http.quic import Run, Transport
from nearmile.mapping.downloads import Delivery, beyond_ms
from nearmile.reports.hit import Cache
from nearmile.services import state
from nearmile.services.certificates import Certificates
from secure_world import LONG, pages
from waiting import until

KEY = bytes(32)


@contextlib.asynccontextmanager
async def quick(folder: Path, handler: Handler = pages) -> AsyncIterator[tuple[World, Path]]:
    """A world whose first edge server also listens for QUIC, and whom to trust."""
    async with world(handler) as here:
        certificates = Certificates(folder)
        certificates.take_config(config())
        certificates.refresh()
        here.servers[0].listen_udp(ADDRESSES[0], SECURE_PORT, certificates.identity, KEY)
        yield here, state.authority_files(folder)[0]


async def test_every_object_is_the_same_over_both_protocols(folder: Path) -> None:
    async with quick(folder) as (here, trust):
        plain, client = await here.client(), await H3Client(trust).connected()
        for number in range(3):
            paths = [f"/{number}", "/long", "/unstored", "/chunked"]
            streams = [client.ask(path) for path in paths]
            for path, stream in zip(paths, streams, strict=True):
                answer = await client.answer(stream)
                assert (answer.status, answer.error) == (200, None)
                assert answer.body == (await plain.get(path)).body
        client.close()


async def test_hits_are_recorded_as_over_http_1(folder: Path) -> None:
    async with quick(folder) as (here, trust):
        plain, client = await here.client(), await H3Client(trust).connected()
        for path in ("/a", "/long"):
            here.records.clear()
            await plain.get(path)
            first = await plain.get(path)
            await client.get(path)  # https has objects of its own
            await until(lambda: len(here.records) == 3)
            here.records.clear()
            answers = [await client.get(path) for _ in range(4)]
            assert {answer.fields["cache-status"] for answer in answers} == {first.cache}
            assert {answer.body for answer in answers} == {first.body}
            await until(lambda: len(here.records) == 4)
            sizes = {record[2] for record in here.records}
            assert {record[:2] for record in here.records} == {(200, int(Cache.HIT))}
            assert len(sizes) == 1 and min(sizes) > len(first.body)
            assert all(record[3] for record in here.records)
        again = await client.get("/a", ("if-none-match", '"1"'))
        assert (again.status, again.body) == (304, b"")
        client.close()


async def test_clients_of_https_hear_of_it(folder: Path) -> None:
    """On hits and on whatever else, not by http, and never of the doors that the origin has."""

    async def told(asked: Asked) -> bytes:
        kept = "no-store" if asked.line.split()[1] == "/unstored" else "max-age=60"
        return response(b"a", f"Cache-Control: {kept}", 'Alt-Svc: h3=":1"')

    async with quick(folder, told) as (here, trust):
        server = here.servers[0]
        certificates = Certificates(folder)
        certificates.take_config(config())
        certificates.refresh()
        await server.listen_secure(ADDRESSES[0], SECURE_PORT, certificates.context)
        plain = await here.client()
        tls = trusting(str(trust), "http/1.1")
        secure = Client(*await asyncio.open_connection(ADDRESSES[0], SECURE_PORT, ssl=tls, server_hostname=HOST))
        second = await h2_client.connect(trusting(str(trust), "h2"))
        third = await H3Client(trust).connected()
        clients: tuple[Client | h2_client.H2Client | H3Client, ...] = (secure, second, third)
        for path in ("/a", "/a", "/unstored"):
            assert "alt-svc" not in (await plain.get(path)).fields
            for client in clients:
                assert (await client.get(path)).fields["alt-svc"] == f'h3=":{SECURE_PORT}"; ma=86400'
        secure.writer.close()
        await second.close()
        third.close()


async def test_bodies_go_to_the_origin_whole(folder: Path) -> None:
    async with quick(folder) as (_, trust):
        client = await H3Client(trust).connected()
        for lines in ([("content-length", str(len(LONG)))], []):
            stream = client.ask("/echo", *lines, method="POST", end=False)
            client.upload(stream, LONG)
            answer = await client.answer(stream)
            assert (answer.status, answer.body) == (200, LONG)
            assert "connection" not in answer.fields and "x-odd" not in answer.fields
        for more_or_less in (b"12345", b"123"):
            stream = client.ask("/echo", ("content-length", "4"), method="POST", end=False)
            client.upload(stream, more_or_less)
            assert (await client.answer(stream)).error == MESSAGE_ERROR
        client.close()


async def test_what_is_wrong_with_a_request_is_said(folder: Path) -> None:
    async with quick(folder) as (_, trust):
        client = await H3Client(trust).connected()
        for lines in (
            [("Upper", "case")],
            [("connection", "close")],
            [("transfer-encoding", "chunked")],
            [("te", "gzip")],
            [(":late", "pseudo")],
            [("host", "other.example")],
            [("a", "b\r\nc: d")],
        ):
            assert (await client.get("/a", *lines)).status == 400, lines
        assert (await client.answer(client.ask("/a", authority="other.example"))).status == 421
        assert (await client.get("/a", method="CONNECT")).status == 400, "it has no path: section 4.4"
        assert (await client.get("/a", ("x", "y" * 40_000))).status in (0, 431)
        assert (await client.get("/cookie", ("cookie", "caf\xe9"))).body == b"caf\xe9", "obs-text"
        assert (await client.get("/early")).interim == (103,)
        assert (await client.get("/broken")).error is not None
        assert (await client.get("/cookie", ("cookie", "a=1"), ("cookie", "b=2"))).body == b"a=1; b=2"
        assert (await client.get("/a")).status == 200
        client.close()


async def test_a_name_that_no_site_has_is_refused(folder: Path) -> None:
    async with quick(folder) as (_, trust):
        stranger = await H3Client(trust, name="other.example").connected()
        assert stranger.over is not None and stranger.over.error_code == 0x100 + 112
        stranger.close()


async def test_clients_that_cancel_or_vanish_leave_nothing_behind(folder: Path) -> None:
    async with quick(folder) as (here, trust):
        server = here.servers[0]
        client = await H3Client(trust).connected()
        for number in range(20):
            stream = client.ask(f"/unstored?{number}")
            client.quic.stop_stream(stream, 0x10C)
            client.flush()
        assert (await client.get("/a")).status == 200
        connection = next(iter(server._udp[0]._named))
        await until(lambda: not connection.streams)
        client.close()
        await until(lambda: not server.connections)


async def test_a_client_may_move(folder: Path) -> None:
    async with quick(folder) as (here, trust):
        client = await H3Client(trust).connected()
        assert (await client.get("/a")).status == 200
        for _ in range(3):
            client.move()
            assert (await client.get("/long")).body == LONG
        assert here.servers[0].connections == 1
        client.close()


async def test_who_comes_again_needs_no_certificate(folder: Path) -> None:
    """With each ticket once, and none of what is asked before the handshake is over is taken."""
    async with quick(folder) as (_, trust):
        first = await H3Client(trust).connected()
        assert (await first.get("/a")).status == 200
        (ticket,) = first.tickets
        eager = dataclasses.replace(ticket, max_early_data_size=0xFFFFFFFF)
        for shown, resumed in ((eager, False), (ticket, True), (ticket, False)):
            client = await H3Client(trust, ticket=shown).connected()
            assert client.shaken is not None
            assert (client.shaken.session_resumed, client.shaken.early_data_accepted) == (resumed, False)
            assert (await client.get("/a")).status == 200
            client.close()
        first.close()


async def test_many_handshakes_at_a_time_need_addresses_that_are_right(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "QUIC_SHAKING_MAX", 0)
    async with quick(folder) as (_, trust):
        client = await H3Client(trust).connected()
        assert client.quic._retry_count == 1
        assert (await client.get("/a")).status == 200
        client.close()


async def test_handshakes_that_are_over_are_not_under_way(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "QUIC_SHAKING_MAX", 1)
    async with quick(folder) as (_, trust):
        clients = []
        for _ in range(3):
            clients.append(await H3Client(trust).connected())
            assert clients[-1].quic._retry_count == 0
            assert (await clients[-1].get("/a")).status == 200
        clients.append(H3Client(trust))  # which says no more than its first word
        clients.append(await H3Client(trust).connected())
        assert clients[-1].quic._retry_count == 1
        for client in clients:
            client.close()


async def test_a_connection_that_is_forgotten_is_reset(folder: Path) -> None:
    async with quick(folder) as (here, trust):
        client = await H3Client(trust).connected()
        udp = here.servers[0]._udp[0]
        connection = next(iter(udp._named))
        connection._leave()
        client.ask("/a")
        last_words = await asyncio.get_running_loop().sock_recv(client.socket, 65536)
        assert last_words[-16:] == client.quic._peer_cid.stateless_reset_token
        client.close()


async def test_datagrams_of_any_kind_do_no_harm(folder: Path) -> None:
    chance = random.Random(5)
    async with quick(folder) as (_, trust):
        client = await H3Client(trust).connected()
        for _number in range(300):
            data = bytearray(chance.randbytes(1200))
            data[0] = chance.choice((0xC0, 0xC3, 0xE0, 0xF0, 0x40, 0x00, data[0]))
            for _ in range(chance.randrange(4)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            if chance.random() < 0.5:
                data[1:5] = b"\x00\x00\x00\x01"
            client.throw(bytes(data[: chance.choice((0, 1, 5, 20, 1199, 1200))]))
        assert (await client.get("/a")).status == 200
        client.close()


def test_what_comes_behind_the_last_word_is_dropped(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        async with quick(folder) as (here, trust):
            client = await H3Client(trust).connected()
            client.quic.close()
            last = [data for data, _ in client.quic.datagrams_to_send(client.loop.time())]
            # Both are read before either is understood.
            for _ in range(2):
                for data in last:
                    client.throw(data)
                client.move()
            await until(lambda: here.servers[0].connections == 0)
            client.socket.close()

    run(scene())
    assert caplog.records == []


def test_a_connection_that_the_library_cannot_go_on_with_harms_no_other(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_now_s: float) -> list[Run]:
        raise ValueError("reserved stream is missing")

    async def scene() -> None:
        async with quick(folder) as (here, trust):
            first = await H3Client(trust).connected()
            broken = next(iter(here.servers[0]._udp[0]._named))
            second = await H3Client(trust).connected()
            monkeypatch.setattr(broken.session.transport, "runs_to_send", fail)
            first.ask("/a")
            assert (await second.get("/a")).status == 200
            await until(lambda: here.servers[0].connections == 1)
            first.socket.close()
            second.close()

    run(scene())
    assert caplog.records == []


async def test_how_far_a_client_is_and_how_it_came_is_told_to_the_mapping(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Delivery] = []

    def note(delivery: Delivery) -> float | None:
        seen.append(delivery)
        return beyond_ms(delivery)

    monkeypatch.setattr(server, "beyond_ms", note)
    async with quick(folder) as (here, trust):
        client = await H3Client(trust).connected()
        assert (await client.get("/a")).status == 200
        [(peer, rtt_ms)] = here.node.round_trips.take().items()
        assert (peer, not seen) == (client.socket.getsockname()[0], True) and 0 < rtt_ms < 10_000
        take, came = client.quic.receive_datagram, count()

        def lossy(data: bytes, *more: Any) -> None:
            if next(came) % 20:
                take(data, *more)

        monkeypatch.setattr(client.quic, "receive_datagram", lossy)
        assert (await client.get("/long")).body == LONG
        await until(lambda: bool(seen))
        [delivery] = seen
        assert 0 < delivery.rtt_ms <= rtt_ms and delivery.segments > len(LONG) / 1500
        assert delivery.limited and 0.01 < delivery.loss < 0.5
        assert here.node.downloads.take() == {peer: beyond_ms(delivery)}
        client.close()


async def test_who_is_given_up_while_something_is_sent_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with quick(folder) as (here, trust):
        client = await H3Client(trust).connected()
        assert (await client.get("/a")).status == 200
        make, fails = Transport.runs_to_send, iter([True])

        def fail_once(transport: Transport, now_s: float) -> list[Run]:
            if next(fails, False):
                raise ValueError("reserved stream is missing")
            return make(transport, now_s)

        monkeypatch.setattr(Transport, "runs_to_send", fail_once)
        client.ask("/b")
        while client.over is None:
            await client.read()
        assert client.over.error_code == INTERNAL_ERROR and not here.servers[0].connections
        client.close()
