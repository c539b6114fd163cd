"""The choice of servers: never a dead one, never empty, and little moves when little changes."""

import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from nearmile.base.geography import Point
from nearmile.mapping.choose import Choice, choose, owner, split
from nearmile.mapping.map import PARTS, Map, MapRegion, Server, Units, View


def servers_of(region: str, count: int) -> tuple[Server, ...]:
    return tuple(Server(f"{region}-{n}", f"10.0.0.{n}", 80) for n in range(1, count + 1))


def map_of(
    counts: tuple[int, ...], units: dict[str, tuple[int, ...]] | None = None, fallback: tuple[int, ...] = ()
) -> Map:
    regions = tuple(MapRegion(f"r{i}", Point(0, i), servers_of(f"r{i}", n)) for i, n in enumerate(counts))
    return Map(version=1, term=1, made_at_s=0, regions=regions, units=Units.of(units or {}), fallback=fallback)


UNITS: dict[str, tuple[int, ...]] = {"US": (1, 0), "US/Illinois": (0, 1), "JP": (2, 1)}


@pytest.mark.parametrize(
    ("counts", "unit", "region", "regions"),
    [
        ((2, 2, 2), "US/Illinois", "r0", ["r0", "r0"]),
        ((2, 2, 2), "US/Ohio", "r1", ["r1", "r1"]),  # the state is not known: as its country
        ((2, 2, 2), "FR", "r2", ["r2", "r2"]),  # nothing is known: the fallback
        ((2, 2, 2), "", "r2", ["r2", "r2"]),
        ((0, 2, 2), "US/Illinois", "r1", ["r1", "r1"]),  # the best region is down
        ((1, 2, 2), "US/Illinois", "r0", ["r0", "r1"]),  # the next region fills up
        ((0, 0, 2), "US", "r2", ["r2", "r2"]),  # no ranked region lives: the fallback
        ((1, 0, 0), "JP", "r0", ["r0"]),  # no fallback lives either: whoever does
        ((0, 0, 0), "JP", "", []),
    ],
)
def test_regions(counts: tuple[int, ...], unit: str, region: str, regions: list[str]) -> None:
    choice = choose(map_of(counts, UNITS, fallback=(2,)), unit, 7, 2)
    assert choice.region == region
    assert [server.name.split("-")[0] for server in choice.servers] == regions


@given(
    counts=st.lists(st.integers(0, 4), min_size=1, max_size=6),
    ranking=st.lists(st.integers(0, 5), max_size=3),
    serial=st.integers(1, 0xFFFFFF),
    count=st.integers(1, 8),
)
def test_live_distinct_and_as_many_as_there_are(
    counts: list[int], ranking: list[int], serial: int, count: int
) -> None:
    ranked = tuple(dict.fromkeys(index for index in ranking if index < len(counts)))
    choice = choose(map_of(tuple(counts), {"X": ranked}), "X", serial, count)
    assert len(choice.servers) == len(set(choice.servers)) == min(count, sum(counts))
    if choice.servers:
        assert choice.servers[0].name.startswith(f"{choice.region}-")


@given(
    st.sets(st.text("abcdef-", min_size=1, max_size=6), min_size=2, max_size=12), st.integers(0, 500), st.data()
)
def test_a_server_that_goes_moves_only_its_own(names: set[str], serial: int, data: st.DataObject) -> None:
    servers = tuple(Server(name, "10.0.0.1", 80) for name in sorted(names))
    gone = data.draw(st.sampled_from(servers))
    rest = tuple(server for server in servers if server != gone)

    def ranked(among: tuple[Server, ...]) -> Choice:
        region = MapRegion("r", Point(0, 0), among)
        whole = Map(version=1, term=1, made_at_s=0, regions=(region,), units=Units(), fallback=(0,))
        return choose(whole, "", serial, len(among))

    assert [server for server in ranked(servers).servers if server != gone] == list(ranked(rest).servers)
    key = str(serial).encode()
    if owner(key, servers) != gone:
        assert owner(key, rest) == owner(key, servers)


@pytest.mark.parametrize("count", [2, 3, 7, 20])
def test_keys_spread_evenly(count: int) -> None:
    keys = 5000
    servers = servers_of("fra", count)
    by_serial = Counter(choose(map_of((count,)), "", serial, 1).servers[0].name for serial in range(keys))
    by_object = Counter(owner(f"/pages/{n}.html".encode(), servers).name for n in range(keys))
    for shares in (by_serial, by_object):
        assert len(shares) == count
        # Six standard deviations of a binomial share.
        assert max(abs(hits - keys / count) for hits in shares.values()) < 6 * (keys / count) ** 0.5


def test_one_of_n_moves_one_nth() -> None:
    before, after = servers_of("fra", 10), servers_of("fra", 9)
    keys = [str(n).encode() for n in range(10_000)]
    moved = sum(owner(key, before) != owner(key, after) for key in keys)
    assert moved / len(keys) == pytest.approx(0.1, abs=0.02)


def test_no_owner_without_servers() -> None:
    with pytest.raises(ValueError, match="empty"):
        owner(b"key", ())


def test_every_process_and_release_chooses_alike() -> None:
    """The figures are frozen: a nameserver and an edge of different releases must agree."""
    chosen = [int(owner(str(n).encode(), servers_of("fra", 5)).name[-1]) for n in range(12)]
    assert chosen == [1, 5, 2, 4, 1, 3, 3, 4, 5, 2, 4, 5]
    program = (
        "from nearmile.mapping.choose import owner; from nearmile.mapping.map import Server;"
        "servers = tuple(Server(f'fra-{n}', f'10.0.0.{n}', 80) for n in range(1, 6));"
        "print([int(owner(str(n).encode(), servers).name[-1]) for n in range(12)])"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONHASHSEED": "7"}, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == str(chosen)


def test_a_split_unit_is_shared_out_and_a_dead_share_goes_on() -> None:
    whole = structs.replace(map_of((2, 2, 2), UNITS, fallback=(2,)), shares={"US": (10, 6)})
    regions = [choose(whole, "US/Ohio", 7, 1, part=part).region for part in range(PARTS)]
    assert regions == ["r1"] * 10 + ["r0"] * 6
    assert {choose(whole, "US/Illinois", 7, 1, part=part).region for part in range(PARTS)} == {"r0"}
    assert (split(whole, "US/Ohio"), split(whole, "JP")) == (True, False)
    dead = structs.replace(map_of((2, 0, 2), UNITS, fallback=(2,)), shares={"US": (10, 6)})
    assert {choose(dead, "US", 7, 1, part=part).region for part in range(PARTS)} == {"r0"}


def test_a_pinned_site_is_served_by_its_regions_while_any_lives() -> None:
    view = View(Units.of({"US": (2,)}), (2,))
    for counts, regions in (((2, 2, 2), ["r2", "r2", "r2"]), ((2, 2, 0), ["r0", "r1", "r1"])):
        pinned = structs.replace(map_of(counts, UNITS, fallback=(1,)), pins={7: 0}, views=(view,))
        # Where none lives, as other sites.
        assert [choose(pinned, unit, 7, 1).region for unit in ("US/Illinois", "JP", "FR")] == regions
        assert choose(pinned, "US/Illinois", 8, 1).region == "r0"
