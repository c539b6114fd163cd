"""The policy that becomes the best of several: it chooses rightly, is bounded, and does the same again."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from nearmile.cache import trial
from nearmile.cache.entry import Entry
from nearmile.cache.eviction import HIT, Weights
from nearmile.cache.policy import Storable
from nearmile.cache.store import MemoryStore
from nearmile.cache.trial import FOR_BYTES, FOR_OBJECTS, Adaptive

KEPT = Storable(200, 0.0, 1.0, 0, 0, False, False, (), None, None, 0)


class Cache:
    """What a store does with a policy, and the order in which entries left."""

    def __init__(self, capacity_bytes: int, candidates: tuple[Weights, ...], of_bytes: bool = False) -> None:
        self.policy = Adaptive(capacity_bytes, candidates, of_bytes)
        self.capacity_bytes, self.used_bytes = capacity_bytes, 0
        self.inside: dict[int, Entry] = {}
        self.left: list[bytes] = []

    def request(self, name: int, size_bytes: int) -> None:
        found = self.inside.get(name)
        if found is not None:
            self.policy.level += HIT
            found.visited = self.policy.level
            return
        self.inside[name] = entry = Entry(b"%d" % name, b"", KEPT, b"", b"", size_bytes)
        self.policy.insert(entry)
        self.used_bytes += size_bytes
        while self.used_bytes > self.capacity_bytes:
            victim = self.policy.victim()
            assert self.inside.pop(int(victim.key)) is victim
            self.policy.remove(victim)
            self.used_bytes -= victim.size_bytes
            self.left.append(victim.key)


def steady(seed: int) -> Cache:
    """Some are asked for always, many once: only counts tell them apart."""
    random, cache = Random(seed), Cache(1000, (Weights(0, 0, 0), Weights(0, 4, 30)))
    for number in range(60_000):
        cache.request(random.randrange(1500) if random.random() < 0.6 else 10_000 + number, 1)
    return cache


def test_it_becomes_the_better_one() -> None:
    assert steady(1).policy.weights == Weights(0, 4, 30)


def test_it_comes_back_when_the_last_hit_tells_more() -> None:
    cache = steady(2)
    for number in range(60_000):
        cache.request(100_000 + number // 2, 1)
        cache.request(100_000 + number // 2 - 900, 1)
    assert cache.policy.weights == Weights(0, 0, 0)


def test_the_same_requests_have_the_same_end() -> None:
    assert steady(3).left == steady(3).left


def test_no_more_are_watched_than_allowed() -> None:
    cache = Cache(10**9, FOR_OBJECTS)
    for name in range(trial.WATCHED_MIN << 7):
        cache.request(name, 1)
    assert len(cache.policy._watched) <= trial.WATCHED_MAX
    assert len(cache.policy._watched) >= len(cache.inside) * trial.SAMPLED_SHARE / 4
    assert all(len(each._inside) <= 2 * trial.WATCHED_MAX for each in cache.policy._trials)


def test_few_are_watched_where_few_are_stored() -> None:
    cache = Cache(2000, FOR_OBJECTS)
    for name in range(20_000):
        cache.request(name, 1)
    assert trial.WATCHED_MIN / 4 <= len(cache.policy._watched) <= trial.WATCHED_MIN


def test_a_sample_for_bytes_stands_for_all_of_them() -> None:
    """Large objects are all in it, and what is drawn of the small ones takes as much room as all of them."""
    cache = Cache(10**7, FOR_BYTES, of_bytes=True)
    for name in range(20_000):
        cache.request(name, 20_000 if name % 200 == 0 else 300)
    grain_bytes, watched = cache.policy._grain_bytes, cache.policy._watched.values()
    large = [entry for entry in watched if entry.size_bytes == 20_000]
    assert len(large) == sum(entry.size_bytes == 20_000 for entry in cache.inside.values())
    drawn_bytes = (len(watched) - len(large)) * grain_bytes
    true_bytes = sum(entry.size_bytes == 300 for entry in cache.inside.values()) * 300
    assert 0.8 < drawn_bytes / true_bytes < 1.2
    assert all(len(each._inside) <= trial.GRAINS for each in cache.policy._trials)


@settings(max_examples=20)
@given(st.integers(0, 2**32), st.integers(1, 5000), st.booleans())
def test_trials_stay_within_their_share(seed: int, capacity_bytes: int, of_bytes: bool) -> None:
    random, cache = Random(seed), Cache(capacity_bytes, FOR_BYTES if of_bytes else FOR_OBJECTS, of_bytes)
    for _ in range(2000):
        name = int(random.paretovariate(0.5)) % 10_000
        cache.request(name, 1 + name * 7919 % 200)
    share_bytes, grain_bytes = capacity_bytes >> cache.policy._shift, cache.policy._grain_bytes
    for each in cache.policy._trials:
        taken_bytes = sum(max(sample.size_bytes, grain_bytes) for sample in each._inside.values())
        assert taken_bytes == each._used_bytes <= share_bytes


def test_a_store_keeps_small_objects_rather_than_a_large_one() -> None:
    store = MemoryStore(100_000)
    for number in range(50):
        assert store.put(b"%d" % number, (), KEPT, b"", b"x" * 1000, 0) is not None
    assert store.put(b"large", (), KEPT, b"", b"x" * 60_000, 0) is None
    assert store.get(b"large", ()) is None and len(store) == 50
    assert store.used_bytes <= store.capacity_bytes
