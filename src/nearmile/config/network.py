"""The types of the two documents: one network, and its sites. Every key, its bounds and its meaning stand here.

The descriptions are what ``docs/reference.md`` is generated from.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from nearmile.base.geography import Point

# ``title`` and ``titles`` name one such value and several; ``format`` is a further check, see config/check.py.
Name = Annotated[
    str,
    Meta(
        pattern=r"\A[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?\Z",
        title="a name of 1 to 32 of the characters a-z, 0-9 and (inside) -",
    ),
]
HostName = Annotated[
    str,
    Meta(
        pattern=r"\A(?=.{1,253}\Z)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9][a-z0-9-]{0,61}[a-z0-9]\Z",
        title="a host name in lower case, such as `www.example.com`",
        extra_json_schema={"titles": "host names in lower case"},
    ),
]
Address = Annotated[
    str,
    Meta(
        title="an IPv4 or IPv6 address",
        extra_json_schema={"titles": "IPv4 or IPv6 addresses", "format": "address"},
    ),
]
Block = Annotated[
    str,
    Meta(
        title="an address block, such as `10.20.0.0/16`",
        extra_json_schema={"titles": "address blocks, such as `10.20.0.0/16`", "format": "block"},
    ),
]
City = Annotated[str, Meta(title="a city, such as `Frankfurt` or `San Jose, US`")]
Coordinates = Annotated[Point, Meta(title="a table `{lat = DEGREES, lon = DEGREES}`")]
Port = Annotated[int, Meta(ge=1, le=65535)]
# A region's servers have the last byte of an address of ``loopback``, regions the one before it.
SERVERS_MAX, REGIONS_MAX, NAMESERVERS_MAX = 254, 255, 64


class Document(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every table of a document is: immutable, and strict about its keys."""


class Region(Document, frozen=True, kw_only=True):
    """A place with servers: a few machines in one data centre or exchange."""

    city: Annotated[City, Meta(description="The city it is in (its coordinates are looked up).")]
    servers: Annotated[
        Annotated[int, Meta(ge=1, le=SERVERS_MAX)] | Annotated[tuple[Address, ...], Meta(min_length=1)],
        Meta(description="How many servers, each given an address of `loopback`; or their addresses."),
    ] = 2
    point: Annotated[
        Coordinates | None, Meta(description="Where exactly; needed where the city is not known by name.")
    ] = None


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


class PlaceEntry(Document, frozen=True, kw_only=True):
    """An address block whose place the operator knows better than the database."""

    block: Annotated[Block, Meta(description="An IPv4 or IPv6 block.")]
    city: Annotated[City, Meta(description="The city its users are in.")]


class Dns(Document, frozen=True, kw_only=True):
    """What the name servers answer with."""

    port: Annotated[Port, Meta(description="UDP and TCP port of every name server.")] = 5300
    top_ttl_s: Annotated[
        int, Meta(ge=1, le=86400, description="TTL of delegations to low-level name servers, and of their glue.")
    ] = 1800
    low_ttl_s: Annotated[int, Meta(ge=1, le=3600, description="TTL of edge server addresses.")] = 20
    answers: Annotated[int, Meta(ge=1, le=8, description="How many servers an answer names.")] = 2


class Edge(Document, frozen=True, kw_only=True):
    """Limits and ports of the edge servers."""

    http_port: Annotated[Port, Meta(description="HTTP port of every edge server.")] = 8080
    https_port: Annotated[
        Port, Meta(description="Port of every edge server for HTTP over TLS (HTTP/1.1 and HTTP/2).")
    ] = 8443
    memory_mb: Annotated[int, Meta(ge=1, le=1_048_576, description="Cache memory of one edge process.")] = 64
    max_object_mb: Annotated[
        int, Meta(ge=1, le=65536, description="Larger responses are passed through, not stored.")
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
            description="Address blocks of front proxies and resolvers whose word on where a client is "
            "(X-Forwarded-For, DNS client subnet) is believed in full."
        ),
    ] = ()
    controllers: Annotated[int, Meta(ge=1, le=9, description="Controller processes; one leads.")] = 1
    geography: Annotated[
        str | None,
        Meta(description="An address-to-place database (MMDB); default: the installed one, else the built-in."),
    ] = None
    nats: Annotated[
        str | None, Meta(description="URL of an existing NATS cluster; by default `up` starts a server.")
    ] = None
    regions: Annotated[
        dict[Name, Region], Meta(min_length=1, max_length=REGIONS_MAX, description="The regions by name.")
    ]
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
    reports: Reports = Reports()


class CacheRules(Document, frozen=True, kw_only=True):
    """What the site says where its origin is silent."""

    default_ttl_s: Annotated[
        int,
        Meta(
            ge=0, le=31_536_000, description="Freshness of a response that names none and has no validator date."
        ),
    ] = 0


class Tls(Document, frozen=True, kw_only=True):
    """The site's own certificate; without this table one is made by the network's local authority."""

    certificate: Annotated[
        str, Meta(min_length=1, description="PEM file with the certificate and those between it and its root.")
    ]
    key: Annotated[
        str, Meta(min_length=1, description="PEM file with its private key, which stays on this machine.")
    ]


class Site(Document, frozen=True, kw_only=True):
    """A site document, `sites/NAME.toml`."""

    hostnames: Annotated[tuple[HostName, ...], Meta(min_length=1, description="The names its users type.")]
    origin: Annotated[
        str, Meta(min_length=1, description="`http://host:port`, or a folder (served by an origin process).")
    ]
    serial: Annotated[
        Annotated[int, Meta(ge=1, le=16_777_215)] | None,
        Meta(description="Number that places it on servers; by default made from its name."),
    ] = None
    cache: CacheRules = CacheRules()
    tls: Tls | None = None
