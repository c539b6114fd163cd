"""The table of sites."""

from edge_world import HOST, config
from nearmile.cache.key import object_key
from nearmile.edge.peer import Peer
from nearmile.edge.sites import sites_of


def test_every_hostname_has_its_site() -> None:
    document = config()
    sites = sites_of(document, {})
    site = sites[HOST.encode()]
    assert site.serial == document.sites[0].serial
    assert site.prefix + b"/x" == object_key(site.serial, b"/x")
    assert site.origin == Peer("127.31.41.1", 8080)
    assert site.base == b""
