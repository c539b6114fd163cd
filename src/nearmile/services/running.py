"""What runs on a state folder: where that is, who holds it, and what its agent says in ``status.json``."""

import fcntl
import os
import time
from pathlib import Path
from typing import Literal

import msgspec
import platformdirs

from nearmile.base.errors import NearmileError, NotRunning, naming

LOCK_FILE, STATUS_FILE = "agent.lock", "status.json"
# Who asks whether the folder is held holds it for a moment, too.
HOLD_PATIENCE_S, HOLD_PAUSE_S = 0.5, 0.02

State = Literal["starting", "ready", "silent", "waiting", "stopped"]


class ProcessStatus(msgspec.Struct, kw_only=True):
    """How one process is.

    ``state``: starting, ready, silent (its heartbeats, or the bus's answers, stay away), waiting (to be started
    again), stopped.
    """

    name: str
    role: str
    region: str
    city: str
    address: str
    pid: int = 0
    state: State = "stopped"
    restarts: int = 0
    requests_per_s: float = 0.0
    cpu: float = 0.0
    config_version: int = 0
    map_version: int = 0
    detail: dict[str, float] = {}


class Status(msgspec.Struct, kw_only=True):
    """How the network on this machine is; ``ready`` when every process is."""

    ready: bool
    network: str
    agent_pid: int
    at_s: float
    bus: bool
    config_version: int
    map_version: int
    processes: list[ProcessStatus]
    pending: tuple[str, ...] = ()
    """Who is yet to be started again, as what it reads at its start has changed."""
    leaving: tuple[str, ...] = ()
    """Who is not in the configuration any more, and ends once nobody asks it."""


def default_root() -> Path:
    """Where state lives unless somebody says otherwise: $NEARMILE_STATE, else the platform's state folder."""
    return Path(os.environ.get("NEARMILE_STATE") or platformdirs.user_state_dir("nearmile"))


def hold(root: Path) -> None:
    """Holds the state folder until this process has ended (the kernel lets go); NearmileError where it is held."""
    root.mkdir(parents=True, exist_ok=True)
    lock = os.open(root / LOCK_FILE, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    deadline_s = time.monotonic() + HOLD_PATIENCE_S
    while not _locked(lock, fcntl.LOCK_EX):
        if time.monotonic() > deadline_s:
            os.close(lock)
            raise NearmileError(
                f"a network already runs on {root}; have it take up changed documents with `nearmile apply`, stop "
                "it with `nearmile down`, or choose another --state"
            )
        time.sleep(HOLD_PAUSE_S)
    with naming(root / LOCK_FILE):
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)


def holder(root: Path) -> int | None:
    """The process that holds the state folder; None for nobody, 0 for an older release's, which does not say."""
    try:
        with (root / LOCK_FILE).open("rb") as lock:
            if _locked(lock.fileno(), fcntl.LOCK_SH):
                return None
            said = lock.read()
            return int(said) if said.isdigit() else 0
    except (FileNotFoundError, NotADirectoryError):
        return None


def _locked(lock: int, how: int) -> bool:
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def read(root: Path) -> Status:
    """The running network's status; NotRunning where no agent holds the folder, or it has said nothing yet."""
    pid = holder(root)
    if pid is None:
        raise NotRunning(f"no network runs on {root}; start one with `nearmile up DIR --state {root}`")
    path = root / STATUS_FILE
    try:
        now = msgspec.json.decode(path.read_bytes(), type=Status)
    except FileNotFoundError:
        now = None
    except msgspec.DecodeError as error:
        raise NearmileError(f"{path} cannot be read ({error}): of another release?") from None
    if now is None or now.agent_pid != (pid or now.agent_pid):
        raise NotRunning(f"the network on {root} is only just starting; ask again in a moment")
    return now
