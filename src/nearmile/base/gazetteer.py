"""The cities and areas that nearmile knows by name, from tables that come with the package.

``data/NOTICE.md`` says where they come from; ``tools/make_geography.py`` made them.
"""

import difflib
import re
import unicodedata
from functools import cache
from importlib.resources import files

from msgspec import Struct

from nearmile.base.geography import Point

NEAR_MISSES_MAX = 3
# How alike two names must be for one to be a likely misspelling of the other (difflib's ratio).
LIKENESS_MIN = 0.7
LENGTH_DIFFERENCE_MAX = 2


class City(Struct, frozen=True):
    """A city. ``address`` is an IPv4 address of a network there, to ask questions as one of its users would."""

    name: str
    country: str
    state: str
    point: Point
    population: int
    address: str


class Area(Struct, frozen=True):
    """A country (``state`` is empty) or a state of one, with the middle of its population.

    ``population`` counts the people of its larger towns: a weight, not a census.
    """

    country: str
    state: str
    point: Point
    population: int


def find_city(name: str) -> City | None:
    """The most populous city of that name, whatever its case and accents.

    ``"Paris, US"`` and ``"Springfield, Illinois"`` say which country (ISO code) or state is meant.
    """
    wanted, _, area = name.partition(",")
    area = _fold(area)
    for city in _by_name().get(_fold(wanted), ()):
        if area in ("", city.country.lower(), _fold(city.state)):
            return city
    return None


def near_misses(name: str) -> list[str]:
    """Up to three cities that may have been meant by a name that ``find_city`` does not know, best first."""
    known = _by_name()
    wanted = _fold(name.partition(",")[0])
    if wanted in known:  # the name is right, the area is not
        return [f"{city.name}, {city.country}" for city in known[wanted][:NEAR_MISSES_MAX]]
    alike = [other for other in known if abs(len(other) - len(wanted)) <= LENGTH_DIFFERENCE_MAX]
    close = difflib.get_close_matches(wanted, alike, NEAR_MISSES_MAX, LIKENESS_MIN)
    return list(dict.fromkeys(known[match][0].name for match in close))


@cache
def cities() -> tuple[City, ...]:
    """All cities, the most populous first."""
    return tuple(city for city, _ in _table())


@cache
def areas() -> tuple[Area, ...]:
    """All countries and their states, in the order of their names."""
    return tuple(
        Area(country, state, Point(float(lat), float(lon)), int(population))
        for country, state, lat, lon, population in _rows("areas.tsv")
    )


@cache
def _table() -> tuple[tuple[City, tuple[str, ...]], ...]:
    """Each city with its other names."""
    found = []
    for name, country, state, lat, lon, population, address, others in _rows("cities.tsv"):
        city = City(name, country, state, Point(float(lat), float(lon)), int(population), address)
        found.append((city, tuple(others.split("|"))))
    return tuple(found)


@cache
def _by_name() -> dict[str, list[City]]:
    """Cities by folded name, the most populous first; a city's own name goes before other names."""
    found: dict[str, list[City]] = {}
    for city, _ in _table():
        found.setdefault(_fold(city.name), []).append(city)
    own = set(found)
    for city, others in _table():
        for other in others:
            if other and other not in own:
                found.setdefault(other, []).append(city)
    return found


def _rows(file: str) -> list[list[str]]:
    text = files("nearmile.base").joinpath("data", file).read_text(encoding="utf-8")
    return [line.split("\t") for line in text.splitlines()]


def _fold(name: str) -> str:
    """A name in lower-case ASCII letters and digits, words separated by one blank."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return " ".join(re.findall(r"[a-z0-9]+", plain))
