"""The sites an edge server answers for, by hostname; made from a configuration and swapped whole."""

import re
from collections.abc import Callable, Iterable
from hashlib import blake2b
from itertools import chain
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from nearmile.cache import coding
from nearmile.cache.coding import Codable
from nearmile.cache.key import host_space, object_key
from nearmile.cache.policy import Storable
from nearmile.config.compress import Compress
from nearmile.config.key import Key
from nearmile.config.layout import Config, NamedSite
from nearmile.config.network import FieldRules, Network
from nearmile.config.network import Site as Document
from nearmile.edge import limits
from nearmile.edge.messages import CDN_LOOP
from nearmile.edge.origins.peer import Origin, Peer, Probe, Trust
from nearmile.edge.rules.site import NO_FILES, NO_RULES, Files, Rules, apart, rules_of, several
from nearmile.http.fields import Pairs

HTTP_PORT, HTTPS_PORT = 80, 443
SHAPE_BYTES = 8
# With the underscore, which is in use in spite of RFC 952.
LABEL = re.compile(rb"[a-z0-9_-]{1,63}")
Read = Callable[[NamedSite], Files]
"""Reads what a site's document only names."""


def no_files(_named: NamedSite) -> Files:
    """Where documents name none."""
    return NO_FILES


class Site(Struct, frozen=True):
    """A site as the request path wants it."""

    name: str
    serial: int
    prefix: bytes
    """What the keys of its objects begin with, as far as they are of this scheme and hostname."""
    origin: Origin
    default_ttl_s: int
    acme: bool = False
    """Its names may have to be proved to be ours."""
    space: bytes = b""
    """What of that stands for the hostname; empty where hostnames are not told apart."""
    scheme: bytes = b"http"
    """What the origin is told that its client uses."""
    host: bytes = b""
    """The same of the hostname; empty: what the client does use."""
    parents: tuple[str, ...] = ()
    """Regions to ask before the origin, in order of preference."""
    websockets_max: int = limits.WEBSOCKETS_PER_SITE_MAX
    rules: Rules = NO_RULES
    early_hints: Literal["auto", "all", "off"] = "auto"
    """Which clients are told again what an origin hinted at."""
    guarded: bool = False
    """An answer from memory, too, must pass the rules."""
    codable: Codable | None = None
    """What the edge codes by itself; None: nothing."""
    loop: bytes = b""
    """Its entry in CDN-Loop: whatever asks its origin once more, having asked it, would do so for ever."""
    shape: str = ""
    """Stands for the rules that what is stored was made under; empty where there are none."""

    def keyed(self, kept: Storable | None, fields: Pairs) -> Storable | None:
        """The terms of a response with those ``fields``, with what the site tells variants apart by."""
        kept = self.rules.keyed(kept)
        return coding.keyed(kept) if kept and self.codable and self.codable.takes(kept, fields) else kept

    def to_origin(self, pairs: Pairs) -> Pairs:
        """A request's fields as the origin gets them."""
        return (*self.rules.to_origin.apply(pairs), (CDN_LOOP, self.loop))

    def told(self, kept: Storable, fields: Pairs) -> Pairs:
        """What clients get of a stored response's fields, as long as it is not coded."""
        return coding.told(kept, self.rules.to_client.apply(fields))


class Sites(dict[bytes, Site]):
    """Sites by host; a wildcard is under `@`, which is in no host, and what follows its first label.

    It stands for one label, of characters that names of hosts have: origins write the name that they are told
    into pages.
    """

    def __init__(self, sites: Iterable[tuple[bytes, Site]] = ()) -> None:
        super().__init__(sites)
        self._met: dict[bytes, Site] = {}
        """By names that wildcards stand for."""

    def of(self, host: bytes) -> Site | None:
        """The site of a host that is not here by its own name."""
        if (site := self._met.get(host)) is not None:
            return site
        label, _, _ = host.partition(b".")
        site = self.get(b"@" + host[len(label) :]) if LABEL.fullmatch(label) else None
        if site is not None and site.space:
            if len(self._met) >= limits.WILDCARD_NAMES_MAX:
                self._met.clear()
            site = self._met[host] = _called(site, host)
        return site


class _Made(NamedTuple):
    """A site by its hosts, as it is by http and by https; ``whole``: of all files that its document names."""

    named: NamedSite
    whole: bool
    plain: tuple[tuple[bytes, Site], ...]
    secure: tuple[tuple[bytes, Site], ...]


class Compiler:
    """Makes the sites of one configuration after the other.

    Those that stay as they are stay the same: to make one takes 40 us, and a server may have thousands. Where a
    file could not be read, it is tried again.
    """

    def __init__(self) -> None:
        self._terms: tuple[object, ...] = ()
        self._made: dict[str, _Made] = {}

    def sites(self, config: Config, read: Read = no_files) -> tuple[Sites, Sites]:
        """Every hostname with its site, as it is by http and by https; ``read`` gives what a document names."""
        network = config.network
        terms = network.zone, network.edge.https_port, network.edge.max_object_mb  # all that _make takes of it
        old = self._made if terms == self._terms else {}
        made = dict[str, _Made]()
        for named in config.sites:
            same = old.get(named.name)
            if same is None or not same.whole or same.named != named:
                same = _make(named, read(named), network)
            made[named.name] = same
        self._terms, self._made = terms, made
        return (
            Sites(chain.from_iterable(one.plain for one in made.values())),
            Sites(chain.from_iterable(one.secure for one in made.values())),
        )


def _make(named: NamedSite, files: Files, network: Network) -> _Made:
    secure = _site(named, files, network)
    plain = _by_http(secure, named, files, network.edge.https_port)
    return _Made(named, files.whole, _by_host(plain, named.document), _by_host(secure, named.document))


def _by_host(site: Site, document: Document) -> tuple[tuple[bytes, Site], ...]:
    return tuple(
        (b"@" + host[1:] if host.startswith(b"*") else host, _called(site, host) if apart(document) else site)
        for host in map(str.encode, document.hostnames)
    )


def _called(site: Site, host: bytes) -> Site:
    """The site as it is by that name, of those that it tells apart."""
    space = host_space(host)
    return replace(site, prefix=site.prefix.removesuffix(site.space) + space, space=space)


def shape_of(document: Document) -> str:
    """Differs where two documents would have different things stored under one key."""
    edits = document.request_headers, document.response_headers
    names = document.hostnames if several(document) else ()
    parts = (document.key, document.redirects, *edits, document.compress, *names)
    if parts == (Key(), (), FieldRules(), FieldRules(), Compress()):
        return ""
    return blake2b(msgspec.json.encode(parts), digest_size=SHAPE_BYTES).hexdigest()


def _by_http(site: Site, named: NamedSite, files: Files, https_port: int) -> Site:
    """The site that is at that port by https, as it is by http."""
    rules = rules_of(named, files, https_port)
    site = replace(site, rules=rules, guarded=rules.guarded)
    if named.document.key.schemes == "together":
        return site  # one of them is all that its origin hears of: it must not tell them apart
    return replace(site, prefix=object_key(named.serial, b""), scheme=b"http")


def _site(named: NamedSite, files: Files, network: Network) -> Site:
    """As it is by https."""
    rules, compress = rules_of(named, files), named.document.compress
    return Site(
        name=named.name,
        serial=named.serial,
        prefix=object_key(named.serial, b"", True),
        origin=origin_of(named, files),
        default_ttl_s=named.document.cache.default_ttl_s,
        acme=named.document.tls is not None and named.document.tls.acme,
        scheme=b"https",
        host=_told(named.document),
        parents=named.document.parents,
        websockets_max=named.document.upstream.websockets_max,
        rules=rules,
        codable=None
        if compress.off
        else coding.codable(compress.types, compress.min_bytes, network.edge.max_object_mb << 20),
        early_hints=named.document.early_hints,
        guarded=rules.guarded,
        loop=f"{network.zone};site={named.name}".lower().encode(),
        shape=shape_of(named.document),
    )


def _told(document: Document) -> bytes:
    """The one hostname that a site's origin hears of; empty: whatever clients use."""
    return document.hostnames[0].encode() if document.key.hosts == "together" else b""


def origin_of(named: NamedSite, files: Files) -> Origin:
    """Whom a site's document says to ask, and how."""
    asking = named.document.upstream
    host = (asking.host or "").encode() or _told(named.document)
    probe = None
    if asking.probe is not None:
        first = host or named.document.hostnames[0].encode()
        probe = Probe(first, asking.probe.path.encode(), asking.probe.interval_s)
    # A file of authorities that cannot be read must not mean that all the world's are trusted.
    authorities = None if asking.authority is None else files.authorities
    peers = []
    for url in map(urlsplit, named.origins):
        name, secure = url.hostname or "", url.scheme == "https"
        peers.append(
            Peer(
                host=name,
                port=url.port or (HTTPS_PORT if secure else HTTP_PORT),
                site=named.name,
                trust=Trust(asking.server_name or name, authorities) if secure else None,
                http2=asking.http2,
                probe=probe,
                requests_max=asking.requests_max,
                connect_timeout_s=asking.connect_timeout_s,
                first_byte_timeout_s=asking.first_byte_timeout_s,
                between_bytes_timeout_s=asking.between_bytes_timeout_s,
                idle_timeout_s=asking.websocket_idle_s,
            )
        )
    return Origin(tuple(peers), host, asking.failover_on_5xx)
