"""``nearmile report``: hits and bytes, by whatever one asks."""

import argparse
from typing import Any

import msgspec
import uvloop

from nearmile.base.errors import WrongInput
from nearmile.cli import status
from nearmile.cli.spans import seconds
from nearmile.services import running, state
from nearmile.services.bus import REPORT_SUBJECT, Bus

ANSWER_PATIENCE_S = 10.0
DEFAULT_WINDOW_S = 60


def report_arguments(sub: argparse.ArgumentParser) -> None:
    """Of the subcommand."""
    spans = "60s, 5m, 2h, 1d or all (default 60s)"
    sub.add_argument("--last", type=seconds, default=DEFAULT_WINDOW_S, metavar="SPAN", help=spans)
    keys = "comma-separated: site, region, server, country, state, status, cache (default %(default)s)"
    sub.add_argument("--by", default="site,region", metavar="KEYS", help=keys)


def report(args: argparse.Namespace) -> int:
    """Prints the rows, most hits first."""
    running.read(args.state)
    by = [key.strip() for key in args.by.split(",") if key.strip()]
    answer = uvloop.run(_ask(args, by))
    if "error" in answer:
        raise WrongInput(answer["error"])
    if args.json:
        print(msgspec.json.encode(answer).decode())
    else:
        _show(answer, by)
    return 0


async def _ask(args: argparse.Namespace, by: list[str]) -> dict[str, Any]:
    config = state.read_config(args.state)
    bus = Bus.of(args.state, config, "report")
    async with bus.opened():
        question = msgspec.json.encode({"last_s": args.last, "by": by})
        answer: dict[str, Any] = msgspec.json.decode(
            await bus.request(REPORT_SUBJECT, question, ANSWER_PATIENCE_S)
        )
        return answer


def _show(answer: dict[str, Any], by: list[str]) -> None:
    out = status.console()
    table = status.table(by, ("hits", "bytes"))
    for row in answer["rows"]:
        table.add_row(*(str(row[key]) or "-" for key in by), f"{row['hits']:,}", f"{row['bytes']:,}")
    if answer["rows"]:
        out.print(table)
    window = f"the last {answer['window_s']} s" if answer["window_s"] else "all that is kept"
    hits = sum(row["hits"] for row in answer["rows"]) + answer.get("omitted_hits", 0)
    out.print(f"{hits:,} hits in {window}")
    if answer.get("omitted_rows"):
        out.print(f"{answer['omitted_rows']:,} rows with {answer['omitted_hits']:,} hits are not shown")
    if answer.get("lost"):
        out.print(f"[red]{answer['lost']:,} hits were lost: an edge's disk was full[/red]")
    for server, segments in answer.get("missing", {}).items():
        out.print(f"[yellow]{server}: {segments} segments have not arrived yet[/yellow]")
