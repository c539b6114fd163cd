"""Hits of an edge server against nginx's proxy cache: CPU time per request, requests/s and p99, in turn.

5,000 objects (log-normal sizes, median about 6 KB), chosen by Zipf(0.9), asked for with a browser's headers by
wrk on keep-alive connections. The server has core 0, load and origin core 1. nearmile runs as in a network (its
own process, hits written to the journal), without the bus; nginx writes its access log, buffered.
"""

import http.client
import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import msgspec
from edge_origin import COUNT
from measure import (
    LOAD_CORE,
    SERVER_CORE,
    Case,
    case,
    cpu_s,
    options,
    progress,
    require,
    running,
    show,
    wait_for_port,
)

from nearmile.base.geography import Point
from nearmile.config.layout import lay_out
from nearmile.config.network import Edge, Nameserver, Network, Region, Site

HERE = Path(__file__).parent
HOST = "www.bench.test"
CONNECTIONS = 64
ORIGIN, NGINX, NEARMILE = ("127.31.201.1", 8100), ("127.31.202.1", 8080), ("127.31.203.1", 8080)

# As an administrator who cares would have it: descriptors kept, no limit on requests per connection.
NGINX_CONF = """
worker_processes 1;
user root;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 4096; }}
http {{
  types {{ }}
  default_type text/html;
  # sendfile costs 10 us more for objects of this size (measured); with tcp_nopush, 40 ms of delay at p99.
  sendfile off;
  keepalive_requests 100000000;
  open_file_cache max=20000 inactive=600s;
  open_file_cache_valid 600s;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  proxy_cache_path {folder}/cache levels=1:2 keys_zone=bench:32m max_size=1g inactive=1d use_temp_path=off;
  access_log {folder}/access.log combined buffer=64k flush=1s;
  upstream origin {{ server {origin}; keepalive 32; }}
  server {{
    listen {listen} backlog=4096;
    server_name {host};
    location / {{
      proxy_pass http://origin;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_cache bench;
      add_header X-Cache $upstream_cache_status;
    }}
  }}
}}
"""


def nginx_command(folder: Path) -> list[str]:
    """Starts nginx with a prefix of its own."""
    path = require("nginx", "nginx-light")
    conf = NGINX_CONF.format(
        folder=folder, origin=f"{ORIGIN[0]}:{ORIGIN[1]}", listen=f"{NGINX[0]}:{NGINX[1]}", host=HOST
    )
    (folder / "nginx.conf").write_text(conf)
    return [path, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]


def nearmile_command(folder: Path) -> list[str]:
    """Starts one edge server of a network of one, from a configuration on disk."""
    network = Network(
        name="bench",
        zone="bench.example",
        loopback="127.31.0.0/16",
        regions={"bench": Region(city="Frankfurt", servers=(NEARMILE[0],))},
        nameservers=tuple(Nameserver(tier=tier, city="Frankfurt") for tier in ("top", "low")),
        edge=Edge(http_port=NEARMILE[1], memory_mb=256),
    )
    site = Site(hostnames=(HOST,), origin=f"http://{ORIGIN[0]}:{ORIGIN[1]}")
    config = lay_out(network, {"www": site}, {"Frankfurt": Point(50.1, 8.7)}, version=1)
    (folder / "config.json").write_bytes(msgspec.json.encode(config))
    return [sys.executable, "-m", "nearmile.services.runtime", str(folder), "bench-1"]


def fetch_all(address: tuple[str, int]) -> None:
    """Every object once, so that all is cached."""
    connection = http.client.HTTPConnection(*address)
    for number in range(COUNT):
        connection.request("GET", f"/{number}", headers={"Host": HOST, "Accept-Encoding": "gzip"})
        response = connection.getresponse()
        response.read()
        if response.status != 200:
            sys.exit(f"{address} answered {response.status} for object {number}")
    connection.close()


def times_asked() -> int:
    """How often the origin was asked."""
    connection = http.client.HTTPConnection(*ORIGIN)
    connection.request("GET", "/asked")
    return int(connection.getresponse().read())


def load(address: tuple[str, int], pid: int, seconds: float, seed: int) -> tuple[float, float, float]:
    """One measurement: CPU us per request, requests/s, p99 in ms."""
    url = f"http://{address[0]}:{address[1]}/"
    command = [
        require("wrk", "wrk"),
        "-t1",
        f"-c{CONNECTIONS}",
        f"-d{seconds:g}s",
        "-s",
        str(HERE / "edge.lua"),
        url,
    ]
    before_s = cpu_s(pid)
    result = subprocess.run(
        [*command, "--", str(seed)],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {LOAD_CORE}),
    )
    used_s = cpu_s(pid) - before_s
    figures = json.loads(result.stdout.splitlines()[-1])
    if figures["errors"] or figures["not_2xx"]:
        sys.exit(f"{url} failed some requests: {figures}")
    requests = figures["requests"]
    return used_s / requests * 1e6, requests / figures["duration_s"], figures["p99_ms"]


def measure(seconds: float, rounds: int) -> list[Case]:
    """Both servers, warm, in turn."""
    require("wrk", "wrk")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nearmile-bench-")))
        folder.chmod(0o755)
        servers = []
        (folder / "nginx").mkdir()
        (folder / "nearmile").mkdir()
        origin = [sys.executable, str(HERE / "edge_origin.py"), ORIGIN[0], str(ORIGIN[1])]
        stack.enter_context(running(origin, LOAD_CORE, folder / "origin.log"))
        wait_for_port(*ORIGIN, folder / "origin.log")
        for name, address, command in (
            ("nearmile", NEARMILE, nearmile_command(folder / "nearmile")),
            ("nginx", NGINX, nginx_command(folder / "nginx")),
        ):
            log = folder / f"{name}.log"
            pid = stack.enter_context(running(command, SERVER_CORE, log))
            wait_for_port(*address, log)
            progress(f"{name}: filling the cache")
            fetch_all(address)
            load(address, pid, 1, 0)
            servers.append((name, address, pid))
        asked = times_asked()
        figures: dict[str, list[tuple[float, float, float]]] = {"nearmile": [], "nginx": []}
        for number in range(rounds):
            for name, address, pid in servers if number % 2 else servers[::-1]:
                figures[name].append(load(address, pid, seconds, number + 1))
                cpu_us, per_s, p99_ms = figures[name][-1]
                progress(
                    f"round {number + 1}, {name}: {cpu_us:.1f} us, {per_s:.0f} requests/s, p99 {p99_ms:.2f} ms"
                )
        if times_asked() != asked:
            sys.exit("not all requests were hits: the origin was asked during the measurement")
    mine, theirs = (
        [list(column) for column in zip(*figures[name], strict=True)] for name in ("nearmile", "nginx")
    )
    name = "HTTP/1.1 hit, mixed objects, hits logged"
    return [
        case(f"{name}: CPU per request", mine[0], theirs[0], "us", "< 1.0"),
        case(f"{name}: rate", mine[1], theirs[1], "1/s", "> 1.0"),
        case(f"{name}: p99", mine[2], theirs[2], "ms", "< 1.0"),
    ]


def main() -> None:
    """Measures and prints."""
    chosen = options(__doc__ or "", seconds=4, rounds=5)
    show(measure(chosen.seconds, chosen.rounds), chosen.json)


if __name__ == "__main__":
    main()
