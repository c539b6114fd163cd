"""``nearmile up``, ``check`` and ``geography``."""

import argparse
import asyncio
import contextlib
import logging
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, cast

import msgspec
import uvloop
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from nearmile.base.errors import NearmileError, WrongInput
from nearmile.cli import status
from nearmile.cli.output import Output
from nearmile.config.certificate import end_of
from nearmile.config.layout import Config, at_version
from nearmile.config.read import read_config
from nearmile.mapping.places import check_databases, installed_folder
from nearmile.services import agent, children, running, state
from nearmile.services.bus import KV_CONFIG, KV_CURRENT, Bus, BusDown
from nearmile.services.geography import install_full

READY_PATIENCE_S = 60.0
POLL_S = 0.1
# Those of 90 days are renewed a month before their end.
CERTIFICATE_LEFT = timedelta(days=14)
LOOPBACK_NETS = range(20, 251)


def up_arguments(sub: argparse.ArgumentParser) -> None:
    """Of `up`."""
    check_arguments(sub)
    sub.add_argument("--detach", action="store_true", help="return when it is ready; stop it with `nearmile down`")


def check_arguments(sub: argparse.ArgumentParser) -> None:
    """Of `check`."""
    sub.add_argument("folder", type=Path, metavar="DIR", help="folder with network.toml and sites/*.toml")


def check(args: argparse.Namespace) -> int:
    """Reads the documents and says what they describe; errors come as WrongInput."""
    config = read_documents(args.folder)
    network, servers, nameservers = config.network, config.of_role("edge"), config.of_role("nameserver")
    print(
        f"{args.folder}: correct; network {network.name} has {len(network.regions)} regions with {len(servers)} "
        f"servers, {len(nameservers)} name servers and {len(config.sites)} site(s)"
    )
    return 0


def read_documents(folder: Path, former: Config | None = None) -> Config:
    """The documents, checked with the databases that they name; laid out as they are, or as the network runs."""
    config = read_config(folder, 1, former.loopback if former is not None else "", former)
    try:
        check_databases(config.network)
    except NearmileError as error:
        raise WrongInput(str(error)) from None
    for name, warning in old_certificates(config, datetime.now(UTC)):
        print(f"nearmile: warning: site {name}: {warning}", file=sys.stderr)
    return config


def old_certificates(config: Config, now: datetime) -> Iterator[tuple[str, str]]:
    """Sites whose own certificate has ended, or will soon. They are served with it: who refuses it knows why."""
    for site in config.sites:
        tls = site.document.tls
        if tls is not None and tls.certificate is not None:
            end = end_of(Path(tls.certificate).read_bytes())
            if end < now + CERTIFICATE_LEFT:
                yield site.name, f"{tls.certificate} {'ended' if end < now else 'ends'} on {end:%Y-%m-%d}"


def up(args: argparse.Namespace) -> int:
    """Runs the network in the foreground until Ctrl-C or SIGTERM, or starts it in the background."""
    if args.detach:
        return _detached(args, status.console())
    running.hold(args.state)
    children.end_left(args.state)
    config = settle(args.folder, args.state)
    out, errors = Output(sys.stdout), Output(sys.stderr)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=cast(IO[str], errors))
    uvloop.run(_foreground(args.state, config, status.console(cast(IO[str], out))))
    for each in (out, errors):
        each.close()
    return 0


def settle(folder: Path, root: Path) -> Config:
    """Reads the documents, finds free addresses, and writes what `up` is to run to the state folder."""
    previous = None
    with contextlib.suppress(NearmileError):  # there is none, or one that another release wrote otherwise
        previous = state.read_config(root)
    config = read_documents(folder)
    wanted = [config.network.loopback, *(f"127.{net}.0.0/16" for net in LOOPBACK_NETS)]
    if previous is not None and previous.network.loopback == config.network.loopback:
        wanted.insert(0, previous.loopback)
    busy = []
    for loopback in wanted:
        config = read_config(folder, 1, loopback, previous)
        busy = agent.taken(config)
        if not busy:
            break
    else:
        raise NearmileError(f"addresses are taken: {', '.join(busy[:4])}...; stop what listens there")
    config = at_version(config, _number(config, previous, root))
    state.write_atomically(root / "config.json", msgspec.json.encode(config), mode=0o600)
    return config


def _number(config: Config, previous: Config | None, root: Path) -> int:
    """Of the configuration: as before where nothing has changed, else above all that it takes the place of."""
    published = 0
    if config.network.nats is not None:  # a cluster of its own may know more than this folder
        with contextlib.suppress(BusDown):
            published = uvloop.run(_published(config.network.nats, state.read_token(root)))
    if previous is not None and at_version(previous, 1) == config and published <= previous.version:
        return previous.version
    return max(published, state.newest_version(root)) + 1


async def _published(url: str, token: str) -> int:
    """The number of the configuration that the bus has; 0 where it has none."""
    bus = Bus(url, token, "up")
    async with bus.opened():
        held = await bus.get(KV_CONFIG, KV_CURRENT)
        return state.version_of(held[1]) if held is not None else 0


async def _foreground(root: Path, config: Config, console: Console) -> None:
    loop = asyncio.get_running_loop()
    network = agent.Agent(root, config, lambda line: console.print(f"[yellow]{escape(line)}[/yellow]"))
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(signum, network.stopping.set)
    network_runs = asyncio.create_task(network.run())
    started_s = time.monotonic()
    with progress(f"network {config.network.name}: processes ready", console) as bars:
        bar = bars.add_task("starting", total=len(config.processes))
        while not (network_runs.done() or network.stopping.is_set() or network.status().ready):
            bars.update(bar, completed=_ready_count(network.status()))
            await asyncio.sleep(POLL_S)
        bars.update(bar, completed=_ready_count(network.status()))
    if not network_runs.done() and not network.stopping.is_set():
        _welcome(root, config, network.status(), time.monotonic() - started_s, console)
        console.print("Ctrl-C stops everything.")
        await network.stopping.wait()
    console.print("stopping...")
    await network_runs


def _detached(args: argparse.Namespace, console: Console) -> int:
    """Starts `nearmile up` in the background and waits until it is ready."""
    read_documents(args.folder)
    if running.holder(args.state) is not None:
        raise NearmileError(
            f"a network already runs on {args.state}; have it take up changed documents with `nearmile apply`, or "
            "stop it with `nearmile down`"
        )
    log = args.state / "log" / "agent.log"
    command = [sys.executable, "-m", "nearmile.cli.main", "up", str(args.folder), "--state", str(args.state)]
    started_s = time.monotonic()
    with children.open_log(log) as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    now: running.Status | None = None
    while time.monotonic() - started_s < READY_PATIENCE_S:
        if process.poll() is not None:
            raise NearmileError(f"it ended at once; {log} says:\n{_tail(log) or 'nothing: is its disk full?'}")
        try:
            now = running.read(args.state)
        except NearmileError:  # there is none yet, or what the last run left cannot be read
            now = None
        if now is not None and now.ready and now.agent_pid == process.pid:
            _welcome(args.state, state.read_config(args.state), now, time.monotonic() - started_s, console)
            console.print(f"Stop it with `nearmile down{state_option(args.state)}`.", soft_wrap=True)
            return 0
        time.sleep(POLL_S)
    if now is not None:
        status.show(now, console)
    raise NearmileError(f"it is not ready after {READY_PATIENCE_S:.0f} s, and goes on trying; see {log.parent}")


def geography(_args: argparse.Namespace) -> int:
    """Installs the full address-to-place database for all networks of this user."""
    install_full(installed_folder(), print)
    return 0


def progress(what: str, console: Console) -> Progress:
    """A bar that is gone at its end."""
    columns = TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    return Progress(*columns, console=console, transient=True)


def _ready_count(now: running.Status) -> int:
    return sum(one.state == "ready" for one in now.processes)


def _welcome(root: Path, config: Config, now: running.Status, elapsed_s: float, console: Console) -> None:
    status.show(now, console)
    edge = config.network.edge
    ports = (("http", edge.http_port), ("https", edge.https_port))
    hosts = [site.document.hostnames[0] for site in config.sites[:1]]
    program = sys.argv[0] if sys.argv[0].endswith("nearmile") else "nearmile"
    where = state_option(root)
    console.print(f"ready after {elapsed_s:.1f} s; try\n", highlight=False)
    for words in (
        *(f"fetch {scheme}://{host}:{port}/ --from Tokyo" for host in hosts for scheme, port in ports),
        "report --by country,state,region",
        *(["dns ds"] if config.network.dns.dnssec else []),
        "status",
    ):
        console.print(f"  {program} {words}{where}", highlight=False, soft_wrap=True)
    trusted = state.authority_files(root)[0]
    console.print(f"\nfor https, other programs have to trust {trusted}\n", highlight=False, soft_wrap=True)


def state_option(root: Path) -> str:
    """What a command needs to find the network, as a shell reads it."""
    return "" if root == running.default_root() else f" --state {shlex.quote(str(root))}"


def _tail(path: Path, lines: int = 12) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
