import argparse

import pytest

from nearmile.cli.main import parser, seconds


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
    for command in (
        "up",
        "down",
        "check",
        "status",
        "fetch",
        "report",
        "purge",
        "sign",
        "geography",
        "map",
        "map diff",
    ):
        with pytest.raises(SystemExit) as ended:
            parser().parse_args([*command.split(), "--help"])
        assert ended.value.code == 0
        assert "exit codes" in capsys.readouterr().out
