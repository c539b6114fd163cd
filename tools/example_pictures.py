"""The pictures of the example site: maps made of the world's cities, and the chart of what distance costs."""

from html import escape
from itertools import pairwise
from math import acos, asin, atan2, cos, degrees, radians, sin
from pathlib import Path
from random import Random

from PIL import Image, ImageDraw

from nearmile.base.gazetteer import City, cities
from nearmile.base.geography import Point, distance_km

Colour = tuple[int, int, int]
NIGHT: Colour = (13, 24, 38)
DOT: Colour = (70, 98, 128)
WARM: Colour = (240, 152, 90)
ACCENTS: dict[str, Colour] = {
    "map": (79, 196, 189), "middle-mile": (240, 152, 90), "delivery": (126, 178, 240),
    "acceleration": (236, 201, 92), "principles": (150, 208, 122), "inside": (205, 150, 235),
}  # fmt: skip
BANNER, THUMBNAIL, SCALE = (1200, 400), (320, 160), 2
WORLD = (15.0, 13.0, 345.0)  # longitude and latitude of the middle, degrees across
ARC_STEPS = 48


class Map:
    """A picture of a part of the world, in plain degrees."""

    def __init__(self, size: tuple[int, int], view: tuple[float, float, float]) -> None:
        self.size = (size[0] * SCALE, size[1] * SCALE)
        self.lon, self.lat, across = view
        self.per_degree = self.size[0] / across
        self.image = Image.new("RGB", self.size, NIGHT)
        self.draw = ImageDraw.Draw(self.image)

    def at(self, point: Point) -> tuple[float, float]:
        east = (point.lon - self.lon + 180) % 360 - 180
        # Degrees of latitude are drawn longer, as on the maps people know.
        return self.size[0] / 2 + east * self.per_degree, self.size[1] / 2 - (
            point.lat - self.lat
        ) * self.per_degree * 1.2

    def dot(self, point: Point, radius: float, colour: Colour) -> None:
        x, y = self.at(point)
        self.draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)

    def dots(self) -> None:
        zoom = self.per_degree / 8
        for city in reversed(cities()):
            self.dot(city.point, (1.0 + (city.population / 4e6) ** 0.5) * SCALE * min(2.2, 0.55 + 0.3 * zoom), DOT)

    def arc(self, a: Point, b: Point, colour: Colour, width: float) -> None:
        """The great circle between two points."""
        corners = [self.at(point) for point in great_circle(a, b)]
        for start, end in pairwise(corners):
            if abs(start[0] - end[0]) < self.size[0] / 3:  # not where it leaves the map at one side
                self.draw.line((start, end), fill=colour, width=max(1, round(width * SCALE)))

    def small(self) -> Image.Image:
        return self.image.resize((self.size[0] // SCALE, self.size[1] // SCALE), Image.Resampling.LANCZOS)


def great_circle(a: Point, b: Point) -> list[Point]:
    """Points along the way (spherical interpolation)."""
    from_a, from_b = vector(a), vector(b)
    angle = acos(max(-1.0, min(1.0, sum(p * q for p, q in zip(from_a, from_b, strict=True)))))
    if angle < 1e-6:
        return [a, b]
    points = []
    for step in range(ARC_STEPS + 1):
        t = step / ARC_STEPS
        wa, wb = sin((1 - t) * angle) / sin(angle), sin(t * angle) / sin(angle)
        x, y, z = (wa * p + wb * q for p, q in zip(from_a, from_b, strict=True))
        points.append(point_of(x, y, z))
    return points


def vector(point: Point) -> tuple[float, float, float]:
    lat, lon = radians(point.lat), radians(point.lon)
    return cos(lat) * cos(lon), cos(lat) * sin(lon), sin(lat)


def point_of(x: float, y: float, z: float) -> Point:
    return Point(degrees(asin(max(-1.0, min(1.0, z)))), degrees(atan2(y, x)))


def mixed(colour: Colour, share: float) -> Colour:
    red, green, blue = (round(n + (c - n) * share) for c, n in zip(colour, NIGHT, strict=True))
    return red, green, blue


def banner(path: Path, page: str, section: str, homes: dict[str, City]) -> None:
    """A page's picture: its region for a region, else the world with each city's way to its region."""
    chance = Random(page)
    accent = ACCENTS.get(section, ACCENTS["map"])
    name = page.strip("/").rpartition("/")[2]
    if section == "map" and name in homes:
        picture = region_map(homes[name], BANNER, 90.0, accent)
    else:
        part = (chance.uniform(-110, 130), chance.uniform(18, 30), chance.uniform(120, 220))
        picture = Map(BANNER, WORLD if page in ("/", "/map/") else part)
        picture.dots()
        for city in chance.sample(cities()[:1200], 70):
            nearest = min(homes.values(), key=lambda home: distance_km(home.point, city.point))
            picture.arc(city.point, nearest.point, mixed(accent, chance.uniform(0.25, 0.8)), 1.1)
            picture.dot(city.point, 2.2 * SCALE, accent)
        for home in homes.values():
            picture.dot(home.point, 5 * SCALE, WARM)
    picture.small().save(path, "WEBP", quality=58, method=6)


def region_map(home: City, size: tuple[int, int], across: float, accent: Colour) -> Map:
    """A region and the large cities around it."""
    picture = Map(size, (home.point.lon, home.point.lat, across))
    picture.dots()
    near = [city for city in cities() if city is not home and distance_km(city.point, home.point) < 3000][:45]
    for city in near:
        picture.arc(home.point, city.point, mixed(accent, 0.55), 1.1)
        picture.dot(city.point, 2.4 * SCALE, accent)
    picture.dot(home.point, 6 * SCALE, WARM)
    return picture


def thumbnail(path: Path, home: City) -> None:
    """A region as a small picture with few colours."""
    small = region_map(home, THUMBNAIL, 70.0, ACCENTS["map"]).small()
    small.quantize(48, dither=Image.Dither.NONE).save(path, "PNG", optimize=True)


def icon(path: Path) -> None:
    """The icon for those who know no SVG."""
    image = Image.new("RGBA", (128, 128), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    draw.rounded_rectangle((0, 0, 127, 127), 32, fill=(11, 110, 110, 255))
    draw.arc((26, 42, 102, 136), 205, 335, fill="white", width=10)
    draw.ellipse((14, 76, 38, 100), fill="white")
    draw.ellipse((90, 76, 114, 100), fill=WARM)
    image.resize((32, 32), Image.Resampling.LANCZOS).save(path, "ICO", sizes=[(32, 32)])


def bars(rows: list[tuple[str, float, str]]) -> str:
    """A bar chart as SVG; rows of label, value and the value in words."""
    longest = max(value for _, value, _ in rows)
    parts = []
    for index, (label, value, words) in enumerate(rows):
        y, width = 24 + index * 58, max(4.0, 470 * value / longest)
        parts.append(
            f'<text x="250" y="{y + 25}" text-anchor="end" fill="#17202e">{escape(label)}</text>'
            f'<rect x="264" y="{y}" width="{width:.1f}" height="38" rx="5" fill="#0b6e6e"/>'
            f'<text x="{274 + width:.1f}" y="{y + 25}" fill="#5a6678">{escape(words)}</text>'
        )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 880 260" width="880" height="260" '
        'font-family="system-ui, sans-serif" font-size="15"><title>Time to download 4 GB, by distance</title>'
        f'<rect width="880" height="260" fill="#fff"/>{"".join(parts)}</svg>\n'
    )
