"""``nearmile status``: what runs and how it is."""

import argparse
import shutil
import time
from collections.abc import Iterable
from typing import IO, TYPE_CHECKING

import msgspec

from nearmile.base.errors import NearmileError
from nearmile.services import running
from nearmile.services.running import Status

if TYPE_CHECKING:  # to show costs more than to read
    from rich.console import Console
    from rich.table import Table

TABLE_COLUMNS = 160
# What a status takes with all its columns.
STATUS_COLUMNS = 100
# The agent writes four times a second.
STALE_S = 5.0
STATE_STYLES = {"ready": "green", "starting": "yellow", "waiting": "red", "silent": "red", "stopped": "dim"}


def status(args: argparse.Namespace) -> int:
    """Prints the status; exit code 1 where something is not ready."""
    now = running.read(args.state)
    age_s = time.time() - now.at_s
    if args.json:
        print(msgspec.json.encode(now).decode())
    else:
        show(now, console())
    if age_s > STALE_S:
        why = f"it hangs, or its disk is full; see {args.state / 'log' / 'agent.log'}"
        raise NearmileError(f"the agent wrote this {age_s:.0f} s ago: {why}")
    return 0 if now.ready else 1


def console(file: IO[str] | None = None) -> "Console":
    """For tables: wide enough for all columns. What is too long a terminal breaks; cut off, it would be lost."""
    from rich.console import Console

    plain = Console(highlight=False, file=file)
    return Console(highlight=False, file=file, width=max(plain.width, TABLE_COLUMNS))


def table(words: Iterable[str], figures: Iterable[str]) -> "Table":
    """Its columns: of words, then of figures."""
    from rich.table import Table

    made = Table(box=None, header_style="bold", pad_edge=False)
    for column in words:
        made.add_column(column, no_wrap=True)
    for column in figures:
        made.add_column(column, justify="right", no_wrap=True)
    return made


def show(now: Status, out: "Console") -> None:
    """The status as a table; in a narrow terminal without what the names say, too."""
    narrow = out.is_terminal and shutil.get_terminal_size().columns < STATUS_COLUMNS
    words = "name", *(() if narrow else ("role", "city")), "address", "state"
    rows = table(words, ("req/s", "cpu", "map", "pid", "restarts"))
    for one in now.processes:
        style = STATE_STYLES[one.state]
        rows.add_row(
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
    out.print(rows)
    word = "[green]ready[/green]" if now.ready else "[yellow]not ready[/yellow]"
    ready = sum(one.state == "ready" for one in now.processes)
    out.print(
        f"\nnetwork {now.network}: {word}, {ready} of {len(now.processes)} processes; "
        f"configuration {now.config_version}, map {now.map_version}"
    )
    for what, names in (("to start again", now.pending), ("to end when nobody asks it any more", now.leaving)):
        if names:
            out.print(f"{what}: {', '.join(names)}")
