"""A network started by the command, as a user starts it, and looked at through the command."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from nearmile.config.layout import Config
from nearmile.services import state

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
# Generous, as any process here may wait for a processor.
READY_S = 120.0
COMMAND = [sys.executable, "-m", "nearmile.cli.main"]


def eventually(condition: Callable[[], bool], timeout_s: float, what: str, poll_s: float = 0.02) -> float:
    """Waits until the condition holds; returns the seconds it took, fails with ``what`` after ``timeout_s``."""
    started_s = time.monotonic()
    while not condition():
        elapsed_s = time.monotonic() - started_s
        assert elapsed_s < timeout_s, f"not within {timeout_s} s: {what}"
        time.sleep(poll_s)
    return time.monotonic() - started_s


class LiveNetwork:
    """One `nearmile up`. Everything it starts ends with the ``with`` block."""

    def __init__(self, documents: Path, root: Path) -> None:
        self.documents, self.root = documents, root
        self.ready_after_s = 0.0
        self._up: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "LiveNetwork":
        try:
            self.start()
        except BaseException:
            self.stop()  # else it would run on beside all tests that follow
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """`nearmile up`, and waits until it is ready."""
        log = self.root / "up.log"
        with log.open("ab") as out:
            self._up = subprocess.Popen(
                [*COMMAND, "up", str(self.documents), "--state", str(self.root)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

        up = self._up

        def ready() -> bool:
            assert up.poll() is None, f"`nearmile up` ended:\n{log.read_text()}"
            try:
                now = self.status()
            except FileNotFoundError:
                return False
            # First what the file says: the command takes a second of a processor, which the network wants now.
            mine = now["ready"] and now["agent_pid"] == up.pid  # not what an earlier start has left
            return mine and self.run("status", check=False).returncode == 0

        self.ready_after_s = eventually(ready, READY_S, f"ready; {log.read_text()}", poll_s=0.1)

    def stop(self, signum: int = signal.SIGINT) -> None:
        """Ctrl-C (or another signal), and waits for the end."""
        if self._up is not None and self._up.poll() is None:
            self._up.send_signal(signum)
            self._up.wait(READY_S)

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs the command on this network's state."""
        done = subprocess.run(
            [*COMMAND, *arguments, "--state", str(self.root)], capture_output=True, text=True, timeout=120
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *arguments: str, check: bool = True) -> Any:
        """What the command prints with --json."""
        return json.loads(self.run(*arguments, "--json", check=check).stdout)

    @property
    def config(self) -> Config:
        return state.read_config(self.root)

    def status(self) -> dict[str, Any]:
        """The status as the agent keeps it (read without a process of its own, for tests that look often)."""
        found: dict[str, Any] = json.loads((self.root / "status.json").read_text())
        return found

    def one(self, name: str) -> dict[str, Any]:
        """The status of one process."""
        found: dict[str, Any] = next(p for p in self.status()["processes"] if p["name"] == name)
        return found

    def kill(self, name: str, signum: int = signal.SIGKILL) -> int:
        """Sends a process a signal, if it runs (the status may lag by a moment); returns its pid, else 0."""
        pid = int(self.one(name)["pid"])
        with contextlib.suppress(ProcessLookupError):
            if pid:
                os.kill(pid, signum)
        return pid

    def until_ready(self, timeout_s: float = READY_S) -> float:
        """Waits until every process is ready."""
        return eventually(lambda: bool(self.status()["ready"]), timeout_s, "every process ready")

    def until_replaced(self, name: str, pid: int, timeout_s: float = READY_S) -> float:
        """Waits until another process of that name is ready."""

        def back() -> bool:
            one = self.one(name)
            return one["pid"] not in (0, pid) and one["state"] == "ready"

        return eventually(back, timeout_s, f"{name} back")


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
