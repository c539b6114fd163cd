"""What is in the way of a network's addresses, what the agent renews, and whom it ends."""

import asyncio
import os
import signal
import socket
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from msgspec import structs

import half_a_nats
from edge_world import config, run
from ipv6 import needs_ipv6
from nats_server import NatsServer
from nearmile.base.errors import NearmileError
from nearmile.config.certificate import end_of
from nearmile.config.layout import Config, encode
from nearmile.fleet import watch
from nearmile.services import agent, authority, state
from nearmile.services.bus import KV_CONFIG, KV_CURRENT
from waiting import PATIENCE_S, until


def at(*addresses: str) -> Config:
    return config(regions={"here": addresses})


@needs_ipv6
def test_what_others_listen_on_is_told() -> None:
    made = at("127.31.77.1", "::1")
    with socket.create_server(("127.31.77.1", 8080)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.31.77.1", made.network.edge.https_port))
        assert agent.taken(made) == ["127.31.77.1:8080", f"127.31.77.1:{made.network.edge.https_port}"]


def test_an_address_of_another_machine_is_no_taken_one() -> None:
    with pytest.raises(NearmileError, match=r"here-1 cannot listen on 192.0.2.1 port 8080: Cannot assign"):
        agent.taken(at("192.0.2.1"))


async def test_certificates_are_renewed_while_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(agent, "RENEW_EVERY_S", 0.01)
    whole = config()
    elsewhere = structs.replace(whole.network, nats="nats://127.0.0.1:1")
    apart = structs.replace(whole, processes=(whole.process("nats"),), network=elsewhere)  # nothing to start
    certificate, _ = state.site_files(tmp_path, "www")
    now = datetime.now(UTC)

    def left() -> timedelta:
        return end_of(certificate.read_bytes()) - now

    network = agent.Agent(tmp_path, apart, print)
    running = asyncio.create_task(network.run())
    certificate.unlink()
    certificate.mkdir()  # what goes wrong once is tried again
    await until(lambda: f"{certificate} cannot be read" in caplog.text)
    certificate.rmdir()
    authority.ensure(tmp_path, apart, now - timedelta(days=390))
    assert left() < timedelta(days=8)
    await until(lambda: left() > timedelta(days=390))
    network.stopping.set()
    await running


async def test_who_is_to_end_and_ends_before_is_not_started_again(tmp_path: Path) -> None:
    whole = config()
    two = structs.replace(whole, processes=(whole.process("nats"), whole.process("controller-1")))
    one = structs.replace(whole, version=2, processes=(whole.process("nats"),))
    three = structs.replace(two, version=3)
    state.write_atomically(tmp_path / "config.json", msgspec.json.encode(two))
    network = agent.Agent(tmp_path, two, print)
    network._rollout.run = lambda *_: asyncio.sleep(60)  # type: ignore[method-assign]
    running = asyncio.create_task(network.run())
    await until(lambda: network.status().ready)
    network._take_config(1, encode(one))
    now = network.status()
    assert (now.ready, now.leaving, now.config_version) == (True, ("controller-1",), 2)
    assert state.read_config(tmp_path) == one
    os.kill(now.processes[1].pid, signal.SIGKILL)
    await until(lambda: network.kept() == ("nats",))
    assert network.status().ready and network.status().processes[1].state == "stopped"
    await network.end("controller-1")
    del network._rollout.run
    network._take_config(2, encode(three))
    await until(lambda: len(network.kept()) == 2 and network.status().ready)
    os.kill(network.status().processes[1].pid, signal.SIGKILL)
    await until(lambda: network.status().processes[1].state == "waiting")
    network._take_config(3, encode(structs.replace(one, version=4)))
    await until(lambda: [each.name for each in network.status().processes] == ["nats"])
    network.stopping.set()
    await running


async def test_machines_that_share_a_bus_take_up_what_is_applied_on_one(tmp_path: Path) -> None:
    whole, said = config(), list[str]()
    server = NatsServer(tmp_path, whole)
    await server.start()
    shared = structs.replace(whole.network, nats=server.url)
    first = structs.replace(whole, network=shared, processes=(whole.process("controller-1"),))
    agents = []
    for name in ("a", "b"):
        root = tmp_path / name
        root.mkdir()
        (root / "token").write_text(state.read_token(tmp_path))
        state.write_atomically(root / "config.json", msgspec.json.encode(first))
        agents.append(agent.Agent(root, first, said.append))
    works = [asyncio.create_task(each.run()) for each in agents]
    await until(lambda: all(each.status().ready for each in agents))
    bus = server.bus()
    async with bus.opened(PATIENCE_S):
        for version, new in ((2, first), (3, structs.replace(first, loopback="127.99.0.0/16"))):
            revision, _ = await bus.get(KV_CONFIG, KV_CURRENT) or (0, b"")
            await bus.put(KV_CONFIG, KV_CURRENT, encode(structs.replace(new, version=version)), revision)
            await until(lambda: all(each.config.version == 2 for each in agents))
        await until(lambda: len(said) == 2)
    assert set(said) == {"configuration 3 is not for a network that runs: its addresses"}
    assert [state.read_config(tmp_path / name).version for name in ("a", "b")] == [2, 2]
    for each in agents:
        each.stopping.set()
    await asyncio.gather(*works)
    await server.kill()


async def test_a_bus_that_answers_nothing_is_not_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "SILENT_AFTER_S", 0.8)
    whole = config()
    alone = structs.replace(whole, processes=(whole.process("nats"),))
    network = agent.Agent(tmp_path, alone, print)
    running = asyncio.create_task(network.run())
    for signum, expected in ((0, "ready"), (signal.SIGSTOP, "silent"), (signal.SIGCONT, "ready")):
        os.kill(network.status().processes[0].pid or os.getpid(), signum)
        await until(lambda expected=expected: network.status().processes[0].state == expected)  # type: ignore[misc]
        assert network.status().bus == network.status().ready == (expected == "ready")
    network.stopping.set()
    await running


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("token", "is damaged; remove it"),
        ("dnssec", "is damaged .35 bytes.; bring back"),
        ("dnssec-zones/a.test", "is damaged .35 bytes.; bring back"),
    ],
)
def test_a_damaged_secret_is_named_before_anything_starts(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"\xff" * 35)
    with pytest.raises(NearmileError, match=f"{tmp_path / name} {said}"):
        agent.Agent(tmp_path, config(), print)


def test_what_hangs_in_its_start_is_ended_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, told = config(), list[str]()
    few = structs.replace(whole, processes=tuple(map(whole.process, ("nats", "here-1"))))
    state.write_atomically(tmp_path / "config.json", msgspec.json.encode(few))

    async def test() -> None:
        network = agent.Agent(tmp_path, few, told.append)
        running = asyncio.create_task(network.run())
        await until(lambda: network.status().ready)
        for number, name in enumerate(("nats", "here-1")):

            async def started_after(old: int, number: int = number) -> int:
                await until(lambda: network.status().processes[number].pid not in (0, old))
                return network.status().processes[number].pid

            os.kill(first := network.status().processes[number].pid, signal.SIGKILL)
            os.kill(hanging := await started_after(first), signal.SIGSTOP)
            with monkeypatch.context() as short:
                short.setattr(watch, "BUS_START_S" if name == "nats" else "START_S", 3.0)
                await started_after(hanging)
            assert [line.partition(";")[0] for line in told] == [
                f"{name} ended (SIGKILL)",
                f"{name} hangs: it has been silent for too long, and is ended",
                f"{name} ended (SIGKILL)",
            ]
            await until(lambda: network.status().ready)
            told.clear()
        network.stopping.set()
        await running

    run(test())


def test_a_bus_whose_streams_alone_hang_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "STREAMS_HUNG_AFTER_S", 2.0)
    monkeypatch.setattr(agent, "STREAMS_EVERY_S", 0.1)
    whole, told = config(), list[str]()
    bus = whole.process("nats")
    alone = structs.replace(whole, processes=(bus,))

    async def test() -> None:
        network = agent.Agent(tmp_path, alone, told.append)
        network._nats = [sys.executable, half_a_nats.__file__, bus.address, str(bus.port)]
        running = asyncio.create_task(network.run())
        await until(lambda: network.status().ready and network._watch._streams_s is not None)
        os.kill(network.status().processes[0].pid, signal.SIGUSR1)
        await until(lambda: bool(told))
        network.stopping.set()
        await running

    run(test())
    assert told[0] == "nats hangs: it has been silent for too long, and is ended"


def test_what_hangs_is_ended_and_starts_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "HUNG_TIMES", 2)
    monkeypatch.setattr(watch, "BUS_HUNG_AFTER_S", 6.0)
    whole, told = config(), list[str]()
    few = structs.replace(whole, processes=tuple(map(whole.process, ("nats", "controller-1", "here-1"))))
    state.write_atomically(tmp_path / "config.json", msgspec.json.encode(few))

    async def test() -> None:
        network = agent.Agent(tmp_path, few, told.append)
        running = asyncio.create_task(network.run())
        await until(lambda: network.status().ready)
        for name, signum, end in (
            ("here-1", signal.SIGSTOP, "SIGKILL"),
            ("nats", signal.SIGSTOP, "SIGKILL"),
            ("controller-1", signal.SIGABRT, "SIGABRT"),  # what it is sent, and can act on unless it is stopped
        ):
            before = network.status().processes
            (one,) = (one for one in before if one.name == name)
            os.kill(pid := one.pid, signum)
            await until(lambda one=one, pid=pid: one.pid not in (0, pid) and network.status().ready)  # type: ignore[misc]
            hung = [f"{name} hangs: it has been silent for too long, and is ended"] * (signum == signal.SIGSTOP)
            assert told == [*hung, f"{name} ended ({end}); starts again in 0.2 s"]
            told.clear()
        network.stopping.set()
        await running
        assert [one.restarts for one in network.status().processes] == [1, 1, 1]

    run(test())
    said = (tmp_path / "log" / "controller-1.log").read_text()
    assert "Fatal Python error: Aborted" in said and " in main\n" in said, "where it hangs"
