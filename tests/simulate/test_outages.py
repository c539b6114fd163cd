"""The first scenario: what must hold holds, the checks catch planted bugs, and a seed is one run, to the byte."""

import subprocess
import sys
from typing import Any

import pytest
from msgspec.structs import replace

from nearmile.fleet import health, lease
from nearmile.fleet.health import State
from nearmile.mapping import controller
from nearmile.simulate import checks
from nearmile.simulate.checks import Found
from nearmile.simulate.outages import Outages, Scale

# A small fleet with the default times of the network document, under many more faults per server.
SMALL = Scale(
    regions=10,
    servers=20,
    beat_s=0.25,
    dead_after_s=1.25,
    ask_s=0.25,
    fault_every_s=3.0,
    control_fault_every_s=90.0,
    fault_lasts_s=10.0,
)
PROGRAM = """
from nearmile.simulate.outages import Outages, Scale
run = Outages(5, Scale(regions=10, servers=20, nameservers=2))
run.run(30)
print(run.world.clock.digest())
"""


def played(seed: int, minutes: float, scale: Scale = SMALL) -> tuple[Outages, dict[str, Found]]:
    run = Outages(seed, scale)
    run.run(60 * minutes)
    return run, run.checks()


@pytest.mark.parametrize("seed", range(1, 3))
def test_a_small_fleet_in_real_times(seed: int) -> None:
    run, found = played(seed, 3)
    assert {name: result.violations for name, result in found.items()} == {name: [] for name in found}
    # The checks saw something: most of the time was undisturbed.
    assert found["dead servers named"].checked > 500
    assert found["live servers abandoned"].checked > 100
    assert run.faults > 30


def test_the_whole_fleet() -> None:
    _, found = played(7, 1, Scale())
    assert {name: result.violations for name, result in found.items()} == {name: [] for name in found}


def test_the_same_seed_is_the_same_run_in_every_process() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1234")
    }
    assert len(digests) == 1
    assert len(digests.pop().strip()) == 32


def test_another_seed_is_another_run() -> None:
    scale = Scale(regions=10, servers=20, nameservers=2)
    digests = set()
    for seed in (1, 2):
        run = Outages(seed, scale)
        run.run(10)
        digests.add(run.world.clock.digest())
    assert len(digests) == 2


def test_caught_nobody_ever_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    for state in (State.LIVE, State.SUSPECT):
        for signal in (health.Signal.SILENT, health.Signal.EXITED):
            monkeypatch.delitem(health.NEXT, (state, signal))
    _, found = played(1, 2)
    assert found["dead servers named"].violations


def test_caught_exits_are_believed_but_silence_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(health.NEXT, (State.LIVE, health.Signal.SILENT))
    _, found = played(1, 2)
    assert found["dead servers named"].violations


def test_caught_who_is_held_is_never_released(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(health.NEXT, (State.HELD, health.Signal.RELEASED))
    _, found = played(1, 3)
    assert found["live servers abandoned"].violations
    assert found["servers missing in the end"].violations


def test_caught_two_leaders_of_one_term(monkeypatch: pytest.MonkeyPatch) -> None:
    real = lease.Election._won

    def won(self: lease.Election, put: Any, revision: int, now_s: float) -> None:
        real(self, put, revision, now_s)
        self._term = 1

    monkeypatch.setattr(lease.Election, "_won", won)
    _, found = played(2, 2, replace(SMALL, servers=10, control_fault_every_s=8.0))
    assert found["terms with two writers"].violations


def test_caught_a_leader_that_publishes_late(monkeypatch: pytest.MonkeyPatch) -> None:
    bound_s = checks.detection_s(SMALL.dead_after_s, SMALL.beat_s)
    monkeypatch.setattr(controller, "COALESCE_S", 8.0)
    run, _ = played(1, 2)
    assert checks.named_while_dead(run.history, bound_s, checks.takeover_s()).violations
