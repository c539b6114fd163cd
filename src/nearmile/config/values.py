"""Values that keys of the documents have, each with its form, and what every table of a document is."""

from typing import Annotated

from msgspec import Meta, Struct

from nearmile.base.geography import Point

# Of names of hosts (RFC 1123 section 2.1): how long they may be, labels, and the last of these.
_LENGTH, _LAST = r"\A(?=.{1,253}\Z)", r"[a-z0-9][a-z0-9-]{0,61}[a-z0-9]\Z"
_LABELS = r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+"

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
        pattern=_LENGTH + _LABELS + _LAST,
        title="a host name in lower case, such as `www.example.com`",
        extra_json_schema={"titles": "host names in lower case"},
    ),
]
SiteName = Annotated[
    str,
    Meta(
        pattern=_LENGTH + r"(\*\.)?" + _LABELS + _LAST,
        title="a host name in lower case, such as `www.example.com` or `*.example.com`",
        extra_json_schema={"titles": "host names in lower case, or such with `*` as their first label"},
    ),
]
RecordName = Annotated[
    str,
    Meta(
        pattern=_LENGTH + r"([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?\.)+" + _LAST,
        title="a name in lower case, such as `_dmarc.example.com`",
        extra_json_schema={"titles": "names in lower case, such as `_dmarc.example.com`"},
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
FieldName = Annotated[
    str,
    Meta(
        pattern=r"\A[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}\Z",
        title="the name of a header field",
        extra_json_schema={"titles": "names of header fields"},
    ),
]
Token = Annotated[str, Meta(pattern=r"\A[^\s&=#;,\"]{1,128}\Z", title="a name without white space or & = # ; ,")]
Port = Annotated[int, Meta(ge=1, le=65535)]


class Document(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What every table of a document is: immutable, and strict about its keys."""
