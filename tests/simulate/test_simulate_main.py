"""The command: one run, told to people and to scripts."""

import sys

import pytest

from nearmile.simulate import __main__ as command
from nearmile.simulate import checks
from nearmile.simulate.outages import Outages
from nearmile.simulate.planet import Scale as PlanetScale
from nearmile.simulate.purges import Purges


def test_a_short_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["simulate", "--seed", "3", "--minutes", "0.1"])
    assert command.main() == 0
    said = capsys.readouterr().out
    assert "dead servers named: 0 violations" in said
    assert "trace " in said


def test_the_second_scenario(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["simulate", "--scenario", "purges", "--minutes", "0.2"])
    assert command.main() == 0
    assert "stale after a confirmed purge: 0 violations" in capsys.readouterr().out
    monkeypatch.setattr(Purges, "check", lambda self: checks.Found(["something"], 1))
    assert command.main() == 1


def test_the_third_scenario(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    small = PlanetScale(regions=20, servers=2, units=4000, places=200)
    monkeypatch.setattr(command, "PlanetScale", lambda **_: small)
    monkeypatch.setattr(sys, "argv", ["simulate", "--scenario", "planet", "--tenth", "--minutes", "0.5"])
    assert command.main() == 0
    said = capsys.readouterr().out
    assert "40 servers in 20 regions, 4,000 units" in said
    assert "regions too full: 0 violations" in said


def test_violations_are_an_exit_code(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["simulate", "--minutes", "0"])
    monkeypatch.setattr(Outages, "run", lambda self, for_s, progress: None)
    monkeypatch.setattr(Outages, "checks", lambda self: {"a check": checks.Found(["something"], 1)})
    assert command.main() == 1
    assert "something" in capsys.readouterr().out
