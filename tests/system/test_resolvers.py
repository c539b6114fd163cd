"""Resolvers and checkers of others, from a signed root down to the running network, and a browser behind one."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import dns.dnssec
import dns.message
import dns.name
import dns.node
import dns.query
import dns.rdataset
import dns.rrset
import dns.zonefile
import pytest

import chromium
from live_network import EXAMPLES, LiveNetwork
from nearmile.cli.fetch import client_address
from nearmile.config.layout import edge_hostname
from resolvers import PORT, Internet, find, port_is_free

HOST, ZONE = "www.example.test", "nearmile.test"
TIMEOUT_S = 60.0


def needs(*programs: str) -> pytest.MarkDecorator:
    missing = [program for program in programs if find(program) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


pytestmark = [
    needs("knotd"),
    pytest.mark.skipif(
        not port_is_free("127.253.254.1"), reason="resolvers ask at port 53, which needs root here"
    ),
]


@pytest.fixture(scope="module")
def internet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Internet]:
    """The example at the port that resolvers ask, below a root."""
    documents = tmp_path_factory.mktemp("documents") / "world"
    shutil.copytree(EXAMPLES / "world", documents)
    with (documents / "network.toml").open("a") as file:
        file.write(f"\n[dns]\nport = {PORT}\n")
    with LiveNetwork(documents, tmp_path_factory.mktemp("world")) as network:
        made = Internet(network, tmp_path_factory.mktemp("internet"))
        with made.served():
            yield made


@pytest.fixture(scope="module")
def unbound(internet: Internet) -> Iterator[str]:
    with internet.unbound() as mine:
        yield mine


@pytest.fixture(scope="module")
def kresd(internet: Internet) -> Iterator[str]:
    with internet.kresd() as mine:
        yield mine


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def is_secure(dig: str) -> bool:
    """Whether a resolver says that it has checked the answer."""
    flags = re.search(r"flags:([a-z ]*);", dig)
    return flags is not None and "ad" in flags[1].split()


def edges(text: str) -> set[str]:
    """The regions of the edge servers in a program's output: their addresses without the last byte."""
    return set(re.findall(r"\s(127\.\d+\.[1-9]\d*)\.\d+$", text, re.MULTILINE))


def of_region(internet: Internet, name: str) -> str:
    """The same of a region's servers."""
    return next(p for p in internet.network.config.of_role("edge") if p.region == name).address.rpartition(".")[0]


def edge_name(internet: Internet) -> str:
    """The name that the site's is an alias of."""
    config = internet.network.config
    return edge_hostname(config.sites[0].serial, config.network.zone)


@needs("unbound", "dig")
def test_unbound_validates_and_sends_client_subnets(internet: Internet, unbound: str) -> None:
    for city, name in (("Tokyo", "tokyo"), ("Sao Paulo", "sao-paulo"), ("Tokyo", "tokyo")):
        client = f"+subnet={client_address(city)}/24"
        found = run("dig", f"@{unbound}", "+dnssec", client, HOST)
        assert is_secure(found) and edges(found) == {of_region(internet, name)}, found
        assert re.search(r"CLIENT-SUBNET: [\d.]+/24/[1-9]", found), found


@pytest.mark.parametrize("program", ["unbound", "kresd"])
def test_resolvers_believe_what_is_there_and_what_is_not(
    internet: Internet, program: str, request: pytest.FixtureRequest
) -> None:
    if find(program) is None or find("dig") is None:
        pytest.skip(f"{program} or dig is not installed")
    resolver = request.getfixturevalue(program)
    for name, qtype, count in (
        (HOST, "A", 5),  # an alias, two addresses, two signatures
        ("example.test", "DNSKEY", 2),
        (ZONE, "SOA", 2),
        (f"nothing.{ZONE}", "A", 0),
        (f"nothing.g.{ZONE}", "A", 0),
        ("example.test", "A", 0),
        (edge_name(internet), "AAAA", 0),
    ):
        found = run("dig", f"@{resolver}", "+dnssec", name, qtype)
        assert is_secure(found) and f"ANSWER: {count}," in found, found


@needs("unbound", "delv")
def test_delv_validates(internet: Internet, unbound: str) -> None:
    tag, algorithm, kind, digest = internet.anchor.split()
    keys = internet.folder / "bind.keys"
    keys.write_text(f'trust-anchors {{ . static-ds {tag} {algorithm} {kind} "{digest}"; }};')
    for name, qtype, says in (
        (HOST, "A", "; fully validated"),
        ("example.test", "CDS", "; fully validated"),
        (f"nothing.{ZONE}", "A", "; negative response, fully validated"),
        (f"nothing.g.{ZONE}", "TXT", "; negative response, fully validated"),
    ):
        assert run("delv", f"@{unbound}", "-a", str(keys), "+root=.", name, qtype).startswith(says)


@needs("kdig")
def test_kdig_reads_all_of_it(internet: Internet) -> None:
    top = internet.tops[0]
    for transport in ("+notcp", "+tcp"):
        found = run("kdig", f"@{top}", "+dnssec", "+nsid", "+cookie=0123456789abcdef", transport, HOST)
        for part in ("status: NOERROR", '"top-1"', "COOKIE: 0123456789ABCDEF", "RRSIG\tCNAME 13 3 1800"):
            assert part in found
        assert "WARNING" not in found


def test_dnspython_validates_from_the_printed_ds_down(internet: Internet) -> None:
    def ask(server: str, name: str, qtype: str) -> dns.message.Message:
        query = dns.message.make_query(name, qtype, want_dnssec=True)
        return dns.query.udp(query, server, timeout=10, port=PORT)

    def keys(
        server: str, zone: str, trusted: dns.rrset.RRset
    ) -> dict[dns.name.Name, dns.node.Node | dns.rdataset.Rdataset]:
        found, signatures = ask(server, zone, "DNSKEY").answer
        (key,) = found
        assert list(trusted) == [dns.dnssec.make_ds(found.name, key, "SHA256")]
        dns.dnssec.validate(found, signatures, {found.name: found})
        return {found.name: found}

    low = next(p.address for p in internet.network.config.of_role("nameserver") if p.tier == "low")
    (printed,) = dns.zonefile.read_rrsets(
        internet.network.run("dns", "ds", ZONE).stdout, default_ttl=1, rdclass=None
    )
    above = keys(internet.tops[0], ZONE, printed)
    referral = ask(internet.tops[0], edge_name(internet), "A").authority
    _, delegated, signatures = sorted(referral, key=lambda rrset: rrset.rdtype)
    dns.dnssec.validate(delegated, signatures, above)
    below = keys(low, f"g.{ZONE}", delegated)
    addresses, signatures = ask(low, edge_name(internet), "A").answer
    dns.dnssec.validate(addresses, signatures, below)


@needs("dnsviz")
def test_dnsviz_finds_nothing_wrong(internet: Internet) -> None:
    names = [HOST, "example.test", f"g.{ZONE}", edge_name(internet), f"nothing.{ZONE}"]
    probe, keys = internet.folder / "probe.json", internet.folder / "anchor"
    authority = f".:root.servers.={internet.root}"
    run("dnsviz", "probe", "-A", "-4", "-a", ".", "-x", authority, "-o", str(probe), *names)
    wrong = json.loads(run("dnsviz", "grok", "-l", "warning", "-t", str(keys), "-r", str(probe)))
    assert set(codes(wrong)) <= {"NS_NAME_PRIVATE_IP", "GLUE_PRIVATE_IP"}, wrong  # these are loopback addresses
    all_of_it = json.loads(run("dnsviz", "grok", "-t", str(keys), "-r", str(probe)))
    assert all(all_of_it[f"{name}."]["status"] in ("NOERROR", "NXDOMAIN") for name in names)
    delegations = [one["delegation"]["status"] for one in all_of_it.values() if "delegation" in one]
    assert delegations.count("SECURE") >= 3, delegations


def codes(found: object) -> Iterator[str]:
    """The codes of everything that is wrong."""
    if isinstance(found, dict):
        if isinstance(found.get("code"), str):
            yield found["code"]
        found = list(found.values())
    if isinstance(found, list):
        for one in found:
            yield from codes(one)


@needs("unbound", "unshare")
@pytest.mark.skipif(chromium.CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.skipif(os.geteuid() != 0, reason="another resolv.conf needs a mount namespace")
def test_a_browser_opens_the_site_by_its_resolver(
    internet: Internet, unbound: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It knows nothing but the resolver's address, as a user's computer."""
    (tmp_path / "resolv.conf").write_text(f"nameserver {unbound}\n")
    wrapper = tmp_path / "chromium"
    mount = f"mount --bind {tmp_path}/resolv.conf /etc/resolv.conf"
    wrapper.write_text(f'#!/bin/sh\nexec unshare -m sh -c \'{mount} && exec {chromium.CHROMIUM} "$@"\' sh "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setattr(chromium, "CHROMIUM", str(wrapper))
    port = internet.network.config.network.edge.http_port
    with chromium.Browser(tmp_path / "profile") as browser:
        entries = browser.open(f"http://{HOST}:{port}/")
        assert len(entries) > 3 and {status for _, _, status in entries} == {200}
        assert all(url.startswith(f"http://{HOST}:{port}/") for url, _, _ in entries)
        assert not browser.errors
