"""The table of `nearmile status` in terminals and files."""

import io
import os

import pytest
from rich.console import Console

from nearmile.cli.status import show
from nearmile.services.running import ProcessStatus, Status

EDGE = ProcessStatus(
    name="san-jose-1",
    role="edge",
    region="san-jose",
    city="San Jose, US",
    address="127.20.4.1:8080",
    pid=70123,
    state="ready",
)
NOW = Status(
    ready=True, network="n", agent_pid=1, at_s=0, bus=True, config_version=1, map_version=5, processes=[EDGE]
)


def shown(monkeypatch: pytest.MonkeyPatch, columns: int, terminal: bool) -> str:
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((columns, 24)))
    out = io.StringIO()
    show(NOW, Console(file=out, width=160, force_terminal=terminal, color_system=None))
    return out.getvalue()


@pytest.mark.parametrize(
    ("columns", "terminal", "whole"), [(80, True, False), (120, True, True), (80, False, True)]
)
def test_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch, columns: int, terminal: bool, whole: bool) -> None:
    text = shown(monkeypatch, columns, terminal)
    assert all(word in text for word in ("san-jose-1", "127.20.4.1:8080", "ready", "70123", "restarts"))
    assert ("San Jose, US" in text) == whole
    assert whole or all(len(line.rstrip()) <= columns for line in text.splitlines())
