"""``nearmile status``: what runs and how it is."""

import argparse
import shutil
import time
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from nearmile.base.errors import NearmileError, NotRunning
from nearmile.services import agent

TABLE_COLUMNS = 160
# What a status takes with all its columns.
STATUS_COLUMNS = 100
# The agent writes four times a second.
STALE_S = 5.0
STATE_STYLES = {"ready": "green", "starting": "yellow", "waiting": "red", "silent": "red", "stopped": "dim"}


def read(root: Path) -> agent.Status:
    """The running network's status; NotRunning where no agent holds the folder, or it has said nothing yet."""
    pid = agent.holder(root)
    if pid is None:
        raise NotRunning(f"no network runs on {root}; start one with `nearmile up DIR --state {root}`")
    try:
        now = msgspec.json.decode((root / "status.json").read_bytes(), type=agent.Status)
    except FileNotFoundError:
        now = None
    except msgspec.DecodeError as error:
        raise NearmileError(f"{root / 'status.json'} cannot be read ({error}): of another release?") from None
    if now is None or now.agent_pid != (pid or now.agent_pid):
        raise NotRunning(f"the network on {root} is only just starting; ask again in a moment")
    return now


def status(args: argparse.Namespace) -> int:
    """Prints the status; exit code 1 where something is not ready."""
    now = read(args.state)
    age_s = time.time() - now.at_s
    if args.json:
        print(msgspec.json.encode(now).decode())
    else:
        show(now, console())
    if age_s > STALE_S:
        why = f"it hangs, or its disk is full; see {args.state / 'log' / 'agent.log'}"
        raise NearmileError(f"the agent wrote this {age_s:.0f} s ago: {why}")
    return 0 if now.ready else 1


def console() -> Console:
    """For tables: wide enough for all columns. What is too long a terminal breaks; cut off, it would be lost."""
    plain = Console(highlight=False)
    return Console(highlight=False, width=max(plain.width, TABLE_COLUMNS))


def show(now: agent.Status, out: Console) -> None:
    """The status as a table; in a narrow terminal without what the names say, too."""
    narrow = out.is_terminal and shutil.get_terminal_size().columns < STATUS_COLUMNS
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("name", *(() if narrow else ("role", "city")), "address", "state"):
        table.add_column(column, no_wrap=True)
    for column in ("req/s", "cpu", "map", "pid", "restarts"):
        table.add_column(column, justify="right", no_wrap=True)
    for one in now.processes:
        style = STATE_STYLES[one.state]
        table.add_row(
            one.name,
            *(() if narrow else (one.role, one.city)),
            one.address,
            f"[{style}]{one.state}[/{style}]",
            f"{one.requests_per_s:.0f}" if one.requests_per_s else "",
            f"{one.cpu:.0%}" if one.cpu else "",
            str(one.map_version or ""),
            str(one.pid or ""),
            str(one.restarts or ""),
        )
    out.print(table)
    word = "[green]ready[/green]" if now.ready else "[yellow]not ready[/yellow]"
    ready = sum(one.state == "ready" for one in now.processes)
    out.print(
        f"\nnetwork {now.network}: {word}, {ready} of {len(now.processes)} processes; "
        f"configuration {now.config_version}, map {now.map_version}"
    )
