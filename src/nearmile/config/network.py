"""The types of the two documents, one network and its sites: every key with its bounds and its meaning.

What has a story of its own stands in a file of its own. ``docs/reference.md`` is generated from the descriptions.
"""

from typing import Annotated, Literal

from msgspec import Meta

from nearmile.config.caching import CacheRules
from nearmile.config.compress import Compress
from nearmile.config.key import PARAMETERS_MAX, Key
from nearmile.config.names import Dns, SiteDns
from nearmile.config.probes import Probes
from nearmile.config.regions import Contract, Traffic
from nearmile.config.regions import Region as Region
from nearmile.config.upstream import ORIGINS_MAX, PARENTS_MAX, EarlyHints, Upstream
from nearmile.config.values import (
    Address,
    Block,
    City,
    Coordinates,
    Document,
    FieldName,
    HostName,
    Name,
    Port,
    SiteName,
)

# Regions have the last byte but one of an address of ``loopback``.
REGIONS_MAX, NAMESERVERS_MAX = 255, 64
# Of a unit's regions, and of those that a site is pinned to, the map has so many. Answers use the best one or two;
# the rest are there for the day the nearest fail. 3,500 units stay below 150 KB.
RANKED_MAX = 8


class Nameserver(Document, frozen=True, kw_only=True):
    """One name server process."""

    tier: Annotated[
        Literal["top", "low"],
        Meta(description="`top` delegates with long TTLs to nearby `low` servers, which name edge servers."),
    ]
    city: Annotated[City, Meta(description="Where it is.")]
    address: Annotated[Address | None, Meta(description="Its address; by default one of `loopback`.")] = None
    point: Annotated[
        Coordinates | None, Meta(description="Where exactly; needed where the city is not known by name.")
    ] = None
    delayed_s: Annotated[
        int,
        Meta(
            ge=0,
            le=86_400,
            description="A `low` server runs on a map so old, against the day when a bad one breaks the others; "
            "an hour (3600) is usual. It is the last in every delegation.",
        ),
    ] = 0


class PlaceEntry(Document, frozen=True, kw_only=True):
    """An address block whose place the operator knows better than the database."""

    block: Annotated[Block, Meta(description="An IPv4 or IPv6 block.")]
    city: Annotated[City, Meta(description="The city its users are in.")]


class Edge(Document, frozen=True, kw_only=True):
    """Limits and ports of the edge servers."""

    http_port: Annotated[Port, Meta(description="HTTP port of every edge server.")] = 8080
    https_port: Annotated[
        Port, Meta(description="Port of every edge server for HTTP over TLS (HTTP/1.1 and HTTP/2).")
    ] = 8443
    http3: Annotated[
        bool,
        Meta(description="Whether clients may speak HTTP/3 too, on UDP at the number of `https_port`."),
    ] = True
    memory_mb: Annotated[int, Meta(ge=1, le=1_048_576, description="Cache memory of one edge process.")] = 64
    disk_mb: Annotated[
        int,
        Meta(
            ge=0,
            le=16_777_216,
            description="Cache on disk of one edge process, which outlives it; 0: none. It takes memory for "
            "what is new, up to `memory_mb` once more, and 40 bytes for each response.",
        ),
    ] = 1024
    optimise: Annotated[
        Literal["objects", "bytes"],
        Meta(
            description="What the cache memory keeps most of: hits of `objects`, which spares the origins "
            "requests, or hits of `bytes`, which spares the uplink."
        ),
    ] = "objects"
    max_object_mb: Annotated[
        int,
        Meta(
            ge=1,
            le=65536,
            description="Larger responses are stored in slices, where their origin has strong entity tags and "
            "answers ranges; else they are passed through.",
        ),
    ] = 16
    max_connections: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Client connections of one edge process; more are refused.")
    ] = 10_000


class Health(Document, frozen=True, kw_only=True):
    """How soon a silent server is given up."""

    beat_ms: Annotated[int, Meta(ge=50, le=10_000, description="Pause between two heartbeats of a process.")] = 250
    dead_after_ms: Annotated[
        int, Meta(ge=100, le=60_000, description="A server silent for so long leaves the answers.")
    ] = 1250


class Reports(Document, frozen=True, kw_only=True):
    """How long hits are kept."""

    keep_raw_days: Annotated[int, Meta(ge=0, le=3650, description="Days that single hits are kept.")] = 7
    keep_rollup_days: Annotated[int, Meta(ge=1, le=36500, description="Days that rollups are kept.")] = 400


class Acme(Document, frozen=True, kw_only=True):
    """An authority that makes certificates (RFC 8555) for the sites with `tls.acme`."""

    directory: Annotated[
        str,
        Meta(
            pattern=r"\Ahttps://[^\s/]+(/\S*)?\Z",
            title="a URL that begins with https://",
            description="Its directory's URL, such as that of Let's Encrypt. Who sets it agrees to its terms.",
        ),
    ]
    contact: Annotated[
        tuple[Annotated[str, Meta(pattern=r"\A[^\s@]+@[^\s@]+\Z", title="an e-mail address")], ...],
        Meta(max_length=4, description="E-mail addresses that it may write to."),
    ] = ()
    root: Annotated[
        str | None, Meta(description="PEM file to know it by, where it is not one that the system trusts.")
    ] = None


class Network(Document, frozen=True, kw_only=True):
    """The network document, `network.toml`."""

    name: Annotated[Name, Meta(description="The network's name.")]
    zone: Annotated[
        HostName, Meta(description="The DNS zone the network answers for; sites point into it by CNAME.")
    ]
    loopback: Annotated[
        str,
        Meta(
            pattern=r"\A127\.[0-9]{1,3}\.0\.0/16\Z",
            title="a block `127.x.0.0/16`",
            extra_json_schema={"format": "block"},
            description="Block that gives processes their addresses; the next free one if it is taken.",
        ),
    ] = "127.20.0.0/16"
    trusted: Annotated[
        tuple[Block, ...],
        Meta(
            description="Address blocks of front proxies and resolvers whose word on a client "
            "(X-Forwarded-For, X-Forwarded-Proto, DNS client subnet) is believed in full."
        ),
    ] = ()
    controllers: Annotated[int, Meta(ge=1, le=9, description="Controller processes; one leads.")] = 1
    geography: Annotated[
        str | None,
        Meta(
            description="An address-to-place database (MMDB), or a folder of them; default: the installed one, "
            "else the built-in."
        ),
    ] = None
    networks: Annotated[
        str | None,
        Meta(description="A database of networks (MMDB with `autonomous_system_number`): large ones get units."),
    ] = None
    units: Annotated[
        int,
        Meta(ge=1000, le=200_000, description="Mapping units at most; countries and states are always units."),
    ] = 20_000
    nats: Annotated[
        str | None,
        Meta(
            description="URL of an existing NATS cluster with a `max_payload` of 4MB; by default `up` starts one."
        ),
    ] = None
    regions: Annotated[
        dict[Name, Region], Meta(min_length=1, max_length=REGIONS_MAX, description="The regions by name.")
    ]
    contracts: Annotated[
        dict[Name, Contract], Meta(max_length=REGIONS_MAX, description="What several regions share, by name.")
    ] = {}  # noqa: RUF012
    nameservers: Annotated[
        tuple[Nameserver, ...],
        Meta(
            min_length=2,
            max_length=NAMESERVERS_MAX,
            description="The name servers, in the order of their numbers; at least one of each tier.",
        ),
    ]
    places: Annotated[tuple[PlaceEntry, ...], Meta(description="Address blocks with known places.")] = ()
    dns: Dns = Dns()
    edge: Edge = Edge()
    health: Health = Health()
    acme: Acme | None = None
    probes: Probes = Probes()
    reports: Reports = Reports()


class Tls(Document, frozen=True, kw_only=True):
    """The site's own certificate, or one of an authority; without this table the network's local one makes it."""

    certificate: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(description="PEM file with the certificate and those between it and its root."),
    ] = None
    key: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(description="PEM file with its private key, which stays on this machine."),
    ] = None
    acme: Annotated[
        bool, Meta(description="Instead, get and renew one from the authority in the network's `acme`.")
    ] = False


Country = Annotated[
    str,
    Meta(
        pattern=r"\A[A-Z]{2}\Z",
        title="a country's code of two capital letters, such as `DE`",
        extra_json_schema={"titles": "countries' codes of two capital letters, such as `DE`"},
    ),
]
FieldValue = Annotated[
    str,
    Meta(
        pattern=r"\A[\x21-\x7e]([\x20-\x7e]{0,4094}[\x21-\x7e])?\Z",
        title="the value of a header field: printable ASCII characters, at most 4096",
    ),
]
Method = Annotated[
    str,
    Meta(
        pattern=r"\A[A-Z][A-Z-]{0,31}\Z",
        title="a method in capitals, such as `GET`",
        extra_json_schema={"titles": "methods in capitals, such as `GET`"},
    ),
]
Path = Annotated[
    str,
    Meta(
        pattern=r"\A/[\x21\x22\x24-\x3e\x40-\x7e]{0,2047}\Z",
        title="a path that begins with /",
        extra_json_schema={"titles": "paths that begin with /"},
    ),
]
File = Annotated[str, Meta(min_length=1, title="the path of a file")]
Variable = Annotated[
    str, Meta(pattern=r"\A[A-Za-z_][A-Za-z0-9_]{0,127}\Z", title="the name of an environment variable")
]
Rate = Annotated[float, Meta(ge=0.01, le=1_000_000)]
Burst = Annotated[int, Meta(ge=1, le=1_000_000)]
BLOCKS_MAX, REDIRECTS_MAX, EDITS_MAX, KEYS_MAX = 10_000, 10_000, 64, 8


class Access(Document, frozen=True, kw_only=True):
    """Who may use the site; addresses are looked at first, and any `allow` list shuts out whom none allows."""

    allow_addresses: Annotated[tuple[Block, ...], Meta(max_length=BLOCKS_MAX, description="Let in.")] = ()
    deny_addresses: Annotated[
        tuple[Block, ...], Meta(max_length=BLOCKS_MAX, description="Refused, even if allowed otherwise.")
    ] = ()
    allow_countries: Annotated[
        tuple[Country, ...], Meta(description="Let in; who is nowhere known is in no country.")
    ] = ()
    deny_countries: Annotated[
        tuple[Country, ...], Meta(description="Refused, unless the address is in `allow_addresses`.")
    ] = ()


class Limits(Document, frozen=True, kw_only=True):
    """How many requests one edge server takes: steadily so many a second, and at once a burst."""

    client_per_s: Annotated[
        Rate | None, Meta(description="Of one client: an IPv4 address, or an IPv6 block of 64 bits.")
    ] = None
    client_burst: Annotated[Burst, Meta(description="That one client may make at once.")] = 20
    site_per_s: Annotated[Rate | None, Meta(description="Of all clients of the site together.")] = None
    site_burst: Annotated[Burst, Meta(description="That all clients together may make at once.")] = 1000


class SigningKey(Document, frozen=True, kw_only=True):
    """Where a key is to be found; the key itself stands in no document."""

    file: Annotated[File | None, Meta(description="File with the key, on every edge's machine.")] = None
    environment: Annotated[
        Variable | None, Meta(description="Or the environment variable of the edge processes that has it.")
    ] = None


class Signed(Document, frozen=True, kw_only=True):
    """Only signed URLs are served, until they expire."""

    keys: Annotated[
        dict[Name, SigningKey],
        Meta(min_length=1, max_length=KEYS_MAX, description="The keys by id; several while they are rotated."),
    ]
    open: Annotated[
        tuple[Path, ...],
        Meta(max_length=PARAMETERS_MAX, description="What begins so needs no signature (with `key.normalise`)."),
    ] = ()


class Redirect(Document, frozen=True, kw_only=True):
    """Answers a path with the address of another."""

    path: Annotated[Path, Meta(description="The path; with `/*` at its end all that begin so.")]
    to: Annotated[
        str,
        Meta(
            pattern=r"\A(https?://[A-Za-z0-9.:\[\]-]+)?/[\x21\x22\x24-\x7e]{0,2047}\Z",
            title="a URL with a path, or a path",
            description="Where to; a `*` at its end is what the path's stood for. The query is kept.",
        ),
    ]
    status: Annotated[Literal[301, 302, 307, 308], Meta(description="301 and 308 are for ever.")] = 302


class FieldRules(Document, frozen=True, kw_only=True):
    """Header fields to set (in place of those of that name) and to remove."""

    set: Annotated[dict[FieldName, FieldValue], Meta(max_length=EDITS_MAX, description="Values by name.")] = {}  # noqa: RUF012
    remove: Annotated[tuple[FieldName, ...], Meta(max_length=EDITS_MAX, description="Names.")] = ()


PageStatus = Literal["400", "403", "405", "413", "429", "500", "501", "502", "503", "504", "508"]


class Site(Document, frozen=True, kw_only=True):
    """A site document, `sites/NAME.toml`."""

    hostnames: Annotated[
        tuple[SiteName, ...],
        Meta(min_length=1, description="The names its users type; `*` as the first label stands for any."),
    ]
    origin: Annotated[
        Annotated[str, Meta(min_length=1)]
        | Annotated[tuple[Annotated[str, Meta(min_length=1)], ...], Meta(min_length=1, max_length=ORIGINS_MAX)],
        Meta(
            description="`http://host[:port]`, `https://host[:port]` or a folder (served by an origin process); "
            "or several in order of preference."
        ),
    ]
    upstream: Upstream = Upstream()
    parents: Annotated[
        tuple[Name, ...],
        Meta(
            max_length=PARENTS_MAX,
            description="Regions to ask before the origins, in order of preference: the first that lives.",
        ),
    ] = ()
    regions: Annotated[
        tuple[Name, ...],
        Meta(max_length=REGIONS_MAX, description="Only these regions serve it, while any of them lives."),
    ] = ()
    traffic: Traffic = "pages"
    serial: Annotated[
        Annotated[int, Meta(ge=1, le=16_777_215)] | None,
        Meta(description="Number that places it on servers; by default made from its name."),
    ] = None
    dns: SiteDns = SiteDns()
    cache: CacheRules = CacheRules()
    tls: Tls | None = None
    https: Annotated[
        Literal["offered", "redirect"],
        Meta(description="Whether clients that come by http are served, or sent to `https_port` by 301 or 308."),
    ] = "offered"
    methods: Annotated[
        tuple[Method, ...],
        Meta(max_length=EDITS_MAX, description="Methods that are served (HEAD with GET); by default all."),
    ] = ()
    max_body_kb: Annotated[
        Annotated[int, Meta(ge=0, le=524_288)] | None,
        Meta(description="Largest body of a request; by default 512 MB."),
    ] = None
    compress: Compress = Compress()
    early_hints: EarlyHints = "auto"
    key: Key = Key()
    access: Access = Access()
    limits: Limits = Limits()
    signed: Signed | None = None
    redirects: Annotated[
        tuple[Redirect, ...],
        Meta(max_length=REDIRECTS_MAX, description="Paths with new addresses; the longest that fits counts."),
    ] = ()
    request_headers: Annotated[FieldRules, Meta(description="Changes to what the origin gets.")] = FieldRules()
    response_headers: Annotated[FieldRules, Meta(description="Changes to what clients get.")] = FieldRules()
    error_pages: Annotated[
        dict[PageStatus, File],
        Meta(description="Files (at most 64 KB) in place of the edge's own pages, by status."),
    ] = {}  # noqa: RUF012
    error_pages_over_origin: Annotated[
        bool, Meta(description="In place of the origin's, too, where that fails: with 500, 502, 503 or 504.")
    ] = False

    @property
    def all_origins(self) -> tuple[str, ...]:
        """One or many, as they are written."""
        return (self.origin,) if isinstance(self.origin, str) else self.origin
