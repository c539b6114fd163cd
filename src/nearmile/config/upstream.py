"""How a site's origins are asked: a part of its document."""

from typing import Annotated, Literal

from msgspec import Meta

from nearmile.config.values import Document, HostName

Timeout = Annotated[float, Meta(ge=0.05, le=600)]
ORIGINS_MAX, PARENTS_MAX = 8, 8
EarlyHints = Annotated[
    Literal["auto", "all", "off"],
    Meta(
        description="Whether what an origin hinted at (103) is told again to who waits for it: to `all`, or by "
        "`auto` not over HTTP/1.1, where old clients take it for the response."
    ),
]


class Probe(Document, frozen=True, kw_only=True):
    """Asks each origin now and then whether it is well; one that is put aside comes back by that alone."""

    path: Annotated[
        str,
        Meta(
            pattern=r"\A/[\x21\x22\x24-\x7e]{0,2047}\Z",
            title="a path that begins with /, with a query if need be",
            description="What is asked for by GET; any status below 400 will do.",
        ),
    ]
    interval_s: Annotated[
        Annotated[float, Meta(ge=0.5, le=3600)], Meta(description="Pause between two probes of each edge server.")
    ] = 10.0


class Upstream(Document, frozen=True, kw_only=True):
    """How the site's origins are asked."""

    host: Annotated[
        HostName | None, Meta(description="The Host that origins get; by default what the client asked for.")
    ] = None
    server_name: Annotated[
        HostName | None,
        Meta(description="The name on a https origin's certificate, and in SNI; by default its URL's host."),
    ] = None
    authority: Annotated[
        Annotated[str, Meta(min_length=1, title="the path of a file")] | None,
        Meta(description="PEM file with the authorities to trust in place of the system's."),
    ] = None
    http2: Annotated[
        Literal["offer", "never", "always"],
        Meta(description="HTTP/2 to https origins that choose it, to none, or to all (http: by prior knowledge)."),
    ] = "offer"
    connect_timeout_s: Annotated[Timeout, Meta(description="For a connection, with TLS.")] = 3.5
    first_byte_timeout_s: Annotated[Timeout, Meta(description="For the first byte of an answer.")] = 30.0
    between_bytes_timeout_s: Annotated[Timeout, Meta(description="From each byte of it to the next.")] = 30.0
    requests_max: Annotated[
        Annotated[int, Meta(ge=1, le=4096)],
        Meta(description="Requests that one edge server has under way at each; as many wait, more get 503."),
    ] = 256
    websockets_max: Annotated[
        Annotated[int, Meta(ge=0, le=100_000)],
        Meta(description="WebSocket connections of one edge server; more get 503. 0: none are served (501)."),
    ] = 1024
    websocket_idle_s: Annotated[
        Annotated[float, Meta(ge=1, le=86_400)],
        Meta(description="A WebSocket connection on which nothing moves for so long is ended."),
    ] = 60.0
    failover_on_5xx: Annotated[
        bool, Meta(description="Whether 500, 502, 503 and 504 are reason to ask the next origin, too.")
    ] = False
    probe: Probe | None = None


def is_folder(origin: str) -> bool:
    """Whether an origin is one, and no URL."""
    return "://" not in origin
