"""Points and places on the Earth, and what distance costs."""

from math import asin, cos, radians, sin, sqrt

from msgspec import Struct

EARTH_RADIUS_KM = 6371.0
# Light in fibre covers ~200 km a millisecond; real routes are longer than the great circle. Round trip =
# 2 x distance x 1.5 (path stretch) / 200, plus the access network's share. Medians of PlanetLab pairs lie there.
RTT_MS_PER_KM = 0.015
RTT_ACCESS_MS = 5.0


class Point(Struct, frozen=True):
    """Degrees north and east."""

    lat: float
    lon: float


class Place(Struct, frozen=True):
    """Where an address is: ISO 3166 country code, state (first subdivision, in words), city, point.

    Unknown parts are empty; a wholly unknown place is ``NOWHERE``.
    """

    country: str = ""
    state: str = ""
    city: str = ""
    point: Point | None = None


NOWHERE = Place()


def distance_km(a: Point, b: Point) -> float:
    """The great-circle distance (haversine)."""
    lat_a, lat_b = radians(a.lat), radians(b.lat)
    h = sin((lat_b - lat_a) / 2) ** 2 + cos(lat_a) * cos(lat_b) * sin(radians(b.lon - a.lon) / 2) ** 2
    return 2 * EARTH_RADIUS_KM * asin(min(1.0, sqrt(h)))


def expected_rtt_ms(km: float) -> float:
    """The round trip to expect over that distance where nothing has been measured."""
    return RTT_ACCESS_MS + km * RTT_MS_PER_KM
