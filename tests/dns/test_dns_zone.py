"""The zones made of a configuration."""

import msgspec
import pytest

from nearmile.config.layout import Config
from nearmile.config.names import SiteDns
from nearmile.config.network import Site
from nearmile.dns import wire
from nearmile.dns.records import is_under, to_wire
from nearmile.dns.zone import NOT_OURS, Zones, low_apex, low_servers, low_zone, top_zones


def test_low_servers_are_numbered_as_written(config: Config) -> None:
    assert [(process.name, name) for process, name in low_servers(config)] == [
        (f"low-{n}", to_wire(f"n{n}.g.cdn.test")) for n in (1, 2, 3)
    ]
    assert low_apex(config) == to_wire("g.cdn.test")


@pytest.mark.parametrize(
    ("name", "rcode", "answers"),
    [
        ("www.example.test", wire.NOERROR, 1),
        ("a.b.cdn.test", wire.NOERROR, 1),
        ("b.cdn.test", wire.NOERROR, 0),
        ("c.cdn.test", wire.NXDOMAIN, 0),
        ("cdn.test", wire.NOERROR, 0),
    ],
)
def test_what_exists_in_the_top_zones(config: Config, name: str, rcode: int, answers: int) -> None:
    body = top_zones(config).answer(to_wire(name), wire.A)
    assert (body.flags, body.answers, body.authority) == (wire.AA | rcode, answers, 1 - answers)


def test_names_outside_are_not_ours(config: Config) -> None:
    for zones, name in ((top_zones(config), "example.test"), (Zones([low_zone(config)]), "cdn.test")):
        assert zones.answer(to_wire(name), wire.A) is NOT_OURS


def test_the_apex_is_never_an_alias(config: Config) -> None:
    document = Site(hostnames=("cdn.test",), origin="http://127.33.0.9")
    site = msgspec.structs.replace(config.sites[0], document=document)
    zone = top_zones(msgspec.structs.replace(config, sites=(site,)))
    assert zone.answer(to_wire("cdn.test"), wire.SOA).answers == 1
    assert zone.answer(to_wire("cdn.test"), wire.A).answers == 0


@pytest.mark.parametrize("names", [("texts", "web"), ("web", "texts")])
def test_texts_of_one_site_stay_where_another_has_its_name(config: Config, names: tuple[str, str]) -> None:
    origin = "http://127.33.0.9"
    dns = SiteDns(zones=("a.test",), txt={"a.test": ("v=spf1 -all",)})
    documents = {
        "texts": Site(hostnames=("www.a.test",), origin=origin, dns=dns),
        "web": Site(hostnames=("a.test",), origin=origin, dns=SiteDns(caa=('0 issue "b.test"',))),
    }
    sites = tuple(msgspec.structs.replace(config.sites[0], document=documents[name]) for name in names)
    zone = top_zones(msgspec.structs.replace(config, sites=sites))
    for qtype in (wire.TXT, wire.CAA, wire.SOA):
        assert zone.answer(to_wire("a.test"), qtype).answers == 1


def test_a_name_is_in_the_deepest_of_the_zones_above_it(config: Config) -> None:
    apexes = ("b.a.test", "a.test", "c.b.a.test")
    document = Site(
        hostnames=("x.a.test", "x.b.a.test", "x.y.c.b.a.test", "b.test"),
        origin="http://127.33.0.9",
        dns=SiteDns(zones=apexes),
    )
    site = msgspec.structs.replace(config.sites[0], document=document)
    zones = top_zones(msgspec.structs.replace(config, sites=(site,)))
    for hostname, apex in zip(document.hostnames, ("a.test", "b.a.test", "c.b.a.test", "cdn.test"), strict=True):
        found = zones.find(to_wire(hostname))
        assert found is not None and found.apex == to_wire(apex)
        assert found.answer(to_wire(hostname), wire.A).answers == 1


def test_many_zones_take_no_more_time_each_than_few(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host may have one for each of thousands of sites; name servers answer nobody meanwhile."""
    asked = 0

    def count(name: bytes, apex: bytes) -> bool:
        nonlocal asked
        asked += 1
        return is_under(name, apex)

    monkeypatch.setattr("nearmile.dns.zone.is_under", count)

    def work(number: int) -> int:
        nonlocal asked
        asked = 0
        documents = (
            Site(hostnames=(f"www.s{n}.test",), origin="http://127.33.0.9", dns=SiteDns(zones=(f"s{n}.test",)))
            for n in range(number)
        )
        sites = tuple(msgspec.structs.replace(config.sites[0], document=document) for document in documents)
        top_zones(msgspec.structs.replace(config, sites=sites))
        return asked

    assert work(400) < 4.4 * work(100)


def test_answers_are_prepared_once(config: Config) -> None:
    zone = top_zones(config)
    for name, qtype in (("www.example.test", wire.A), ("nothing.cdn.test", wire.A)):
        assert zone.answer(to_wire(name), qtype) is zone.answer(to_wire(name), qtype)
