"""The bus against a real NATS server, which is killed in the middle."""
# mypy: disable-error-code=no-untyped-call

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import uvloop
from nats.aio.msg import Msg
from nats.js.errors import NoKeysError
from nats.js.kv import KeyValue

from nats_server import NatsServer
from nearmile.base.geography import Point
from nearmile.base.packing import MESSAGE_BYTES_MAX
from nearmile.config.layout import Config, lay_out
from nearmile.config.network import Nameserver, Network, Region
from nearmile.services import bus as module
from nearmile.services.bus import KV_CERTIFICATES, KV_CURRENT, KV_MAP, Bus, BusDown, Conflict
from waiting import PATIENCE_S, until

ORIGIN = Point(0, 0)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who answers at all is waited for: the server may wait for its disk."""
    monkeypatch.setattr(module, "REQUEST_TIMEOUT_S", PATIENCE_S)


def config_at(loopback: str) -> Config:
    network = Network(
        name="bus-test",
        zone="bus.test",
        regions={"a": Region(city="A", point=ORIGIN)},
        nameservers=(
            Nameserver(tier="top", city="A", point=ORIGIN),
            Nameserver(tier="low", city="A", point=ORIGIN),
        ),
    )
    return lay_out(network, {}, {}, 1, loopback)


def with_server(root: Path, act: Callable[[NatsServer], Awaitable[None]]) -> None:
    async def run() -> None:
        server = NatsServer(root, config_at("127.40.0.0/16"))
        await server.start()
        try:
            await act(server)
        finally:
            await server.kill()

    asyncio.run(run())


def test_a_watch_sees_every_change_across_the_server_s_death(tmp_path: Path) -> None:
    async def act(server: NatsServer) -> None:
        bus = server.bus()
        seen: list[bytes] = []
        downs: list[str] = []
        bus.on_down.append(lambda: downs.append("down"))
        bus.watch(KV_MAP, KV_CURRENT, lambda _revision, value: seen.append(value))
        bus.start()
        assert await bus.connected(PATIENCE_S)
        await bus.create_stores()
        first = await bus.put(KV_MAP, KV_CURRENT, b"one", 0)
        await until(lambda: seen == [b"one"])
        await server.kill()
        await until(lambda: not bus.up and downs == ["down"])
        with pytest.raises(BusDown):
            await bus.get(KV_MAP, KV_CURRENT)
        await server.start()
        await until(lambda: bus.up)
        assert await bus.get(KV_MAP, KV_CURRENT) == (first, b"one")
        await bus.put(KV_MAP, KV_CURRENT, b"two", first)
        await until(lambda: seen[-1] == b"two")
        await bus.close()

    with_server(tmp_path, act)


def test_of_two_writers_one_wins(tmp_path: Path) -> None:
    async def act(server: NatsServer) -> None:
        bus = server.bus()
        bus.start()
        assert await bus.connected(PATIENCE_S)
        await bus.create_stores()
        revision = await bus.put(KV_MAP, KV_CURRENT, b"mine", 0)
        for stale in (0, revision + 7):
            with pytest.raises(Conflict):
                await bus.put(KV_MAP, KV_CURRENT, b"theirs", stale)
        assert await bus.get(KV_MAP, KV_CURRENT) == (revision, b"mine")
        assert await bus.get(KV_MAP, "nothing") is None
        await bus.close()

    with_server(tmp_path, act)


def test_what_a_key_was_is_read_also_where_the_client_sees_nothing_at_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history, calls = KeyValue.history, count()

    async def blind_at_first(store: KeyValue, key: str) -> list[KeyValue.Entry]:
        if next(calls) < 2:
            raise NoKeysError
        return await history(store, key)

    async def act(server: NatsServer) -> None:
        bus = server.bus()
        async with bus.opened(PATIENCE_S):
            await bus.create_stores()
            assert await bus.history(KV_MAP, KV_CURRENT) == []
            first = await bus.put(KV_MAP, KV_CURRENT, b"one", 0)
            await bus.put(KV_MAP, KV_CURRENT, b"two", first)
            monkeypatch.setattr(KeyValue, "history", blind_at_first)
            assert await bus.history(KV_MAP, KV_CURRENT) == [b"one", b"two"]

    with_server(tmp_path, act)


def test_a_stranger_without_the_token_is_refused(tmp_path: Path) -> None:
    async def act(server: NatsServer) -> None:
        known, stranger = server.bus(), server.bus(token="guess")
        known.start()
        assert await known.connected(PATIENCE_S)
        stranger.start()
        assert not await stranger.connected(1)
        await stranger.close()
        await known.close()

    with_server(tmp_path, act)
    for secret in ("token", "nats.conf"):
        assert (tmp_path / secret).stat().st_mode & 0o077 == 0


def test_a_question_gets_its_answer_or_says_that_none_came(tmp_path: Path) -> None:
    async def act(server: NatsServer) -> None:
        async def answer(message: Msg) -> None:
            await message.respond(message.data + b"!")

        bus = server.bus()
        bus.subscribe("who", answer)
        async with bus.opened(PATIENCE_S):
            assert await bus.request("who", b"me", PATIENCE_S) == b"me!"
            with pytest.raises(BusDown):
                await bus.request("nobody", b"", 0.2)
        assert not bus.up

    with_server(tmp_path, act)


def test_an_empty_token_is_none(tmp_path: Path) -> None:
    """NATS would ask nobody for it."""
    (tmp_path / "token").write_text("\n")
    assert len(NatsServer(tmp_path, config_at("127.40.0.0/16")).token) > 20


def test_its_folder_may_have_any_name(tmp_path: Path) -> None:
    async def act(server: NatsServer) -> None:
        async with server.bus().opened(PATIENCE_S):
            pass

    root = tmp_path / 'müller\'s "state" \\ $1 状'
    root.mkdir()
    with_server(root, act)
    assert (root / "nats" / "jetstream").is_dir()


INFO = b'INFO {"max_payload":1048576,"auth_required":true}\r\n'


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize(
    ("says", "ends"),
    [(b"", "later"), (b"", "now"), (INFO, "later"), (INFO, "now"), (INFO, "asked"), (b"?\r\n", "now")],
)
def test_servers_that_go_wrong_as_a_connection_begins(
    tmp_path: Path, run: Callable[[Coroutine[Any, Any, None]], None], says: bytes, ends: str
) -> None:
    """At the first connection and after a lost one; no socket stays open (its garbage would be an error here)."""
    server, proxied, tries = (
        NatsServer(tmp_path, config_at("127.40.0.0/16")),
        list[asyncio.StreamWriter](),
        count(),
    )

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if next(tries) % 3 == 2:
            theirs, ours = await asyncio.open_connection(*server.url.removeprefix("nats://").split(":"))
            proxied.append(ours)
            await asyncio.gather(copy(theirs, writer), copy(reader, ours))
            return
        writer.write(says)
        if ends != "now":
            await (reader.readline() if ends == "asked" else reader.read())
        writer.close()

    async def act() -> None:
        await server.start()
        async with server.bus().opened(PATIENCE_S):
            pass  # it listens
        async with await asyncio.start_server(serve, "127.40.9.1", 4222):
            bus = Bus("nats://127.40.9.1:4222", server.token, "test")
            async with bus.opened(PATIENCE_S):
                proxied.pop().close()
                await until(lambda: not bus.up)
                await until(lambda: bus.up)
        await server.kill()

    run(act())


async def test_a_bus_that_does_not_open_says_so() -> None:
    with pytest.raises(BusDown, match="nothing was done"):
        async with Bus("nats://127.40.9.9:4222", "", "test").opened(0.3):
            raise AssertionError("there is no bus to use")


async def test_a_bus_that_is_not_there_stops_nobody() -> None:
    bus = Bus("nats://127.40.9.9:4222", "", "test")
    bus.start()
    assert not await bus.connected(0.3)
    bus.publish("anything", b"")
    with pytest.raises(BusDown):
        await bus.request("anything", b"")
    await bus.close()


async def test_a_bus_may_be_closed_before_it_has_begun_to_open() -> None:
    bus = Bus("nats://127.31.99.9:4222", "", "nobody")
    await bus.close()
    bus.start()
    await bus.close()


def test_a_bus_may_be_closed_as_its_connection_ends(tmp_path: Path) -> None:
    async def act() -> None:
        server = NatsServer(tmp_path, config_at("127.40.0.0/16"))
        await server.start()
        bus = server.bus()
        bus.start()
        assert await bus.connected(PATIENCE_S)
        await server.kill()
        bus._socket.close()
        bus.publish("last", b"words")
        await bus.close()

    uvloop.run(act())


def test_a_watch_of_a_whole_bucket_sees_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes before it, while it watches, while the server is dead, and what it was never told of."""
    monkeypatch.setattr("nearmile.services.bus.WATCH_RECHECK_S", 0.2)
    lost = {"c"}
    updates = KeyValue.KeyWatcher.updates

    async def lossy(self: KeyValue.KeyWatcher, timeout: float = 5.0) -> Any:
        entry = await updates(self, timeout)
        if entry is not None and entry.key in lost:
            lost.remove(entry.key)
            return None
        return entry

    monkeypatch.setattr(KeyValue.KeyWatcher, "updates", lossy)

    async def act(server: NatsServer) -> None:
        bus, seen = server.bus(), list[tuple[str, bytes]]()
        bus.start()
        assert await bus.connected(10)
        await bus.create_stores()
        await bus.put(KV_CERTIFICATES, "a", b"1", 0)
        bus.watch_all(KV_CERTIFICATES, lambda key, value: seen.append((key, value)))
        await until(lambda: seen == [("a", b"1")])
        await bus.put(KV_CERTIFICATES, "b", b"2", 0)
        await until(lambda: seen[1:] == [("b", b"2")])
        await bus.put(KV_CERTIFICATES, "c", b"3", 0)
        await until(lambda: ("c", b"3") in seen)
        await server.kill()
        await until(lambda: not bus.up)
        seen.clear()
        await server.start()
        await until(lambda: sorted(set(seen)) == [("a", b"1"), ("b", b"2"), ("c", b"3")])
        await bus.close()

    with_server(tmp_path, act)


def test_it_carries_what_a_large_map_takes(tmp_path: Path) -> None:
    async def act(server: NatsServer) -> None:
        bus = server.bus()
        seen: list[tuple[int, bytes]] = []
        async with bus.opened(PATIENCE_S):
            await bus.create_stores()
            bus.watch(KV_MAP, KV_CURRENT, lambda revision, value: seen.append((revision, value)))
            revision = 0
            for number in range(20):  # more than the bucket's history
                large = bytes([number]) * MESSAGE_BYTES_MAX
                revision = await bus.put(KV_MAP, KV_CURRENT, large, revision)
            assert await bus.get(KV_MAP, KV_CURRENT) == (revision, large)
            await until(lambda: seen[-1:] == [(revision, large)])

    with_server(tmp_path, act)
