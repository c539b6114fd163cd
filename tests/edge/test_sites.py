"""The tables of sites."""

from typing import Any

import pytest
from msgspec import structs

from edge_world import HOST, config
from nearmile.cache.key import object_keys
from nearmile.config.layout import NamedSite
from nearmile.edge.origins.peer import Origin, Peer
from nearmile.edge.rules.site import Files, Page
from nearmile.edge.sites import Compiler


@pytest.mark.parametrize(
    ("key", "same", "told"),
    [({}, (0, 1), (b"http", b"https")), ({"schemes": "together"}, (1, 1), (b"https", b"https"))],
)
def test_every_hostname_has_its_site_by_http_and_by_https(
    key: dict[str, Any], same: tuple[int, int], told: tuple[bytes, bytes]
) -> None:
    document = config(rules={"key": key})
    sites = [by[HOST.encode()] for by in Compiler().sites(document)]
    keys = object_keys(document.sites[0].serial, b"/x")
    assert [site.prefix + b"/x" for site in sites] == [keys[number] for number in same]
    assert tuple(site.scheme for site in sites) == told
    for site in sites:
        assert site.serial == document.sites[0].serial
        assert site.origin == Origin((Peer(host="127.31.41.1", port=8080, site="www"),))


def test_strict_transport_security_is_not_said_by_http() -> None:
    rules = {"response_headers": {"set": {"Strict-Transport-Security": "max-age=9", "X-A": "1"}}}
    said = [by[HOST.encode()].rules.page_lines for by in Compiler().sites(config(rules=rules))]
    assert said == [b"x-a: 1\r\n", b"strict-transport-security: max-age=9\r\nx-a: 1\r\n"]


def test_a_wildcard_stands_for_one_label() -> None:
    whole = config()
    document = structs.replace(whole.sites[0].document, hostnames=("shop.test", "*.shop.test", "a.b.shop.test"))
    sites, _ = Compiler().sites(
        structs.replace(whole, sites=(structs.replace(whole.sites[0], document=document),))
    )
    found = [
        sites.of(host) is not None for host in (b"x.shop.test", b"x.y.shop.test", b"b.shop.test", b"shop", b"")
    ]
    assert found == [True, False, True, False, False]


def test_a_wildcard_stands_for_what_may_be_a_label() -> None:
    whole = config()
    document = structs.replace(whole.sites[0].document, hostnames=("shop.test", "*.shop.test"))
    sites, _ = Compiler().sites(
        structs.replace(whole, sites=(structs.replace(whole.sites[0], document=document),))
    )
    for label in (b"a", b"a-1", b"_a", b"x" * 63):
        host = label + b".shop.test"
        assert (sites.get(host) or sites.of(host)) is not None
    for label in (b"", b"*", b"a'", b"a%0a", b"a,b", b"x" * 64):
        host = label + b".shop.test"
        assert (sites.get(host) or sites.of(host)) is None


def test_only_what_has_changed_is_made_anew() -> None:
    """So a server with thousands of sites takes up a change of one without a pause."""
    first = config(rules={"error_pages": {"403": "x.html"}})
    [www] = first.sites
    other = structs.replace(www, name="other", document=structs.replace(www.document, hostnames=("other.test",)))
    first = structs.replace(first, sites=(www, other))
    compiler, read = Compiler(), list[str]()

    def files(named: NamedSite) -> Files:
        read.append(named.name)
        return Files(pages={403: Page(b"text/html", named.files.encode())})

    before = compiler.sites(first, files)
    touched = structs.replace(first, sites=(structs.replace(www, files="2"), structs.replace(other)))
    after = compiler.sites(touched, files)
    assert read == ["www", "other", "www"]
    for was, now in zip(before, after, strict=True):
        assert now[b"other.test"] is was[b"other.test"]
        assert now[HOST.encode()].rules.pages[403].body == b"2"
    missing = structs.replace(touched, sites=(structs.replace(www, files="3"), other))
    for _ in range(2):
        compiler.sites(missing, lambda _: Files(whole=False))
    assert compiler.sites(missing, files)[0][HOST.encode()].rules.pages[403].body == b"3"
    terms = structs.replace(first.network, zone="elsewhere.test")
    loops = {site.loop for site in compiler.sites(structs.replace(touched, network=terms))[0].values()}
    assert loops == {b"elsewhere.test;site=www", b"elsewhere.test;site=other"}
    [left] = compiler.sites(structs.replace(first, sites=(other,)))[0]
    assert left == b"other.test"
