"""The memory store: what was put is got, unless evicted or purged; never more than its bound."""

import tracemalloc

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from nearmile.cache.directives import Fields
from nearmile.cache.entry import response_head
from nearmile.cache.key import VARIANTS_MAX, object_key, variant_key
from nearmile.cache.policy import VARY_NAMES_MAX, Storable, decide_store
from nearmile.cache.purge import MARKS_MAX, key_mark
from nearmile.cache.store import (
    KNOWN_BYTES_MAX,
    KNOWN_MAX,
    OBJECT_OVERHEAD_BYTES,
    MemoryStore,
)
from nearmile.cache.tier.index import Index
from nearmile.cache.tier.record import object_name, variant_name

ROOMY_BYTES = 1_000_000


def kept(*vary: bytes) -> Storable:
    return Storable(200, 0.0, 60.0, 0, 0, False, False, vary, None, None, 0)


def request(value: bytes, name: bytes = b"accept-encoding") -> Fields:
    return ((name, value),)


VARIED = kept(b"accept-encoding")


def test_what_was_put_is_got_and_marked() -> None:
    store = MemoryStore(ROOMY_BYTES)
    entry = store.put(b"k", (), kept(), b"head", b"body", store.generation)
    assert entry is not None and not entry.visited
    assert store.get(b"k", request(b"br")) is entry and entry.visited
    assert (entry.head, entry.body, store.get(b"other", ())) == (b"head", b"body", None)
    assert store.used_bytes == entry.size_bytes == 9 + OBJECT_OVERHEAD_BYTES


def test_a_response_replaces_its_predecessor() -> None:
    store = MemoryStore(ROOMY_BYTES)
    store.put(b"k", (), kept(), b"", b"old", 0)
    new = store.put(b"k", (), kept(), b"", b"new body", 0)
    assert new is not None and store.get(b"k", ()) is new
    assert (len(store), store.used_bytes) == (1, new.size_bytes)


def test_variants_are_told_apart() -> None:
    store = MemoryStore(ROOMY_BYTES)
    brotli = store.put(b"k", request(b"br"), VARIED, b"", b"1", 0)
    gzip = store.put(b"k", request(b"gzip"), VARIED, b"", b"2", 0)
    assert store.get(b"k", request(b"br")) is brotli
    assert store.get(b"k", request(b"gzip")) is gzip
    assert store.get(b"k", ()) is None
    assert store.vary(b"k") == (b"accept-encoding",)


def test_names_of_all_variants_count_together() -> None:
    store = MemoryStore(ROOMY_BYTES)
    both = request(b"br") + request(b"en", b"accept-language")
    store.put(b"k", both, VARIED, b"", b"old", 0)
    store.put(b"k", both, kept(b"accept-language"), b"", b"new", 0)
    assert store.vary(b"k") == (b"accept-encoding", b"accept-language")
    found = store.get(b"k", both)
    assert found is not None and found.body == b"new"
    assert store.get(b"k", request(b"br")) is None
    store.put(b"k", both, kept(), b"", b"newest", 0)
    assert [entry.body for entry in store] == [b"newest"]
    assert store.get(b"k", ()) is None, "an error page without Vary must not hide the variants"


def test_an_unvaried_response_gives_way_to_variants() -> None:
    store = MemoryStore(ROOMY_BYTES)
    store.put(b"k", (), kept(), b"", b"", 0)
    store.put(b"k", request(b"br"), VARIED, b"", b"", 0)
    assert len(store) == 1 and store.get(b"k", ()) is None


def test_endless_vary_names_start_over() -> None:
    store = MemoryStore(ROOMY_BYTES)
    for number in range(100):
        store.put(b"k", (), kept(b"x-%d" % number), b"", b"", 0)
    assert len(store.vary(b"k")) <= VARY_NAMES_MAX


def test_variants_are_bounded() -> None:
    store = MemoryStore(ROOMY_BYTES)
    for number in range(VARIANTS_MAX + 1):
        store.put(b"k", request(b"%d" % number, b"accept-language"), kept(b"accept-language"), b"", b"", 0)
    assert len(store) == VARIANTS_MAX
    first, second = (store.get(b"k", request(b"%d" % number, b"accept-language")) for number in (0, 1))
    assert first is None and second is not None


def test_the_second_keys_of_many_requests_are_remembered_in_bounds() -> None:
    store = MemoryStore(ROOMY_BYTES)
    store.put(b"k", request(b"gzip"), VARIED, b"", b"gzip", 0)
    store.put(b"k", request(b"br"), VARIED, b"", b"br", 0)
    (known,) = store._known.values()
    for number in range(KNOWN_MAX + 9):
        for coding in (b"gzip", b"br"):
            found = store.get(b"k", (*request(coding), (b"number", b"%d" % number)))
            assert found is not None and found.body == coding
        assert len(known) <= KNOWN_MAX
    known.clear()
    assert store.get(b"k", (*request(b"br"), (b"large", bytes(KNOWN_BYTES_MAX)))) is not None and not known


def test_what_does_not_fit_is_refused_and_its_predecessor_gone() -> None:
    store = MemoryStore(2000)
    store.put(b"k", (), kept(), b"", b"", 0)
    assert store.put(b"k", (), kept(), b"", bytes(2000), 0) is None
    assert (len(store), store.used_bytes) == (0, 0)


def test_a_purge_takes_every_variant() -> None:
    store = MemoryStore(ROOMY_BYTES)
    for value in (b"br", b"gzip"):
        store.put(b"k", request(value), VARIED, b"", b"", 0)
    store.put(b"other", (), kept(), b"", b"", 0)
    assert [store.mark(key_mark(key)) for key in (b"k", b"k", b"never")] == [2, 0, 0]
    assert [entry.key for entry in store] == [b"other"]


def test_a_fill_that_a_purge_overtook_is_refused() -> None:
    store = MemoryStore(ROOMY_BYTES)
    before = store.generation
    store.mark(key_mark(b"k"))
    assert store.put(b"k", (), kept(), b"", b"", before) is None
    assert store.put(b"other", (), kept(), b"", b"", before) is not None
    assert store.put(b"k", (), kept(), b"", b"", store.generation) is not None


def test_a_fill_older_than_the_remembered_purges_is_refused() -> None:
    store = MemoryStore(ROOMY_BYTES)
    before = store.generation
    for number in range(MARKS_MAX + 1):
        store.mark(key_mark(b"%d" % number))
    assert store.put(b"0", (), kept(), b"", b"", before) is None
    assert store.put(b"unpurged", (), kept(), b"", b"", before) is None, "it cannot be told apart any more"
    assert store.put(b"unpurged", (), kept(), b"", b"", store.generation) is not None


def test_only_the_stored_entry_is_deleted() -> None:
    store = MemoryStore(ROOMY_BYTES)
    old = store.put(b"k", (), kept(), b"", b"", 0)
    new = store.put(b"k", (), kept(), b"", b"", 0)
    assert old is not None and new is not None
    store.delete(old)
    assert store.get(b"k", ()) is new
    store.delete(new)
    store.delete(new)
    assert store.get(b"k", ()) is None and store.used_bytes == 0


def measured_overhead_bytes(vary: bytes, count: int, variants: int = 1) -> float:
    """What a response costs beside key, head and body, in memory and on disk at once; ``vary`` may be empty."""
    store, index, payload_bytes = MemoryStore(100 * ROOMY_BYTES), Index(100 * ROOMY_BYTES, ROOMY_BYTES), 0
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(count):
        fields = ((b"cache-control", b"max-age=60"), (b"etag", b'"%08x"' % number), (b"vary", vary))
        key = object_key(1, b"/%d" % number)
        for value in (b"br", b"gzip")[:variants]:
            terms = decide_store(b"GET", (), 200, fields, 0, 1.5e9 + number, 1.5e9 + number)
            assert terms is not None
            head, body = response_head(200, fields, 4), b"%04d" % number
            entry = store.put(key, request(value), terms, head, body, 0)
            assert entry is not None
            name, of_object = variant_name(key, entry.variant), object_name(key)
            index.put(of_object, name if vary else of_object, terms.vary, 400, True, 1)
            index.take_commands()
            payload_bytes += len(head) + len(body)
        payload_bytes += len(key)
    used_bytes = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert len(store) == len(index) == count * variants
    return (used_bytes - payload_bytes) / (count * variants)


def test_the_overhead_is_charged() -> None:
    assert measured_overhead_bytes(b"", 20_000) <= OBJECT_OVERHEAD_BYTES
    assert measured_overhead_bytes(b"accept-encoding", 20_000) <= OBJECT_OVERHEAD_BYTES
    assert measured_overhead_bytes(b"accept-encoding", 10_000, variants=2) <= OBJECT_OVERHEAD_BYTES


def test_one_variant_is_found_before_and_after_there_are_others() -> None:
    store, brotli, gzip = MemoryStore(ROOMY_BYTES), request(b"br"), request(b"gzip")
    one = store.put(b"k", brotli, VARIED, b"", b"1", 0)
    assert store.get(b"k", brotli) is one and store.get(b"k", gzip) is None and store.vary(b"k") == VARIED.vary
    alone_bytes = store.used_bytes
    two = store.put(b"k", gzip, VARIED, b"", b"2", 0)
    assert two is not None and [store.get(b"k", fields) for fields in (brotli, gzip)] == [one, two]
    store.delete(two)
    assert store.get(b"k", brotli) is one and store.get(b"k", gzip) is None and store.used_bytes == alone_bytes


KEYS = st.sampled_from([b"a", b"b", b"c", b"d"])
REQUESTS = st.sampled_from([(), request(b"br"), request(b"gzip"), request(b"en", b"accept-language")])
TERMS = st.sampled_from([kept(), VARIED, kept(b"accept-encoding", b"accept-language")])


class AnyUse(RuleBasedStateMachine):
    """Any sequence of puts, gets, deletes and purges of a store too small for all."""

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore(5 * OBJECT_OVERHEAD_BYTES)
        self.asked: dict[bytes, Fields] = {}
        self.count = 0

    @rule(key=KEYS, fields=REQUESTS, terms=TERMS, body_bytes=st.integers(0, 3000))
    def put(self, key: bytes, fields: Fields, terms: Storable, body_bytes: int) -> None:
        self.count += 1
        body = b"%b %d " % (key, self.count) + bytes(body_bytes)
        entry = self.store.put(key, fields, terms, b"", body, self.store.generation)
        self.asked[body] = fields
        if entry is not None:
            assert self.store.get(key, fields) is entry, (
                "the newest response is never the victim of its own coming"
            )

    @rule(key=KEYS, fields=REQUESTS)
    def get(self, key: bytes, fields: Fields) -> None:
        entry = self.store.get(key, fields)
        if entry is not None:
            body = bytes(entry.body)
            assert body.startswith(key)
            names = entry.kept.vary
            assert variant_key(names, fields) == variant_key(names, self.asked[body]), "RFC 9111 section 4.1"

    @rule(key=KEYS, fields=REQUESTS)
    def delete(self, key: bytes, fields: Fields) -> None:
        entry = self.store.get(key, fields)
        if entry is not None:
            self.store.delete(entry)
            assert self.store.get(key, fields) is None

    @rule(key=KEYS, fields=REQUESTS)
    def purge(self, key: bytes, fields: Fields) -> None:
        before = self.store.generation
        self.store.mark(key_mark(key))
        assert all(entry.key != key for entry in self.store)
        assert self.store.put(key, fields, kept(), b"", b"", before) is None

    @invariant()
    def bounded(self) -> None:
        assert 0 <= self.store.used_bytes <= self.store.capacity_bytes
        assert self.store.used_bytes == sum(entry.size_bytes for entry in self.store)


TestAnyUse = AnyUse.TestCase
TestAnyUse.settings = settings(max_examples=60, stateful_step_count=40)
