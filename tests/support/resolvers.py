"""Somebody else's DNS around a network of ours: a signed root that delegates to it, and resolvers that validate.

All on addresses of the network's loopback block that no process of it has, at port 53: resolvers ask nowhere else.
"""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.dnssec
import dns.dnssectypes
import dns.exception
import dns.message
import dns.query
import dns.zone
from cryptography.hazmat.primitives.asymmetric import ec

from live_network import LiveNetwork, eventually

PORT, TTL_S = 53, 3600
ROOT_HOST, UNBOUND_HOST, KRESD_HOST = 1, 2, 3  # in the block's x.y.254.0/24
PATIENCE_S = 10.0
PATHS = ("/usr/sbin", "/sbin")

ROOT_ZONE = """
. {ttl} IN SOA root.servers. hostmaster.servers. 1 3600 600 604800 60
. {ttl} IN NS root.servers.
root.servers. {ttl} IN A {address}
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
  - domain: .
    file: {folder}/root.zone
    journal-content: none
"""
UNBOUND_CONF = """
server:
  interface: {address}
  port: {port}
  access-control: 127.0.0.0/8 allow
  do-not-query-localhost: no
  do-ip6: no
  chroot: ""
  username: ""
  directory: "{folder}"
  pidfile: ""
  use-syslog: no
  verbosity: 1
  val-log-level: 2
  num-threads: 1
  root-hints: "{folder}/hints"
  trust-anchor-file: "{folder}/anchor"
  local-zone: "test." nodefault
  module-config: "subnetcache validator iterator"
  send-client-subnet: 127.0.0.0/8
  client-subnet-always-forward: yes
  max-client-subnet-ipv4: 24
remote-control:
  control-enable: no
"""
KRESD_CONF = """
net.listen('{address}', {port}, {{ kind = 'dns' }})
net.ipv6 = false
option('ALLOW_LOCAL', true)
cache.size = 10 * MB
modules.unload('ta_signal_query')
modules.unload('ta_update')
trust_anchors.remove('.')
trust_anchors.add_file('{folder}/anchor', true)
modules.load('hints > iterate')
hints.root({{ ['root.servers.'] = {{ '{root}' }} }})
policy.add(policy.suffix(policy.PASS, policy.todnames({{ 'test.' }})))
"""


def find(program: str) -> str | None:
    """Where a program is; servers are often not on the PATH."""
    return shutil.which(program) or next((path for at in PATHS if (path := shutil.which(program, path=at))), None)


def address(network: LiveNetwork, host: int) -> str:
    """One of the block that none of the network's regions has."""
    return f"{network.config.loopback.split('.0.')[0]}.254.{host}"


def port_is_free(host: str) -> bool:
    """Whether this process may listen where resolvers ask."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, PORT))
        except OSError:
            return False
    return True


class Internet:
    """The root, in a folder; the key to trust is in its file ``anchor``."""

    def __init__(self, network: LiveNetwork, folder: Path) -> None:
        self.network, self.folder = network, folder
        self.root = address(network, ROOT_HOST)
        servers = network.config.of_role("nameserver")
        self.tops = [process.address for process in servers if process.tier == "top"]
        zone = dns.zone.from_text(self._delegations(), origin=".", relativize=False)
        private = ec.generate_private_key(ec.SECP256R1())
        dnskey = dns.dnssec.make_dnskey(private.public_key(), dns.dnssectypes.Algorithm.ECDSAP256SHA256, flags=257)
        now_s = int(time.time())
        dns.dnssec.sign_zone(
            zone, keys=[(private, dnskey)], dnskey_ttl=TTL_S, inception=now_s - 3600, expiration=now_s + 86_400
        )
        (folder / "root.zone").write_text(zone.to_text(relativize=False))
        (folder / "hints").write_text(f". {TTL_S} IN NS root.servers.\nroot.servers. {TTL_S} IN A {self.root}\n")
        self.anchor = dns.dnssec.make_ds(".", dnskey, dns.dnssectypes.DSDigest.SHA256).to_text()
        (folder / "anchor").write_text(f". {TTL_S} IN DS {self.anchor}\n")

    def _delegations(self) -> str:
        """What the network's operator would ask the parents of its zones to publish."""
        lines = [ROOT_ZONE.format(ttl=TTL_S, address=self.root)]
        config = self.network.config
        zones = {config.network.zone, *(zone for site in config.sites for zone in site.document.dns.zones)}
        for number, server in enumerate(self.tops, start=1):
            name = f"ns{number}.{config.network.zone}."
            lines.append(f"{name} {TTL_S} IN A {server}\n")
            lines += [f"{zone}. {TTL_S} IN NS {name}\n" for zone in zones]
        printed = self.network.run("dns", "ds").stdout
        lines.append(printed.replace(" IN ", f" {TTL_S} IN "))
        return "".join(lines)

    @contextmanager
    def served(self) -> Iterator[None]:
        """By Knot."""
        (self.folder / "knot.conf").write_text(KNOT_CONF.format(folder=self.folder, address=self.root, port=PORT))
        with _running(["knotd", "-c", f"{self.folder}/knot.conf"], self.folder / "knot.log", self.root):
            yield

    @contextmanager
    def unbound(self) -> Iterator[str]:
        """Unbound's address, while it runs: it sends client subnets."""
        mine = address(self.network, UNBOUND_HOST)
        conf = self.folder / "unbound.conf"
        conf.write_text(UNBOUND_CONF.format(folder=self.folder, address=mine, port=PORT))
        with _running(["unbound", "-d", "-c", str(conf)], self.folder / "unbound.log", mine):
            yield mine

    @contextmanager
    def kresd(self) -> Iterator[str]:
        """Knot Resolver's address, while it runs."""
        mine, folder = address(self.network, KRESD_HOST), self.folder / "kresd"
        folder.mkdir()
        conf = folder / "kresd.conf"
        conf.write_text(KRESD_CONF.format(folder=self.folder, address=mine, port=PORT, root=self.root))
        with _running(["kresd", "-n", "-c", str(conf), str(folder)], self.folder / "kresd.log", mine):
            yield mine


@contextmanager
def _running(command: list[str], log: Path, host: str) -> Iterator[None]:
    program = find(command[0])
    assert program is not None
    with log.open("wb") as out:
        process = subprocess.Popen([program, *command[1:]], stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            dns.query.udp(dns.message.make_query(".", "SOA"), host, timeout=1, port=PORT)
        except (dns.exception.Timeout, OSError):
            return False
        return True

    try:
        eventually(answers, PATIENCE_S, f"{command[0]} answers; {log.read_text()}")
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
