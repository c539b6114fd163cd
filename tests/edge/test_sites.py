"""The tables of sites."""

from typing import Any

import pytest
from msgspec import structs

from edge_world import HOST, config
from nearmile.cache.key import object_keys
from nearmile.edge.origins.peer import Origin, Peer
from nearmile.edge.sites import sites_of


@pytest.mark.parametrize(
    ("key", "same", "told"),
    [({}, (0, 1), (b"http", b"https")), ({"schemes": "together"}, (1, 1), (b"https", b"https"))],
)
def test_every_hostname_has_its_site_by_http_and_by_https(
    key: dict[str, Any], same: tuple[int, int], told: tuple[bytes, bytes]
) -> None:
    document = config(rules={"key": key})
    sites = [sites_of(document, {}, secure)[HOST.encode()] for secure in (False, True)]
    keys = object_keys(document.sites[0].serial, b"/x")
    assert [site.prefix + b"/x" for site in sites] == [keys[number] for number in same]
    assert tuple(site.scheme for site in sites) == told
    for site in sites:
        assert site.serial == document.sites[0].serial
        assert site.origin == Origin((Peer(host="127.31.41.1", port=8080, site="www"),))


def test_strict_transport_security_is_not_said_by_http() -> None:
    rules = {"response_headers": {"set": {"Strict-Transport-Security": "max-age=9", "X-A": "1"}}}
    said = [sites_of(config(rules=rules), {}, secure)[HOST.encode()].rules.page_lines for secure in (False, True)]
    assert said == [b"x-a: 1\r\n", b"strict-transport-security: max-age=9\r\nx-a: 1\r\n"]


def test_a_wildcard_stands_for_one_label() -> None:
    whole = config()
    document = structs.replace(whole.sites[0].document, hostnames=("shop.test", "*.shop.test", "a.b.shop.test"))
    sites = sites_of(
        structs.replace(whole, sites=(structs.replace(whole.sites[0], document=document),)), {}, False
    )
    found = [
        sites.of(host) is not None for host in (b"x.shop.test", b"x.y.shop.test", b"b.shop.test", b"shop", b"")
    ]
    assert found == [True, False, True, False, False]


def test_a_wildcard_stands_for_what_may_be_a_label() -> None:
    whole = config()
    document = structs.replace(whole.sites[0].document, hostnames=("shop.test", "*.shop.test"))
    sites = sites_of(
        structs.replace(whole, sites=(structs.replace(whole.sites[0], document=document),)), {}, False
    )
    for label in (b"a", b"a-1", b"_a", b"x" * 63):
        host = label + b".shop.test"
        assert (sites.get(host) or sites.of(host)) is not None
    for label in (b"", b"*", b"a'", b"a%0a", b"a,b", b"x" * 64):
        host = label + b".shop.test"
        assert (sites.get(host) or sites.of(host)) is None
