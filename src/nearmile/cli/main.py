"""The ``nearmile`` command: reads the arguments, calls the rooms, shows what they say."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from nearmile.base.errors import NearmileError
from nearmile.cli import drain, fetch, maps, names, purge, report, run, sign, status
from nearmile.services.state import default_root

EXIT_CODES = """exit codes:
  0  it worked
  1  it did not (the fetch failed, not every server confirmed the purge, the network is not ready...)
  2  the arguments or the documents are wrong
  3  no network runs on this state folder"""
FOLDER = "folder with network.toml and sites/*.toml"
DEFAULT_WINDOW_S = 60


def seconds(text: str) -> int:
    """`60`, `60s`, `5m`, `2h` or `1d` in seconds; `all` is 0, everything kept."""
    if text == "all":
        return 0
    scale = {"s": 1, "m": 60, "h": 3600, "d": 86400}.get(text[-1:], 0)
    digits = text[:-1] if scale else text
    if not digits.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a time span: write 60s, 5m, 2h, 1d or all")
    return int(digits) * (scale or 1)


Action = Callable[[argparse.Namespace], int]


class Grammar:
    """The command's grammar; each subcommand has help, the exit codes, and the state folder it works on."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser
        parser.epilog = EXIT_CODES
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        self._commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def group(self, name: str, text: str) -> "Grammar":
        """A subcommand that has subcommands."""
        return Grammar(self._commands.add_parser(name, help=text, description=text))

    def command(self, name: str, action: Action, text: str) -> argparse.ArgumentParser:
        """A subcommand without arguments yet."""
        sub = self._commands.add_parser(name, help=text, description=text, epilog=EXIT_CODES)
        sub.formatter_class = argparse.RawDescriptionHelpFormatter
        sub.set_defaults(action=action)
        return sub

    def on_state(self, name: str, action: Action, text: str) -> argparse.ArgumentParser:
        """A subcommand about a network on this machine."""
        sub = self.command(name, action, text)
        where = "where the network keeps its state (default: $NEARMILE_STATE, else %(default)s)"
        sub.add_argument("--state", type=Path, default=default_root(), metavar="DIR", help=where)
        return sub

    def question(self, name: str, action: Action, text: str) -> argparse.ArgumentParser:
        """A subcommand whose answer programs may want."""
        sub = self.on_state(name, action, text)
        sub.add_argument("--json", action="store_true", help="print JSON for programs")
        return sub


def parser() -> argparse.ArgumentParser:
    """All subcommands."""
    about = "A content delivery network: run it, look at it, use it."
    grammar = Grammar(argparse.ArgumentParser(prog="nearmile", description=about))

    up = grammar.on_state("up", run.up, "Run the whole network of a folder of documents on this machine.")
    up.add_argument("folder", type=Path, metavar="DIR", help=FOLDER)
    up.add_argument("--detach", action="store_true", help="return when it is ready; stop it with `nearmile down`")
    grammar.on_state("down", run.down, "Stop the network that runs on a state folder.")
    check = grammar.command("check", run.check, "Check documents: all errors at once, nothing is started.")
    check.add_argument("folder", type=Path, metavar="DIR", help=FOLDER)
    grammar.question("status", status.status, "Show what runs, how it is, and its load.")

    sub = grammar.question("fetch", fetch.fetch, "Fetch a URL as a user somewhere would, showing every step.")
    sub.add_argument("url", metavar="URL", help="http://HOST[:PORT]/PATH; the port defaults to the network's own")
    sub.add_argument(
        "--from", dest="where", metavar="CITY|ADDRESS", help="where the user is: a city, or an address"
    )
    sub.add_argument("--output", type=Path, metavar="FILE", help="keep the body in a file")

    sub = grammar.question("report", report.report, "Show who was served what, up to a few seconds ago.")
    spans = "60s, 5m, 2h, 1d or all (default 60s)"
    sub.add_argument("--last", type=seconds, default=DEFAULT_WINDOW_S, metavar="SPAN", help=spans)
    keys = "comma-separated: site, region, server, country, state, status, cache (default %(default)s)"
    sub.add_argument("--by", default="site,region", metavar="KEYS", help=keys)

    purge.arguments(grammar.question("purge", purge.purge, purge.TEXT))
    sub = grammar.on_state("sign", sign.sign, sign.TEXT)
    sign.arguments(sub)
    sub.add_argument("--expires", type=seconds, required=True, metavar="SPAN", help="from now on: 10m, 2h, 1d")
    drain.arguments(grammar.question("drain", drain.drain, drain.TEXT))
    group = grammar.group("map", "Explain the map: why a user is sent where, and what changed.")
    maps.explain_arguments(group.question("explain", maps.explain, "Show who serves a user, and why."))
    maps.diff_arguments(group.question("diff", maps.diff, "Show what changed from one map to another."))
    group = grammar.group("dns", "DNSSEC: what parents of zones have to publish, and changing keys.")
    names.ds_arguments(group.question("ds", names.ds, names.DS_TEXT))
    names.roll_arguments(group.on_state("roll", names.roll, names.ROLL_TEXT))
    grammar.command("geography", run.geography, "Install the full address-to-place database (64 MB, by npm).")
    return grammar.parser


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
