"""The index against a disk that is a dictionary: what is alive there is what the index knows, at every moment."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from nearmile.cache.key import VARIANTS_MAX
from nearmile.cache.tier.index import (
    DRAWN_SHARE,
    SEGMENT_BYTES_MIN,
    WAYS_MAX,
    WRITTEN_SHARE,
    Copy,
    Index,
    Kill,
    Unlink,
    on_disk,
)
from nearmile.cache.tier.places import OBJECT_BITS, Place

CAPACITY, LOG = 64 * SEGMENT_BYTES_MIN, 8 * SEGMENT_BYTES_MIN
Known = tuple[int, int, tuple[bytes, ...]]


def variant(object_name: int, number: int) -> int:
    """The name of a record of one of its variants."""
    return number << OBJECT_BITS | object_name


class Disk:
    """Carries out what the index asks for."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self.alive: dict[Place, Known] = {}
        self.copies = self.unlinked = 0

    def put(
        self,
        name: int,
        length: int = 1000,
        fields: tuple[bytes, ...] = (),
        of: int = 0,
        in_memory: bool = False,
        site: int = 1,
    ) -> Place | None:
        place = self.index.put(of or name, name, fields, length, in_memory, site)
        self.obey()
        if place is not None:
            self.alive[place] = (of or name, name, fields)
        return place

    def fill(self, names: range, in_memory: bool = False) -> None:
        for name in names:
            self.put(name, in_memory=in_memory)
        self.check()

    def obey(self) -> None:
        for command in self.index.take_commands():
            if isinstance(command, Copy):
                self.copies += 1
                self.alive[command.target] = self.alive[command.source]
            elif isinstance(command, Kill):
                del self.alive[command.place]
            else:
                self.unlinked += 1
                assert all(place.segment != command.segment for place in self.alive)

    def check(self) -> None:
        index = self.index
        assert index.used_bytes <= CAPACITY + LOG
        assert len(self.alive) == len(index)
        for place, (of, name, fields) in self.alive.items():
            assert index.place(name) == place and index.fields(of) == fields


def test_what_is_put_is_found_until_it_is_removed() -> None:
    disk = Disk(Index(CAPACITY, LOG))
    first, second = disk.put(1), disk.put(2)
    assert first == Place(0, 0, 1000) and second == Place(0, 1000, 1000)
    again = disk.put(1)
    assert disk.index.place(1) == again == Place(0, 2000, 1000)
    assert disk.index.remove(1) and not disk.index.remove(1)
    disk.obey()
    disk.check()
    assert len(disk.index) == 1


def test_variants_are_told_apart_and_go_together() -> None:
    disk = Disk(Index(CAPACITY, LOG))
    index = disk.index
    disk.put(variant(1, 10), fields=(b"accept",), of=1)
    disk.put(variant(1, 11), fields=(b"accept",), of=1)
    assert index.fields(1) == (b"accept",) and index.count(1) == 2
    disk.put(variant(1, 12), fields=(b"accept", b"cookie"), of=1)
    assert index.count(1) == 1 and index.place(variant(1, 10)) is None
    assert index.remove_object(1) == 1 and index.fields(1) == () and index.count(1) == 0
    disk.obey()
    disk.check()


def test_there_are_more_ways_to_vary_than_flags() -> None:
    disk = Disk(Index(CAPACITY, LOG))
    for number in range(1, 3 * WAYS_MAX):
        for which in (1, 2):
            disk.put(variant(number, which), fields=(b"x-%d" % number,), of=number)
    disk.check()
    for number in range(1, 3 * WAYS_MAX, 2):
        assert disk.index.remove_object(number) == 2
    disk.obey()
    disk.check()
    disk.put(3)
    disk.check()


def test_an_object_has_so_many_variants_and_no_more() -> None:
    disk = Disk(Index(CAPACITY, LOG))
    for number in range(1, VARIANTS_MAX + 4):
        disk.put(variant(1, number), fields=(b"accept",), of=1)
    assert disk.index.count(1) == VARIANTS_MAX and disk.index.place(variant(1, 3)) is None


def test_a_full_disk_drops_what_nobody_asked_for() -> None:
    disk = Disk(Index(CAPACITY, LOG))
    for name in range(1, 4001):
        disk.put(name)
        disk.index.hit(7, in_memory=False)
        if name % 2 == 0:
            disk.index.hit(name, in_memory=False)
    disk.check()
    assert disk.index.place(7) is not None and disk.index.place(8) is None
    assert 800 < len(disk.index) < 1200 and disk.unlinked > 10


def test_what_is_asked_for_once_is_not_written_to_a_disk_that_is_half_full() -> None:
    disk = Disk(Index(CAPACITY, LOG))
    disk.fill(range(1, 1001))
    before = disk.index.settled_bytes
    assert CAPACITY / 2 - LOG - 2000 < before < CAPACITY / 2
    disk.fill(range(1001, 5001))
    settled_bytes, asked_bytes = disk.index.settled_bytes - before, 4000 * 1000
    assert DRAWN_SHARE / 2 * asked_bytes < settled_bytes < (DRAWN_SHARE + 0.02) * asked_bytes, (
        "but for those drawn; and the filter is wrong about one in a hundred"
    )


def test_no_more_is_written_than_a_part_of_what_comes_though_all_is_asked_for_again() -> None:
    disk = Disk(Index(CAPACITY, LOG))
    for name in range(1, 8001):
        disk.put(name)
        disk.index.hit(name, in_memory=False)
        if name == 4000:
            before = disk.index.settled_bytes
    disk.check()
    share = (disk.index.settled_bytes - before) / (4000 * 1000)
    assert WRITTEN_SHARE - 0.05 < share < WRITTEN_SHARE + 0.02


def test_what_is_in_memory_is_written_at_any_price() -> None:
    disk = Disk(Index(CAPACITY, LOG))
    for name in range(1, 6001):
        disk.put(name, in_memory=name % 2 == 0)
        disk.index.hit(name, in_memory=False)
        if name > 400:
            assert disk.index.place(name - 400) is not None or name % 2
            disk.index.left(name - 400, hit=False)
    disk.check()


def test_what_is_asked_for_while_it_is_young_on_disk_has_no_other_round_for_that() -> None:
    disk = Disk(Index(CAPACITY, LOG))
    for name in range(1, 8001):
        disk.put(name)
        disk.index.hit(name, in_memory=False)
        if name > 300:
            disk.index.hit(name - 300, in_memory=False)
    disk.check()
    assert disk.copies <= 8000


def test_what_is_in_memory_stays_until_it_leaves_unasked_for() -> None:
    disk = Disk(Index(CAPACITY, LOG))
    disk.fill(range(1, 11), in_memory=True)
    disk.fill(range(1000, 3000))
    assert all(disk.index.place(name) for name in range(1, 11))
    for name in range(1, 11):
        disk.index.left(name, hit=name > 5)
    disk.fill(range(3000, 6000), in_memory=True)
    assert not any(disk.index.place(name) for name in range(1, 6))


def test_who_returns_goes_where_things_stay() -> None:
    disk = Disk(Index(CAPACITY, LOG))
    disk.fill(range(1, 1501))
    gone = max(name for name in range(1, 1501) if disk.index.place(name) is None)
    before = disk.index.settled_bytes
    place = disk.put(gone)
    assert place is not None and on_disk(place.segment) and disk.index.settled_bytes == before + 1000


def test_everything_hit_still_lets_something_go() -> None:
    disk = Disk(Index(CAPACITY, LOG))
    disk.fill(range(1, 5001), in_memory=True)
    assert disk.unlinked > 50 and disk.copies < 5 * 5000


def test_large_records_have_segments_of_their_own() -> None:
    disk = Disk(Index(CAPACITY, LOG))
    assert disk.put(1, CAPACITY) is None
    for name in range(2, 20):
        assert (disk.put(name, CAPACITY // 5) or disk.put(name, CAPACITY // 5)) is not None
    assert 3 <= len(disk.index) <= 5


def test_a_segment_of_large_records_stays_without_being_copied() -> None:
    disk = Disk(Index(CAPACITY, LOG))
    for name in range(1, 100):
        disk.put(name, CAPACITY // 20)
        disk.index.hit(name, in_memory=False)
        disk.index.hit(1, in_memory=False)
        if name == 20:
            first = disk.index.place(1)
    disk.check()
    assert first is not None and on_disk(first.segment) and disk.index.place(1) == first and disk.copies < 100


def test_what_is_too_large_to_wait_is_written_when_it_returns() -> None:
    disk = Disk(Index(CAPACITY, LOG))
    disk.fill(range(1, 1001))
    assert disk.put(2000, LOG + 1) is None and disk.index.place(2000) is None
    place = disk.put(2000, LOG + 1)
    assert place is not None and on_disk(place.segment)


def test_what_is_sealed_is_not_appended_to() -> None:
    disk = Disk(Index(CAPACITY, LOG))
    disk.put(1)
    disk.index.seal()
    assert disk.put(2) == Place(2, 0, 1000)


names = st.integers(1, 40)
operations = st.one_of(
    st.tuples(st.just("put"), names, st.integers(100, 40_000), st.booleans()),
    st.tuples(st.just("vary"), names, st.integers(1, 3), st.booleans()),
    st.tuples(st.just("hit"), names, st.booleans(), st.none()),
    st.tuples(st.just("left"), names, st.booleans(), st.none()),
    st.tuples(st.just("remove"), names, st.none(), st.none()),
    st.tuples(st.just("object"), names, st.none(), st.none()),
    st.tuples(st.just("clear"), st.none(), st.none(), st.none()),
)


@settings(max_examples=60)
@given(st.lists(operations, min_size=30, max_size=150), st.integers(16, 64))
def test_the_disk_is_what_the_index_knows(asked: list[tuple[str, int, int, bool]], shrunk: int) -> None:
    disk = Disk(Index(CAPACITY, LOG))
    index = disk.index
    for what, name, value, flag in asked:
        match what:
            case "put":
                disk.put(name, value, in_memory=flag)
            case "vary":
                disk.put(variant(name, value), fields=(b"accept", b"cookie")[: 1 + flag], of=name)
            case "hit":
                index.hit(name, bool(value))
            case "left":
                index.left(name, bool(value))
            case "remove":
                index.remove(name)
            case "object":
                index.remove_object(name)
            case "clear" if name is None and value is None and len(index) > 30:
                index.clear()
                disk.alive.clear()
                index.take_commands()
        disk.obey()
        disk.check()
    again = Index(shrunk * SEGMENT_BYTES_MIN, LOG)
    found = Disk(again)
    found.alive = dict(disk.alive)
    for number in sorted({place.segment for place in disk.alive}):
        inside = sorted(place for place in disk.alive if place.segment == number)
        again.adopt(number, inside[-1].offset + inside[-1].length)
        for place in inside:
            of, name, fields = disk.alive[place]
            again.load(of, name, fields, place, 1)
    found.obey()
    found.check()
    again.fit()
    found.obey()
    found.check()
    assert again.used_bytes <= shrunk * SEGMENT_BYTES_MIN + LOG


def test_a_copy_left_by_a_crash_is_one_too_many() -> None:
    index = Index(CAPACITY, LOG)
    for number in (0, 1):
        index.adopt(number, 1000)
        index.load(5, 5, (), Place(number, 0, 1000), 1)
    assert index.take_commands() == [Kill(Place(0, 0, 1000))] and len(index) == 1
    assert index.put(6, 6, (), 10, False, 1) == Place(2, 0, 10)
    index.clear()
    assert index.take_commands() == [Unlink(0), Unlink(2), Unlink(1)]


def test_a_flood_does_not_push_out_what_is_within_another_site_s_part() -> None:
    disk = Disk(Index(CAPACITY, LOG))
    for name in range(200):
        disk.put(name, site=1)
    for name in range(1_000, 6_000):
        disk.put(name, site=2)
        if name % 3 == 0:
            disk.index.hit(name, False)
        if name % 5 == 0:  # asked for again after it has gone: as good as any
            disk.put(max(1_000, name - 500), site=2)
    disk.check()
    assert all(disk.index.place(name) is not None for name in range(200))
    assert disk.copies < 4_000


@settings(max_examples=8)
@given(st.integers(0, 1 << 32))
def test_a_site_within_its_part_of_the_disk_loses_nothing(seed: int) -> None:
    random = Random(seed)
    disk, had_bytes, had = Disk(Index(CAPACITY, LOG)), 0, set[int]()
    for turn in range(500):
        site, length = random.randint(2, 4), random.randint(100, 40_000)
        disk.put(site * 1_000 + random.randint(0, 400), length, site=site)
        if had_bytes + length < CAPACITY / 2 / 4 and turn % 4 == 0:
            disk.put(turn + 10_000, length, site=1)
            had_bytes += length
            had.add(turn + 10_000)
    disk.check()
    assert all(disk.index.place(name) is not None for name in had)
