"""What `nearmile apply` says and does before it hands a configuration over, and whom it names after it."""

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from nats_server import NatsServer
from nearmile.cli import apply
from nearmile.cli.apply import hear_patience_s, late_of, lines_of
from nearmile.cli.main import main
from nearmile.cli.run import settle
from nearmile.config import layout
from nearmile.config.change import Change, Moved
from nearmile.config.layout import Config
from nearmile.services import agent, running, state
from nearmile.services.bus import KV_CONFIG, KV_CURRENT

NETWORK = """
name = "n"
zone = "n.test"
loopback = "127.28.0.0/16"
regions = { paris = { city = "Paris" } }
nameservers = [{ tier = "top", city = "Paris" }, { tier = "low", city = "Paris" }]
"""
SITE = 'hostnames = ["shop.test"]\norigin = "http://127.0.0.1:1"\n'
DEADLINE_S = 30.0


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    folder = tmp_path / "documents"
    (folder / "sites").mkdir(parents=True)
    (folder / "network.toml").write_text(NETWORK)
    (folder / "sites" / "shop.toml").write_text(SITE)
    return folder


@pytest.fixture
def root(tmp_path: Path, documents: Path) -> Path:
    """Where a network seems to run: all of it on version 1."""
    folder = tmp_path / "state"
    folder.mkdir()
    made = settle(documents, folder)
    (folder / running.LOCK_FILE).touch()
    say(folder, made, 1)
    return folder


@pytest.fixture(autouse=True)
def _held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        running, "holder", lambda root: os.getpid() if (root / running.LOCK_FILE).exists() else None
    )
    monkeypatch.setattr(apply, "HEAR_PATIENCE_S", 0.1)


def one(process: layout.Process, version: int) -> running.ProcessStatus:
    return running.ProcessStatus(
        name=process.name,
        role=process.role,
        region="",
        city="",
        address=f"{process.address}:{process.port}" if process.port else "",
        state="ready",
        config_version=version if process.role != "nats" else 0,
    )


def say(root: Path, config: Config, version: int, *late: str) -> None:
    now = running.Status(
        ready=True,
        network="n",
        agent_pid=os.getpid(),
        at_s=0.0,
        bus=True,
        config_version=version,
        map_version=1,
        processes=[one(process, version - (process.name in late)) for process in config.processes],
    )
    state.write_atomically(root / "status.json", msgspec.json.encode(now))


def ended(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(map(str, arguments)))
    return int(str(caught.value.code))


@pytest.mark.parametrize(
    ("found", "lines"),
    [
        (Change(), []),
        (Change(sites=Moved(("a", "b"), ("c",), ("d",))), ["sites: added a, b; changed c; removed d"]),
        (Change(processes=Moved(changed=("x-1",))), ["processes: to start again x-1"]),
        (
            Change(keys=tuple(f"regions.r{number}" for number in range(14))),
            [f"network.toml: {', '.join(f'regions.r{number}' for number in range(12))} and 2 more"],
        ),
    ],
)
def test_what_changes_is_told_in_short(found: Change, lines: list[str]) -> None:
    assert list(lines_of(found)) == lines


def test_without_a_network_that_runs_it_ends_with_3(documents: Path, tmp_path: Path) -> None:
    assert ended("apply", documents, "--state", tmp_path / "none") == 3


def test_documents_that_are_wrong_end_with_2_and_all_is_told(
    documents: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (documents / "network.toml").write_text(NETWORK + "units = 1\ncontrollers = 0")
    assert ended("apply", documents, "--state", root) == 2
    said = capsys.readouterr().err
    assert "units" in said and "controllers" in said


def test_what_has_not_changed_is_said_to_run(
    documents: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended("apply", documents, "--state", root) == 0
    said = capsys.readouterr().out
    assert said.startswith("nothing has changed\n6 of 6 processes run on version 1, ")


def test_who_runs_on_another_version_is_named(
    documents: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    say(root, state.read_config(root), 1, "paris-2", "low-1")
    assert ended("apply", documents, "--state", root) == 1
    said = capsys.readouterr().out
    assert "4 of 6 processes run on version 1" in said
    assert "  low-1: at version 0; its log says why\n  paris-2: at version 0; its log says why\n" in said


def test_why_somebody_is_late() -> None:
    config = layout.Process(name="a-1", role="edge")
    now = running.Status(
        ready=False,
        network="n",
        agent_pid=1,
        at_s=0.0,
        bus=True,
        config_version=8,
        map_version=1,
        processes=[one(config, 8), one(msgspec.structs.replace(config, name="a-2"), 7)],
        pending=("a-1",),
    )
    assert late_of(now, 8) == {"a-1": "not started again yet", "a-2": "at version 7; its log says why"}
    now.leaving = ("a-2",)
    now.processes[0].state = "waiting"
    assert late_of(now, 8) == {"a-1": "waiting"}
    assert late_of(now, 9) == {"a-1": "the agent is at version 8"}


def test_another_user_applies_nothing(
    documents: Path, root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    assert ended("apply", documents, "--state", root) == 1
    assert f"{root} is another user's" in capsys.readouterr().err


def test_a_dry_run_changes_nothing(documents: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (root / "config.json").read_bytes()
    (documents / "sites" / "blog.toml").write_text(SITE.replace("shop", "blog"))
    (documents / "network.toml").write_text(NETWORK + "controllers = 2\ndns.answers = 3")
    assert ended("apply", documents, "--state", root, "--dry-run") == 0
    said = capsys.readouterr().out
    assert said == "sites: added blog\nprocesses: added controller-2\nnetwork.toml: controllers, dns.answers\n"
    assert (root / "config.json").read_bytes() == before
    assert ended("apply", documents, "--state", root, "--dry-run", "--json") == 0
    out, err = capsys.readouterr()
    told = msgspec.json.decode(out)
    assert err == ""
    assert told["sites"] == {"added": ["blog"], "changed": [], "removed": []}
    assert (told["keys"], told["version"]) == (["controllers", "dns.answers"], 1)


def test_a_site_under_another_name_is_warned_of(
    documents: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    serial = state.read_config(root).sites[0].serial
    (documents / "sites" / "shop.toml").rename(documents / "sites" / "store.toml")
    assert ended("apply", documents, "--state", root, "--dry-run") == 0
    said = capsys.readouterr().err
    assert said.startswith("nearmile: warning: site store: its names have another serial")
    assert f"up to 1800 s; write serial = {serial} into its document" in said


def test_what_cannot_change_is_refused_by_name(
    documents: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (documents / "network.toml").write_text(NETWORK.replace("n.test", "m.test") + "dns.port = 53\ndns.answers = 3")
    assert ended("apply", documents, "--state", root) == 1
    assert "nearmile: zone, dns.port cannot change while the network runs" in capsys.readouterr().err


def test_an_address_that_another_has_is_named_before_anything_starts(
    documents: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (documents / "network.toml").write_text(NETWORK.replace('Paris" } }', 'Paris", servers = 3 } }'))
    with socket.create_server(("127.28.1.3", 8080)):
        assert ended("apply", documents, "--state", root) == 1
        assert "nothing has changed: others listen on 127.28.1.3:8080;" in capsys.readouterr().err
        (documents / "network.toml").write_text(NETWORK)
        with_third = msgspec.structs.replace(
            state.read_config(root).process("paris-2"), name="paris-3", address="127.28.1.3"
        )
        now = running.read(root)
        now.processes.append(one(with_third, 1))
        now.leaving = ("paris-3",)
        (root / "status.json").write_bytes(msgspec.json.encode(now))
        (documents / "network.toml").write_text(NETWORK.replace('Paris" } }', 'Paris", servers = 3 } }'))
        assert ended("apply", documents, "--state", root, "--dry-run") == 0, "it is of one that is to end"


def test_without_the_bus_nothing_changes(documents: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (documents / "network.toml").write_text(NETWORK + "dns.answers = 3")
    assert ended("apply", documents, "--state", root) == 1
    assert "the bus (NATS) does not answer, so nothing was done" in capsys.readouterr().err


@pytest.fixture
def bus(root: Path) -> Iterator[NatsServer]:
    """The network's own, with the buckets, in a loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = NatsServer(root, state.read_config(root))

    async def begin() -> None:
        await server.start()
        bus = server.bus()
        async with bus.opened(DEADLINE_S):
            await bus.create_stores()
            await bus.put(KV_CONFIG, KV_CURRENT, layout.encode(state.read_config(root)), 0)

    asyncio.run_coroutine_threadsafe(begin(), loop).result(DEADLINE_S)
    yield server
    asyncio.run_coroutine_threadsafe(server.kill(), loop).result(DEADLINE_S)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def published(server: NatsServer) -> bytes:
    async def ask() -> bytes:
        bus = server.bus()
        async with bus.opened(DEADLINE_S):
            _, value = await bus.get(KV_CONFIG, KV_CURRENT) or (0, b"")
            return value

    return asyncio.run(ask())


def test_the_next_version_is_published_and_certificates_are_there_before(
    documents: Path,
    root: Path,
    bus: NatsServer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (documents / "sites" / "blog.toml").write_text(SITE.replace("shop", "blog"))
    assert ended("apply", documents, "--state", root) == 1, "nobody took it"
    assert "0 of 6 processes run on version 2" in capsys.readouterr().out
    new = layout.decode(published(bus))
    assert (new.version, [site.name for site in new.sites]) == (2, ["blog", "shop"])
    assert state.site_files(root, "blog")[0].exists()
    assert not state.site_files(root, "shop")[0].exists(), "to look at thousands that stay takes seconds"

    assert ended("apply", documents, "--state", root) == 1
    assert "the bus has configuration 2, which this network has not taken up (yet)" in capsys.readouterr().err
    assert layout.decode(published(bus)).version == 2

    (root / "config.json").write_bytes(msgspec.json.encode(new))
    say(root, new, 2)
    assert ended("apply", documents, "--state", root) == 0
    monkeypatch.setattr(agent, "taken", lambda _: [])  # by its own bus, here
    assert settle(documents, root) == new, "and the next start begins with it"


def test_what_runs_keeps_its_addresses(documents: Path, root: Path, bus: NatsServer) -> None:
    old = state.read_config(root)
    (documents / "network.toml").write_text(
        NETWORK.replace("regions = {", 'regions = { athens = { city = "Athens" },')
    )
    assert ended("apply", documents, "--state", root) == 1
    new = layout.decode(published(bus))
    assert new.process("paris-1") == old.process("paris-1")
    assert new.process("athens-1").address == "127.28.2.1"


def test_who_has_many_certificates_to_read_has_longer() -> None:
    """Two edges on two busy cores took 12 s for 5,000; of sites that change there are none to read."""
    sites = tuple(f"site-{number}" for number in range(5000))
    usual_s = hear_patience_s(Change(sites=Moved(changed=sites)))
    assert usual_s == apply.HEAR_PATIENCE_S
    assert hear_patience_s(Change(sites=Moved(added=sites))) > usual_s + 24.0
