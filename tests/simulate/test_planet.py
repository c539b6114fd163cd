"""The third scenario, small: what must hold of every map holds, and the checks catch planted bugs."""

import pytest

from allocations import uncontracted
from nearmile.fleet import health
from nearmile.fleet.health import State
from nearmile.mapping import allocate, choose, make
from nearmile.mapping.allocate import Capacities
from nearmile.simulate.checks import Found
from nearmile.simulate.planet import Planet, Scale

SMALL = Scale(regions=150, servers=5, units=15_000, places=1500)
TINY = Scale(regions=60, servers=4, units=6000, places=600)


def played(minutes: float, scale: Scale = TINY, seed: int = 1) -> tuple[Planet, dict[str, Found]]:
    planet = Planet(seed, scale)
    planet.run(60 * minutes)
    return planet, planet.checks()


def test_some_minutes_of_a_small_planet() -> None:
    planet, found = played(5, SMALL)
    assert {name: result.violations for name, result in found.items()} == {name: [] for name in found}
    assert planet.judge.placings >= 25
    assert planet.faults > 15
    assert max(planet.judge.mean_ms) > 1.5 * planet.judge.mean_ms[0], "the continent's users went far away"
    assert planet.judge.mean_ms[-1] < 1.2 * planet.judge.mean_ms[0], "and came back"


def test_a_seed_is_a_run() -> None:
    digests = [played(1, seed=seed)[0].clock.digest() for seed in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]


def test_caught_silence_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(health.NEXT, (State.LIVE, health.Signal.SILENT))
    assert played(3)[1]["dead servers named"].violations


def test_caught_nobody_reckons_with_capacities(monkeypatch: pytest.MonkeyPatch) -> None:
    def boundless(capacities: Capacities) -> Capacities:
        return uncontracted(capacities.regions * 10)

    real = make._capacities
    monkeypatch.setattr(make, "_capacities", lambda regions, terms: boundless(real(regions, terms)))
    assert played(1)[1]["regions too full"].violations


def test_caught_users_move_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for side in ("STAY_MS", "KEEP_MS"):
        monkeypatch.setattr(allocate, side, -30.0)
    assert played(1)[1]["moved at once"].violations


def test_caught_the_displaced_displace_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocate, "KEEP_MS", allocate.STAY_MS)
    assert played(5, seed=3)[1]["moved at once"].violations


def test_caught_answers_without_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "_regions", lambda *_: iter(()))
    assert played(0.5)[1]["empty answers"].violations
