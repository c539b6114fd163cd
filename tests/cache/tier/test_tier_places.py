"""Records by name, against a dictionary."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from nearmile.cache.tier.places import BUCKET_RECORDS, OBJECT_BITS, Place, Places, Record


@settings(max_examples=20)
@given(st.integers(0, 1 << 32))
def test_they_are_what_a_dictionary_of_them_would_be(seed: int) -> None:
    random, places, known = Random(seed), Places(), dict[int, Record]()
    for _ in range(20 * BUCKET_RECORDS):
        # Few objects, so that names come again; and bytes of names that look like those of others, shifted.
        name = (
            random.choice((0, 1, 1 << 8, 1 << 63)) | random.randint(0, 200) | random.randint(0, 2) << OBJECT_BITS
        )
        if random.random() < 0.3:
            if name in known:
                places.drop(name)
                del known[name]
            continue
        offset, length = random.choice((0, 1, (1 << 26) - 1)), random.choice((1, (1 << 31) - 1))
        record = (
            Place(random.randint(0, (1 << 40) - 1), offset, length),
            random.randint(0, (1 << 24) - 1),
            name & 3,
        )
        (places.change if name in known else places.add)(name, record)
        places.flag(name, 1, 40)
        record = known[name] = *record[:2], record[2] & ~1 | 40
        assert places.get(name) == record
    assert len(places) == len(known) and sorted(places) == sorted(known.values())
    for name in known:
        assert places.get(name) == known[name]
        of = name & (1 << OBJECT_BITS) - 1
        assert places.flags_of(of) == known[places.names_of(of)[0]][2]
        assert places.names_of(of) == [each for each in known if each & (1 << OBJECT_BITS) - 1 == of]
    assert all(places.get(name) is None for name in range(300) if name not in known)
