"""What `nearmile up` makes of what it finds, and `down` and `status` of who is there."""

import asyncio
import errno
import os
import socket
import subprocess
import sys
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from edge_world import HOST, config
from nats_server import NatsServer
from nearmile.base.errors import NearmileError, NotRunning
from nearmile.base.geography import Point
from nearmile.base.packing import pack
from nearmile.cli.main import main
from nearmile.cli.run import settle, state_option
from nearmile.config.layout import lay_out
from nearmile.config.network import Network
from nearmile.services import authority, running, state
from nearmile.services.bus import KV_CONFIG, KV_CURRENT

PARIS = {"Paris": Point(48.9, 2.3)}
DEADLINE_S = 30.0

NETWORK = """
name = "n"
zone = "n.test"
loopback = "127.29.0.0/16"
regions = { paris = { city = "Paris" } }
nameservers = [{ tier = "top", city = "Paris" }, { tier = "low", city = "Paris" }]
"""


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "network.toml").write_text(NETWORK)
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path / "state"


def ended(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    return int(str(caught.value.code))


def test_configurations_are_numbered(documents: Path, root: Path) -> None:
    assert settle(documents, root).version == settle(documents, root).version == 1
    (documents / "network.toml").write_text(NETWORK + "controllers = 2")
    assert settle(documents, root) == state.read_config(root)
    assert state.read_config(root).version == 2


def test_addresses_stay_until_the_document_has_others(documents: Path, root: Path) -> None:
    with socket.create_server(("127.29.0.2", 4222)):
        assert settle(documents, root).loopback == "127.20.0.0/16"
    assert settle(documents, root).loopback == "127.20.0.0/16", "as it ran before"
    (documents / "network.toml").write_text(NETWORK.replace("127.29.", "127.28."))
    assert settle(documents, root).loopback == "127.28.0.0/16"


@pytest.mark.parametrize("kept", [b'{"version":7,"network":{"name":"of another release"}}', b"\0\0\0"])
def test_what_cannot_be_read_any_more_is_written_anew_under_a_higher_number(
    documents: Path, root: Path, kept: bytes
) -> None:
    (root / "config.json").write_bytes(kept)
    (root / "status.json").write_bytes(b'{"config_version":7}')
    assert settle(documents, root).version == 8


@pytest.mark.parametrize("held", [b'{"version":7}', pack(b'{"version":7}', 1)], ids=["plain", "packed"])
async def test_what_a_cluster_has_is_outnumbered(documents: Path, root: Path, held: bytes) -> None:
    """Else processes would go on with it, whatever the documents say."""
    server = NatsServer(root, lay_out(msgspec.convert(tomllib.loads(NETWORK), Network), {}, PARIS, 1))
    await server.start()
    try:
        bus = server.bus()
        async with bus.opened(DEADLINE_S):
            await bus.create_stores()
            await bus.put(KV_CONFIG, KV_CURRENT, held, 0)
        (documents / "network.toml").write_text(f'{NETWORK}nats = "{server.url}"')
        assert [(await asyncio.to_thread(settle, documents, root)).version for _ in range(2)] == [8, 8]
        (root / "config.json").write_bytes((root / "config.json").read_bytes().replace(b":8,", b":3,", 1))
        assert (await asyncio.to_thread(settle, documents, root)).version == 8
    finally:
        await server.kill()


def test_documents_that_are_wrong_end_with_2(documents: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("check", str(documents)) == 0
    (documents / "network.toml").write_text(NETWORK + 'networks = "gone.mmdb"')
    assert ended("check", str(documents)) == 2
    assert "networks: there is no" in capsys.readouterr().err


@pytest.mark.parametrize(("ago_days", "says"), [(0, ""), (390, " ends on 20"), (400, " ended on 20")])
def test_an_old_certificate_is_told_and_served(
    documents: Path, root: Path, capsys: pytest.CaptureFixture[str], ago_days: int, says: str
) -> None:
    authority.ensure(root, config(), datetime.now(UTC) - timedelta(days=ago_days))
    certificate, key = state.site_files(root, "www")
    (documents / "sites").mkdir()
    (documents / "sites" / "www.toml").write_text(
        f'hostnames = ["{HOST}"]\norigin = "http://a.test"\ntls = {{certificate = "{certificate}", key = "{key}"}}'
    )
    assert ended("check", str(documents)) == 0
    assert (says in (told := capsys.readouterr().err), bool(says)) == (True, bool(told))


@pytest.mark.parametrize("key", ["geography", "networks"])
def test_a_database_that_is_none_is_named(documents: Path, capsys: pytest.CaptureFixture[str], key: str) -> None:
    (documents / "network.toml").write_text(NETWORK + f'{key} = "network.toml"')
    assert ended("check", str(documents)) == 2
    assert "network.toml cannot be read as an MMDB database" in capsys.readouterr().err


def test_faults_of_files_are_told_without_a_traceback(
    documents: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert ended("up", str(documents), "--state", str(tmp_path / "file" / "state")) == 1
    assert capsys.readouterr().err == f"nearmile: {tmp_path}/file/state: Not a directory\n"


@pytest.mark.parametrize(("call", "file"), [("pwrite", "agent.lock"), ("fchmod", "config.json")])
def test_a_full_disk_is_told_with_the_file(
    documents: Path,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    call: str,
    file: str,
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    assert ended("up", str(documents), "--state", str(root)) == 1
    assert capsys.readouterr().err == f"nearmile: {root}/{file}: No space left on device\n"


@pytest.mark.parametrize(("name", "option"), [("state", " --state state"), ("my state", " --state 'my state'")])
def test_what_to_type_can_be_copied(monkeypatch: pytest.MonkeyPatch, name: str, option: str) -> None:
    monkeypatch.setenv("NEARMILE_STATE", "/elsewhere")
    assert (state_option(Path(name)), state_option(Path("/elsewhere"))) == (option, "")


def test_a_status_of_a_run_before_is_not_taken_for_this_one(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its process id may be anybody's by now."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        before = running.Status(
            ready=True,
            network="n",
            agent_pid=stranger.pid,
            at_s=0,
            bus=True,
            config_version=1,
            map_version=1,
            processes=[],
        )
        (root / "status.json").write_bytes(msgspec.json.encode(before))
        with pytest.raises(NotRunning, match="no network runs"):
            running.read(root)
        running.hold(root)
        with pytest.raises(NotRunning, match="only just starting"):
            running.read(root)
        (root / "status.json").write_bytes(
            msgspec.json.encode(msgspec.structs.replace(before, agent_pid=os.getpid()))
        )
        assert running.read(root).agent_pid == os.getpid()
        assert ended("status", "--state", str(root)) == 1
        assert "the agent wrote this" in capsys.readouterr().err
        (root / "status.json").write_bytes(b'{"ready":true}')
        with pytest.raises(NearmileError, match="of another release"):
            running.read(root)
        assert stranger.poll() is None
        assert stranger.stdin is not None
        stranger.stdin.close()
