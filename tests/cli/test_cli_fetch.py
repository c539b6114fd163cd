"""`nearmile fetch`: who asks, what the answer says of its way, and which regions come into question."""

from pathlib import Path

import pytest

from nearmile.base.errors import WrongInput
from nearmile.base.geography import Point
from nearmile.cli.fetch import client_address, nearest, newest_map, read_cache_status
from nearmile.mapping.map import Map, MapRegion, Units, View, encode
from nearmile.services import state
from small_network import shop_and_blog


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("tokyo-1; hit", ("tokyo-1", "hit")),
        ("tokyo-1; hit; ttl=30", ("tokyo-1", "hit")),
        ("tokyo-1; fwd=uri-miss; stored", ("tokyo-1", "miss")),
        ("tokyo-2; hit, tokyo-1; fwd=uri-miss", ("tokyo-1", "miss")),
        ("tokyo-1; fwd=stale; fwd-status=304", ("tokyo-1", "revalidated")),
        ("tokyo-1; fwd=stale; fwd-status=200; stored", ("tokyo-1", "miss")),
        ("tokyo-1; fwd=method", ("tokyo-1", "method")),
        ("", ("", "none")),
    ],
)
def test_cache_status_is_read_as_rfc_9211_says(value: str, expected: tuple[str, str]) -> None:
    assert read_cache_status(value) == expected


@pytest.mark.parametrize("where", ["192.0.2.7", "2001:db8::7"])
def test_an_address_is_itself(where: str) -> None:
    assert client_address(where) == where


def test_a_city_that_is_none_is_told_with_what_may_have_been_meant() -> None:
    with pytest.raises(WrongInput, match="we know; did you mean Frankfurt"):
        client_address("Frankfrut")


def test_the_regions_are_those_that_the_site_has() -> None:
    names = "frankfurt", "tokyo", "osaka", "seoul"
    regions = tuple(MapRegion(name, Point(0, 0), ()) for name in names)
    pinned = View(Units.of({"DE": (1, 2)}), (1, 2))
    made = Map(
        version=1,
        term=1,
        made_at_s=0,
        regions=regions,
        units=Units.of({"DE": (0, 1, 2, 3)}),
        fallback=(3,),
        pins={7: 0},
        views=(pinned,),
    )
    assert [region.name for region in nearest(made, "DE/Hessen", 7)] == ["tokyo", "osaka"]
    assert [region.name for region in nearest(made, "DE/Hessen", 8)] == ["frankfurt", "tokyo", "osaka"]
    assert [region.name for region in nearest(made, "FR", 8)] == ["seoul"]


def test_a_map_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    config = shop_and_blog(("shop.test",), ("blog.test",))
    assert newest_map(tmp_path, config) is None
    top, low = (state.process_folder(tmp_path, one.name) for one in config.of_role("nameserver"))
    (top / state.MAP_FILE).write_bytes(b"\xffgarbage")
    assert newest_map(tmp_path, config) is None
    good = Map(version=3, term=1, made_at_s=0, regions=(), units=Units.of({}), fallback=())
    (low / state.MAP_FILE).write_bytes(encode(good))
    found = newest_map(tmp_path, config)
    assert found is not None and found.version == 3
