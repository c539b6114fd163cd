"""Who holds a state folder."""

import subprocess
import sys
from pathlib import Path

import pytest

from nearmile.base.errors import NearmileError
from nearmile.services import running

HOLDS = """
import sys, pathlib
from nearmile.services import running
running.hold(pathlib.Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_folder_is_held_by_one_until_it_ends(tmp_path: Path) -> None:
    assert running.holder(tmp_path) is None
    command = [sys.executable, "-c", HOLDS, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        assert running.holder(tmp_path) == other.pid
        with pytest.raises(NearmileError, match="already runs"):
            running.hold(tmp_path)
        (tmp_path / running.LOCK_FILE).write_text("")
        assert running.holder(tmp_path) == 0, "one of an older release"
        other.kill()
    assert running.holder(tmp_path) is None


def test_no_folder_is_held_by_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert running.holder(tmp_path / "file") is running.holder(tmp_path / "none") is None
