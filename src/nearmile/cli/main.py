"""The ``nearmile`` command: reads the arguments, calls the rooms, shows what they say.

What a subcommand needs is imported when it is chosen: all together they would cost each half a second.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from nearmile.base.errors import NearmileError

EXIT_CODES = """exit codes:
  0  it worked
  1  it did not (the fetch failed, not every server confirmed the purge, the network is not ready...)
  2  the arguments or the documents are wrong
  3  no network runs on this state folder"""
APPLY_TEXT = "Have the network that runs take up changed documents; returns when all its processes have."
PURGE_TEXT = "Remove what is cached from every server; returns when all that run have confirmed."
DRAIN_TEXT = "Take regions or servers out of all answers, though they run on; without names: show who is out."
DS_TEXT = "Print the DS records that the parents of the network's signed zones have to publish."
ROLL_TEXT = """Change the keys of all zones, or of one, in three steps; after each, publish at the parents what
`nearmile dns ds` prints. `begin` adds new keys: then wait for the TTLs of the old DS records. `switch` signs by
the new keys, `end` drops the old ones. Before each, dns.top_ttl_s must have gone by since the last step, so that
resolvers know the keys that they will need."""


class Command(NamedTuple):
    """A subcommand: in a module of this room the function of its name, and ``NAME_arguments``, if it takes any."""

    module: str
    text: str
    on_state: bool = True
    """Whether it is about a network on this machine."""
    json: bool = False
    """Whether programs may want its answer."""


class Group(NamedTuple):
    """A subcommand that has subcommands."""

    text: str
    commands: Mapping[str, Command]


COMMANDS: Mapping[str, Command | Group] = {
    "up": Command("run", "Run the whole network of a folder of documents on this machine."),
    "apply": Command("apply", APPLY_TEXT, json=True),
    "down": Command("down", "Stop the network that runs on a state folder."),
    "check": Command("run", "Check documents: all errors at once, nothing is started.", on_state=False),
    "status": Command("status", "Show what runs, how it is, and its load.", json=True),
    "fetch": Command("fetch", "Fetch a URL as a user somewhere would, showing every step.", json=True),
    "report": Command("report", "Show who was served what, up to a few seconds ago.", json=True),
    "purge": Command("purge", PURGE_TEXT, json=True),
    "sign": Command("sign", "Sign a URL, so that a site that asks for it serves it until it expires."),
    "drain": Command("drain", DRAIN_TEXT, json=True),
    "map": Group(
        "Explain the map: why a user is sent where, and what changed.",
        {
            "explain": Command("maps", "Show who serves a user, and why.", json=True),
            "diff": Command("maps", "Show what changed from one map to another.", json=True),
        },
    ),
    "dns": Group(
        "DNSSEC: what parents of zones have to publish, and changing keys.",
        {"ds": Command("names", DS_TEXT, json=True), "roll": Command("names", ROLL_TEXT)},
    ),
    "geography": Command("run", "Install the full address-to-place database (60 MB, by npm).", on_state=False),
}


class Parser(argparse.ArgumentParser):
    """One that learns its arguments when it is chosen."""

    learn: Callable[[], None] | None = None

    def parse_known_args(self, *args: Any, **kwargs: Any) -> Any:
        """Of argparse, which calls it for the chosen subcommand alone."""
        if self.learn is not None:
            self.learn()
        return super().parse_known_args(*args, **kwargs)


def parser() -> Parser:
    """All subcommands."""
    top = Parser(prog="nearmile", description="A content delivery network: run it, look at it, use it.")
    _add(top, COMMANDS)
    return top


def _add(to: Parser, commands: Mapping[str, Command | Group]) -> None:
    to.epilog, to.formatter_class = EXIT_CODES, argparse.RawDescriptionHelpFormatter
    under = to.add_subparsers(metavar="COMMAND", required=True)
    for name, command in commands.items():
        sub = under.add_parser(name, help=command.text, description=command.text)
        if isinstance(command, Group):
            _add(sub, command.commands)
        else:
            sub.epilog, sub.formatter_class = EXIT_CODES, argparse.RawDescriptionHelpFormatter
            sub.learn = partial(_learn, sub, name, command)


def _learn(sub: Parser, name: str, command: Command) -> None:
    module = import_module(f"nearmile.cli.{command.module}")
    sub.set_defaults(action=getattr(module, name))
    if command.on_state:
        from nearmile.services.running import default_root

        where = "where the network keeps its state (default: $NEARMILE_STATE, else %(default)s)"
        sub.add_argument("--state", type=Path, default=default_root(), metavar="DIR", help=where)
    if command.json:
        sub.add_argument("--json", action="store_true", help="print JSON for programs")
    getattr(module, f"{name}_arguments", lambda _: None)(sub)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command and exits with its code."""
    args = parser().parse_args(arguments)
    try:
        code: int = args.action(args)
    except NearmileError as error:
        print(f"nearmile: {error}", file=sys.stderr)
        code = getattr(error, "exit_code", 1)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone: nothing to say, and nobody to say it to
        code = 1
    except OSError as error:
        # Of a file or folder of this machine: what servers and the bus say is read where they are.
        name = f"{error.filename}: " if error.filename is not None else ""
        print(f"nearmile: {name}{error.strerror or error}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    main()
