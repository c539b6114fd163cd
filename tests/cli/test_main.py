import argparse

import pytest

from nearmile.cli.fetch import client_address, read_cache_status
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


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("tokyo-1; hit", ("tokyo-1", "hit")),
        ("tokyo-1; hit; ttl=30", ("tokyo-1", "hit")),
        ("tokyo-1; fwd=uri-miss; stored", ("tokyo-1", "miss")),
        ("tokyo-2; hit, tokyo-1; fwd=uri-miss", ("tokyo-1", "miss")),
        ("tokyo-1; fwd=stale; fwd-status=304", ("tokyo-1", "revalidated")),
        ("tokyo-1; fwd=stale; fwd-status=200; stored", ("tokyo-1", "miss")),
        ("tokyo-1; fwd=method", ("tokyo-1", "method")),
        ("", ("", "none")),
    ],
)
def test_cache_status_is_read_as_rfc_9211_says(value: str, expected: tuple[str, str]) -> None:
    assert read_cache_status(value) == expected


@pytest.mark.parametrize("where", ["192.0.2.7", "2001:db8::7"])
def test_an_address_is_itself(where: str) -> None:
    assert client_address(where) == where


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
