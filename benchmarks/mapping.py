"""How well users are mapped: time and quality of the allocation, and three ways to choose a region.

    python benchmarks/mapping.py [--json] [--data FOLDER] [--plot docs/mapping.svg]
    python benchmarks/mapping.py --hour [--json]

The data are measured latencies (490 PlanetLab hosts in 12 time slices; a model of 303 places made from such),
which do not come with nearmile: without them this says where they should be, and ends. What is chosen on one slice
is scored on the next. The hour is simulated (``python -m nearmile.simulate --scenario planet``) and needs no data.
"""

import argparse
import lzma
import re
import sys
import time
from collections.abc import Iterable
from ipaddress import IPv4Address
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import NamedTuple

import dns.message
import msgspec
import numpy as np
from measure import Case, case, progress, show
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from allocations import blocking_pairs, rank, uncontracted
from nearmile.base.gazetteer import areas
from nearmile.base.geography import NOWHERE, Point, distance_km
from nearmile.config.layout import Config, lay_out
from nearmile.config.network import Nameserver, Network, Region, Site
from nearmile.dns.answer import LowWorld, answer
from nearmile.dns.locate import Locator
from nearmile.mapping import atlas
from nearmile.mapping.alike import Alike
from nearmile.mapping.allocate import Allocation, Candidates, allocate, loads
from nearmile.mapping.atlas import Atlas
from nearmile.mapping.make import make_map
from nearmile.mapping.map import Map, MapRegion, Server, Units, decode, encode
from nearmile.mapping.measured import Measured, Report
from nearmile.mapping.planner import Planner
from nearmile.mapping.plans import Seen, resolver_block
from nearmile.mapping.score import Distances
from nearmile.simulate.planet import Planet, Scale

Floats = NDArray[np.float64]
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
UNITS, REGIONS, LOAD = 100_000, 500, 0.8
CHUNK = 10_000
# Case 2.
SITES, BLOCKS_LOG2, RANGE, TTL_S = 60, 15, 512, 20.0
# Requests/s of the names, by Zipf's law; so that full client subnets cost about the published 8 times the queries.
NAMES_PER_S = 550.0 / np.arange(1, 101)
ACCESS_MS = 8.0
SERIAL = 7
# What name servers have counted when plans are made; of so many requests one brought a beacon.
COUNTED_S = 3600.0
BEACON_OF = 100
# Scores are means of so many measurements; round trips are those of the next.
SMOOTHED = 10
# Draws of the model: the planner's PREFIX_MS was chosen on the first five. Gains are means of later slices.
CHOSEN_ON, SCORED_ON, LATER = range(3, 8), range(8, 13), 30
# Shares of users whose resolver is their own network's nearby, their network's far away, or a public one.
NEARBY, CENTRAL, PUBLIC = 0.6, 0.2, 0.2
PUBLIC_SITES = 20
# fmt: off
STATES = {
    "AL": "Alabama", "AK": "Alaska", "AZ": "Arizona", "AR": "Arkansas", "CA": "California", "CO": "Colorado",
    "CT": "Connecticut", "DE": "Delaware", "DC": "District of Columbia", "FL": "Florida", "GA": "Georgia",
    "HI": "Hawaii", "ID": "Idaho", "IL": "Illinois", "IN": "Indiana", "IA": "Iowa", "KS": "Kansas",
    "KY": "Kentucky", "LA": "Louisiana", "ME": "Maine", "MD": "Maryland", "MA": "Massachusetts",
    "MI": "Michigan", "MN": "Minnesota", "MS": "Mississippi", "MO": "Missouri", "MT": "Montana",
    "NE": "Nebraska", "NV": "Nevada", "NH": "New Hampshire", "NJ": "New Jersey", "NM": "New Mexico",
    "NY": "New York", "NC": "North Carolina", "ND": "North Dakota", "OH": "Ohio", "OK": "Oklahoma",
    "OR": "Oregon", "PA": "Pennsylvania", "RI": "Rhode Island", "SC": "South Carolina", "SD": "South Dakota",
    "TN": "Tennessee", "TX": "Texas", "UT": "Utah", "VT": "Vermont", "VA": "Virginia", "WA": "Washington",
    "WV": "West Virginia", "WI": "Wisconsin", "WY": "Wyoming", "AB": "Alberta", "BC": "British Columbia",
    "MB": "Manitoba", "NB": "New Brunswick", "NL": "Newfoundland and Labrador", "NS": "Nova Scotia",
    "ON": "Ontario", "PE": "Prince Edward Island", "QC": "Quebec", "SK": "Saskatchewan",
}
# fmt: on


def percentile(values_ms: Floats, weights: Floats, share: float) -> float:
    """The value below which that share of the weight is."""
    order = np.argsort(values_ms)
    sums = np.cumsum(weights[order])
    return float(values_ms[order][np.searchsorted(sums, share * sums[-1])])


def p99(values_ms: Floats, weights: Floats) -> float:
    """The slowest hundredth begins here."""
    return percentile(values_ms, weights, 0.99)


class Slices:
    """100,000 units and 500 regions made from the hosts.

    A unit is at a host, with a last mile of its own (exponential, mean 8 ms) and a detour of up to 10 % to each
    region; a region is at a host, ten hosts have two. Demand is Pareto's (1.5), cut at 50 times the least.
    """

    def __init__(self, file: Path) -> None:
        chance = np.random.default_rng(1)
        self._rtt_ms = np.load(file)["rtt_ms"]
        hosts = self._rtt_ms.shape[1]
        self._at = chance.integers(0, hosts, UNITS)
        self._regions_at = np.concatenate((np.arange(hosts), chance.integers(0, hosts, REGIONS - hosts)))
        self._last_mile_ms = chance.exponential(ACCESS_MS, UNITS)
        self.demand = np.minimum(chance.pareto(1.5, UNITS) + 1, 50.0)

    def scores(self, number: int, rows: slice) -> NDArray[np.float32]:
        """Round trips of those units to all regions in that slice."""
        chance = np.random.default_rng(rows.start)  # a detour stays from slice to slice
        near = self._rtt_ms[number][self._at[rows]][:, self._regions_at]
        detour = chance.uniform(1.0, 1.1, near.shape)
        found: NDArray[np.float32] = (1 + near * detour + self._last_mile_ms[rows, np.newaxis]).astype(np.float32)
        return found

    def chunks(self) -> list[slice]:
        return [slice(start, start + CHUNK) for start in range(0, UNITS, CHUNK)]


def ranked(slices: Slices, number: int) -> tuple[Candidates, float]:
    """Everybody's candidates, and the CPU time of ranking alone."""
    parts, used_s = [], 0.0
    for rows in slices.chunks():
        scores = slices.scores(number, rows)
        before_s = time.process_time()
        parts.append(rank(scores))
        used_s += time.process_time() - before_s
    both = (np.concatenate([getattr(part, name) for part in parts]) for name in ("regions", "scores"))
    return Candidates(*both), used_s


def scored(slices: Slices, allocation: Allocation, number: int) -> tuple[Floats, Floats]:
    """Round trips and weights of all pieces, as they are in that slice."""
    times, weights = [], []
    for rows in slices.chunks():
        found = np.take_along_axis(
            slices.scores(number, rows), allocation.candidates.regions[rows].astype(np.intp), axis=1
        )
        held = allocation.placed[rows] > 0
        times.append(found[held])
        weights.append(allocation.placed[rows][held])
    return np.concatenate(times).astype(float), np.concatenate(weights).astype(float)


def allocation_cases(file: Path) -> list[Case]:
    """Case 1."""
    slices = Slices(file)
    candidates, rank_s = ranked(slices, 0)
    nearest = np.bincount(candidates.regions[:, 0], weights=slices.demand, minlength=REGIONS)
    chance = np.random.default_rng(2)
    # Planned for demand as it once was: since then it has grown or shrunk by half, differently near each region.
    own = (nearest + nearest.mean() / 10) * chance.uniform(0.5, 1.5, REGIONS)
    capacities = uncontracted(own * slices.demand.sum() / own.sum() / LOAD)
    before_s = time.process_time()
    found = allocate(slices.demand, candidates, capacities)
    cold_s = rank_s + time.process_time() - before_s
    changed = slices.demand.copy()
    rows = chance.choice(UNITS, UNITS // 100, replace=False)
    changed[rows] *= chance.uniform(0.5, 2.0, len(rows))
    before_s = time.process_time()
    again = allocate(changed, candidates, capacities, found)
    warm_s = time.process_time() - before_s
    pairs = blocking_pairs(found, candidates, capacities) + blocking_pairs(again, candidates, capacities, found)
    fullest = float((loads(found, REGIONS) / capacities.regions).max())
    free = allocate(slices.demand, candidates, uncontracted([np.inf] * REGIONS))
    ours, best = scored(slices, found, 1), scored(slices, free, 1)
    tail_ms, free_tail_ms = p99(*ours), p99(*best)
    mean_ms, free_ms = (mean(*ours), mean(*best))
    what = "100,000 units, 500 regions"
    return [
        line(f"{what}: allocate from nothing (CPU)", cold_s, 10.0, "s", "<= 10 s"),
        line(f"{what}: allocate after 1 % of demand changed (CPU)", warm_s, 1.0, "s", "<= 1 s"),
        line(f"{what}: blocking pairs, both times", len(pairs), 0, "pairs", "0"),
        line(f"{what}: demand moved by the change", 100 * moved(found, again), 1.0, "%", "(information)"),
        line(f"{what}: the fullest region", fullest, 1.0, "share", "<= 1"),
        line("p99 round trip at 80 % load, without capacities", tail_ms, free_tail_ms, "ms", "ratio <= 1.10"),
        line("mean round trip at 80 % load, without capacities", mean_ms, free_ms, "ms", "(information)"),
    ]


def hour_cases() -> list[Case]:
    """Case 4: an hour of maps for 100,000 servers and a million units."""
    planet = Planet(1, Scale())
    planet.run(3600.0, lambda now_s: progress(f"{now_s / 60:.0f} virtual minutes"))
    used, judge, what = getrusage(RUSAGE_SELF), planet.judge, "an hour, 100,000 servers, a million units"
    return [
        *(line(f"{what}: {name}", len(found.violations), 0, "cases", "0") for name, found in judge.found.items()),
        line(f"{what}: all units placed anew", judge.placings, 360, "maps", ">= 360"),
        line(f"{what}: CPU time", used.ru_utime + used.ru_stime, 3600.0, "s", "< 3600 s"),
        line(f"{what}: memory at most", used.ru_maxrss / 2**20, 4.0, "GiB", "(information)"),
        line(f"{what}: most demand moved in 10 s", 100 * judge.moved_most, 100.0, "%", "(information)"),
    ]


def moved(before: Allocation, after: Allocation) -> float:
    """The share of demand that another region serves."""
    total = 0.0
    for start in range(0, UNITS, CHUNK):
        rows, shares = slice(start, start + CHUNK), []
        for each in (before, after):
            dense = np.zeros((CHUNK, REGIONS))
            np.put_along_axis(dense, each.candidates.regions[rows].astype(np.intp), each.placed[rows], axis=1)
            shares.append(dense / dense.sum(axis=1, keepdims=True))
        change = np.abs(shares[0] - shares[1]).sum(axis=1) / 2
        total += float((change * after.placed[rows].sum(axis=1)).sum())
    return total / float(after.placed.sum())


class Places(NamedTuple):
    """The places of the model: where, how many live there, round trips and their jitter."""

    points: list[Point]
    people: Floats
    rtt_ms: Floats
    jitter_ms: Floats


def read_places(file: Path) -> Places:
    """The graph's places whose country or state is known."""
    known = {(area.country, area.state): area for area in areas()}
    with lzma.open(file, "rt") as stream:
        text = stream.read()
    codes = re.findall(r'<node id="([^"]+)">.*?<data key="d2">([^<]*)</data>', text, re.S)
    found = {}
    for node, code in codes:
        area = known.get((code[:2], STATES.get(code[2:], "")))
        if area is not None:
            found[node] = area
    index = {node: number for number, node in enumerate(found)}
    rtt, jitter = np.zeros((len(found), len(found))), np.zeros((len(found), len(found)))
    edge = (
        r'<edge source="([^"]+)" target="([^"]+)">\s*<data key="d7">([^<]+)</data>\s*<data key="d8">([^<]+)</data>'
    )
    for a, b, latency, swing in re.findall(edge, text):
        if a in index and b in index:
            for one, other in ((a, b), (b, a)):
                # The graph has one-way delays.
                rtt[index[one], index[other]] = 2 * float(latency)
                jitter[index[one], index[other]] = 2 * float(swing)
    homes = list(found.values())
    alike = np.array([sum(home == other for other in homes) for home in homes])
    people = np.array([max(home.population, 1000) for home in homes]) / alike
    return Places([home.point for home in homes], people, rtt, jitter)


class Model:
    """Blocks of clients (in one address space, neighbours at one place), regions, and resolvers."""

    def __init__(self, places: Places, draw: int) -> None:
        chance = np.random.default_rng(draw)
        count, blocks = len(places.points), 1 << BLOCKS_LOG2
        share = places.people / places.people.sum()
        # Each registry gives out aligned networks of 1 to 64 blocks, from ranges of its own.
        registry = np.digitize([point.lon for point in places.points], (-30, 60))
        homes: list[int] = []
        while len(homes) < blocks:
            if len(homes) % RANGE == 0:
                here = share * (registry == registry[chance.choice(count, p=share)])
            size = 1 << int(chance.integers(0, 7))
            size = min(size, len(homes) & -len(homes) or size)
            homes += [int(chance.choice(count, p=here / here.sum()))] * size
        self.home = np.array(homes)
        self.demand = np.minimum(chance.pareto(1.2, blocks) + 0.1, 100.0)
        self.demand /= self.demand.sum()
        regions = self.regions = chance.choice(count, SITES, replace=False, p=share)
        swings = (places.jitter_ms * chance.normal(0, 0.5, places.rtt_ms.shape) for _ in range(SMOOTHED + 1))
        *seen, later = (np.maximum(places.rtt_ms + swing, 1.0)[:, regions] for swing in swings)
        self.measured: Floats = np.mean(seen, axis=0)
        after = np.random.default_rng(1000 + draw)
        swings = (places.jitter_ms * after.normal(0, 0.5, places.rtt_ms.shape) for _ in range(LATER))
        self.later: Floats = np.mean(
            [np.maximum(places.rtt_ms + swing, 1.0)[:, regions] for swing in swings], axis=0
        )
        self.truth = later[self.home] + chance.exponential(ACCESS_MS, blocks)[:, np.newaxis]
        far = np.array([[distance_km(a, places.points[b]) for b in regions] for a in places.points])
        self.nearest = far.argmin(axis=1)[self.home]
        kind = chance.choice(3, blocks, p=(NEARBY, CENTRAL, PUBLIC))
        hubs = np.argsort(-places.people)[:PUBLIC_SITES]
        public = hubs[places.rtt_ms[:, hubs].argmin(axis=1)]
        big = np.argsort(-places.people)[: count // 6]
        central = big[places.rtt_ms[:, big].argmin(axis=1)]
        self.resolver = np.choose(kind, (self.home, central[self.home], public[self.home]))
        self.address = 10 << 24 | kind << 20 | self.resolver << 8 | 53
        """The resolver's; those of different kinds at a place are different."""
        self.subnets = kind == 2
        """Whether the resolver tells the client's subnet: public ones do."""

    def at_home(self) -> NDArray[np.intp]:
        """Each block's region by its own measured round trips."""
        chosen: NDArray[np.intp] = self.measured.argmin(axis=1)[self.home]
        return chosen

    def by_resolver(self) -> NDArray[np.intp]:
        """Each block's region by its resolver's."""
        chosen: NDArray[np.intp] = self.measured.argmin(axis=1)[self.resolver]
        return chosen

    def round_trips(self, chosen: NDArray[np.intp]) -> Floats:
        """What the clients of each block then have, in the later slice."""
        found: Floats = self.truth[np.arange(len(chosen)), chosen]
        return found


def queries_per_s(model: Model, prefix_of: NDArray[np.intp]) -> float:
    """Queries of the resolvers that tell subnets: one a TTL for each entry of their cache that is in use."""
    own = model.subnets
    rates: dict[tuple[int, int], float] = {}
    for resolver, prefix, demand in zip(model.resolver[own], prefix_of[own], model.demand[own], strict=True):
        key = (int(resolver), int(prefix))
        rates[key] = rates.get(key, 0.0) + float(demand)
    return float(refetched(np.array(list(rates.values()))).sum())


def refetched(shares: Floats) -> Floats:
    """Queries/s for entries with those shares of all demand: each name is asked for once a TTL, if at all."""
    rates = shares[:, np.newaxis] * NAMES_PER_S
    found: Floats = (rates / (1 + rates * TTL_S)).sum(axis=1)
    return found


class Answered(NamedTuple):
    """What production name servers answer: regions, and prefixes (as numbers) of the blocks that tell subnets."""

    regions: NDArray[np.intp]
    prefixes: NDArray[np.intp]


def network_of(model: Model, places: Places) -> tuple[Config, Map, Atlas, Measured]:
    """The model as production code sees it: places are units and have targets, each region has a server."""
    names = [f"P{number:03}" for number in range(len(places.points))]
    starts = np.append(
        np.arange(len(model.home), dtype=np.uint64) << np.uint64(8), np.uint64(len(model.home) << 8)
    )
    units = np.append(model.home + 1, 0).astype(np.uint32)
    nobody = np.zeros(1, np.uint64), np.zeros(1, np.uint32)
    known = atlas.made("", names, places.points, [1.0] * len(names), (starts, units), nobody)
    network = Network(
        name="model",
        zone="model.test",
        regions={f"r{n:02}": Region(city=f"r{n:02}", servers=1) for n in range(SITES)},
        nameservers=(Nameserver(tier="top", city="r00"), Nameserver(tier="low", city="r00")),
    )
    points = {f"r{n:02}": places.points[at] for n, at in enumerate(model.regions)}
    site = Site(hostnames=("www.model.test",), origin="http://127.0.0.1", serial=SERIAL)
    config = lay_out(network, {"www": site}, points, version=1)
    regions = tuple(
        MapRegion(p.region, points[p.region], (Server(p.name, p.address, p.port),)) for p in config.of_role("edge")
    )
    measured = Measured()
    measured.know(dict(zip(names, places.points, strict=True)), {one.name: one.point for one in regions})
    for column, region in enumerate(regions):
        told = {name: {"target": float(model.measured[row, column])} for row, name in enumerate(names)}
        measured.add(Report(region.name, {}, told), 0.0)
    distances = Distances(known.areas(), [one.point for one in regions])
    columns = {one.name: column for column, one in enumerate(regions)}
    made = make_map(
        distances,
        regions,
        [0.0] * SITES,
        measured=measured.corrections(distances.rows, columns, 0.0),
    )
    planner = Planner()
    planner.know(known)
    own = np.flatnonzero(model.subnets)
    asked = [refetched(model.demand[block : block + 1])[0] * COUNTED_S for block in own]
    planner.behind.add(seen(model, own, asked), 0.0)
    others = np.flatnonzero(~model.subnets)
    beacons = np.random.default_rng(1).poisson(model.demand[others] * NAMES_PER_S.sum() * COUNTED_S / BEACON_OF)
    planner.beacons.add(seen(model, others, beacons), 0.0)
    while planner.work(made.map, distances, measured, 0.0):
        pass
    return config, msgspec.structs.replace(made.map, plans=planner.plans), known, measured


def seen(model: Model, blocks: NDArray[np.intp], counts: Iterable[float]) -> list[Seen]:
    """As name servers or beacons tell it."""
    return [
        Seen(resolver_block(4, int(model.address[block])), 4, int(block), float(count))
        for block, count in zip(blocks, counts, strict=True)
    ]


def answered(model: Model, config: Config, current: Map, known: Atlas) -> Answered:
    """Asks a name server, by packets: for every block that tells its subnet, and for every other resolver."""
    world = LowWorld(config, current, Locator(lambda _: NOWHERE, (), known))
    column_of = {p.address: column for column, p in enumerate(config.of_role("edge"))}
    labels = f"a{SERIAL}.g.model.test".encode().split(b".")
    question = b"".join(len(label).to_bytes(1) + label for label in labels) + b"\0\0\1\0\1"
    bare = b"\0\1\0\0\0\1\0\0\0\0\0\0" + question
    subnet = b"\0\1\0\0\0\1\0\0\0\0\0\1" + question
    subnet += b"\0\0\x29\4\xd0\0\0\0\0\0\x0b\0\x08\0\7\0\1\x18\0"

    def ask(query: bytes, block: int) -> tuple[int, int]:
        packet = answer(query, str(IPv4Address(int(model.address[block]))), world)
        assert packet is not None
        reply = dns.message.from_wire(packet)
        return column_of[reply.answer[0][0].address], reply.options[0].scopelen if reply.options else 0

    regions, prefixes = model.by_resolver(), np.zeros(len(model.home), dtype=np.intp)
    for block in np.flatnonzero(model.subnets).tolist():
        regions[block], scope = ask(subnet + block.to_bytes(3), block)
        prefixes[block] = (block >> 24 - scope << 24 - scope) * 32 + scope
    others = np.flatnonzero(~model.subnets)
    _, firsts, of_resolver = np.unique(model.address[others], return_index=True, return_inverse=True)
    regions[others] = np.array([ask(bare, block)[0] for block in others[firsts].tolist()])[of_resolver]
    return Answered(regions, prefixes)


def atlas_cases() -> list[Case]:
    """How large atlas and map of 100,000 units are, each with a range of addresses at random, and how quick."""
    chance = np.random.default_rng(4)
    starts = np.unique(np.append(0, chance.choice(1 << 24, UNITS, replace=False))).astype(np.uint64) << np.uint64(
        8
    )
    names = [f"US/State {n // 2000:02}/City {n:05}" for n in range(UNITS)]
    units = chance.permutation(np.arange(len(starts)) % UNITS + 1).astype(np.uint32)
    nobody = np.zeros(1, np.uint64), np.zeros(1, np.uint32)
    points = [Point(float(lat), float(lon)) for lat, lon in chance.uniform(-60, 60, (UNITS, 2))]
    packed = atlas.pack(atlas.made("", names, points, np.ones(UNITS, np.float32), (starts, units), nobody))
    lists = np.sort(chance.integers(0, REGIONS, (2000, 8)).astype("<u2"), axis=1)[chance.integers(0, 2000, UNITS)]
    regions = tuple(MapRegion(f"r{n}", Point(0, 0), (Server(f"r{n}-1", "10.0.0.1", 80),)) for n in range(REGIONS))
    whole = Map(
        version=1,
        term=1,
        made_at_s=0,
        regions=regions,
        units=Units(tuple(names), 8, lists.tobytes()),
        fallback=(0,),
    )
    sent, times = encode(whole), []
    asked = chance.integers(0, 1 << 32, UNITS).tolist()
    known = Alike(atlas.unpack(packed), whole.units, {})
    for work in (
        lambda: atlas.unpack(packed),
        lambda: decode(sent),
        lambda: Alike(atlas.unpack(packed), whole.units, {}),
        lambda: [known.find(4, number) for number in asked],
    ):
        before_s = time.process_time()
        work()
        times.append(time.process_time() - before_s)
    what = "100,000 units"
    return [
        line(f"{what}: atlas on the bus, what it carries", len(packed) / 1000, 3146, "KB", "< 3146"),
        line(f"{what}: map on the bus, what it carries", len(sent) / 1000, 3146, "KB", "< 3146"),
        line(f"{what}: atlas read (CPU)", 1000 * times[0], 0, "ms", "(information)"),
        line(f"{what}: map read (CPU)", 1000 * times[1], 0, "ms", "(information)"),
        line(f"{what}: atlas and map joined (CPU)", 1000 * (times[2] - times[0]), 0, "ms", "(information)"),
        line(f"{what}: address found (CPU)", 1e6 * times[3] / UNITS, 0, "us", "(information)"),
    ]


class Ways(NamedTuple):
    """Case 2's result."""

    cases: list[Case]
    curves: dict[str, tuple[Floats, Floats]]


def ways(file: Path) -> Ways:
    """Case 2: three ways to map, and merged scopes."""
    places = read_places(file)
    model = Model(places, CHOSEN_ON[0])
    blocks = np.arange(len(model.home))
    chosen = {
        "by resolver": model.by_resolver(),
        "nearest by distance": model.nearest,
        "client measured": model.at_home(),
    }
    cases = []
    curves = {name: (model.round_trips(found), model.demand) for name, found in chosen.items()}
    config, current, known, _ = network_of(model, places)
    ours = "plans and beacons"
    curves[ours] = (model.round_trips(answered(model, config, current, known).regions), model.demand)
    for one, other in (
        ("client measured", "by resolver"),
        ("client measured", "nearest by distance"),
        (ours, "by resolver"),
        (ours, "nearest by distance"),
    ):
        for what, of in (("mean", mean), ("p99", p99)):
            cases.append(
                line(f"{what} round trip: {one}, {other}", of(*curves[one]), of(*curves[other]), "ms", "< 1")
            )
    full_queries = queries_per_s(model, blocks) / queries_per_s(model, np.zeros_like(blocks))
    bare = gain_of(model, config, msgspec.structs.replace(current, plans={}), known)
    cases += [
        line(
            "gain of client subnets, name servers without plans",
            bare.subnets_ms,
            bare.full_ms,
            "ms",
            "(information)",
        ),
        line("queries, each block for itself, by resolver alone", full_queries, 1.0, "times", "(information)"),
        line("queries, name servers without plans", bare.times, 1.0, "times", "(information)"),
    ]
    held = sum(len(plan.v4.firsts) for plan in current.plans.values())
    cases.append(line("prefixes of all plans, resolvers", held, len(current.plans), "prefixes", "(information)"))
    return Ways(cases + plan_cases(places), curves)


class Gain(NamedTuple):
    """What mapping gains by user, beside mapping by resolver; and the queries of resolvers that tell subnets."""

    full_ms: float
    """Full client subnets, which only users have whose resolver tells them."""
    subnets_ms: float
    """nearmile's answers to those resolvers."""
    beacons_ms: float
    """And to all others."""
    times: float
    """Queries of the first kind, by those without subnets."""

    @property
    def all_ms(self) -> float:
        """All users."""
        return self.subnets_ms + self.beacons_ms


def gain_of(model: Model, config: Config, current: Map, known: Atlas) -> Gain:
    """By a name server's answers, in the mean of later slices."""
    own, told = model.subnets, answered(model, config, current, known)
    before = model.later[model.home, model.by_resolver()]
    ours, full = (
        (before - model.later[model.home, found]) * model.demand for found in (told.regions, model.at_home())
    )
    once = queries_per_s(model, np.zeros_like(model.home))
    times = queries_per_s(model, told.prefixes) / once
    return Gain(float(full[own].sum()), float(ours[own].sum()), float(ours[~own].sum()), times)


def plan_cases(places: Places) -> list[Case]:
    """Plans for resolvers, in draws of the model: those on which the threshold was chosen, and others."""
    cases = []
    for draws, what, goals in (
        (CHOSEN_ON, "chosen on", ("(information)", "(information)")),
        (SCORED_ON, "scored on", (">= 95 %", "<= 2")),
    ):
        gains = []
        for draw in draws:
            progress(f"plans for resolvers, draw {draw}")
            model = Model(places, draw)
            gain = gain_of(model, *network_of(model, places)[:3])
            gains.append(gain)
            cases += [
                line(f"plans, draw {draw}: gain", gain.subnets_ms, gain.full_ms, "ms", "(information)"),
                line(f"plans, draw {draw}: gain with beacons", gain.all_ms, gain.full_ms, "ms", "(information)"),
                line(f"plans, draw {draw}: queries", gain.times, 1.0, "times", "(information)"),
            ]
        full = sum(gain.full_ms for gain in gains)
        subnets = 100 * sum(gain.subnets_ms for gain in gains) / full
        all_users = 100 * sum(gain.all_ms for gain in gains) / full
        times = sum(gain.times for gain in gains) / len(gains)
        cases += [
            line(f"plans, five draws {what}: gain", subnets, 100.0, "%", "(information)"),
            line(f"plans, five draws {what}: gain with beacons", all_users, 100.0, "%", goals[0]),
            line(f"plans, five draws {what}: queries", times, 1.0, "times", goals[1]),
        ]
    return cases


def mean(times_ms: Floats, weights: Floats) -> float:
    """Weighted."""
    return float(np.average(times_ms, weights=weights))


def line(name: str, ours: float, peer: float, unit: str, goal: str) -> Case:
    """A case of one measurement."""
    return case(name, [ours], [peer], unit, goal)


def plot(curves: dict[str, tuple[Floats, Floats]]) -> str:
    """Cumulative shares of users by round trip, as SVG."""
    wide, high, left, most_ms = 620, 300, 50, 300
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide + left + 20} {high + 60}" '
        'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
    ]
    for percent in range(0, 101, 25):
        y = 15 + high * (1 - percent / 100)
        parts.append(f'<path d="M{left} {y:.0f}h{wide}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.0f}" text-anchor="end">{percent} %</text>')
    for ms in range(0, most_ms + 1, 50):
        x = left + wide * ms / most_ms
        parts.append(f'<text x="{x:.0f}" y="{high + 32}" text-anchor="middle">{ms} ms</text>')
    for number, (name, (times, weights)) in enumerate(curves.items()):
        colour = ("#36c", "#999", "#d22", "#292")[number]
        steps = [(share, percentile(times, weights, share)) for share in np.linspace(0.005, 0.995, 199)]
        path = "L".join(
            f"{left + wide * min(ms, most_ms) / most_ms:.1f} {15 + high * (1 - share):.1f}" for share, ms in steps
        )
        parts.append(f'<path d="M{path}" stroke="{colour}" stroke-width="2" fill="none"/>')
        parts.append(f'<text x="{left + wide - 150}" y="{high - 58 + 18 * number}" fill="{colour}">{name}</text>')
    parts.append(f'<text x="{left}" y="{high + 52}">round trip, by share of requests</text>')
    return "\n".join([*parts, "</svg>\n"])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with latency/ and topology/")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="writes an SVG")
    parser.add_argument("--hour", action="store_true", help="only the simulated hour, which takes some 20 minutes")
    chosen = parser.parse_args()
    if chosen.hour:
        show(hour_cases(), chosen.json)
        return
    slices, graph = chosen.data / "latency/planetlab_rtt_ms.npz", chosen.data / "topology/plab.graphml.xml.xz"
    for file in (slices, graph):
        if not file.is_file():
            sys.exit(
                f"there is no {file}; these measured latencies do not come with nearmile (see docs/mapping.md)"
            )
    progress("three ways to map")
    found = ways(graph)
    if chosen.plot:
        chosen.plot.write_text(plot(found.curves))
    progress("allocation of 100,000 units to 500 regions")
    show([*allocation_cases(slices), *found.cases, *atlas_cases()], chosen.json)


if __name__ == "__main__":
    main()
