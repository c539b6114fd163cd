"""``nearmile dns``: DS records as dnspython makes them of the keys, and the three steps to other keys."""

from pathlib import Path

import dns.dnssec
import dns.dnssectypes
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.zonefile
import msgspec
import pytest

from nearmile.base.errors import NearmileError
from nearmile.base.geography import Point
from nearmile.cli import names
from nearmile.cli.main import parser
from nearmile.config.layout import lay_out
from nearmile.config.names import Dns, SiteDns
from nearmile.config.network import Nameserver, Network, Region, Site
from nearmile.dns.dnssec import Key
from nearmile.dns.records import to_wire
from nearmile.services import state

ZONES = ["cdn.test", "example.test"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write(tmp_path, dnssec=True)


def write(root: Path, dnssec: bool) -> Path:
    network = Network(
        name="names",
        zone="cdn.test",
        regions={"fra": Region(city="F")},
        nameservers=(Nameserver(tier="top", city="F"), Nameserver(tier="low", city="F")),
        dns=Dns(dnssec=dnssec),
    )
    site = Site(hostnames=("example.test",), origin="http://127.0.0.1:80", dns=SiteDns(zones=("example.test",)))
    config = lay_out(network, {"site": site}, {"F": Point(50.1, 8.7)}, version=1)
    (root / "config.json").write_bytes(msgspec.json.encode(config))
    state.make_dnssec_secret(root)
    return root


def run(root: Path, *arguments: str) -> None:
    args = parser().parse_args(["dns", *arguments, "--state", str(root)])
    assert args.action(args) == 0


def expected(root: Path, zone: str) -> list[dns.rdata.Rdata]:
    found = []
    for secret in state.dnssec_secrets(root):
        data = Key(secret, to_wire(zone)).data
        dnskey = dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.DNSKEY, data, 0, len(data))
        found.append(dns.dnssec.make_ds(f"{zone}.", dnskey, dns.dnssectypes.DSDigest.SHA256))
    return list(found)


def test_parents_get_lines_of_a_zone_file(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(root, "ds")
    rrsets = dns.zonefile.read_rrsets(capsys.readouterr().out, default_ttl=60, rdclass=None)
    assert [(rrset.name.to_text(True), list(rrset)) for rrset in rrsets] == [
        (zone, expected(root, zone)) for zone in ZONES
    ]
    run(root, "ds", "EXAMPLE.test.", "--json")
    [one] = msgspec.json.decode(capsys.readouterr().out, type=list[names.Delegated])
    assert (one.zone, one.key_tag) == ("example.test", expected(root, "example.test")[0].key_tag)  # type: ignore[attr-defined]


def test_keys_are_changed_in_three_steps(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (old,) = state.dnssec_secrets(root)
    run(root, "roll", "begin")
    assert state.dnssec_secrets(root)[0] == old
    new = state.dnssec_secrets(root)[1]
    run(root, "ds", "cdn.test")
    assert len(capsys.readouterr().out.splitlines()) == len(ZONES) + 2
    with pytest.raises(NearmileError, match="wait 1810 s more"):
        run(root, "roll", "switch")
    run(root, "roll", "switch", "--now")
    assert state.dnssec_secrets(root) == (new, old)
    with pytest.raises(NearmileError, match="being changed already"):
        run(root, "roll", "begin")
    run(root, "roll", "end", "--now")
    assert state.dnssec_secrets(root) == (new,)
    assert state.dnssec_file(root).stat().st_mode & 0o777 == 0o600
    with pytest.raises(NearmileError, match="only one generation"):
        run(root, "roll", "end")


def test_the_keys_of_one_zone_are_changed_alone(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (old,) = state.dnssec_secrets(root)
    run(root, "roll", "begin", "Example.test.")
    assert capsys.readouterr().out.count("signs") == 1
    assert state.dnssec_secrets(root) == state.dnssec_secrets(root, "cdn.test") == (old,)
    assert state.dnssec_secrets(root, "example.test")[0] == old
    new = state.dnssec_secrets(root, "example.test")[1]
    run(root, "ds")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["cdn.test.", "example.test.", "example.test."]
    with pytest.raises(NearmileError, match="wait 1810 s more"):
        run(root, "roll", "switch", "example.test")
    with pytest.raises(
        NearmileError, match=r"only one generation of keys of cdn\.test: `nearmile dns roll begin cdn"
    ):
        run(root, "roll", "switch", "cdn.test")
    run(root, "roll", "switch", "example.test", "--now")
    run(root, "roll", "end", "example.test", "--now")
    assert state.dnssec_own_secrets(root) == {"example.test": (new,)}
    assert state.dnssec_file(root, "example.test").stat().st_mode & 0o777 == 0o600
    with pytest.raises(NearmileError, match="no zone of this network"):
        run(root, "roll", "begin", "g.cdn.test")


def test_zones_that_began_together_may_go_on_alone(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for step in ("begin", "switch", "end"):
        if step != "begin":
            run(root, "roll", step, "example.test", "--now")
        else:
            run(root, "roll", step)
    (mine,) = state.dnssec_secrets(root, "example.test")
    assert state.dnssec_secrets(root)[1] == mine
    capsys.readouterr()
    run(root, "roll", "switch", "--now")
    assert "signs; its keys are changed by its name alone" in capsys.readouterr().out
    assert state.dnssec_secrets(root, "example.test") == (mine,)
    run(root, "roll", "end", "--now")
    assert state.dnssec_secrets(root) == (mine,)
    assert state.dnssec_own_secrets(root) == {}, "all have the same again"


def test_what_cannot_be_said(root: Path) -> None:
    with pytest.raises(NearmileError, match=r"elsewhere\.test is no zone of this network; there are: cdn\.test, "):
        run(root, "ds", "elsewhere.test")
    write(root, dnssec=False)
    with pytest.raises(NearmileError, match=r"dns\.dnssec = false"):
        run(root, "ds")
