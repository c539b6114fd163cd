"""Which change of which key a network that runs takes up, and how; and that names and addresses stay."""

import copy
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect

from nearmile.base.geography import Point
from nearmile.config.change import AT_START, REFUSED, Change, Moved, change, other_serials
from nearmile.config.layout import Config, lay_out
from nearmile.config.network import Network, Site
from nearmile.config.read import clashes

POINTS = {"Paris": Point(48.9, 2.3), "Rome": Point(41.9, 12.5)}
NETWORK: dict[str, Any] = {
    "name": "n",
    "zone": "n.test",
    "regions": {"paris": {"city": "Paris"}, "rome": {"city": "Rome", "contract": "c"}},
    "contracts": {"c": {"capacity_rps": 10.0}},
    "nameservers": [{"tier": "top", "city": "Paris"}, {"tier": "low", "city": "Rome"}],
    "places": [{"block": "10.0.0.0/8", "city": "Rome"}],
    "acme": {"directory": "https://a.test/"},
    "probes": {"targets": [{"address": "192.0.2.1"}]},
}
SHOP: dict[str, Any] = {"hostnames": ["shop.test"], "origin": "/srv/shop"}
BLOG: dict[str, Any] = {"hostnames": ["blog.test"], "origin": "http://blog.test"}

# Every key of the network document with another value than it has: what a network that runs does with the change.
REFUSES = {
    "name": "m",
    "zone": "m.test",
    "loopback": "127.30.0.0/16",
    "nats": "nats://bus",
    "dns.port": 53,
    "edge.http_port": 80,
    "edge.https_port": 443,
}
STARTS_AGAIN = {
    "edge.http3": (False, "paris-1 paris-2 rome-1 rome-2"),
    "edge.memory_mb": (65, "paris-1 paris-2 rome-1 rome-2"),
    "edge.disk_mb": (0, "paris-1 paris-2 rome-1 rome-2"),
    "edge.optimise": ("bytes", "paris-1 paris-2 rome-1 rome-2"),
    "nameservers.1.delayed_s": (60, "low-1"),
}
COMES_AND_GOES = {
    "controllers": (2, Moved(added=("controller-2",))),
    "regions.paris.servers": (1, Moved(removed=("paris-2",))),
    "nameservers.0.tier": ("low", Moved(added=("low-2",), removed=("top-1",))),
    "nameservers.0.city": ("Rome", Moved(added=("top-2",), removed=("top-1",))),
    "nameservers.0.address": ("192.0.2.1", Moved(added=("top-2",), removed=("top-1",))),
}
TAKES_UP = {
    "trusted": ["10.0.0.0/8"],
    "geography": "places.mmdb",
    "networks": "networks.mmdb",
    "units": 2000,
    "regions.paris.city": "Rome",
    "regions.paris.capacity_rps": 5.0,
    "regions.paris.contract": "c",
    "regions.paris.cost_ms": 1.0,
    "regions.paris.drain": True,
    "regions.paris.point": {"lat": 1.0, "lon": 2.0},
    "contracts.c.capacity_rps": 11.0,
    "nameservers.0.point": {"lat": 1.0, "lon": 2.0},
    "places.0.block": "10.0.0.0/9",
    "places.0.city": "Paris",
    "dns.top_ttl_s": 1,
    "dns.low_ttl_s": 1,
    "dns.dnssec": False,
    "dns.answers": 1,
    "dns.rate_per_s": 10,
    "edge.max_object_mb": 1,
    "edge.max_connections": 1,
    "health.beat_ms": 100,
    "health.dead_after_ms": 2000,
    "acme.directory": "https://b.test/",
    "acme.contact": ["a@b.test"],
    "acme.root": "ca.pem",
    "probes.targets.0.address": "192.0.2.2",
    "probes.targets.0.port": 80,
    "probes.targets.0.by": "tcp",
    "probes.every_s": 1.0,
    "reports.keep_raw_days": 1,
    "reports.keep_rollup_days": 1,
}
# Every key of a site's: processes take them all up as they run, with the next request or answer.
SITE = """
    hostnames origin parents regions traffic serial https methods max_body_kb early_hints error_pages
    error_pages_over_origin redirects.path redirects.to redirects.status
    upstream.host upstream.server_name upstream.authority upstream.http2 upstream.failover_on_5xx
    upstream.requests_max upstream.connect_timeout_s upstream.first_byte_timeout_s upstream.between_bytes_timeout_s
    upstream.websocket_idle_s upstream.websockets_max upstream.probe.path upstream.probe.interval_s
    dns.zones dns.caa dns.txt tls.certificate tls.key tls.acme compress.off compress.types compress.min_bytes
    cache.default_ttl_s cache.share cache.rules.path cache.rules.edges cache.rules.clients cache.rules.statuses
    cache.rules.over_private key.normalise key.query key.parameters key.sort key.schemes key.hosts key.headers
    key.cookies access.allow_addresses access.deny_addresses access.allow_countries access.deny_countries
    limits.client_per_s limits.client_burst limits.site_per_s limits.site_burst
    signed.keys.file signed.keys.environment signed.open
    request_headers.set request_headers.remove response_headers.set response_headers.remove
"""
CHOSEN = {"paris", "c", "0", "1"}
"""What of the keys above is not the documents' own: names and numbers."""


def keys_of(kind: type) -> Iterator[str]:
    """All keys of a document that have no further ones, without the names that its author chose."""

    def within(type_: inspect.Type, path: str) -> Iterator[str]:
        match type_:
            case inspect.Metadata(type=inner):
                yield from within(inner, path)
            case inspect.UnionType(types=options) if any(keyed(each) for each in options):
                yield from within(next(each for each in options if keyed(each)), path)
            case inspect.DictType(value_type=inner) if keyed(inner):
                yield from within(inner, path)
            case inspect.VarTupleType(item_type=inner) if keyed(inner):
                yield from within(inner, path)
            case inspect.StructType(cls=cls, fields=fields) if cls is not Point:
                for field in fields:
                    yield from within(field.type, f"{path}.{field.encode_name}".lstrip("."))
            case _:
                yield path

    def keyed(type_: inspect.Type) -> bool:
        while isinstance(type_, inspect.Metadata):
            type_ = type_.type
        return isinstance(type_, inspect.StructType) and type_.cls is not Point

    yield from within(inspect.type_info(kind), "")


def made(network: dict[str, Any] | None = None, former: Config | None = None, **sites: dict[str, Any]) -> Config:
    documents = {name: msgspec.convert(site, Site) for name, site in sites.items()}
    return lay_out(msgspec.convert(network or NETWORK, Network), documents, POINTS, 1, former=former)


def with_key(key: str, value: object) -> dict[str, Any]:
    document = copy.deepcopy(NETWORK)
    *path, last = key.split(".")
    at = document
    for part in path:
        at = at.setdefault(part, {}) if isinstance(at, dict) else at[int(part)]
    at[last] = value
    return document


def test_every_key_is_classed() -> None:
    """Whoever adds one says here, and in config/change.py, how a network that runs takes it up."""
    tried = (*REFUSES, *STARTS_AGAIN, *COMES_AND_GOES, *TAKES_UP)
    classed = [".".join(part for part in key.split(".") if part not in CHOSEN) for key in tried]
    assert sorted(classed) == sorted(keys_of(Network))
    assert sorted(SITE.split()) == sorted(keys_of(Site))
    assert sorted(REFUSES) == sorted(REFUSED)
    assert {key for keys in AT_START.values() for key in keys} < STARTS_AGAIN.keys()


@pytest.mark.parametrize("key", REFUSES)
def test_what_others_rely_on_is_refused(key: str) -> None:
    found = change(made(), made(with_key(key, REFUSES[key])))
    assert (found.keys, found.refused) == ((key,), (key,))


@pytest.mark.parametrize("key", STARTS_AGAIN)
def test_what_is_read_at_a_start_starts_processes_again(key: str) -> None:
    value, names = STARTS_AGAIN[key]
    found = change(made(), made(with_key(key, value)))
    assert (found.processes, found.refused) == (Moved(changed=tuple(names.split())), ())


@pytest.mark.parametrize("key", COMES_AND_GOES)
def test_processes_come_and_go(key: str) -> None:
    value, moved = COMES_AND_GOES[key]
    found = change(made(), made(with_key(key, value), former=made()))
    assert (found.processes, found.refused) == (moved, ())


@pytest.mark.parametrize("key", TAKES_UP)
def test_all_else_is_taken_up_by_what_runs(key: str) -> None:
    found = change(made(), made(with_key(key, TAKES_UP[key]), former=made()))
    assert (found.processes, found.refused) == (Moved(), ())
    assert [each for each in found.keys if key.startswith(each)], found.keys


def test_the_bus_of_a_cluster_is_no_process_here() -> None:
    found = change(made(), made(with_key("nats", "nats://bus")))
    assert found.processes.removed == ("nats",)


def test_a_site_is_added_changed_and_removed() -> None:
    old = made(shop=SHOP, blog=BLOG)
    new = made(former=old, shop=SHOP | {"https": "redirect"}, apart=SHOP | {"hostnames": ["apart.test"]})
    assert change(old, new) == Change(
        sites=Moved(("apart",), ("shop",), ("blog",)), processes=Moved(added=("origin-apart",))
    )
    assert new.sites[1].origins == old.sites[1].origins, "the shop's origin stays where it is"
    assert change(old, made(former=old, shop=SHOP, blog=BLOG)) == Change()


def test_a_name_that_gets_another_serial_is_told() -> None:
    old = made(shop=SHOP, blog=BLOG)
    serial = old.sites[1].serial
    assert other_serials(old, made(shop=SHOP, blog=BLOG | {"https": "redirect"})) == {}
    assert other_serials(old, made(store=SHOP | {"hostnames": ["new.test", "shop.test"]})) == {"store": serial}
    assert other_serials(old, made(store=SHOP | {"serial": serial}, blog=BLOG)) == {}


def test_another_folder_needs_no_other_process() -> None:
    old = made(shop=SHOP)
    assert change(old, made(former=old, shop=SHOP | {"origin": "/srv/new"})).processes == Moved()


def test_what_comes_moves_nobody() -> None:
    old = made()
    regions = {"athens": {"city": "Rome", "servers": 1}, **NETWORK["regions"]}
    nameservers = [{"tier": "low", "city": "Paris"}, *NETWORK["nameservers"]]
    new = made(NETWORK | {"regions": regions, "nameservers": nameservers}, former=old)
    found = change(old, new)
    assert found.processes == Moved(added=("low-2", "athens-1"))
    assert found.keys == ("regions.athens", "nameservers")
    assert [new.process(name).address for name in found.processes.added] == ["127.20.0.55", "127.20.3.1"]
    back = made(former=new)
    assert (change(new, back).processes.removed, back.processes) == (found.processes.added, old.processes)


def test_a_list_of_addresses_names_each_of_them_for_good() -> None:
    def with_servers(former: Config | None, *addresses: str) -> Config:
        return made(with_key("regions.paris.servers", list(addresses)), former=former)

    old = with_servers(None, "192.0.2.1", "192.0.2.2")
    new = with_servers(old, "192.0.2.2", "192.0.2.3")
    assert change(old, new).processes == Moved(added=("paris-3",), removed=("paris-1",))
    assert new.process("paris-2").address == "192.0.2.2"
    assert with_servers(new, "192.0.2.4").process("paris-1").address == "192.0.2.4"


def test_regions_of_a_full_network_may_be_replaced() -> None:
    names = [f"r{number}" for number in range(255)]
    old = made(NETWORK | {"regions": {name: {"city": "Rome", "servers": 1} for name in names}})
    new = made(NETWORK | {"regions": {name: {"city": "Rome", "servers": 1} for name in (*names[1:], "x")}}, old)
    assert new.process("x-1").address == old.process("r0-1").address
    assert change(old, new).processes == Moved(added=("x-1",), removed=("r0-1",))


CITIES = st.sampled_from(sorted(POINTS))


@st.composite
def networks(draw: st.DrawFn) -> Config:
    """A few regions and name servers, of which some have addresses of their own."""
    own = [f"192.0.2.{number}" for number in draw(st.permutations(range(1, 12)))]
    regions = {
        name: {"city": draw(CITIES), "servers": draw(st.one_of(st.integers(1, 4), st.just([own.pop()])))}
        for name in draw(st.lists(st.sampled_from("abcd"), min_size=1, unique=True))
    }
    nameservers = [
        {"tier": tier, "city": draw(CITIES), "address": draw(st.sampled_from([None, own.pop()]))}
        for tier in draw(st.lists(st.sampled_from(["top", "low"]), min_size=2, max_size=5))
    ]
    sites: dict[str, Any] = {
        name: {"hostnames": [f"{name}.test"], "origin": draw(st.sampled_from(["/srv", "http://a.test"]))}
        for name in draw(st.lists(st.sampled_from("uvwx"), unique=True))
    }
    return made(NETWORK | {"regions": regions, "nameservers": nameservers, "contracts": {}}, None, **sites)


@given(st.lists(networks(), min_size=2, max_size=5))
def test_whatever_follows_nobody_moves_and_no_two_meet(documents: list[Config]) -> None:
    former: Config | None = None
    for wanted in documents:
        sites = {site.name: site.document for site in wanted.sites}
        now = lay_out(wanted.network, sites, POINTS, 1, former=former)
        assert list(clashes(now)) == []
        assert lay_out(wanted.network, sites, POINTS, 1, former=now) == now, "the next start begins with the same"
        assert change(former or now, now).processes.changed == ()
        former = now
