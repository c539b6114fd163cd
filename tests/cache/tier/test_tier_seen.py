"""What was seen lately is remembered, what was never seen hardly ever, what was seen long ago is not."""

from random import Random

from nearmile.cache.tier.seen import Seen


def test_the_last_names_are_remembered() -> None:
    chance, seen = Random(1), Seen(2_000_000, 10_000)
    names = [chance.getrandbits(60) for _ in range(10_000)]
    for number, name in enumerate(names):
        seen.add(name, 2000)
        assert name in seen
        assert names[max(0, number - 999)] in seen
    others = [chance.getrandbits(60) for _ in range(10_000)]
    assert sum(name in seen for name in others) < 200
    assert sum(name in seen for name in names[:8000]) < 160
