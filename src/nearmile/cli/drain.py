"""``nearmile drain``: regions and servers leave all answers while they run on, until they are told to return."""

import argparse

import msgspec
import uvloop

from nearmile.base.errors import WrongInput
from nearmile.config.layout import Config
from nearmile.services import running, state
from nearmile.services.bus import KV_CONFIG, KV_DRAINED, Bus


def drain_arguments(sub: argparse.ArgumentParser) -> None:
    """Of the subcommand."""
    sub.add_argument("names", nargs="*", metavar="REGION|SERVER", help="such as tokyo or tokyo-1")
    sub.add_argument("--undo", action="store_true", help="these may be in the answers again")


def drain(args: argparse.Namespace) -> int:
    """Prints who is out now. It stays so, whoever restarts, until it is undone."""
    running.read(args.state)
    config = state.read_config(args.state)
    out = sorted(uvloop.run(_change(args, config)))
    if args.json:
        print(msgspec.json.encode({"drained": out}).decode())
    else:
        print(f"out of the answers: {', '.join(out)}" if out else "nobody is out of the answers")
    return 0


def after(config: Config, before: frozenset[str], names: frozenset[str], undo: bool) -> frozenset[str]:
    """Who is out then; WrongInput for a name of nobody. Who is out may return, also when no document has it."""
    known = {*config.network.regions, *(process.name for process in config.of_role("edge"))}
    unknown = names - known - (before if undo else frozenset())
    if unknown:
        raise WrongInput(f"no region or server is called {', '.join(sorted(unknown))}; see `nearmile status`")
    return before - names if undo else before | names


async def _change(args: argparse.Namespace, config: Config) -> frozenset[str]:
    bus = Bus.of(args.state, config, "drain")
    async with bus.opened():
        revision, value = await bus.get(KV_CONFIG, KV_DRAINED) or (0, b"[]")
        before = msgspec.json.decode(value, type=frozenset[str])
        out = after(config, before, frozenset(args.names), args.undo)
        if out != before:
            await bus.put(KV_CONFIG, KV_DRAINED, msgspec.json.encode(sorted(out)), revision)
        return out
