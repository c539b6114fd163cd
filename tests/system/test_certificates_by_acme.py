"""A site gets a certificate from an authority while the network runs, and shows it from then on."""

import socket
import ssl
from pathlib import Path

from acme_authority import Authority
from live_network import READY_S, LiveNetwork, eventually

AUTHORITY, EDGES = "127.46.2.1", ("127.46.2.11", "127.46.2.12")
HOSTS = ("www.acme.test", "acme.test")
NETWORK = """
name = "acme"
zone = "acme-test.example"
nameservers = [{{tier = "top", city = "Paris"}}, {{tier = "low", city = "Paris"}}]

[regions.paris]
city = "Paris"
servers = {edges}

[acme]
directory = "{directory}"
contact = ["operator@acme.test"]
root = "{root}"
"""
SITE = """
hostnames = {hosts}
origin = "site"
https = "redirect"

[tls]
acme = true
"""


def shown(root: Path, edge: str, host: str) -> str | None:
    """The serial number of the certificate that an edge shows, where it is one of that root's."""
    trust = ssl.create_default_context(cafile=root)
    try:
        with (
            socket.create_connection((edge, 8443), timeout=5) as plain,
            trust.wrap_socket(plain, server_hostname=host) as secure,
        ):
            found = secure.getpeercert()
            return None if found is None else str(found["serialNumber"])
    except OSError:
        return None


def documents(folder: Path, authority: Authority) -> Path:
    (folder / "sites").mkdir(parents=True)
    (folder / "site").mkdir()
    (folder / "site" / "index.html").write_text("welcome")
    text = NETWORK.format(edges=list(EDGES), directory=f"{authority.url}/directory", root=authority.root)
    (folder / "network.toml").write_text(text)
    (folder / "sites" / "www.toml").write_text(SITE.format(hosts=list(HOSTS)))
    return folder


def test_a_site_gets_its_certificate_while_the_network_runs(tmp_path: Path) -> None:
    authority = Authority(tmp_path, AUTHORITY, [(edge, 8080) for edge in EDGES])
    state = tmp_path / "state"
    state.mkdir()
    network = LiveNetwork(documents(tmp_path / "documents", authority), state)
    serials: set[str | None] = set()

    def all_show_it() -> bool:
        serials.clear()
        serials.update(shown(authority.root, edge, host) for edge in EDGES for host in HOSTS)
        return None not in serials

    try:
        with network:
            eventually(all_show_it, READY_S, f"a certificate; {authority.orders}", poll_s=0.2)
            assert len(serials) == 1 and authority.issued == 1
            first = set(serials)
        authority.close()
        with network:
            eventually(all_show_it, READY_S, "the certificate that was there before")
            assert serials == first
    finally:
        authority.close()
    keys = [state / "acme" / "account.key", *state.glob("processes/*/certificates/*.key")]
    assert len(keys) == 3 and all(key.stat().st_mode & 0o777 == 0o600 for key in keys)
