"""What a site's document says of how long answers are kept."""

from typing import Annotated

from msgspec import Meta

from nearmile.config.values import Document

# Each miss of a site looks through them.
RULES_MAX, STATUSES_MAX = 100, 50

_PATH = r"[\x21\x22\x24-\x29\x2b-\x3e\x40-\x7e]*"
Paths = Annotated[
    str,
    Meta(
        # With many `*`, a path could take long to compare.
        pattern=rf"\A(?=.{{1,2048}}\Z)/{_PATH}\*?{_PATH}\Z",
        title="a path that begins with /, such as `/static/*` or `/*.css`, with at most one `*`",
    ),
]
_DIRECTIVE = (
    r"(no-store|no-cache|private|public|must-revalidate|proxy-revalidate|must-understand|no-transform|immutable|"
    r"(max-age|s-maxage|stale-while-revalidate|stale-if-error)=[0-9]{1,9})"
)
Directives = Annotated[
    str,
    Meta(
        pattern=rf"\A{_DIRECTIVE}(, ?{_DIRECTIVE}){{0,15}}\Z",
        title="directives of Cache-Control, such as `max-age=600, stale-if-error=86400`",
    ),
]
Status = Annotated[int, Meta(ge=200, le=599, extra_json_schema={"titles": "whole numbers from 200 to 599"})]


class CacheRule(Document, frozen=True, kw_only=True):
    """What counts for some answers in place of their origin's word."""

    path: Annotated[Paths, Meta(description="The path, without query; one `*` in it stands for anything.")]
    edges: Annotated[Directives, Meta(description="What the edges go by, as if it were a CDN-Cache-Control.")]
    clients: Annotated[
        Directives | None,
        Meta(description="What clients get as Cache-Control, without Expires; by default what the origin says."),
    ] = None
    statuses: Annotated[
        tuple[Status, ...],
        Meta(
            min_length=1,
            max_length=STATUSES_MAX,
            description="For answers with one of these; 200 is for 206 and 304, too.",
        ),
    ] = (200, 203, 301, 308)
    over_private: Annotated[
        bool, Meta(description="Also for answers that the origin calls private or no-store, or that set cookies.")
    ] = False


class CacheRules(Document, frozen=True, kw_only=True):
    """What the site says where its origin is silent, or in its place."""

    default_ttl_s: Annotated[
        int,
        Meta(
            ge=0, le=31_536_000, description="Freshness of a response that names none and has no validator date."
        ),
    ] = 0
    share: Annotated[
        int,
        Meta(ge=1, le=1000, description="Weight of the site where sites compete for the room of an edge's cache."),
    ] = 10
    rules: Annotated[
        tuple[CacheRule, ...],
        Meta(max_length=RULES_MAX, description="By path and status; the first that fits an answer counts."),
    ] = ()
