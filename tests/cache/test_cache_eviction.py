"""S3-FIFO: who stays, who goes."""

from hypothesis import given
from hypothesis import strategies as st

from nearmile.cache.entry import Entry
from nearmile.cache.eviction import GHOSTS_MIN, S3Fifo
from nearmile.cache.policy import Storable

KEPT = Storable(200, 0.0, 1.0, 0, 0, False, False, (), None, None, 0)


def entry(name: int, size_bytes: int = 1) -> Entry:
    return Entry(b"%d" % name, b"", KEPT, b"", b"", size_bytes)


def filled(count: int) -> tuple[S3Fifo, list[Entry]]:
    policy, entries = S3Fifo(), [entry(name) for name in range(count)]
    for each in entries:
        policy.insert(each)
    return policy, entries


def evict(policy: S3Fifo) -> Entry:
    victim = policy.victim()
    policy.remove(victim)
    return victim


def test_newcomers_leave_in_order_unless_hit() -> None:
    policy, entries = filled(4)
    entries[1].visited = True
    assert [evict(policy) for _ in range(3)] == [entries[0], entries[2], entries[3]]
    assert evict(policy) is entries[1]


def test_a_ghost_returns_to_the_main_queue() -> None:
    policy, entries = filled(20)
    evict(policy)
    back = entry(0)
    policy.insert(back)
    assert back.settled
    assert [evict(policy) for _ in range(17)] == entries[1:18]


def test_a_hit_in_the_main_queue_is_another_round() -> None:
    policy, entries = filled(2)
    for each in entries:
        each.visited = True
    first = policy.victim()
    assert first is entries[0] and first.settled
    first.visited = True
    assert evict(policy) is entries[1]
    assert evict(policy) is entries[0]


def test_what_was_purged_is_no_ghost() -> None:
    policy, entries = filled(2)
    policy.remove(entries[0])
    again = entry(0)
    policy.insert(again)
    assert not again.settled


def test_ghosts_are_bounded() -> None:
    policy, _ = filled(GHOSTS_MIN + 50)
    for _ in range(GHOSTS_MIN + 50):
        evict(policy)
    forgotten, remembered = entry(0), entry(GHOSTS_MIN + 49)
    policy.insert(forgotten)
    policy.insert(remembered)
    assert (forgotten.settled, remembered.settled) == (False, True)


@given(st.lists(st.tuples(st.sampled_from(["insert", "evict", "hit", "remove"]), st.integers(0, 8)), max_size=80))
def test_every_entry_is_evicted_once(steps: list[tuple[str, int]]) -> None:
    policy, inside = S3Fifo(), dict[int, Entry]()
    for step, name in steps:
        if step == "insert" and name not in inside:
            inside[name] = entry(name, name + 1)
            policy.insert(inside[name])
        elif step == "hit" and name in inside:
            inside[name].visited = True
        elif step == "remove" and name in inside:
            policy.remove(inside.pop(name))
        elif step == "evict" and inside:
            victim = evict(policy)
            assert inside.pop(int(victim.key)) is victim
    while inside:
        assert inside.pop(int(evict(policy).key))
