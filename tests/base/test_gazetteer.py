import pytest

from nearmile.base.gazetteer import areas, cities, find_city, near_misses
from nearmile.base.geography import Point, distance_km


@pytest.mark.parametrize(
    ("name", "country", "state", "lat", "lon"),
    [
        ("Frankfurt", "DE", "Hesse", 50.1, 8.7),
        ("frankfurt am main", "DE", "Hesse", 50.1, 8.7),
        ("London", "GB", "England", 51.5, -0.1),
        ("Ashburn", "US", "Virginia", 39.0, -77.5),
        ("San Jose", "US", "California", 37.3, -121.9),
        ("San Jose, CR", "CR", "San Jose", 9.9, -84.1),
        ("Sao Paulo", "BR", "Sao Paulo", -23.5, -46.6),
        ("São Paulo", "BR", "Sao Paulo", -23.5, -46.6),
        ("TOKYO", "JP", "Tokyo", 35.7, 139.7),
        ("Paris", "FR", "Ile-de-France", 48.9, 2.3),
        ("Chicago", "US", "Illinois", 41.9, -87.6),
        ("Chicago, Illinois", "US", "Illinois", 41.9, -87.6),
        ("Zurich", "CH", "Zurich", 47.4, 8.5),
        ("New York", "US", "New York", 40.7, -74.0),
        ("Kiev", "UA", "Kyiv City", 50.4, 30.5),
        ("Tokio", "JP", "Tokyo", 35.7, 139.7),
        ("Munich", "DE", "Bavaria", 48.1, 11.6),
    ],
)
def test_finds_a_city_by_its_names(name: str, country: str, state: str, lat: float, lon: float) -> None:
    city = find_city(name)
    assert city is not None
    assert (city.country, city.state) == (country, state)
    assert distance_km(city.point, Point(lat, lon)) < 30
    assert city.address.count(".") == 3


@pytest.mark.parametrize("name", ["", " ", ",", "Nowhereville", "Paris, JP", "\x00", "🦀", "Paris, FR, 75"])
def test_an_unknown_name_is_none(name: str) -> None:
    assert find_city(name) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [("Frankfrt", "Frankfurt am Main"), ("Pariss", "Paris"), ("Tokyoo ", "Tokyo"), ("Lonndonn", "London")],
)
def test_near_misses_name_what_was_meant(name: str, expected: str) -> None:
    assert expected in near_misses(name)


def test_near_misses_of_a_wrong_area_are_the_right_ones() -> None:
    assert near_misses("Paris, JP")[0] == "Paris, FR"
    assert near_misses("qqqqqqqqqqqq") == []


def test_every_city_is_found_by_its_own_name_and_country() -> None:
    assert 2_500 <= len(cities()) <= 5_000
    for city in cities():
        found = find_city(f"{city.name}, {city.country}")
        assert found is not None and found.population >= city.population


def test_every_city_lies_in_a_known_area() -> None:
    known = {(area.country, area.state) for area in areas()}
    assert len(known) == len(areas())
    assert {(city.country, city.state) for city in cities()} <= known
    assert {(area.country, "") for area in areas()} <= known
    assert all(
        area.population > 0 and abs(area.point.lat) <= 90 and abs(area.point.lon) <= 180 for area in areas()
    )
