"""``nearmile fetch``: what a user in some place gets, and every step on the way there."""

import argparse
import http.client
import os
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult

import msgspec
import uvloop
from rich.console import Console

from nearmile.base.errors import NearmileError, WrongInput
from nearmile.base.gazetteer import find_city, near_misses
from nearmile.base.geography import distance_km, expected_rtt_ms
from nearmile.cli import urls
from nearmile.cli.sites import of_host
from nearmile.config.layout import Config
from nearmile.config.problems import did_you_mean
from nearmile.mapping.choose import ranked
from nearmile.mapping.map import Map, MapRegion, decode, unit_of
from nearmile.mapping.places import Places
from nearmile.services import running, state
from nearmile.services.resolver import Resolution, resolver_for

TIMEOUT_S = 10.0
CANDIDATES_SHOWN = 3
CHUNK_BYTES = 65536


class Fetched(msgspec.Struct, kw_only=True):
    """One response and how it was reached."""

    status: int
    server: str
    cache: str
    bytes: int
    connect_ms: float
    first_byte_ms: float
    body_ms: float
    headers: list[tuple[str, str]]
    attempts: list[str]


def fetch_arguments(sub: argparse.ArgumentParser) -> None:
    """Of the subcommand."""
    sub.add_argument("url", metavar="URL", help="http://HOST[:PORT]/PATH; the port defaults to the network's own")
    sub.add_argument(
        "--from", dest="where", metavar="CITY|ADDRESS", help="where the user is: a city, or an address"
    )
    sub.add_argument("--output", type=Path, metavar="FILE", help="keep the body in a file")


def fetch(args: argparse.Namespace) -> int:
    """Prints the steps, or JSON; exit code 1 where the response is an error (400 and above)."""
    url = urls.split(args.url)
    host = url.hostname or ""
    running.read(args.state)
    config = state.read_config(args.state)
    client = client_address(args.where) if args.where else None
    started_s = time.perf_counter()
    resolution = uvloop.run(resolver_for(config, client).resolve(host))
    fetched = get(config, url, resolution.addresses, client, args.output, _trust(args.state))
    total_ms = (time.perf_counter() - started_s) * 1000
    region = next((p.region for p in config.processes if p.name == fetched.server), "")
    if args.json:
        print(msgspec.json.encode(_result(fetched, resolution, region, total_ms)).decode())
    else:
        console = Console(highlight=False, soft_wrap=True)
        _show_choice(args, config, host, client, resolution, region, console)
        _show_response(url, fetched, region, total_ms, console)
    return 0 if fetched.status < 400 else 1


def client_address(where: str) -> str:
    """The address of a user at a place: the address itself, or one of a network in that city."""
    try:
        return str(ip_address(where))
    except ValueError:
        city = find_city(where)
    if city is None:
        hint = did_you_mean(near_misses(where))
        raise WrongInput(f"{where!r} is neither an address nor a city we know{hint}")
    return city.address


def _trust(root: Path) -> ssl.SSLContext:
    """Whom an https server may be certified by: the usual authorities, and the network's own."""
    context = ssl.create_default_context()
    with suppress(FileNotFoundError):
        context.load_verify_locations(state.authority_files(root)[0])
    return context


class _Secure(http.client.HTTPSConnection):
    """Connects to an address, and checks that the server is that of a name."""

    def __init__(self, name: str, address: str, port: int, trust: ssl.SSLContext) -> None:
        super().__init__(address, port, timeout=TIMEOUT_S)
        self._name, self._trust = name, trust

    def connect(self) -> None:
        """Of http.client."""
        plain = socket.create_connection((self.host, self.port), TIMEOUT_S)
        try:
            self.sock = self._trust.wrap_socket(plain, server_hostname=self._name)
        except BaseException:
            plain.close()
            raise


def get(
    config: Config,
    url: SplitResult,
    addresses: tuple[str, ...],
    client: str | None,
    output: Path | None,
    trust: ssl.SSLContext,
) -> Fetched:
    """Fetches from the first address that answers."""
    attempts: list[str] = []
    for address in addresses:
        try:
            return _get_one(config, url, address, client, output, attempts, trust)
        except (OSError, http.client.HTTPException) as error:
            attempts.append(f"{address}: {error or type(error).__name__}")
    raise NearmileError(f"no server answered for {url.geturl()}: {'; '.join(attempts)}")


def _get_one(
    config: Config,
    url: SplitResult,
    address: str,
    client: str | None,
    output: Path | None,
    attempts: list[str],
    trust: ssl.SSLContext,
) -> Fetched:
    started_s, edge = time.perf_counter(), config.network.edge
    if url.scheme == "https":
        name, port = url.hostname or "", url.port or edge.https_port
        connection: http.client.HTTPConnection = _Secure(name, address, port, trust)
    else:
        connection = http.client.HTTPConnection(address, url.port or edge.http_port, timeout=TIMEOUT_S)
    with closing(connection):
        connection.connect()
        connected_s = time.perf_counter()
        headers = {"Host": url.netloc, "User-Agent": "nearmile-fetch", "Accept": "*/*"}
        if client is not None:
            headers["X-Forwarded-For"] = client
        connection.request("GET", urls.target(url), headers=headers)
        response = connection.getresponse()
        first_s = time.perf_counter()
        body_bytes = _keep(response, output)
        ended_s = time.perf_counter()
    server, cache = read_cache_status(response.getheader("Cache-Status", ""))
    return Fetched(
        status=response.status,
        server=server,
        cache=cache,
        bytes=body_bytes,
        connect_ms=(connected_s - started_s) * 1000,
        first_byte_ms=(first_s - connected_s) * 1000,
        body_ms=(ended_s - first_s) * 1000,
        headers=response.getheaders(),
        attempts=attempts,
    )


def _keep(response: http.client.HTTPResponse, output: Path | None) -> int:
    """Writes the body to the file; returns its length. A fault of the file is no reason to ask another server."""
    body_bytes = 0
    with ExitStack() as stack:
        with _faults_of(output):
            file = stack.enter_context(open(output or os.devnull, "wb"))
        while chunk := response.read(CHUNK_BYTES):
            body_bytes += len(chunk)
            with _faults_of(output):
                file.write(chunk)
                file.flush()
    return body_bytes


@contextmanager
def _faults_of(output: Path | None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NearmileError(f"{output} cannot be written: {error.strerror}") from None


def read_cache_status(value: str) -> tuple[str, str]:
    """Server and outcome from Cache-Status (RFC 9211): the last member is of the cache nearest to the user."""
    server, _, parameters = value.split(",")[-1].strip().partition(";")
    given = dict(p.strip().partition("=")[::2] for p in parameters.split(";"))
    if "hit" in given:
        return server, "hit"
    words = {"uri-miss": "miss", "vary-miss": "miss", "miss": "miss", "stale": "revalidated"}
    if given.get("fwd") == "stale" and given.get("fwd-status") != "304":
        return server, "miss"
    return server, words.get(given.get("fwd", ""), given.get("fwd", "") or "none")


def _result(fetched: Fetched, resolution: Resolution, region: str, total_ms: float) -> dict[str, Any]:
    return {
        "status": fetched.status,
        "region": region,
        "server": fetched.server,
        "cache": fetched.cache,
        "dns": [
            {"tier": step.tier, "server": step.server, "answers": step.answers, "ttl_s": step.ttl_s}
            for step in resolution.steps
        ],
        "bytes": fetched.bytes,
        "total_ms": round(total_ms, 2),
    }


def _show_choice(
    args: argparse.Namespace,
    config: Config,
    host: str,
    client: str | None,
    resolution: Resolution,
    region: str,
    console: Console,
) -> None:
    for step in resolution.steps:
        console.print(
            f"[bold]dns {step.tier:4}[/bold] {step.server}  {step.question}  "
            f"TTL {step.ttl_s} s  {step.elapsed_ms:.1f} ms"
        )
        for failure in step.failures:
            console.print(f"           no answer from {failure}")
        for answer in step.answers:
            console.print(f"           {answer}")
    if client is None:
        console.print("[bold]place   [/bold] nobody said where the user is; the network's fallback order is used")
        return
    place = Places.open(config.network).lookup(client)
    where = ", ".join(part for part in (place.city, place.state, place.country) if part) or "nowhere known"
    unit = unit_of(place)
    console.print(f"[bold]place   [/bold] {client} is in {where}; mapping unit {unit or '(fallback)'}")
    current = newest_map(args.state, config)
    if current is None or place.point is None:
        return
    serial = 0
    with suppress(WrongInput):  # a beacon's name is no site's
        serial = of_host(config, host).serial
    for candidate in nearest(current, unit, serial):
        km = distance_km(place.point, candidate.point)
        chosen = "  <- chosen" if candidate.name == region else ""
        console.print(
            f"[bold]region  [/bold] {candidate.name}: {km:,.0f} km, about {expected_rtt_ms(km):.0f} ms, "
            f"{len(candidate.servers)} live servers{chosen}"
        )


def nearest(current: Map, unit: str, serial: int) -> list[MapRegion]:
    """The first regions of those that users there have for that site, best first."""
    return [current.regions[index] for index in ranked(current, unit, serial)[1][:CANDIDATES_SHOWN]]


def newest_map(root: Path, config: Config) -> Map | None:
    """The newest map that a name server of this machine keeps on its disk."""
    maps = []
    for server in config.of_role("nameserver"):
        # There may be none yet, or a damaged one, which the name server has replaced by the next.
        with suppress(OSError, msgspec.DecodeError):
            maps.append(decode((root / "processes" / server.name / state.MAP_FILE).read_bytes()))
    return max(maps, key=lambda each: (each.term, each.version), default=None)


def _show_response(url: SplitResult, fetched: Fetched, region: str, total_ms: float, console: Console) -> None:
    for attempt in fetched.attempts:
        console.print(f"[bold]failed  [/bold] {attempt}")
    colour = "green" if fetched.status < 400 else "red"
    console.print(f"[bold]server  [/bold] {fetched.server or '?'} in {region or '?'}; cache: {fetched.cache}")
    console.print(
        f"[bold]response[/bold] [{colour}]{fetched.status}[/{colour}], {fetched.bytes:,} bytes: {url.geturl()}"
    )
    for name, value in fetched.headers:
        console.print(f"           {name}: {value}", markup=False)
    console.print(
        f"[bold]time    [/bold] connect {fetched.connect_ms:.1f} ms, first byte {fetched.first_byte_ms:.1f} ms, "
        f"body {fetched.body_ms:.1f} ms; {total_ms:.1f} ms in all"
    )
