"""What `nearmile up` makes of what it finds, and `down` and `status` of who is there."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from nearmile.base.errors import NearmileError, NotRunning
from nearmile.cli import status
from nearmile.cli.main import main
from nearmile.cli.run import settle
from nearmile.services import agent, state

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


@pytest.mark.parametrize("kept", [b'{"version":7,"network":{"name":"of another release"}}', b"\0\0\0"])
def test_what_cannot_be_read_any_more_is_written_anew_under_a_higher_number(
    documents: Path, root: Path, kept: bytes
) -> None:
    (root / "config.json").write_bytes(kept)
    (root / "status.json").write_bytes(b'{"config_version":7}')
    assert settle(documents, root).version == 8


def test_documents_that_are_wrong_end_with_2(documents: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("check", str(documents)) == 0
    (documents / "network.toml").write_text(NETWORK + 'networks = "gone.mmdb"')
    assert ended("check", str(documents)) == 2
    assert "networks: there is no" in capsys.readouterr().err


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


def test_a_status_of_a_run_before_is_not_taken_for_this_one(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its process id may be anybody's by now."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        before = agent.Status(
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
            status.read(root)
        agent.hold(root)
        with pytest.raises(NotRunning, match="only just starting"):
            status.read(root)
        (root / "status.json").write_bytes(
            msgspec.json.encode(msgspec.structs.replace(before, agent_pid=os.getpid()))
        )
        assert status.read(root).agent_pid == os.getpid()
        assert ended("status", "--state", str(root)) == 1
        assert "the agent wrote this" in capsys.readouterr().err
        (root / "status.json").write_bytes(b'{"ready":true}')
        with pytest.raises(NearmileError, match="of another release"):
            status.read(root)
        assert stranger.poll() is None
        assert stranger.stdin is not None
        stranger.stdin.close()
