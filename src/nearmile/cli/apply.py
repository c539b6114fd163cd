"""``nearmile apply``: a network that runs takes up changed documents."""

import argparse
import os
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import uvloop
from msgspec import structs
from rich.console import Console

from nearmile.base.errors import NearmileError
from nearmile.cli import run
from nearmile.config import layout
from nearmile.config.change import Change, Moved, change, other_serials
from nearmile.config.layout import Config, at_version
from nearmile.services import agent, authority, rollout, running, state
from nearmile.services.bus import KV_CONFIG, KV_CURRENT, Bus, Conflict

# Processes hear of it in milliseconds; they and the agent tell four times a second.
HEAR_PATIENCE_S = 10.0
# An edge reads the certificate of a site that is new in a millisecond of a core; there may be ten on it.
CERTIFICATE_S = 0.01
BAR_AFTER_S = 2.0
POLL_S = 0.05
# Of names that are listed.
NAMES_MAX = 12


def apply_arguments(sub: argparse.ArgumentParser) -> None:
    """Of the subcommand."""
    run.check_arguments(sub)
    sub.add_argument("--dry-run", action="store_true", help="only say what would change")


def apply(args: argparse.Namespace) -> int:
    """Prints what changes and who runs on it; exit code 1 unless all do."""
    started_s = time.monotonic()
    now = running.read(args.state)
    if args.state.stat().st_uid != os.geteuid():  # what is written there would be nobody's who runs there
        raise NearmileError(f"{args.state} is another user's, who alone may apply documents")
    old = state.read_config(args.state)
    new = run.read_documents(args.folder, old)
    found, version = change(old, new), old.version
    console = Console(highlight=False, soft_wrap=True, quiet=args.json)
    for line in lines_of(found):
        console.print(line, markup=False)
    for name, serial in other_serials(old, new).items():
        print(
            f"nearmile: warning: site {name}: its names have another serial, so resolvers that know them find "
            f"nothing for up to {old.network.dns.top_ttl_s} s; write serial = {serial} into its document",
            file=sys.stderr,
        )
    if found.refused:
        raise NearmileError(
            f"{', '.join(found.refused)} cannot change while the network runs, so nothing has changed; "
            "this needs `nearmile down` and `nearmile up`"
        )
    _check_addresses(now, new)
    same = at_version(new, old.version) == old
    if same:
        console.print("nothing has changed")
    if args.dry_run:
        return _tell(args, console, found, {"version": old.version})
    if not same:
        _make_certificates(args.state, new, {*found.sites.added, *found.sites.changed})
        version = uvloop.run(_publish(args.state, old, new))
    now = _until_taken(args.state, version, hear_patience_s(found), turn_patience_s(old), console)
    late, count = late_of(now, version), len(_counted(now))
    there, total_s = count - len(late), time.monotonic() - started_s
    console.print(f"{there} of {count} processes run on version {version}, {total_s:.1f} s")
    for name, why in late.items():
        console.print(f"  {name}: {why}", markup=False)
    if now.leaving:
        console.print(f"{_some(now.leaving)} will end when nobody can know of them any more")
    told = {"version": version, "running": there, "processes_total": count, "late": late, "leaving": now.leaving}
    return _tell(args, console, found, told | {"total_s": round(total_s, 3)})


def lines_of(found: Change) -> Iterator[str]:
    """What changes, for people."""
    if any(parts := [*_moved(found.sites, "changed")]):
        yield f"sites: {'; '.join(parts)}"
    if any(parts := [*_moved(found.processes, "to start again")]):
        yield f"processes: {'; '.join(parts)}"
    if found.keys:
        yield f"network.toml: {_some(found.keys)}"


def _moved(moved: Moved, changed: str) -> Iterator[str]:
    for word, names in (("added", moved.added), (changed, moved.changed), ("removed", moved.removed)):
        if names:
            yield f"{word} {_some(names)}"


def _some(names: tuple[str, ...]) -> str:
    more = len(names) - NAMES_MAX
    return ", ".join(names[:NAMES_MAX]) + (f" and {more} more" if more > 0 else "")


def _check_addresses(now: running.Status, new: Config) -> None:
    """Nobody else may have the addresses of those that are to start; who is to end gives them his."""
    ours = {one.address.rpartition(":")[0].strip("[]") for one in now.processes}
    starting = tuple(process for process in new.processes if process.address not in ours)
    if busy := agent.taken(structs.replace(new, processes=starting)):
        raise NearmileError(f"nothing has changed: others listen on {_some(tuple(busy))}; stop what listens there")


def _make_certificates(root: Path, new: Config, names: Collection[str]) -> None:
    """The local authority's for these sites, before anybody asks for them; the agent looks at all others."""
    sites = tuple(site for site in new.sites if site.name in names)
    authority.ensure(root, structs.replace(new, sites=sites), datetime.now(UTC))


async def _publish(root: Path, old: Config, new: Config) -> int:
    """Tells everybody; returns the version."""
    bus = Bus.of(root, old, "apply")
    async with bus.opened():
        revision, held = await bus.get(KV_CONFIG, KV_CURRENT) or (0, b"")
        version = old.version + 1
        if state.version_of(held) >= version:
            raise NearmileError(
                f"nothing has changed, for the bus has configuration {state.version_of(held)}, which this network "
                f"has not taken up (yet); see {root / 'log' / 'agent.log'}, and try again"
            )
        try:
            await bus.put(KV_CONFIG, KV_CURRENT, layout.encode(at_version(new, version)), revision)
        except Conflict:
            raise NearmileError("others have applied theirs just now, so nothing has changed; try again") from None
        return version


def hear_patience_s(found: Change) -> float:
    """For the next process to take it up."""
    return HEAR_PATIENCE_S + CERTIFICATE_S * len(found.sites.added)


def turn_patience_s(old: Config) -> float:
    """For one turn of servers that start again."""
    return old.network.dns.low_ttl_s + rollout.MAP_PATIENCE_S + rollout.READY_PATIENCE_S + HEAR_PATIENCE_S


def _until_taken(root: Path, version: int, hear_s: float, turn_s: float, console: Console) -> running.Status:
    """Waits as long as there is progress; returns the last status."""
    began_s = moved_s = time.monotonic()
    fewest = None
    bar = run.progress("processes on the new version", console)
    with ExitStack() as shown:
        while True:
            now, at_s = running.read(root), time.monotonic()
            late, count = len(late_of(now, version)), len(_counted(now))
            if fewest is None or late < fewest:
                fewest, moved_s = late, at_s
            starting = now.pending or any(one.state == "starting" for one in now.processes)
            if not late or at_s > moved_s + (turn_s if starting else hear_s):
                return now
            if console.is_terminal and at_s > began_s + BAR_AFTER_S:
                if not bar.tasks:
                    shown.enter_context(bar).add_task("applying")
                bar.update(bar.task_ids[0], total=count, completed=count - late)
            time.sleep(POLL_S)


def _counted(now: running.Status) -> list[running.ProcessStatus]:
    """Those that are to run on it: not the bus, which has none, nor who is to go."""
    return [one for one in now.processes if one.role != "nats" and one.name not in now.leaving]


def late_of(now: running.Status, version: int) -> dict[str, str]:
    """By name, who does not run on that version, and why."""
    found = {one.name: _why_late(one, now, version) for one in _counted(now)}
    return {name: why for name, why in found.items() if why}


def _why_late(one: running.ProcessStatus, now: running.Status, version: int) -> str:
    if now.config_version < version:
        return f"the agent is at version {now.config_version}"
    if one.state != "ready":
        return one.state
    if one.config_version < version:
        return f"at version {one.config_version}; its log says why"
    return "not started again yet" if one.name in now.pending else ""


def _tell(args: argparse.Namespace, console: Console, found: Change, told: dict[str, object]) -> int:
    if args.json:
        print(msgspec.json.encode(told | structs.asdict(found)).decode())
    return 1 if told.get("late") else 0
