"""Targeted cache control (RFC 9213): what an origin says to content delivery networks alone.

``CDN-Cache-Control`` is a dictionary of Structured Fields (RFC 8941 section 3.2), and unlike Cache-Control it is
read strictly: whatever is no dictionary counts as absent, since it may come from somebody who meant another field.
"""

import re

TARGETED = b"cdn-cache-control"

# RFC 8941 section 3; possessive, so that no input costs more than linear time.
_KEY = rb"[a-z*][a-z0-9_.*-]*+"
_STRING = rb'"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*+"'
_ITEM = (
    rb"(?:-?[0-9]{1,12}\.[0-9]{1,3}|-?[0-9]{1,15}+|"
    + _STRING
    + rb"|[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*+|:[A-Za-z0-9+/=]*+:|\?[01])"
)
_PARAMETERS = rb"(?:;\x20*+" + _KEY + rb"(?:=" + _ITEM + rb")?)*+"
_INNER_LIST = rb"\((?:\x20*+" + _ITEM + _PARAMETERS + rb")*+\x20*+\)"
_MEMBER = re.compile(
    rb"(?P<key>" + _KEY + rb")(?:=(?P<value>" + _ITEM + rb"|" + _INNER_LIST + rb"))?" + _PARAMETERS
)
_COMMA = re.compile(rb"[ \t]*+,[ \t]*+")
_ESCAPE = re.compile(rb"\\(.)")


def dictionary(values: tuple[bytes, ...]) -> dict[bytes, bytes | None] | None:
    """The members that are not false, strings unquoted, None for true; None if it is no dictionary, or empty.

    Of equal keys the last one counts (RFC 8941 section 3.2); parameters mean nothing here (RFC 9213 section 2.1).
    """
    text, at = b", ".join(values).strip(b" "), 0
    found: dict[bytes, bytes | None] = {}
    while member := _MEMBER.match(text, at):
        found[member["key"]] = member["value"]
        if member.end() == len(text):
            return {key: _plain(value) for key, value in found.items() if value != b"?0"}
        comma = _COMMA.match(text, member.end())
        if comma is None:
            return None
        at = comma.end()
    return None


def _plain(value: bytes | None) -> bytes | None:
    if value is None or value == b"?1":
        return None
    return _ESCAPE.sub(rb"\1", value[1:-1]) if value.startswith(b'"') else value
