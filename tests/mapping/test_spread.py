"""Hot serials on servers: never above the bound, little moves, and no two large ones share everything."""

from collections import Counter
from itertools import pairwise
from random import Random

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec import structs

from nearmile.base.geography import Point
from nearmile.mapping.choose import choose, preference, turns
from nearmile.mapping.map import Map, MapRegion, Server, Units
from nearmile.mapping.spread import LOAD_MAX, Parts, Spread, place

RATES = st.dictionaries(st.integers(1, 10_000), st.floats(0.1, 1e5), min_size=1, max_size=12)


def names_of(count: int) -> list[str]:
    return [f"fra-{n}" for n in range(1, count + 1)]


def loads_of(names: list[str], rates: dict[int, float], base: dict[str, float], placed: dict[int, Parts]) -> Parts:
    loads = dict(base)
    for serial, rate in rates.items():
        parts = placed.get(serial) or dict.fromkeys(preference(serial, names)[:2], 1)
        for name, count in parts.items():
            loads[name] = loads.get(name, 0) + rate * count / sum(parts.values())
    return loads  # type: ignore[return-value]


@given(count=st.integers(2, 40), rates=RATES, data=st.data())
@settings(max_examples=60)
def test_nobody_above_the_bound_by_what_is_hot(count: int, rates: dict[int, float], data: st.DataObject) -> None:
    names = names_of(count)
    base = {name: data.draw(st.floats(0, 1e4), label=name) for name in names}
    placed = place(names, rates, base, {}, 2)
    loads = loads_of(names, rates, base, placed)
    mean = sum(loads.values()) / count
    cold = loads_of(names, {s: r for s, r in rates.items() if s not in placed}, base, {})
    for name in names:
        assert loads[name] <= max(LOAD_MAX * mean, cold.get(name, 0)) * 1.000001


@given(
    count=st.integers(4, 30),
    rates=st.dictionaries(st.integers(1, 10_000), st.floats(1e3, 3e3), min_size=1, max_size=12),
    data=st.data(),
)
@settings(max_examples=60)
def test_the_failure_of_one_moves_little_more_than_its_own(
    count: int, rates: dict[int, float], data: st.DataObject
) -> None:
    names = names_of(count)
    before = place(names, rates, {}, {}, 2)
    assume(
        before.keys() == rates.keys()
    )  # what is cold moves by itself, and its servers may have to give up parts
    gone = data.draw(st.sampled_from(names))
    rest = [name for name in names if name != gone]
    after = place(rest, rates, {}, before, 2)
    moved = 0.0
    for serial in before:
        if serial in after:
            old, new = sum(before[serial].values()), sum(after[serial].values())
            come = (after[serial][n] / new - before[serial].get(n, 0) / old for n in after[serial])
            moved += rates[serial] * sum(max(share, 0) for share in come)
    assert moved <= 1.3 / count * sum(rates.values())


@given(count=st.integers(7, 30), rates=RATES)
@settings(max_examples=60)
def test_no_two_large_ones_share_all_servers(count: int, rates: dict[int, float]) -> None:
    names = names_of(count)
    placed = place(names, rates, {}, {}, 2)
    mean = sum(rates.values()) / count
    largest = sorted((s for s in placed if rates[s] >= mean), key=lambda s: (-rates[s], s))[: 1 + count * 3 // 20]
    large = [set(placed[serial]) for serial in largest]
    assert not [(a, b) for at, a in enumerate(large) for b in large[:at] if a <= b or b <= a]
    for serial in placed.keys() - set(largest):
        assert not [a for a in large if a <= placed[serial].keys()]


def test_it_grows_at_once_and_shrinks_slowly() -> None:
    spread, sizes = Spread(2), list[int]()
    servers = tuple(Server(name, "10.0.0.1", 80) for name in names_of(20))
    region, hot = MapRegion("fra", Point(0, 0), servers), dict[int, Parts]()
    for now_s in range(0, 1500, 10):
        for server in servers:
            crowd = 1000.0 if 100 <= now_s < 200 else 1.0
            spread.heard(server.name, 100, {7: crowd})
        hot = spread.place(structs.replace(region, hot=hot), now_s)
        sizes.append(len(hot.get(7, ())))
    assert sizes[9] == 0 and sizes[10] >= 18
    assert sizes[22] >= 10 and sizes[-1] <= 4
    assert all(later >= sooner / 2 - 1 or not later for sooner, later in pairwise(sizes[10:]))


def loads_by_parts(hot: dict[int, Parts], rates: dict[int, float]) -> Counter[str]:
    """Of the hot serials, by their parts."""
    loads = Counter[str]()
    for serial, rate in rates.items():
        loads.update(
            {name: round(rate * count / sum(hot[serial].values())) for name, count in hot[serial].items()}
        )
    return loads


def test_a_crowd_of_the_past_keeps_its_servers_but_is_no_load() -> None:
    spread, names = Spread(2), names_of(5)
    servers = tuple(Server(name, "10.0.0.1", 80) for name in names)
    for name in names[:4]:
        spread.heard(name, 0, {7: 1000.0})
    before = spread.place(MapRegion("fra", Point(0, 0), servers[:4]), 10)
    for name in names:
        spread.heard(name, 0, {9: 250.0})
    after = spread.place(MapRegion("fra", Point(0, 0), servers, before), 11)
    assert set(after[7]) >= set(before[7]) == set(names[:4])
    loads = loads_by_parts(after, {9: 1250.0})
    assert max(loads.values()) <= LOAD_MAX * 250 and len(loads) == 5


def test_what_came_to_who_died_comes_to_the_others() -> None:
    spread, names = Spread(2), names_of(4)
    servers = tuple(Server(name, "10.0.0.1", 80) for name in names)
    spread.heard("fra-1", 0, {7: 4000.0})
    for name in names[1:]:
        spread.heard(name, 0, {8: 100.0, 9: 200.0})
    before: dict[int, Parts] = {7: {"fra-1": 64}, 9: dict.fromkeys(names[1:], 4)}
    after = spread.place(MapRegion("fra", Point(0, 0), servers[1:], before), 10)
    loads = loads_by_parts(after, {7: 4000.0, 9: 600.0})
    assert len(loads) == 3 and max(loads.values()) <= LOAD_MAX * loads.total() / 3


def test_a_thousandfold_crowd_is_spread_within_two_seconds() -> None:
    """Steps of 50 ms; each client comes once; edges tell four times a second, controllers look ten times."""
    chance, names = Random(5), names_of(10)
    servers = tuple(Server(name, "10.0.0.1", 80) for name in names)
    region, spread, turn = MapRegion("fra", Point(0, 0), servers), Spread(2), 0
    serials, calm, crowd_at_s = range(1, 201), 1, 5.0
    counted, told = dict[str, Counter[int]](), Counter[str]()
    for step in range(20 * 12):
        now_s = step / 20
        if step % 5 == 0:
            for name in names:
                spread.heard(name, 0, {serial: 4 * hits for serial, hits in counted.get(name, Counter()).items()})
            counted = {name: Counter() for name in names}
        if step % 2 == 1:
            region = MapRegion("fra", Point(0, 0), servers, spread.place(region, now_s))
        map_ = Map(version=1, term=1, made_at_s=0, regions=(region,), units=Units(), fallback=(0,))
        asked = [chance.choice(serials) for _ in range(10 * calm)] + [7] * (
            50 * calm if now_s >= crowd_at_s else 0
        )
        for serial in asked:
            turn += 1
            server = choose(map_, "", serial, 2, turn).servers[0].name
            counted[server][serial] += 1
            told[server] += crowd_at_s + 2 <= now_s
    assert max(told.values()) <= LOAD_MAX * told.total() / len(names), told
    assert len(told) == len(names)


def test_turns_go_through_the_parts_and_name_who_lives() -> None:
    servers = tuple(Server(name, "10.0.0.1", 80) for name in names_of(4))
    hot: dict[int, Parts] = {7: {"fra-1": 2, "fra-3": 1, "fra-9": 5}}
    map_ = Map(
        version=1,
        term=1,
        made_at_s=0,
        regions=(MapRegion("fra", Point(0, 0), servers, hot),),
        units=Units(),
        fallback=(0,),
    )
    assert turns(map_, "", 7) == 3 and turns(map_, "", 8) == 1
    firsts = Counter(choose(map_, "", 7, 2, turn).servers[0].name for turn in range(9))
    assert firsts == {"fra-1": 6, "fra-3": 3}
    for turn in range(9):
        assert len(set(choose(map_, "", 7, 3, turn).servers)) == 3
