"""Early hints that are kept with a response (RFC 8297): the Link fields of the 103 that came before it.

They tell a client that must wait for the response's next version what it will most likely need. A hint is no part
of the response and promises nothing, so what of it does not fit is left out.
"""

from nearmile.cache.directives import Fields

EARLY_HINTS = 103
# Browsers heed a dozen or so; Chromium reads no second 103 of a response at all.
LINKS_MAX = 16
LINKS_BYTES_MAX = 2 << 10
LINK = b"link"
KEPT = b"nearmile-kept"
"""A field of a 103 that a server sends to another from what it stores: so that this one, too, can keep it."""


def links_of(fields: Fields, before: tuple[bytes, ...] = ()) -> tuple[bytes, ...]:
    """The links in the fields of a 103, behind those of the ones ``before``: each once, no more than fit."""
    links = before
    left_bytes = LINKS_BYTES_MAX - sum(map(len, links))
    for name, value in fields:
        if name == LINK and value not in links and len(links) < LINKS_MAX and len(value) <= left_bytes:
            links += (value,)
            left_bytes -= len(value)
    return links


def hint_fields(links: tuple[bytes, ...]) -> Fields:
    """The fields of a 103 with those links, which are kept."""
    return (*((LINK, value) for value in links), (KEPT, b"1"))
