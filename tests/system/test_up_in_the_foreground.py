"""`nearmile up` as it stands in a terminal or under a supervisor: signals end all of it, its output nothing."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from live_network import COMMAND, alive, eventually
from nearmile.base.errors import NotRunning
from nearmile.services import running, state

READY_S, END_S = 120.0, 60.0
NETWORK = """
name = "small"
zone = "small.test"
loopback = "127.49.0.0/16"
regions.here = { city = "Frankfurt" }
nameservers = [{ tier = "top", city = "Frankfurt" }, { tier = "low", city = "Frankfurt" }]
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "network.toml").write_text(NETWORK)
    return tmp_path / "state"


@contextmanager
def up(root: Path, out: int) -> Iterator[subprocess.Popen[bytes]]:
    words = [*COMMAND, "up", str(root.parent), "--state", str(root)]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True) as one:
        try:
            yield one
        finally:
            one.kill()


def pids(root: Path) -> list[int]:
    """Of all processes that run now; none while nothing does."""
    try:
        return [one.pid for one in running.read(root).processes if one.pid]
    except NotRunning:
        return []


def ready(root: Path) -> bool:
    return bool(pids(root)) and running.read(root).ready


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("begun", [pids, ready], ids=["starting", "ready"])
def test_a_signal_stops_all_of_it(root: Path, signum: signal.Signals, begun: Callable[[Path], object]) -> None:
    with up(root, subprocess.DEVNULL) as one:
        eventually(lambda: bool(begun(root)), READY_S, "begun")
        started = pids(root)
        one.send_signal(signum)
        assert one.wait(END_S) == 0
    assert running.holder(root) is None
    assert not any(map(alive, started))


def test_a_terminal_that_is_closed_stops_all_of_it(root: Path) -> None:
    """The kernel sends SIGHUP, and nothing can be said any more."""
    terminal, inside = os.openpty()
    words = [*COMMAND, "up", str(root.parent), "--state", str(root)]
    # A session of its own whose terminal this is, as one that a terminal's program starts.
    one = subprocess.Popen(["setsid", "--ctty", *words], stdin=inside, stdout=inside, stderr=inside)
    os.close(inside)
    os.set_blocking(terminal, False)

    def read_and_ready() -> bool:
        """A terminal takes no more than a few KB that nobody reads."""
        with suppress(BlockingIOError):
            while os.read(terminal, 1 << 16):
                pass
        return ready(root)

    eventually(read_and_ready, READY_S, "ready")
    started = pids(root)
    os.close(terminal)
    one.wait(END_S)
    eventually(lambda: running.holder(root) is None, END_S, "stopped")
    assert not any(map(alive, started))


def test_after_an_agent_was_killed_the_next_has_its_addresses(root: Path) -> None:
    """Also those of a process that hangs, which no signal ends but SIGKILL."""
    with up(root, subprocess.DEVNULL) as one:
        eventually(lambda: ready(root), READY_S, "ready")
        started, loopback = pids(root), state.read_config(root).loopback
        os.kill(started[-1], signal.SIGSTOP)
    with up(root, subprocess.DEVNULL) as one:
        # As it takes the folder there is a moment in which the status is still that of the one before.
        eventually(lambda: ready(root) and running.read(root).agent_pid == one.pid, READY_S, "ready again")
        assert state.read_config(root).loopback == loopback
        assert not any(map(alive, started))
        one.send_signal(signal.SIGTERM)
        assert one.wait(END_S) == 0


@pytest.mark.parametrize("to", ["/dev/full", "a reader that has gone", "a reader that has stopped"])
def test_what_cannot_be_said_ends_nothing(root: Path, to: str) -> None:
    """Its output goes to a disk that is full, or to a program that has ended, or that reads no more (Ctrl-S)."""
    if to.startswith("/"):
        out = os.open(to, os.O_WRONLY)
    else:
        reader, out = os.pipe()
        if to.endswith("gone"):
            os.close(reader)
        else:
            os.set_blocking(out, False)
            with suppress(BlockingIOError):
                while os.write(out, bytes(4096)):
                    pass
            os.set_blocking(out, True)
    with up(root, out) as one:
        os.close(out)
        eventually(lambda: ready(root), READY_S, "ready")
        for _ in range(2):
            (victim, *_) = pids(root)
            os.kill(victim, signal.SIGKILL)
            eventually(lambda victim=victim: victim not in pids(root) and ready(root), READY_S, "started again")  # type: ignore[misc]
        one.send_signal(signal.SIGTERM)
        assert one.wait(END_S) in (0, 120), "120: what was not said could not be said at the end either"
