"""Answers by the client's subnet: nearmile against gdnsd and PowerDNS with GeoIP, and Knot for a static name.

Each server has core 0, dnsperf core 1. All answer the same 500 names with two addresses; all but Knot choose them
by the country of a client subnet, from the same database of 20,000 networks. dnsperf can send one subnet in a run
only. Two kinds of queries: the names as they are, and in capitals chosen by chance, as some public resolvers write
them, of which 200,000 are different; each as fast as they are answered, and at a fixed rate, where servers sleep
and wake, with the mean latency (who waits for company wakes less often). Knot gets them without a subnet. nearmile
is one low-level server of a network, by its own process, without the bus; its limit of responses is far away, but
counted. (This file is not called dns.py, as beside the other scripts that would hide the library of that name.)
"""

import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from ipaddress import IPv4Network
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec
from measure import (
    SERVER_CORE,
    WARM_S,
    Case,
    Load,
    Server,
    case,
    cpu_s,
    in_turn,
    on_load_core,
    options,
    progress,
    require,
    running,
    show,
    wait_for_port,
)
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from nearmile.base.geography import Point
from nearmile.config.layout import Config, edge_hostname, lay_out
from nearmile.config.names import Dns
from nearmile.config.network import Nameserver, Network, Region, Site
from nearmile.mapping.map import Map, MapRegion, Units, encode
from nearmile.mapping.map import Server as MapServer
from nearmile.services import state

ZONE, PORT = "bench.example", 5310
LOW_ZONE = f"g.{ZONE}"
SITES, VARIANTS, NETWORKS = 500, 200_000, 20_000
TTL_S = 20
COUNTRIES = {"JP": ("127.60.2.1", "127.60.2.2"), "DE": ("127.60.1.1", "127.60.1.2")}
CLIENT = IPv4Network("20.0.1.0/24")
# dnsperf: code 8, family 1, prefix of 24 bits, scope 0, and the address.
SUBNET = f"8:00011800{CLIENT.network_address.packed[:3].hex()}"
SEED = 4
# About half of what one core answers here.
RATE_PER_S = 45_000
GOALS = {"gdnsd": ("<= 1.0", ">= 1.0"), "pdns": ("<= 1.0", ">= 1.0"), "knot": ("<= 1.5", ">= 0.67")}
PACKAGES = {"gdnsd": ("gdnsd", "gdnsd"), "pdns": ("pdns_server", "pdns-backend-geoip"), "knot": ("knotd", "knot")}

GDNSD_CONF = """
options => {{ listen => [ {address}:{port} ], run_dir => {folder}/run, state_dir => {folder}/state,
  udp_threads => 1, tcp_threads => 1, edns_client_subnet => true, zones_default_ttl => {ttl_s} }}
plugins => {{ geoip => {{
  maps => {{ countries => {{ geoip2_db => {database}, datacenters => [JP, DE],
    map => {{ default => [DE, JP], AS => {{ JP => [JP, DE] }} }} }} }},
  resources => {{ edges => {{ map => countries, service_types => up,
    dcmap => {{ JP => {{ a => {jp[0]}, b => {jp[1]} }}, DE => {{ a => {de[0]}, b => {de[1]} }} }} }} }} }} }}
"""
PDNS_CONF = """
launch=geoip
geoip-database-files=mmdb:{database}
geoip-zones-file={folder}/zones.yaml
edns-subnet-processing=yes
local-address={address}
local-port={port}
socket-dir={folder}
receiver-threads=1
distributor-threads=1
security-poll-suffix=
"""
KNOT_CONF = """
server:
  rundir: {folder}
  listen: {address}@{port}
  udp-workers: 1
  tcp-workers: 1
  background-workers: 1
database:
  storage: {folder}
zone:
  - domain: {zone}
    file: {folder}/zone
    zonefile-load: whole
    journal-content: none
"""
START = "@ {ttl_s} IN SOA n1 hostmaster 1 3600 600 604800 {ttl_s}\n@ {ttl_s} IN NS n1\nn1 {ttl_s} IN A {address}\n"


class Kind(NamedTuple):
    """One kind of queries: its title, its file, at which rate if not any, whether with a client subnet."""

    title: str
    queries: Path
    per_s: int | None = None
    subnet: bool = True


def names() -> list[str]:
    """The names that all servers answer."""
    return [edge_hostname(serial, ZONE) for serial in range(1, SITES + 1)]


def write_queries(folder: Path) -> tuple[Path, Path]:
    """Names in an order by chance: as they are, and in capitals by chance."""
    chance = random.Random(SEED)
    plain, mixed = folder / "plain", folder / "mixed"
    plain.write_text("".join(f"{name} A\n" for name in chance.sample(names(), SITES)))
    with mixed.open("w") as file:
        for _ in range(VARIANTS):
            name = chance.choice(names())
            file.write("".join(chance.choice((one, one.upper())) for one in name) + " A\n")
    return plain, mixed


def write_database(path: Path) -> None:
    """Networks of /24 with a country each, in both forms that the servers read; Japan is the client's."""
    writer = MMDBWriter(ip_version=4, database_type="GeoLite2-Country")
    blocks = islice(IPv4Network("20.0.0.0/8").subnets(new_prefix=24), NETWORKS)
    for number, block in enumerate(blocks):
        code = "JP" if number % 2 else "DE"
        continent = {"code": "AS" if code == "JP" else "EU"}
        record = {"country_code": code, "country": {"iso_code": code}, "continent": continent}
        writer.insert_network(IPSet([str(block)]), record)
    writer.to_db_file(str(path))


def nearmile_command(folder: Path, address: str, database: Path) -> list[str]:
    """A low-level server from its configuration and map on disk, through its normal code."""
    points = {"JP": Point(35.7, 139.7), "DE": Point(50.1, 8.7)}
    network = Network(
        name="bench",
        zone=ZONE,
        geography=str(database),
        regions={code.lower(): Region(city=code, servers=COUNTRIES[code]) for code in COUNTRIES},
        nameservers=(Nameserver(tier="top", city="DE"), Nameserver(tier="low", city="DE", address=address)),
        dns=Dns(port=PORT, low_ttl_s=TTL_S, rate_per_s=1_000_000),
    )
    sites = {
        f"s{serial}": Site(hostnames=(f"s{serial}.test",), origin="http://127.0.0.1:1", serial=serial)
        for serial in range(1, SITES + 1)
    }
    config = lay_out(network, sites, points, version=1)
    process = folder / "processes" / "low-1"
    process.mkdir(parents=True)
    (folder / "config.json").write_bytes(msgspec.json.encode(config))
    state.make_dnssec_secret(folder)
    (process / "map.bin").write_bytes(encode(make_map(config, points)))
    return [sys.executable, "-m", "nearmile.services.runtime", str(folder), "low-1"]


def make_map(config: Config, points: dict[str, Point]) -> Map:
    """Everybody in the region of their country."""
    regions = tuple(
        MapRegion(code.lower(), points[code], tuple(MapServer(one, one, 80) for one in COUNTRIES[code]))
        for code in COUNTRIES
    )
    units: dict[str, tuple[int, ...]] = {"JP": (0, 1), "DE": (1, 0)}
    return Map(version=1, term=1, made_at_s=0.0, regions=regions, units=Units.of(units), fallback=(1, 0))


def gdnsd_command(folder: Path, address: str, database: Path) -> list[str]:
    """gdnsd with its GeoIP plugin; one thread for UDP."""
    (folder / "zones").mkdir()
    for name in ("run", "state"):
        (folder / name).mkdir()
    jp, de = COUNTRIES["JP"], COUNTRIES["DE"]
    conf = GDNSD_CONF.format(
        folder=folder, address=address, port=PORT, database=database, ttl_s=TTL_S, jp=jp, de=de
    )
    (folder / "config").write_text(conf)
    records = "".join(f"{name}. {TTL_S} DYNA geoip!edges\n" for name in names())
    (folder / "zones" / LOW_ZONE).write_text(START.format(ttl_s=TTL_S, address=address) + records)
    return [require("gdnsd", "gdnsd"), "-c", str(folder), "start"]


def pdns_command(folder: Path, address: str, database: Path) -> list[str]:
    """PowerDNS with its GeoIP backend and its packet cache as they come; one thread of each kind."""
    (folder / "pdns.conf").write_text(
        PDNS_CONF.format(folder=folder, address=address, port=PORT, database=database)
    )
    soa = f"n1.{LOW_ZONE} hostmaster.{LOW_ZONE} 1 3600 600 604800 {TTL_S}"
    records = {LOW_ZONE: [{"soa": soa}, {"ns": f"n1.{LOW_ZONE}"}]}
    for code, addresses in COUNTRIES.items():
        records[f"{code.lower()}.at.{LOW_ZONE}"] = [{"a": one} for one in addresses]
    services = {name: [f"%cc.at.{LOW_ZONE}", f"de.at.{LOW_ZONE}"] for name in names()}
    zones = {"domains": [{"domain": LOW_ZONE, "ttl": TTL_S, "records": records, "services": services}]}
    (folder / "zones.yaml").write_bytes(msgspec.json.encode(zones))  # JSON is YAML
    return [require("pdns_server", "pdns-backend-geoip"), f"--config-dir={folder}", "--guardian=no", "--daemon=no"]


def knot_command(folder: Path, address: str, _database: Path) -> list[str]:
    """Knot with the same names and addresses for everybody; one worker for UDP."""
    (folder / "knot.conf").write_text(KNOT_CONF.format(folder=folder, address=address, port=PORT, zone=LOW_ZONE))
    records = "".join(f"{name}. {TTL_S} IN A {one}\n" for name in names() for one in COUNTRIES["JP"])
    (folder / "zone").write_text(START.format(ttl_s=TTL_S, address=address) + records)
    return [require("knotd", "knot"), "-c", str(folder / "knot.conf")]


COMMANDS: dict[str, Callable[[Path, str, Path], list[str]]] = {
    "nearmile": nearmile_command,
    "gdnsd": gdnsd_command,
    "pdns": pdns_command,
    "knot": knot_command,
}


@contextmanager
def stage() -> Iterator[tuple[list[Server], Path]]:
    """All servers, and the folder of what they share."""
    with ExitStack() as stack:
        top = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nearmile-bench-")))
        top.chmod(0o755)
        write_database(top / "countries.mmdb")
        servers = []
        for number, (name, command) in enumerate(COMMANDS.items(), start=1):
            folder, log, address = top / name, top / f"{name}.log", f"127.60.200.{number}"
            folder.mkdir()
            pid = stack.enter_context(running(command(folder, address, top / "countries.mmdb"), SERVER_CORE, log))
            wait_for_port(address, PORT, log)
            servers.append(Server(name, (address, PORT), pid))
        yield servers, top


def dnsperf(kind: Kind, static: Kind, seconds: float, server: Server, _number: int) -> Load:
    """One measurement, ``static`` for Knot; ends where a query was not answered, or not with NOERROR."""
    kind = static._replace(per_s=kind.per_s) if server.name == "knot" else kind
    command = [require("dnsperf", "dnsperf"), "-s", server.address[0], "-p", str(server.address[1])]
    command += ["-d", str(kind.queries), "-l", str(seconds), "-c", "10", "-T", "1", "-q", "100", "-e"]
    command += ["-E", SUBNET] if kind.subnet else []
    command += ["-Q", str(kind.per_s)] if kind.per_s else []
    before_s = cpu_s(server.pid)
    result = subprocess.run(command, capture_output=True, text=True, check=True, preexec_fn=on_load_core)
    used_s = cpu_s(server.pid) - before_s
    found = dict(re.findall(r"^\s*([\w ()]+):\s+([\d.]+)", result.stdout, re.MULTILINE))
    completed = int(found["Queries completed"])
    if completed < 0.999 * int(found["Queries sent"]) or f"NOERROR {completed} " not in result.stdout:
        sys.exit(f"{server.name} failed some queries:\n{result.stdout}")
    latency_us = float(found["Average Latency (s)"]) * 1e6
    return Load(used_s / completed * 1e6, float(found["Queries per second"]), latency_us)


def check(server: Server, subnet: bool) -> None:
    """Ends where the answer is not that for Japan."""
    command = [
        require("dig", "bind9-dnsutils"),
        f"@{server.address[0]}",
        "-p",
        str(PORT),
        names()[6],
        "A",
        "+short",
    ]
    command += [f"+subnet={CLIENT}"] if subnet else ["+nocookie"]
    end_s = time.monotonic() + 10
    found: set[str] = set()
    while time.monotonic() < end_s and found != set(COUNTRIES["JP"]):
        found = set(subprocess.run(command, capture_output=True, text=True, check=False).stdout.split())
        with suppress(InterruptedError):
            time.sleep(0.1)
    if found != set(COUNTRIES["JP"]):
        sys.exit(f"{server.name} answers {found}, not {COUNTRIES['JP']}")


def cases(kind: Kind, found: dict[str, list[Load]], peers: Sequence[str]) -> Iterator[Case]:
    """nearmile's CPU time per answer, and its answers in a second or their latency, beside each peer's."""
    mine = found["nearmile"]
    for peer in peers:
        theirs, (cpu_goal, rate_goal) = found[peer], GOALS[peer]
        cpu_us, their_cpu_us = ([one.cpu_us for one in loads] for loads in (mine, theirs))
        yield case(f"{kind.title}: CPU per answer, {peer}", cpu_us, their_cpu_us, "us", cpu_goal)
        if kind.per_s:
            latency_us, their_latency_us = ([one.latency_us for one in loads] for loads in (mine, theirs))
            yield case(f"{kind.title}: mean latency, {peer}", latency_us, their_latency_us, "us", "-")
        else:
            per_s, their_per_s = ([one.per_s for one in loads] for loads in (mine, theirs))
            yield case(f"{kind.title}: answers/s, {peer}", per_s, their_per_s, "1/s", rate_goal)


def measure(seconds: float, rounds: int) -> list[Case]:
    """All servers, warm, in turn."""
    with stage() as (servers, folder):
        plain, mixed = write_queries(folder)
        files = {"by subnet": plain, "by subnet, capitals by chance": mixed}
        kinds = [Kind(title, path) for title, path in files.items()]
        kinds += [Kind(f"{title}, {RATE_PER_S:,}/s", path, RATE_PER_S) for title, path in files.items()]
        static = Kind("Knot's static name", plain, subnet=False)
        for server in servers:
            check(server, server.name != "knot")
        made: list[Case] = []
        for kind in kinds:
            load = partial(dnsperf, kind, static)
            for server in servers:
                load(WARM_S, server, 0)
            found = in_turn(kind.title, servers, rounds, partial(load, seconds))
            made += cases(kind, found, tuple(GOALS))
        return made


def main() -> None:
    """Measures and prints."""
    chosen = options(__doc__ or "", seconds=3, rounds=3)
    for program, package in PACKAGES.values():
        require(program, package)
    progress("four servers, four kinds of queries")
    show(measure(chosen.seconds, chosen.rounds), chosen.json)


if __name__ == "__main__":
    main()
