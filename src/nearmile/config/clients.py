"""What must hold in a site's rules for its clients, beyond each value's own type.

As ``rules``, it passes over what has the wrong type.
"""

from functools import cache
from pathlib import Path
from typing import Any

from nearmile.base.gazetteer import areas
from nearmile.config.check import Found
from nearmile.config.find import EACH, find, unreadable
from nearmile.config.lines import KeyPath
from nearmile.config.problems import near

PAGE_BYTES_MAX = 64 << 10
# 128 bits, as text: less could be guessed. RFC 2104 section 3 asks for no less than the digest's length of 32.
SECRET_BYTES_MIN, SECRET_BYTES_MAX = 32, 4096
# Framing, the connection and the way a message took are each server's own (RFC 9110 section 7.6).
_OURS = frozenset(
    (
        "cdn-loop", "connection", "content-length", "host", "keep-alive", "proxy-connection", "te", "trailer",
        "transfer-encoding", "upgrade", "via",
    )
)  # fmt: skip
# The cache asks for parts and conditions by itself.
_REQUEST_OURS = _OURS | {
    "expect", "forwarded", "if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since",
    "range", "x-forwarded-for",
}  # fmt: skip
# What caches go by, ours and those behind it, is for the origin to say.
_RESPONSE_OURS = _OURS | {
    "age", "cache-control", "cache-status", "cache-tag", "cdn-cache-control", "content-encoding", "content-range",
    "date", "etag", "expires", "last-modified", "location", "pragma", "surrogate-control", "surrogate-key", "vary",
    "xkey",
}  # fmt: skip
# Of several fields, or with weights and dates, or each client's own: not for telling variants apart.
_KEY_UNFIT = _REQUEST_OURS | {"cache-control", "cookie", "pragma"}
_ALIASES = {"UK": "GB", "EN": "GB", "EL": "GR"}


def client_rules(document: dict[str, Any], folder: Path) -> Found:
    """What is wrong between the keys of a site document; ``folder`` is where its network's document lies."""
    yield from _key(document)
    yield from _countries(document)
    yield from _redirects(document)
    yield from _fields(document)
    yield from _signed(document, folder)
    for path, name in find(document, ["error_pages", EACH]):
        if isinstance(name, str):
            yield from _file(path, folder / name, 1, PAGE_BYTES_MAX)


def _key(document: dict[str, Any]) -> Found:
    key = document.get("key")
    if not isinstance(key, dict):
        return
    chosen, named = key.get("query", "keep"), bool(key.get("parameters"))
    if chosen in ("only", "without") and not named:
        yield ("key", "query"), f"is '{chosen}', but `parameters` names none"
    if chosen in ("keep", "ignore") and named:
        yield ("key", "parameters"), "has no effect; `query` must be `only` or `without`"
    first = next((name for _, name in find(document, ["hostnames", EACH])), None)
    if key.get("hosts") == "together" and isinstance(first, str) and first.startswith("*"):
        yield ("key", "hosts"), f"needs a first of `hostnames` to tell the origin, and {first} is no name"


@cache
def _codes() -> frozenset[str]:
    return frozenset(area.country for area in areas())


def _countries(document: dict[str, Any]) -> Found:
    known = _codes()
    for name in ("allow_countries", "deny_countries"):
        for path, country in find(document, ["access", name, EACH]):
            if isinstance(country, str) and len(country) == 2 and country.isupper() and country not in known:
                hint = f"; did you mean {_ALIASES[country]}?" if country in _ALIASES else near(country, known)
                yield path, f"no country has the code {country!r}{hint}"


def _redirects(document: dict[str, Any]) -> Found:
    seen: set[str] = set()
    for path, redirect in find(document, ["redirects", EACH]):
        if not isinstance(redirect, dict):
            continue
        source, to = redirect.get("path"), redirect.get("to")
        if isinstance(source, str):
            if source in seen:
                yield (*path, "path"), f"{source} is redirected already"
            seen.add(source)
            if "*" in source[:-1] or (source.endswith("*") and not source.endswith("/*")):
                yield (*path, "path"), f"is {source!r}, but `*` can only stand at the end, after a /"
        if isinstance(source, str) and isinstance(to, str):
            if to.endswith("*") and not (to.endswith("/*") and source.endswith("/*")):
                yield (*path, "to"), f"is {to!r}, but ends with /* only if `path` does"
            elif to == source:
                yield (*path, "to"), "is the path itself"


def _fields(document: dict[str, Any]) -> Found:
    for table, ours in (("request_headers", _REQUEST_OURS), ("response_headers", _RESPONSE_OURS)):
        named = [((table, "set", name), name) for _, rules in find(document, [table, "set"])
                 if isinstance(rules, dict) for name in rules]  # fmt: skip
        removed = list(find(document, [table, "remove", EACH]))
        for path, name in (*named, *removed):
            if isinstance(name, str) and (name.lower() in ours or name.lower().startswith("nearmile-")):
                yield path, f"{name} is the edge's own, or the origin's to say; a site cannot change it"
        lower = [name.lower() for _, name in named]
        for path, name in (*named, *removed):
            if isinstance(name, str) and (
                lower.count(name.lower()) > 1 or (path[1] == "remove" and name.lower() in lower)
            ):
                yield path, f"{name} is named twice"
    for path, name in find(document, ["key", "headers", EACH]):
        if isinstance(name, str) and name.lower() in _KEY_UNFIT:
            yield (
                path,
                f"{name} cannot tell variants apart" + ("; see `cookies`" if name.lower() == "cookie" else ""),
            )


def _signed(document: dict[str, Any], folder: Path) -> Found:
    for path, key in find(document, ["signed", "keys", EACH]):
        if not isinstance(key, dict):
            continue
        if ("file" in key) == ("environment" in key):
            yield path, "must have either `file` or `environment`"
        elif isinstance(key.get("file"), str):
            yield from _file((*path, "file"), folder / key["file"], SECRET_BYTES_MIN, SECRET_BYTES_MAX)
    signed, key = document.get("signed"), document.get("key")
    if (
        isinstance(signed, dict)
        and signed.get("open")
        and not (isinstance(key, dict) and key.get("normalise") is True)
    ):
        yield ("signed", "open"), "needs `key.normalise = true`, else /open/../closed would get around it"


def _file(path: KeyPath, file: Path, bytes_min: int, bytes_max: int) -> Found:
    try:
        size_bytes = len(file.read_bytes().strip()) if file.stat().st_size <= bytes_max else bytes_max + 1
    except (OSError, ValueError) as error:
        yield path, f"{file} {unreadable(error)}"
        return
    if not bytes_min <= size_bytes <= bytes_max:
        yield path, f"{file} must have {bytes_min} to {bytes_max} bytes"
