"""Nobody loses for another what is within its part; a site alone has it all."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from nearmile.cache.entry import response_head
from nearmile.cache.key import object_key
from nearmile.cache.policy import Storable
from nearmile.cache.shares import WEIGHT_MAX, Shares, Table
from nearmile.cache.store import OBJECT_OVERHEAD_BYTES, MemoryStore

KEPT = Storable(200, 0.0, 60.0, 0, 0, False, False, (), None, None, 0)
HEAD = response_head(200, (), 0)
CAPACITY_BYTES = 200_000
GOOD, OTHERS = 1, (2, 3, 4)

sites = st.integers(1, 6)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(sites, st.integers(-300, 1_000)), min_size=1, max_size=40),
    st.dictionaries(sites, st.integers(1, WEIGHT_MAX), max_size=6),
)
def test_who_pays_is_never_within_its_part(changes: list[tuple[int, int]], weights: dict[int, int]) -> None:
    shares, capacity, used = Shares(1_000), 1_000, dict[int, int]()
    shares.weigh(weights)
    for site, amount in changes:
        amount = max(amount, -used.get(site, 0))
        shares.use(site, amount)
        used[site] = used.get(site, 0) + amount
        assert shares.used(site) == used[site]
        while sum(used.values()) > capacity:
            payers = shares.payers(site)
            weight = sum(weights.get(other, 10) for other, has in used.items() if has)
            for payer in payers:
                assert not shares.within(payer)
                assert used[payer] > capacity / 2 * weights.get(payer, 10) / weight
            less = min(used[payers[-1]], 40)
            shares.use(payers[-1], -less)
            used[payers[-1]] -= less
    shares.weigh({})
    assert all(shares.used(site) == amount for site, amount in used.items())


def test_the_largest_pay_in_turn() -> None:
    shares = Shares(30)
    for site in (1, 2, 3):
        shares.use(site, 10)
    shares.use(4, 1)
    assert [shares.payers(4) for _ in range(4)] == [(1,), (2,), (3,), (1,)]
    assert shares.payers(1) == (2, 1), "or the site itself, since it is over its part"


def ask(store: MemoryStore, site: int, number: int, body_bytes: int) -> bool:
    """As an edge does; returns whether it was stored already."""
    key = object_key(site, b"/%d" % number)
    if store.get(key, ()) is not None:
        return True
    store.put(key, (), KEPT, HEAD, bytes(body_bytes), store.generation)
    return False


@settings(max_examples=25)
@given(st.integers(0, 1 << 32), st.integers(1, 40))
def test_a_working_set_within_its_part_is_never_lost(seed: int, weight: int) -> None:
    random, store = Random(seed), MemoryStore(CAPACITY_BYTES)
    store.weigh({GOOD: weight})
    part_bytes = CAPACITY_BYTES / 2 * weight / (weight + 10 * len(OTHERS))
    had, had_bytes, bodies = set[int](), 0.0, dict[int, int]()
    for _ in range(random.randint(50, 400)):
        site, number, body_bytes = random.choice((GOOD, *OTHERS)), random.randint(0, 60), random.randint(0, 30_000)
        if site != GOOD:
            ask(store, site, number, body_bytes)
            continue
        body_bytes = bodies.setdefault(number, body_bytes)
        size_bytes = body_bytes + len(HEAD) + OBJECT_OVERHEAD_BYTES + 10
        if number not in had and had_bytes + size_bytes > part_bytes:
            continue
        assert ask(store, site, number, body_bytes) is (number in had)
        had_bytes += 0 if number in had else size_bytes
        had.add(number)
    assert all(ask(store, GOOD, number, bodies[number]) for number in had)
    assert store.used_bytes <= CAPACITY_BYTES


def test_a_flood_takes_no_more_than_what_others_had_beyond_their_parts() -> None:
    store = MemoryStore(CAPACITY_BYTES)
    for number in range(1_000):
        ask(store, GOOD, number, 500)
    alone = sum(entry.size_bytes for entry in store)
    assert alone > 0.95 * CAPACITY_BYTES, "a site alone has it all"
    for number in range(5_000):
        ask(store, OTHERS[0], number, 500)
    left = sum(entry.size_bytes for entry in store if entry.key.startswith(object_key(GOOD, b"")))
    assert left >= CAPACITY_BYTES / 4 - 2_000


def test_a_table_forgets_the_oldest_of_whoever_has_most() -> None:
    table: Table[int, str] = Table(10)
    for key in range(3):
        table.put(1, key, "good")
    for key in range(1_000):
        table.put(2, key, "flood")
    assert [table.get(1, key) for key in range(4)] == ["good", "good", "good", None]
    assert [table.get(2, key) for key in (992, 993, 999)] == [None, "flood", "flood"] and len(table) == 10
    table.put(2, 993, "again")
    table.put(2, 1_000, "flood")
    assert (table.get(2, 993), table.get(2, 994)) == ("again", None)
    table.drop(1, 0)
    table.drop(1, 0)
    assert table.get(1, 0) is None and table.get(3, 0) is None and len(table) == 9


def test_a_table_within_its_bound_forgets_nothing() -> None:
    table: Table[int, int] = Table(4)
    for key in range(4):
        table.put(key, key, key)
    table.put(0, 0, 5)
    assert [table.get(key, key) for key in range(4)] == [5, 1, 2, 3]
