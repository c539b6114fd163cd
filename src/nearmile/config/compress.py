"""What a site's document says of compression."""

from typing import Annotated

from msgspec import Meta

from nearmile.config.values import Document

# The built-in list has a third of that; a longer one is a mistake.
TYPES_MAX = 64

_HALF = r"(?=[^/]{1,127}(/|\Z))[a-z0-9!#$&^_.+-]*\*?[a-z0-9!#$&^_.+-]*"
MediaType = Annotated[
    str,
    Meta(
        # With many `*`, what an origin calls its pages could take hours to compare.
        pattern=rf"\A{_HALF}/{_HALF}\Z",
        title="a media type in lower case, such as `text/*`, with at most one `*` on each side",
        extra_json_schema={"titles": "media types in lower case, such as `text/*`"},
    ),
]


class Compress(Document, frozen=True, kw_only=True):
    """What the edge compresses of what it stores, where the origin has not: with Brotli, Zstandard or gzip."""

    off: Annotated[bool, Meta(description="Nothing; what the origin compressed is served all the same.")] = False
    types: Annotated[
        tuple[MediaType, ...],
        Meta(min_length=1, max_length=TYPES_MAX, description="These media types; a `*` stands for anything."),
    ] = (
        "text/*", "application/*+json", "application/*+xml", "image/*+xml", "model/*+xml",
        "application/ecmascript", "application/javascript", "application/json", "application/vnd.ms-fontobject",
        "application/wasm", "application/x-javascript", "application/x-ndjson", "application/xml",
        "font/otf", "font/ttf", "image/bmp", "image/vnd.microsoft.icon", "image/x-icon",
    )  # fmt: skip
    min_bytes: Annotated[
        int, Meta(ge=0, le=1_048_576, description="Nothing smaller: it fits one packet anyway.")
    ] = 1024
