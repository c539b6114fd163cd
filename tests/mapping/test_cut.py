"""Units: areas always, cities that gain, large networks; never more ranges than agreed, and always the same."""

from ipaddress import ip_network

import numpy as np

from nearmile.base.gazetteer import Area
from nearmile.base.geography import NOWHERE, Place, Point
from nearmile.mapping.atlas import Atlas, Finder
from nearmile.mapping.cut import Ground, Survey, cut, overlay

AREAS = (
    Area("FR", "", Point(47, 2), 60),
    Area("US", "California", Point(36, -120), 40),
    Area("US", "", Point(39, -98), 300),
)
NORTH, SOUTH = Point(41.9, -122.6), Point(32.7, -117.2)
PLACES = (
    NOWHERE,
    Place("FR", "", "", Point(47, 2)),
    Place("US", "California", "Yreka", NORTH),
    Place("US", "California", "San Diego", SOUTH),
    Place("US", "California", "Fresno", Point(36.7, -119.8)),
    Place("XX", "", "", None),
)
# San Francisco and San Diego; and one far away.
REGIONS = (Point(37.8, -122.4), Point(32.8, -117.1), Point(48, 2))


def survey(places: list[int], networks: list[int] | None = None) -> Survey:
    """Each /16 from 0 on is one of those; of IPv6 nothing is known."""
    starts = np.arange(len(places), dtype=np.uint64) << np.uint64(16)
    four = Ground(starts, np.array(places), np.array(networks or [0] * len(places)))
    return Survey(
        PLACES, {4: four, 6: Ground(np.zeros(1, np.uint64), np.zeros(1, np.int64), np.zeros(1, np.int64))}
    )


def at(atlas: Atlas, *addresses: str) -> list[str]:
    finder = Finder(atlas)
    return [atlas.names[finder.unit(address)] for address in addresses]


def test_a_city_is_a_unit_where_that_gains() -> None:
    atlas = cut(survey([1, 2, 3, 4, 5, 0]), AREAS, REGIONS, 1000, "b")
    assert atlas.names == ("", "FR", "US", "US/California", "US/California/San Diego", "XX")
    found = at(atlas, "0.0.9.9", "0.1.9.9", "0.2.9.9", "0.3.9.9", "0.4.9.9", "0.5.9.9")
    assert found == ["FR", "US/California", "US/California/San Diego", "US/California", "XX", ""]
    assert atlas.basis == "b" and atlas == cut(survey([1, 2, 3, 4, 5, 0]), AREAS, REGIONS, 1000, "b")
    people = dict(zip(atlas.names, [0, *(area.population for area in atlas.areas())], strict=True))
    assert people["FR"] == 60 and people["US/California"] + people["US/California/San Diego"] == 40
    assert "US/California/San Diego" not in cut(survey([1, 2, 3, 4]), AREAS, REGIONS[:1], 1000, "").names
    assert "US/California/San Diego" not in cut(survey([1, 2, 3, 4]), AREAS, REGIONS, 4, "").names  # no room


def test_a_large_network_is_a_unit_at_its_place() -> None:
    atlas = cut(survey([1, 1, 3, 0], [7, 8, 7, 7]), AREAS, REGIONS, 1000, "")
    assert at(atlas, "0.0.0.1", "0.1.0.1", "0.2.0.1", "0.3.0.1") == [
        "FR//AS7", "FR//AS8", "US/California/San Diego/AS7", ""
    ]  # fmt: skip


def test_the_operator_knows_better_and_the_longer_prefix_counts() -> None:
    entries = [
        (ip_network("0.0.1.7/32"), PLACES[1]),
        (ip_network("0.0.0.0/15"), PLACES[2]),
        (ip_network("2001:db8::/32"), PLACES[1]),
        (ip_network("255.255.255.0/24"), PLACES[1]),
        (ip_network("2001:db8::7/128"), PLACES[2]),
    ]
    atlas = cut(overlay(survey([3, 3, 3]), entries), AREAS, REGIONS, 1000, "")
    asked = (
        "0.0.1.6",
        "0.0.1.7",
        "0.0.1.8",
        "0.1.255.255",
        "0.2.0.0",
        "2001:db8:1::1",
        "2001:db9::1",
        "2001:db8::1",
    )
    own = "US/California"
    assert at(atlas, *asked) == [own, "FR", own, own, f"{own}/San Diego", "FR", "", own]
    assert at(atlas, "255.255.254.9", "255.255.255.255") == [f"{own}/San Diego", "FR"]


def test_ranges_are_bounded_and_those_go_that_lose_least() -> None:
    # France and the unlike ends of California, and among them small blocks of their neighbours.
    atlas = cut(survey([1] * 8 + [2, 3] * 4 + [3] * 8), AREAS, REGIONS, 1000, "", 4)
    assert len(atlas.v4.starts) // 8 <= 3
    assert at(atlas, "0.0.0.1", "0.7.0.1", "0.20.0.1") == ["FR", "FR", "US/California/San Diego"]


def test_a_long_row_of_like_neighbours_goes_in_few_rounds() -> None:
    # One a round would take minutes, and hours for all of IPv6.
    atlas = cut(survey([2, 3] * 30_000), AREAS, REGIONS, 1000, "", 1000)
    assert 2 <= len(atlas.v4.starts) // 8 <= 1000
