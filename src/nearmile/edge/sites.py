"""The sites an edge server answers for, by hostname; made from a configuration and swapped whole."""

from urllib.parse import urlsplit

from msgspec import Struct

from nearmile.cache.key import object_key
from nearmile.config.layout import Config, NamedSite
from nearmile.edge.peer import Peer

HTTP_PORT = 80


class Site(Struct, frozen=True):
    """A site as the request path wants it."""

    name: str
    serial: int
    prefix: bytes
    """What the keys of its objects begin with."""
    origin: Peer
    base: bytes
    """The path of the origin's URL, put before every target."""
    default_ttl_s: int


Sites = dict[bytes, Site]


def sites_of(config: Config) -> Sites:
    """Every hostname with its site."""
    made = ((named, _site(named)) for named in config.sites)
    return {host.encode(): site for named, site in made for host in named.document.hostnames}


def _site(named: NamedSite) -> Site:
    url = urlsplit(named.origin)
    return Site(
        name=named.name,
        serial=named.serial,
        prefix=object_key(named.serial, b""),
        origin=Peer(url.hostname or "", url.port or HTTP_PORT),
        base=url.path.rstrip("/").encode(),
        default_ttl_s=named.document.cache.default_ttl_s,
    )
