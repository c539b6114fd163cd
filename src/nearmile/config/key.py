"""What a site's document says of what tells its objects apart."""

from typing import Annotated, Literal

from msgspec import Meta

from nearmile.config.values import Document, FieldName, Token

# An edge keeps 64 variants of an object, told apart by at most 16 fields; a list above these bounds is a mistake.
KEY_FIELDS_MAX, PARAMETERS_MAX = 8, 64


class Key(Document, frozen=True, kw_only=True):
    """What tells the site's objects apart; the origin is asked for exactly what the key says."""

    normalise: Annotated[
        bool,
        Meta(description="Write escapes and dot segments of targets in one way; refuse what can be read in two."),
    ] = False
    query: Annotated[
        Literal["keep", "ignore", "only", "without"],
        Meta(description="Of the query: all, nothing, only `parameters`, or all without `parameters`."),
    ] = "keep"
    parameters: Annotated[
        tuple[Token, ...],
        Meta(
            max_length=PARAMETERS_MAX, description="Names of the query's parameters; `utm_*` is all that begin so."
        ),
    ] = ()
    sort: Annotated[bool, Meta(description="Bring the query's parameters into the order of their names.")] = False
    schemes: Annotated[
        Literal["apart", "together"],
        Meta(
            description="Whether what is stored for http answers https too; if `together`, the origin is told "
            "that all clients use https."
        ),
    ] = "apart"
    hosts: Annotated[
        Literal["apart", "together"],
        Meta(
            description="Whether what is stored for one of `hostnames` answers the others too; if `together`, the "
            "origin is told that all clients use the first."
        ),
    ] = "apart"
    headers: Annotated[
        tuple[FieldName, ...],
        Meta(max_length=KEY_FIELDS_MAX, description="Request fields with a variant for each value, as by Vary."),
    ] = ()
    cookies: Annotated[
        tuple[Token, ...],
        Meta(max_length=KEY_FIELDS_MAX, description="Cookies with a variant for each of their values together."),
    ] = ()
