"""The servers that are compared: nginx with its proxy cache, Varnish, and one edge server of a network of one."""

import http.client
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
from measure import HOST, LOAD_CORE, SERVER_CORE, Server, require, running, wait_for_port

from nearmile.base.geography import Point
from nearmile.config.compress import Compress
from nearmile.config.layout import Config, lay_out
from nearmile.config.network import Edge, Nameserver, Network, Region, Site

Address = tuple[str, int]
# What starts each server, by name, and where it then listens.
Commands = dict[str, tuple[Address, list[str]]]
HERE = Path(__file__).parent

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
  {sendfile}
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
      proxy_cache_lock on;
      proxy_cache_lock_timeout 60s;
      add_header X-Cache $upstream_cache_status;
    }}
  }}
}}
"""

# sendfile costs 10 us more for objects of some KB (measured), with tcp_nopush 40 ms of delay at p99. For large
# objects both pay.
SENDFILE_OFF, SENDFILE_ON = "sendfile off;", "sendfile on; tcp_nopush on;"

VCL = """
vcl 4.1;
backend default {{ .host = "{host}"; .port = "{port}"; }}
"""


class Stage(NamedTuple):
    """The servers that run, and the origin of all."""

    origin: Address
    servers: tuple[Server, ...]


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


def nginx_command(
    folder: Path,
    origin: Address,
    listen: str,
    more: str = "",
    sendfile: str = SENDFILE_OFF,
    program: str | None = None,
) -> list[str]:
    """Starts nginx with a prefix of its own; ``more`` goes into its server. ``program``: not the installed one."""
    path = program or require("nginx", "nginx-light")
    conf = NGINX_CONF.format(
        folder=folder, origin=text(origin), listen=listen, host=HOST, more=more, sendfile=sendfile
    )
    (folder / "nginx.conf").write_text(conf)
    return [path, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]


def varnish_command(folder: Path, origin: Address, listen: Address, memory_mb: int) -> list[str]:
    """Starts Varnish with its store in memory and no work for gzip. Its log goes to shared memory, always; that of
    the others goes to disk, as would Varnish's with one more process, whose time is not counted here."""
    path = require("varnishd", "varnish")
    (folder / "bench.vcl").write_text(VCL.format(host=origin[0], port=origin[1]))
    command = [path, "-F", "-j", "none", "-n", str(folder / "work"), "-a", text(listen)]
    command += ["-f", str(folder / "bench.vcl"), "-s", f"malloc,{memory_mb}m", "-p", "http_gzip_support=off"]
    # Enough threads from the start, and one pool for the one core.
    return [*command, "-p", "thread_pools=1", "-p", "thread_pool_min=200"]


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
    # The others do not compress: all are to serve the same bytes.
    names = HOST, *more_hostnames
    site = Site(hostnames=names, origin=f"http://{text(origin)}", compress=Compress(off=True))
    return lay_out(network, {"www": site}, {"Frankfurt": Point(50.1, 8.7)}, version=1)


def edge_command(folder: Path, config: Config) -> list[str]:
    """Starts that server, from its configuration on disk, through its normal code."""
    (folder / "config.json").write_bytes(msgspec.json.encode(config))
    return [sys.executable, "-m", "nearmile.services.runtime", str(folder), "bench-1"]


@contextmanager
def started(origin: Address, commands: Callable[[Path], Commands], alone: bool = False) -> Iterator[Stage]:
    """The origin, and the servers that ``commands`` makes, told a folder for all. ``alone``: see ``running``."""
    with ExitStack() as stack:
        top = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nearmile-bench-")))
        top.chmod(0o755)
        stack.enter_context(running(origin_command(origin), LOAD_CORE, top / "origin.log"))
        wait_for_port(*origin, top / "origin.log")
        servers = []
        for name, (address, command) in commands(top).items():
            log = top / f"{name}.log"
            pid = stack.enter_context(running(command, SERVER_CORE, log, alone))
            wait_for_port(*address, log)
            servers.append(Server(name, address, pid))
        yield Stage(origin, tuple(servers))


@contextmanager
def stage(
    network: str,
    peers: Sequence[str],
    memory_mb: int = 256,
    sendfile: str = SENDFILE_OFF,
    alone: bool = False,
) -> Iterator[Stage]:
    """An origin, nearmile and ``peers``, each with an address of its own in ``network`` (such as "127.31").
    ``alone``: see ``running``."""
    origin = (f"{network}.201.1", 8100)
    addresses = {"nginx": (f"{network}.202.1", 8080), "varnish": (f"{network}.204.1", 8080)}

    def commands(top: Path) -> Commands:
        found = {}
        for name in ("nearmile", *peers):
            address, folder = addresses.get(name, (f"{network}.203.1", 8080)), top / name
            folder.mkdir()
            if name == "nginx":
                command = nginx_command(folder, origin, text(address), sendfile=sendfile)
            elif name == "varnish":
                command = varnish_command(folder, origin, address, memory_mb)
            else:
                edge = Edge(http_port=address[1], memory_mb=memory_mb)
                command = edge_command(folder, edge_config(address[0], origin, edge))
            found[name] = address, command
        return found

    with started(origin, commands, alone) as both:
        yield both


@contextmanager
def hits_alone(origin: Address) -> Iterator[None]:
    """Ends where the origin was asked meanwhile."""
    asked = times_asked(origin)
    yield
    if times_asked(origin) != asked:
        sys.exit("not all requests were hits: the origin was asked during the measurement")


class Client:
    """One connection to a server, to see that it answers as it should before it is measured."""

    def __init__(self, server: Server) -> None:
        self._name, self._connection = server.name, http.client.HTTPConnection(*server.address)

    def get(self, target: str, expected: int, headers: Sequence[str] = ()) -> bytes:
        """The body; ends where the status is another than expected."""
        fields = dict(header.split(": ", 1) for header in headers)
        self._connection.request("GET", target, headers={"Host": HOST, "Accept-Encoding": "gzip", **fields})
        response = self._connection.getresponse()
        body = response.read()
        if response.status != expected:
            sys.exit(f"{self._name} answered {response.status} for {target}, not {expected}")
        return body
