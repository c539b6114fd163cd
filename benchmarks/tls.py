"""Hits over TLS 1.3 against nginx's proxy cache: HTTP/1.1, and HTTP/2 with one stream and with many; CPU time per
request, in turn.

wrk asks over HTTP/1.1, h2load over HTTP/2, both on keep-alive connections, for one object of the size named. The
server has core 0, load and origin core 1. Both servers show the same kind of certificate (ECDSA P-256, made by the
local authority) and write their hits down.
"""

import math
import re
import ssl
import subprocess
import sys
import time
import urllib.request
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from measure import (
    BROWSER,
    FIELDS,
    HOST,
    LINES,
    Case,
    Load,
    Server,
    case,
    cpu_s,
    in_turn,
    on_load_core,
    options,
    require,
    show,
)
from rivals import Commands, edge_command, edge_config, hits_alone, nginx_command, started, text

from nearmile.config.network import Edge
from nearmile.services import authority, state

HERE = Path(__file__).parent
ORIGIN, NGINX, NEARMILE = ("127.42.201.1", 8100), ("127.42.202.1", 8443), ("127.42.203.11", 8443)
PLAIN_PORT = 8080
CONNECTIONS, STREAMS = 64, 32
# About what is answered, by streams on each connection: a shorter measurement would be one of handshakes. 64 of
# them, with the first request of each connection, took a server between 50 and 90 ms.
H2_RATES_PER_S = {1: 16_000, STREAMS: 64_000}
PATIENCE_S = 60
# (name, bytes, streams on each connection: 0 is HTTP/1.1; what is to be reached)
CASES = (
    ("HTTP/1.1 over TLS 1.3, hit of 1 KB", 1024, 0, "<= 0.9"),
    ("HTTP/1.1 over TLS 1.3, hit of 16 KB", 16384, 0, "<= 0.9"),
    (f"HTTP/2 over TLS 1.3, hit of 1 KB, {STREAMS} streams", 1024, STREAMS, "<= 0.5"),
    ("HTTP/2 over TLS 1.3, hit of 1 KB, 1 stream", 1024, 1, "<= 0.9"),
)

NGINX_TLS = """
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.2 TLSv1.3;
"""


def commands(folder: Path) -> Commands:
    """Start a network of one edge server, and nginx, with the same certificate."""
    edge = Edge(http_port=PLAIN_PORT, https_port=NEARMILE[1], memory_mb=64)
    # wrk names the server by its address, which must pass for a host name here.
    config = edge_config(NEARMILE[0], ORIGIN, edge, NEARMILE[0])
    authority.ensure(folder, config, datetime.now(UTC))
    certificate, key = state.site_files(folder, "www")
    more = NGINX_TLS.format(certificate=certificate, key=key)
    nginx = nginx_command(folder, ORIGIN, f"{text(NGINX)} ssl http2", more)
    return {"nearmile": (NEARMILE, edge_command(folder, config)), "nginx": (NGINX, nginx)}


def get(address: tuple[str, int], target: str) -> bytes:
    """One response, whoever answers: which certificate is shown does not matter here."""
    trust = ssl.create_default_context()
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    request = urllib.request.Request(
        f"https://{address[0]}:{address[1]}{target}", headers={"Host": HOST, **BROWSER}
    )
    with urllib.request.urlopen(request, context=trust) as response:
        body: bytes = response.read()
    return body


def load(size: int, streams: int, seconds: float, server: Server, _round: int = 0) -> Load:
    """One measurement; requests/s roughly."""
    host, port = server.address
    headers = [part for line in (FIELDS if streams else LINES) for part in ("-H", line)]
    if streams:
        connections = 8 if streams > 1 else CONNECTIONS
        # By number: told to stop after a time, h2load 1.52 forgets half of its clients of one stream.
        counts = ["-t1", f"-c{connections}", f"-m{streams}", f"-n{int(seconds * H2_RATES_PER_S[streams])}"]
        url = f"https://{HOST}/size/{size}"
        command = [require("h2load", "nghttp2-client"), *counts, f"--connect-to={host}:{port}", *headers, url]
    else:
        # Its times are whole seconds.
        counts = ["-t1", f"-c{CONNECTIONS}", f"-d{math.ceil(seconds)}s", "-s", str(HERE / "tls.lua")]
        url = f"https://{host}:{port}/size/{size}"
        command = [require("wrk", "wrk"), *counts, *headers, url]
    before_s, started_s = cpu_s(server.pid), time.monotonic()
    result = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=PATIENCE_S, preexec_fn=on_load_core
    )
    used_s = cpu_s(server.pid) - before_s
    requests = _succeeded(result.stdout, streams)
    return Load(used_s / requests * 1e6, requests / (time.monotonic() - started_s))


def _succeeded(output: str, streams: int) -> int:
    """Requests answered with 200; ends where any was not."""
    if streams:
        found = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", output)
    else:
        found = re.search(r"answered (\d+), errors (\d+)", output)
    if found is None or any(int(number) for number in found.groups()[1:]) or not int(found[1]):
        sys.exit(f"some requests failed:\n{output}")
    return int(found[1])


def measure(seconds: float, rounds: int) -> list[Case]:
    """Both servers, warm, in turn."""
    cases = []
    with started(ORIGIN, commands) as (origin, servers):
        for title, size, streams, goal in CASES:
            for server in servers:
                if get(server.address, f"/size/{size}") != b"x" * size:
                    sys.exit(f"{server.name} does not answer with the object")
                load(size, streams, 1, server)
            with hits_alone(origin):
                found = in_turn(title, servers, rounds, partial(load, size, streams, seconds))
            mine, theirs = ([one.cpu_us for one in found[who]] for who in ("nearmile", "nginx"))
            cases.append(case(f"{title}: CPU per request", mine, theirs, "us", goal))
    return cases


def main() -> None:
    """Measures and prints."""
    chosen = options(__doc__ or "", seconds=4, rounds=5)
    show(measure(chosen.seconds, chosen.rounds), chosen.json)


if __name__ == "__main__":
    main()
