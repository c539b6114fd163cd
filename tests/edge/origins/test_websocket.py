"""WebSocket from client to origin."""

import asyncio
import contextlib
import ssl
from pathlib import Path

import pytest

from edge_world import ADDRESSES, Asked, Client, request, response, world
from nearmile.edge import limits
from nearmile.edge.rules.site import Files
from nearmile.reports.hit import Cache
from tls_origin import OTHER, TLS_PORT, authority, listening, secure
from waiting import until

# The example of RFC 6455 section 1.3.
KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
HELLO = ("Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
ASK = (*HELLO, f"Sec-WebSocket-Key: {KEY}")
AGREED = (
    f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Accept: {ACCEPT}\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
).encode()
SHORT_IDLE = {"upstream": {"websocket_idle_s": 1}}


async def echo(asked: Asked) -> None:
    """Says again whatever it hears."""
    asked.writer.write(AGREED)
    while data := await asked.reader.read(1 << 16):
        asked.writer.write(data)
        await asked.writer.drain()


async def one(_asked: Asked) -> bytes:
    return response(b"one", "Cache-Control: max-age=60")


async def opened(client: Client) -> dict[str, str]:
    client.send(request("/chat", *ASK, "Sec-WebSocket-Protocol: chat"))
    status, fields = await client.head()
    assert status == 101
    return fields


@pytest.mark.parametrize("early", [b"", b"\x81\x85at once"])
async def test_what_one_says_the_other_hears(early: bytes) -> None:
    async with world(echo) as here:
        client = await here.client()
        client.send(request("/chat", *ASK, "Sec-WebSocket-Protocol: chat") + early)
        status, fields = await client.head()
        assert status == 101 and fields["cache-status"] == "here-1; fwd=bypass"
        assert fields["upgrade"] == "websocket" and fields["connection"] == "Upgrade"
        assert fields["sec-websocket-accept"] == ACCEPT and fields["sec-websocket-protocol"] == "chat"
        assert await client.reader.readexactly(len(early)) == early
        for number in range(20):
            client.send(b"%d" % number * 1000)
            assert await client.reader.readexactly(len(b"%d" % number) * 1000) == b"%d" % number * 1000
        told = here.origin.asked[0].fields
        assert (told["connection"], told["upgrade"]) == ("Upgrade", "websocket")
        assert told["sec-websocket-key"] == KEY and "here-1" in told["via"]
        pool = next(iter(here.node.origins._pools.values()))
        assert pool.requests == 0 and here.node.tunnels.total == 1
        client.writer.close()
        await until(lambda: here.node.tunnels.total == 0 and not pool.links)
        [record] = here.records
        assert record[:2] == (101, Cache.PASS) and record[2] > 30_000


async def test_over_tls_to_the_origin(tmp_path: Path) -> None:
    trusted = authority(tmp_path)
    async with (
        world(one, rules=secure(), files=Files(authorities=trusted.pem)) as here,
        listening(echo, OTHER, TLS_PORT, trusted.context(OTHER)),
    ):
        client = await here.client()
        await opened(client)
        client.send(b"x" * 200_000)
        assert await client.reader.readexactly(200_000) == b"x" * 200_000


async def test_a_client_over_tls(tmp_path: Path) -> None:
    trusted = authority(tmp_path)
    async with world(echo) as here:
        await here.servers[0].listen_secure(ADDRESSES[0], TLS_PORT, trusted.context("a.test"))
        trust = ssl.create_default_context(cadata=trusted.pem)
        client = Client(
            *await asyncio.open_connection(ADDRESSES[0], TLS_PORT, ssl=trust, server_hostname="a.test")
        )
        await opened(client)
        client.send(b"x" * 500_000)
        assert await client.reader.readexactly(500_000) == b"x" * 500_000
        client.writer.close()
        await until(lambda: here.node.tunnels.total == 0)


@pytest.mark.parametrize(
    ("lines", "method", "status"),
    [
        (HELLO, "GET", 400),
        ((*HELLO, "Sec-WebSocket-Key: short"), "GET", 400),
        ((*HELLO, "Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!=="), "GET", 400),
        ((*ASK, f"Sec-WebSocket-Key: {KEY}"), "GET", 400),
        (ASK, "POST", 400),
        ((*ASK, "Content-Length: 1"), "GET", 400),
        ((*ASK[:2], *ASK[3:], "Sec-WebSocket-Version: 8"), "GET", 426),
        ((*ASK[:2], *ASK[3:]), "GET", 426),
    ],
)
async def test_no_handshake(lines: tuple[str, ...], method: str, status: int) -> None:
    async with world(echo) as here:
        client = await here.client()
        answer = await client.get("/chat", *lines, method=method)
        assert answer.status == status and not here.origin.asked
        assert status != 426 or answer.fields["sec-websocket-version"] == "13"


async def test_an_origin_that_does_not_want_to() -> None:
    async with world(one) as here:
        client = await here.client()
        client.send(request("/chat", *ASK))
        assert (await client.response()).body == b"one"
        assert (await client.get("/again")).body == b"one", "the connection goes on"


@pytest.mark.parametrize(
    "wrong",
    [
        AGREED.replace(ACCEPT.encode(), b"x" * 28),
        AGREED.replace(b"Upgrade: websocket", b"Upgrade: h2c"),
        AGREED.replace(b"Connection: Upgrade\r\n", b""),
    ],
)
async def test_an_origin_that_agrees_to_something_else(wrong: bytes) -> None:
    async def other(_asked: Asked) -> bytes:
        return wrong + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"

    async with world(other) as here:
        client = await here.client()
        client.send(request("/chat", *ASK))
        assert (await client.response()).status == 502
        pool = next(iter(here.node.origins._pools.values()))
        await until(lambda: not pool.links and not pool.requests)


async def test_either_side_ends_it() -> None:
    async def farewell(asked: Asked) -> None:
        asked.writer.write(AGREED + b"bye")
        await asked.writer.drain()

    async def broken(asked: Asked) -> None:
        asked.writer.write(AGREED + b"bye")
        await asked.writer.drain()
        asked.writer.transport.abort()

    for handler in (farewell, broken):
        async with world(handler) as here:
            client = await here.client()
            await opened(client)
            assert await client.ended() in (b"bye", b"")
            await until(lambda here=here: here.node.tunnels.total == 0)  # type: ignore[misc]


async def test_silence_ends_it_and_talk_of_one_side_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SWEEP_S", 0.05)
    monkeypatch.setattr(limits, "STALLED_TIMEOUT_S", 0.3)
    monkeypatch.setattr(limits, "PACE_GRACE_S", 0.3)

    async def listener(asked: Asked) -> None:
        asked.writer.write(AGREED)
        while await asked.reader.read(100):
            pass

    async with world(listener, rules=SHORT_IDLE) as here:
        talker, silent = await here.client(), await here.client()
        await opened(talker)
        await opened(silent)
        ended = asyncio.ensure_future(silent.ended())
        while not ended.done():
            talker.send(b".")
            await asyncio.sleep(0.05)
        assert here.node.tunnels.total == 1
        await until(lambda: here.node.tunnels.total == 0)


async def test_no_more_than_a_site_may_have() -> None:
    async with world(echo, rules={"upstream": {"websockets_max": 1}}) as here:
        first, second = await here.client(), await here.client()
        await opened(first)
        second.send(request("/chat", *ASK))
        answer = await second.response()
        assert answer.status == 503 and "retry-after" in answer.fields
    async with world(echo, rules={"upstream": {"websockets_max": 0}}) as here:
        client = await here.client()
        client.send(request("/chat", *ASK))
        assert (await client.response()).status == 501


async def test_who_does_not_take_what_comes_holds_up_the_other() -> None:
    sent = 0

    async def flood(asked: Asked) -> None:
        nonlocal sent
        asked.writer.write(AGREED)
        with contextlib.suppress(ConnectionError):
            while sent < 64 << 20:
                asked.writer.write(bytes(1 << 16))
                await asked.writer.drain()
                sent += 1 << 16

    async with world(flood) as here:
        client = await here.client()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.send(request("/chat", *ASK))
        await until(lambda: sent > 0)
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.2)
        assert sent < 32 << 20, "the rest waits at the origin"


async def test_rules_of_the_site_come_first() -> None:
    async with world(echo, rules={"access": {"deny_addresses": ["127.0.0.0/8"]}}) as here:
        client = await here.client()
        client.send(request("/chat", *ASK))
        assert (await client.response()).status == 403 and not here.origin.asked


async def test_a_response_is_as_it_was_before_for_other_protocols() -> None:
    async def hello(_asked: Asked) -> bytes:
        return response(b"hello")

    async with world(hello) as here:
        client = await here.client()
        answer = await client.get("/", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c")
        assert answer.body == b"hello" and "upgrade" not in here.origin.asked[0].fields
