"""The two servers that are compared: nginx with its proxy cache, and one edge server of a network of one."""

import sys
import urllib.request
from pathlib import Path

import msgspec
from measure import require

from nearmile.base.geography import Point
from nearmile.config.layout import Config, lay_out
from nearmile.config.network import Edge, Nameserver, Network, Region, Site

Address = tuple[str, int]
HERE = Path(__file__).parent
HOST = "www.bench.test"

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
    {more}
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


def text(address: Address) -> str:
    """An address as configurations and URLs have it."""
    return f"{address[0]}:{address[1]}"


def origin_command(origin: Address) -> list[str]:
    """Starts the origin of both."""
    return [sys.executable, str(HERE / "edge_origin.py"), origin[0], str(origin[1])]


def times_asked(origin: Address) -> int:
    """How often the origin was asked."""
    with urllib.request.urlopen(f"http://{text(origin)}/asked") as response:
        return int(response.read())


def nginx_command(folder: Path, origin: Address, listen: str, more: str = "") -> list[str]:
    """Starts nginx with a prefix of its own; ``more`` goes into its server."""
    path = require("nginx", "nginx-light")
    conf = NGINX_CONF.format(folder=folder, origin=text(origin), listen=listen, host=HOST, more=more)
    (folder / "nginx.conf").write_text(conf)
    return [path, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]


def edge_config(address: str, origin: Address, edge: Edge, *more_hostnames: str) -> Config:
    """A network of one edge server, ``bench-1``, with one site."""
    first, second, *_ = address.split(".")
    network = Network(
        name="bench",
        zone="bench.example",
        loopback=f"{first}.{second}.0.0/16",
        regions={"bench": Region(city="Frankfurt", servers=(address,))},
        nameservers=tuple(Nameserver(tier=tier, city="Frankfurt") for tier in ("top", "low")),
        edge=edge,
    )
    site = Site(hostnames=(HOST, *more_hostnames), origin=f"http://{text(origin)}")
    return lay_out(network, {"www": site}, {"Frankfurt": Point(50.1, 8.7)}, version=1)


def edge_command(folder: Path, config: Config) -> list[str]:
    """Starts that server, from its configuration on disk, through its normal code."""
    (folder / "config.json").write_bytes(msgspec.json.encode(config))
    return [sys.executable, "-m", "nearmile.services.runtime", str(folder), "bench-1"]
