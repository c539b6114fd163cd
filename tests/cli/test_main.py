import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nearmile.cli.main import COMMANDS, Group, parser
from nearmile.cli.spans import seconds


@pytest.mark.parametrize(
    ("text", "expected"), [("60", 60), ("60s", 60), ("5m", 300), ("2h", 7200), ("1d", 86400), ("all", 0)]
)
def test_spans(text: str, expected: int) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "s", "-5s", "1.5h", "soon", "5w"])
def test_spans_that_are_none(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        seconds(text)


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for name, command in COMMANDS.items():
        subs = [[sub] for sub in command.commands] if isinstance(command, Group) else []
        for words in ([name], *([name, *sub] for sub in subs)):
            with pytest.raises(SystemExit) as ended:
                parser().parse_args([*words, "--help"])
            assert ended.value.code == 0
            assert "exit codes" in capsys.readouterr().out


HEAVY = {"cryptography", "dns", "duckdb", "nats", "numpy", "rich", "uvloop"}


@pytest.mark.parametrize(
    ("words", "may_import"),
    [
        (["--help"], set()),
        (["map", "--help"], set()),
        (["status", "--json"], set()),
        (["down"], set()),
        (["sign", "http://a.test/", "--expires", "1h"], set()),
        (["dns", "ds"], {"cryptography"}),
        (["purge", "http://a.test/"], {"nats", "uvloop"}),
        (["report", "--json"], {"nats", "uvloop"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_command_imports_what_it_needs(words: list[str], may_import: set[str], tmp_path: Path) -> None:
    """All together they would cost each of them half a second."""
    program = "import sys, atexit; atexit.register(lambda: print(*sys.modules, file=sys.stderr)); "
    program += "from nearmile.cli.main import main; main(sys.argv[1:])"
    where = {**os.environ, "NEARMILE_STATE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program, *words], env=where, capture_output=True, text=True)
    assert set(done.stderr.split()) & HEAVY <= may_import, done.stderr[:200]
