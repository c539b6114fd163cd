"""The second scenario: nothing stale after a confirmed purge, and the check catches planted bugs."""

from collections.abc import Callable

import pytest

from nearmile.cache.purge import Position
from nearmile.cache.store import MemoryStore
from nearmile.edge.follower import Command, Follower
from nearmile.simulate.purges import Purges, Scale


def played(seed: int, for_s: float = 60.0, scale: Scale = Scale()) -> Purges:  # noqa: B008 (frozen)
    run = Purges(seed, scale)
    run.run(for_s)
    return run


@pytest.mark.parametrize("seed", range(1, 5))
def test_nothing_stale_after_a_confirmed_purge(seed: int) -> None:
    run = played(seed)
    found = run.check()
    assert found.violations == []
    # There was something to be seen: requests, and purges that were confirmed in spite of everything.
    assert found.checked > 8000 and len(run.confirmed) > 100


def test_in_a_calm_world_every_order_is_confirmed() -> None:
    run = played(1, 30.0, Scale(loss=0.0, fault_every_s=1e9))
    assert run.check().violations == []
    assert sum(not one.over for one in run._waiting) <= 3 and run.orders > 30
    assert len({one.at_s for one in run.confirmed}) >= run.orders - 3


def test_the_same_seed_is_the_same_run() -> None:
    assert played(5, 10.0).world.clock.digest() == played(5, 10.0).world.clock.digest()
    assert played(5, 10.0).world.clock.digest() != played(6, 10.0).world.clock.digest()


def everything_is_believed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("nearmile.simulate.caches.believed", lambda said, mine: True)


def fills_are_not_refused(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(MemoryStore, "purged_since", lambda self, key, generation, tags: False)


def fills_are_joined(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("nearmile.simulate.caches.may_concern", lambda mark, key: False)


def marks_are_not_looked_at(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(MemoryStore, "_still_good", lambda self, entry: True)


def what_was_missed_is_left_out(patch: pytest.MonkeyPatch) -> None:
    def looked(self: Follower, log: str, first: int, last: int) -> list[Command]:
        self._sure, self._target, self._fetching = True, last, 0
        self.position = Position(log, last)
        return []

    patch.setattr(Follower, "looked", looked)


@pytest.mark.parametrize(
    "plant",
    [
        everything_is_believed,
        fills_are_not_refused,
        fills_are_joined,
        marks_are_not_looked_at,
        what_was_missed_is_left_out,
    ],
)
def test_a_planted_bug_is_caught(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    assert any(played(seed).check().violations for seed in range(1, 7))
