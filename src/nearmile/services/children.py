"""Starting, watching and ending the operating system's processes, for the agent."""

import asyncio
import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import BinaryIO

from nearmile.config.layout import Process
from nearmile.services import natsserver

PR_SET_PDEATHSIG = 1
# A log beyond this is moved aside (one generation).
LOG_BYTES_MAX = 8 << 20
# Edges finish what they are sending and save their caches; then there is no more waiting.
STOP_PATIENCE_S = 8.0
LEFT_LOOK_S = 0.05
MODULE = "nearmile.services.runtime"


def command(root: Path, process: Process) -> list[str]:
    """How a process of any role but ``nats`` is started."""
    return [sys.executable, "-m", MODULE, str(root), process.name]


class Child:
    """One running process."""

    def __init__(self, running: asyncio.subprocess.Process) -> None:
        self._running = running
        self.pid = running.pid

    async def wait(self) -> int:
        """The exit code (negative: the signal that ended it)."""
        return await self._running.wait()

    def signal(self, signum: int) -> None:
        """Sends a signal, if it still runs."""
        with contextlib.suppress(ProcessLookupError):
            self._running.send_signal(signum)

    async def stop(self, signum: int = SIGTERM, patience_s: float = STOP_PATIENCE_S) -> None:
        """Asks it to end; ends it when it does not."""
        self.signal(signum)
        try:
            await asyncio.wait_for(self._running.wait(), patience_s)
        except TimeoutError:
            self.signal(SIGKILL)
            await self._running.wait()


def left(root: Path) -> list[int]:
    """Who runs on that state folder. Without an agent these are what a killed one has left: they hang, or end."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile, or is another user's
            words = [os.fsdecode(word) for word in (folder / "cmdline").read_bytes().split(b"\0")]
            match words:
                case [_, "-m", module, where, _, ""] if module == MODULE:
                    here = Path(where)
                case [_, "-c", where, ""] if Path(where).name == natsserver.CONFIG:
                    here = Path(where).parent
                case _:
                    continue
            if ((folder / "cwd").readlink() / here).resolve() == root.resolve():
                found.append(int(folder.name))
    return found


def end_left(root: Path, patience_s: float = STOP_PATIENCE_S) -> None:
    """Ends these, who would keep our ports. The kernel has told them (SIGTERM), but what hangs does not hear.

    Gives up on what even SIGKILL does not end soon: it waits for a disk.
    """
    for patient in (True, False):
        until_s = time.monotonic() + patience_s
        while pids := left(root):
            for pid in () if patient else pids:
                with contextlib.suppress(OSError):
                    os.kill(pid, SIGKILL)
            if time.monotonic() > until_s:  # who was stopped itself for as long has yet to kill
                break
            time.sleep(LEFT_LOOK_S)


def open_log(path: Path) -> BinaryIO:
    """The log to append to, the old one moved aside when it has grown too large."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > LOG_BYTES_MAX:
        path.replace(path.with_suffix(".log.1"))
    return path.open("ab")


def bound_log(path: Path) -> None:
    """Moves what a process has said aside when it has grown too large, though the process goes on.

    It keeps the file open, so a copy is kept; and it appends, so it goes on at the start of what is empty now.
    """
    if path.stat().st_size > LOG_BYTES_MAX:
        with contextlib.suppress(OSError):  # of a full disk, of which no more must be taken
            shutil.copyfile(path, path.with_suffix(".log.1"))
        os.truncate(path, 0)


async def start(arguments: list[str], log: Path) -> Child:
    """Starts a process in a session of its own, what it says going to ``log``.

    Where the disk takes no log (it is read-only, say), that goes where our own words go: a name server needs none.
    It gets SIGTERM should the agent die without saying so: none is ever left behind.
    """
    agent = os.getpid()
    libc = ctypes.CDLL(None)

    def tie_to_agent() -> None:
        libc.prctl(PR_SET_PDEATHSIG, SIGTERM)
        if os.getppid() != agent:  # the agent died in between
            os._exit(1)

    with contextlib.ExitStack() as stack:
        out: BinaryIO | None = None
        with contextlib.suppress(OSError):
            out = stack.enter_context(open_log(log))
        running = await asyncio.create_subprocess_exec(
            *arguments,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            preexec_fn=tie_to_agent,
        )
    return Child(running)
