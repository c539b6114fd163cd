"""The rules of a site's names."""

from pathlib import Path

import pytest

from nearmile.config.problems import DocumentErrors
from nearmile.config.read import read_config

NETWORK = """
name = "n"
zone = "n.test"
regions = { paris = { city = "Paris" } }
nameservers = [{ tier = "top", city = "Paris" }, { tier = "low", city = "Paris" }]
"""


def read(folder: Path, hostnames: str, rest: str) -> str:
    (folder / "sites").mkdir()
    (folder / "network.toml").write_text(NETWORK)
    (folder / "sites" / "a.toml").write_text(f'hostnames = {hostnames}\norigin = "http://b.test"\n{rest}')
    try:
        read_config(folder, 1)
    except DocumentErrors as error:
        return "\n".join(str(problem) for problem in error.problems)
    return ""


@pytest.mark.parametrize(
    ("hostnames", "rest", "found"),
    [
        ('["*.a.test"]', "", "sites/a.toml:1: hostnames[1]: *.a.test cannot be the first"),
        ('["a.test", "b.*.test"]', "", "hostnames[2]: is 'b.*.test', but must be a host name in lower case"),
        ('["a.test", "*.a.test"]', "tls = { acme = true }", "*.a.test cannot be proved to an authority by http"),
        ('["a.test"]', 'dns = { txt = { "b.test" = ["x"] } }', "b.test is in none of the site's `dns.zones`"),
        ('["w.a.test"]', 'dns = { zones = ["a.test"], txt = { "w.a.test" = ["x"] } }', "w.a.test is an alias"),
        (
            '["a.test"]',
            'dns = { zones = ["x.n.test"] }',
            "x.n.test and the network's zone n.test cannot be",
        ),
        ('["a.test", "ns12.n.test"]', "", "hostnames[2]: ns12.n.test is a name that the network itself needs"),
        ('["a1.g.n.test"]', "", "a1.g.n.test is a name that the network itself needs"),
        ('["g.n.test"]', "", "g.n.test is a name that the network itself needs"),
        ('["a.test"]', "dns = { caa = ['issue \"a\"'] }", "but must be flags, tag and value of a CAA record"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, hostnames: str, rest: str, found: str) -> None:
    assert found in read(tmp_path, hostnames, rest)


def test_what_is_right_is_taken(tmp_path: Path) -> None:
    dns = """
[dns]
zones = ["a.test"]
caa = ['0 issue "letsencrypt.org"', '128 iodef "mailto:x@a.test"']
txt = {"a.test" = ["v=spf1 -all"], "_dmarc.a.test" = ["v=DMARC1; p=reject"]}
"""
    names = '["a.test", "*.a.test", "n.test", "*.n.test", "ns.n.test", "ns1.x.n.test", "*.who.g.n.test"]'
    assert read(tmp_path, names, dns) == ""
