"""GreedyDual: who stays, who goes; and what is remembered of who went."""

from hypothesis import given
from hypothesis import strategies as st

from nearmile.cache.entry import Entry
from nearmile.cache.eviction import COUNT_MAX, HIT, Counts, GreedyDual, Weights, name_of
from nearmile.cache.policy import Storable

KEPT = Storable(200, 0.0, 1.0, 0, 0, False, False, (), None, None, 0)
CAPACITY_BYTES = 100
LRU, GDSF, REMEMBERS = Weights(0, 0, 0), Weights(1, 1, 0), Weights(0, 2, 10)


def entry(name: int, size_bytes: int = 1) -> Entry:
    return Entry(b"%d" % name, b"", KEPT, b"", b"", size_bytes)


def filled(weights: Weights, *sizes_bytes: int) -> tuple[GreedyDual[Entry], list[Entry]]:
    policy: GreedyDual[Entry] = GreedyDual(CAPACITY_BYTES, weights)
    entries = [entry(name, size_bytes) for name, size_bytes in enumerate(sizes_bytes)]
    for each in entries:
        policy.insert(each, name_of(each), each.size_bytes)
    return policy, entries


def evict(policy: GreedyDual[Entry]) -> Entry:
    victim = policy.victim()
    policy.remove(victim, name_of(victim))
    return victim


def test_without_weights_the_least_recently_used_leaves() -> None:
    policy, entries = filled(LRU, 1, 1, 1)
    entries[0].visited = policy.level
    last = entry(3)
    policy.insert(last, name_of(last), last.size_bytes)
    assert [evict(policy) for _ in range(4)] == [entries[1], entries[2], entries[0], last]


@given(st.lists(st.integers(0, 12), max_size=200))
def test_without_weights_the_order_is_exactly_that_of_the_last_requests(names: list[int]) -> None:
    policy: GreedyDual[Entry] = GreedyDual(5, LRU)
    inside: dict[int, Entry] = {}
    for name in names:
        if name in inside:
            policy.level += HIT
            inside[name].visited = policy.level
            inside[name] = inside.pop(name)
            continue
        inside[name] = entry(name)
        policy.insert(inside[name], name, 1)
        if len(inside) > 5:
            assert evict(policy) is inside.pop(next(iter(inside)))


def test_large_objects_leave_before_small_ones() -> None:
    policy, entries = filled(GDSF, 10, 50, 20)
    assert [evict(policy) for _ in range(3)] == [entries[1], entries[2], entries[0]]


def test_a_hit_makes_up_for_size() -> None:
    policy, entries = filled(GDSF, 50, 40)
    entries[0].visited = policy.level
    assert evict(policy) is entries[1] and entries[0].count == 2


def test_a_newcomer_may_be_the_victim_and_ages_nobody() -> None:
    policy, entries = filled(GDSF, 1, 1, 90)
    level = policy.level
    assert evict(policy) is entries[2] and policy.level == level


def test_counts_outlive_eviction() -> None:
    policy, entries = filled(REMEMBERS, 1, 1, 1)
    entries[0].visited = policy.level
    policy.remove(entries[0], name_of(entries[0]))
    back = entry(0)
    policy.insert(back, name_of(back), back.size_bytes)
    assert back.count == 2


def test_a_successor_has_the_count_of_its_predecessor() -> None:
    policy, _ = filled(GDSF, 1)
    successor = entry(1)
    successor.count = 5
    policy.insert(successor, name_of(successor), successor.size_bytes)
    assert successor.count == 6


def test_new_weights_keep_the_order_of_equals() -> None:
    policy, entries = filled(LRU, 3, 2, 1)
    policy.reweigh(Weights(0, 1, 0))
    entries[0].visited = policy.level
    assert [evict(policy) for _ in range(3)] == [entries[1], entries[2], entries[0]]


@given(
    st.sampled_from([LRU, GDSF, REMEMBERS, Weights(0.5, 0.5, 0)]),
    st.lists(
        st.tuples(st.sampled_from(["insert", "evict", "hit", "remove", "reweigh"]), st.integers(0, 8)), max_size=80
    ),
)
def test_every_entry_is_evicted_once(weights: Weights, steps: list[tuple[str, int]]) -> None:
    policy, inside = filled(weights)[0], dict[int, Entry]()
    for step, name in steps:
        level = policy.level
        if step == "insert" and name not in inside:
            inside[name] = entry(name, name + 1)
            policy.insert(inside[name], name, inside[name].size_bytes)
        elif step == "hit" and name in inside:
            inside[name].visited = policy.level
        elif step == "remove" and name in inside:
            policy.remove(inside.pop(name), name)
        elif step == "reweigh":
            policy.reweigh(GDSF)
        elif step == "evict" and inside:
            victim = evict(policy)
            assert inside.pop(int(victim.key)) is victim
        assert policy.level >= level
    while inside:
        assert inside.pop(int(evict(policy).key))


@given(st.dictionaries(st.integers(0, 2**64 - 1), st.integers(0, 2 * COUNT_MAX), max_size=50), st.integers(1, 200))
def test_counts_are_never_too_low_and_bounded(told: dict[int, int], entries: int) -> None:
    counts = Counts()
    for name, count in told.items():
        counts.raise_to(name, count)
    counts.fit(entries)
    assert all(min(count, COUNT_MAX) <= counts.get(name) <= COUNT_MAX for name, count in told.items())
    counts.halve()
    assert all(counts.get(name) <= COUNT_MAX / 2 for name in told)
