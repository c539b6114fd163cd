"""The bus against a real NATS server, which is killed in the middle."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from nearmile.base.geography import Point
from nearmile.config.layout import Config, lay_out
from nearmile.config.network import Nameserver, Network, Region
from nearmile.services import children, natsserver
from nearmile.services.bus import KV_CURRENT, KV_MAP, Bus, BusDown, Conflict

ORIGIN = Point(0, 0)


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


class NatsServer:
    """One server of this test's own, that can be killed and started again."""

    def __init__(self, root: Path) -> None:
        config = config_at("127.40.0.0/16")
        self._command, self._log = natsserver.prepare(root, config), root / "nats.log"
        me = config.process("nats")
        self.url, self.token = f"nats://{me.address}:{me.port}", (root / "token").read_text()
        self._child: children.Child | None = None

    async def start(self) -> None:
        self._child = await children.start(self._command, self._log)

    async def kill(self) -> None:
        assert self._child is not None
        self._child.signal(signal.SIGKILL)
        await self._child.wait()

    def bus(self, token: str | None = None) -> Bus:
        return Bus(self.url, self.token if token is None else token, "test")


async def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)


def with_server(root: Path, act: Callable[[NatsServer], Awaitable[None]]) -> None:
    async def run() -> None:
        server = NatsServer(root)
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
        assert await bus.connected(10)
        await bus.create_stores()
        first = await bus.put(KV_MAP, KV_CURRENT, b"one", 0)
        await until(lambda: seen == [b"one"])
        await server.kill()
        await until(lambda: not bus.up)
        assert downs == ["down"]
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
        assert await bus.connected(10)
        await bus.create_stores()
        revision = await bus.put(KV_MAP, KV_CURRENT, b"mine", 0)
        for stale in (0, revision + 7):
            with pytest.raises(Conflict):
                await bus.put(KV_MAP, KV_CURRENT, b"theirs", stale)
        assert await bus.get(KV_MAP, KV_CURRENT) == (revision, b"mine")
        assert await bus.get(KV_MAP, "nothing") is None
        await bus.close()

    with_server(tmp_path, act)


def test_a_stranger_without_the_token_is_refused(tmp_path: Path) -> None:
    async def act(server: NatsServer) -> None:
        known, stranger = server.bus(), server.bus(token="guess")
        known.start()
        assert await known.connected(10)
        stranger.start()
        assert not await stranger.connected(1)
        await stranger.close()
        await known.close()

    with_server(tmp_path, act)
    for secret in ("token", "nats.conf"):
        assert (tmp_path / secret).stat().st_mode & 0o077 == 0


def test_questions_get_all_answers_or_those_that_came_in_time(tmp_path: Path) -> None:
    async def act(server: NatsServer) -> None:
        asker = server.bus()
        answerers = [server.bus() for _ in range(3)]
        for number, bus in enumerate(answerers):

            async def answer(message: object, number: int = number) -> None:
                await message.respond(str(number).encode())  # type: ignore[attr-defined]

            bus.subscribe("who", answer)
        for bus in (asker, *answerers):
            bus.start()
            assert await bus.connected(10)
        answers: list[bytes] = []
        while len(answers) < 3:  # subscriptions of other connections become known a moment later
            answers = await asker.request_many("who", b"", 3, 0.5)
        assert sorted(answers) == [b"0", b"1", b"2"]
        assert len(await asker.request_many("who", b"", 4, 0.1)) == 3
        with pytest.raises(BusDown):
            await asker.request("nobody", b"", 0.2)
        for bus in (asker, *answerers):
            await bus.close()

    with_server(tmp_path, act)


def test_a_bus_that_is_not_there_stops_nobody() -> None:
    async def run() -> None:
        bus = Bus("nats://127.40.9.9:4222", "", "test")
        bus.start()
        assert not await bus.connected(0.3)
        bus.publish("anything", b"")
        with pytest.raises(BusDown):
            await bus.request("anything", b"")
        await bus.close()

    asyncio.run(run())
