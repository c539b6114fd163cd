"""Why a unit is served from where it is, and what differs between two maps."""

import pytest
from msgspec import structs

from nearmile.base.geography import Point
from nearmile.mapping.explain import Told, difference, explain
from nearmile.mapping.map import Map, MapRegion, Server, Units, View
from nearmile.mapping.measured import Learned


def map_of(version: int, units: dict[str, tuple[int, ...]], **servers: int) -> Map:
    regions = tuple(
        MapRegion(name, Point(0, 0), tuple(Server(f"{name}-{n}", "10.0.0.1", 80) for n in range(1, count + 1)))
        for name, count in servers.items()
    )
    return Map(
        version=version,
        term=1,
        made_at_s=version,
        regions=regions,
        units=Units.of(units),
        fallback=tuple(range(len(servers))),
    )


MAP = map_of(3, {"DE": (0, 1, 2), "FR": (1, 0, 2), "DE/Hesse": (2,)}, fra=2, par=2, nyc=0)


@pytest.mark.parametrize(
    ("unit", "rtt_ms", "loads", "found_as", "region", "reasons"),
    [
        ("DE", (5, 15, 90), (0.1, 0.1), "DE", "fra", ["wins by 10.0 ms", "+10.0 ms", "no live server"]),
        ("DE/Bavaria", (5, 15, 90), (1.0, 0.1), "DE", "fra",
         ["wins by the map, though now 40.0 ms behind", "-40.0 ms", "no live server"]),
        ("FR", (5, 15, 90), (0.9, 0.1), "FR", "par", ["wins by 15.0 ms", "+15.0 ms", "no live server"]),
        ("", (5, 15, 90), (0.1, 0.1), "", "fra", ["wins by 10.0 ms", "+10.0 ms", "no live server"]),
        ("DE/Hesse", (5, 15, 90), (0.1, 0.1), "DE/Hesse", "fra", ["no live server", "wins: nobody else lives"]),
    ],
)  # fmt: skip
def test_why(
    unit: str, rtt_ms: tuple[float, ...], loads: tuple[float, ...], found_as: str, region: str, reasons: list[str]
) -> None:
    found = explain(
        MAP,
        unit,
        dict(zip(("fra", "par", "nyc"), rtt_ms, strict=True)),
        dict(zip(("fra", "par"), loads, strict=True)),
        7,
        2,
    )
    assert (found.found_as, found.region, found.map_version) == (found_as, region, 3)
    assert [one.why for one in found.candidates] == reasons
    assert {name[:3] for name in found.servers} == {region}
    assert all(one.score_ms == one.rtt_ms + one.cost_ms for one in found.candidates)


def test_the_only_one_that_lives_and_no_site() -> None:
    found = explain(map_of(1, {"X": (1, 0)}, a=0, b=1), "X", {}, {}, 0, 2)
    assert [one.why for one in found.candidates] == ["wins: nobody else lives", "no live server"]
    assert found.region == "b" and found.servers == ()
    assert explain(map_of(1, {"X": (0,)}, a=0), "X", {}, {}, 1, 2).region == ""


def test_difference() -> None:
    after = map_of(5, {"DE": (1, 0), "FR": (1, 2), "JP": (2,)}, fra=1, par=3, nyc=1)
    found = difference(MAP, after)
    assert (found.before, found.after, found.seconds, found.units) == (3, 5, 2.0, 4)
    assert (found.gone, found.come) == (("fra-2",), ("nyc-1", "par-3"))
    assert found.moved == (("", "nyc", 1), ("fra", "par", 1))
    assert found.reranked == 1
    same = difference(MAP, MAP)
    assert (same.gone, same.come, same.moved, same.reranked) == ((), (), (), 0)


def test_what_was_measured_what_it_costs_and_shares() -> None:
    split = structs.replace(MAP, shares={"DE": (10, 6)})
    told = Told(
        pages=Learned(deltas_ms={"fra": 30.0}, others_ms=4.0, voices={"fra": (9, 12.5)}), costs_ms={"par": 2.0}
    )
    found = explain(split, "DE", {"fra": 5.0, "par": 15.0}, {}, 0, 2, told)
    fra, par, _ = found.candidates
    assert (fra.prior_ms, fra.rtt_ms, fra.voices, fra.age_s, fra.share) == (5.0, 35.0, 9, 12.5, 10)
    assert (par.prior_ms, par.rtt_ms, par.voices, par.score_ms, par.share) == (15.0, 19.0, 0, 21.0, 6)
    assert fra.why == "wins by the map, though now 14.0 ms behind" and not found.pinned


@pytest.mark.parametrize(
    ("full", "units", "reasons"),
    [
        ((), (0, 1), ["wins by 10.0 ms", "+10.0 ms"]),
        (("par",), (0, 1), ["wins by 10.0 ms", "+10.0 ms"]),  # it would not be the best, had it room
        (("fra",), (1, 0), ["wins: all others are full", "full, -10.0 ms"]),
        (("fra",), (0, 1), ["wins by 10.0 ms", "+10.0 ms"]),  # it was there before
        (("fra", "par"), (0, 1), ["wins by 10.0 ms", "+10.0 ms"]),
        (("fra",), (1, 0, 2), ["wins by 5.0 ms, who was better is full", "full, -10.0 ms", "+5.0 ms"]),
    ],
)
def test_who_is_full_is_passed_over(full: tuple[str, ...], units: tuple[int, ...], reasons: list[str]) -> None:
    found = explain(
        map_of(1, {"DE": units}, fra=2, par=2, ams=2),
        "DE",
        {"fra": 5, "par": 15, "ams": 20},
        {},
        0,
        2,
        Told(full=full),
    )
    assert [one.why for one in found.candidates] == reasons


@pytest.mark.parametrize(
    ("regions", "downloads", "region", "outside"),
    [((1,), False, "par", False), ((1, 0), True, "par", False), ((2,), False, "fra", True)],
)
def test_a_pinned_site(regions: tuple[int, ...], downloads: bool, region: str, outside: bool) -> None:
    view = View(Units.of({"DE": regions}), regions, downloads=downloads)
    found = explain(structs.replace(MAP, pins={7: 0}, views=(view,)), "DE", {"fra": 5.0, "par": 15.0}, {}, 7, 2)
    assert found.pinned and (found.downloads, found.region, found.outside) == (downloads, region, outside)
    assert all(bool(one.fetch_ms) == downloads for one in found.candidates if one.live)
    assert {one.region for one in found.candidates} - {MAP.regions[index].name for index in regions} == (
        {region} if outside else set()
    )
