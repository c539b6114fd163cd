"""What must hold in what a site says of its origins, beyond each value's own type.

As ``rules``, it passes over what has the wrong type.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nearmile.config.certificate import authority_problem
from nearmile.config.check import Found
from nearmile.config.find import EACH, exists, find, unreadable
from nearmile.config.lines import KeyPath
from nearmile.config.problems import near
from nearmile.config.upstream import is_folder

URL = "http://host[:port] or https://host[:port]"
# Each has a meaning for https alone.
_OF_TLS = ("server_name", "authority")


def origin_rules(document: dict[str, Any], folder: Path) -> Found:
    """What is wrong; ``folder`` is where the network's document lies."""
    seen: dict[str, KeyPath] = {}
    folders = 0
    for path, origin in (*find(document, ["origin"]), *find(document, ["origin", EACH])):
        if not isinstance(origin, str) or not origin:
            continue
        yield from ((path, what) for what in _origin(origin, folder))
        if seen.setdefault(origin, path) != path:
            yield path, f"{origin} is listed already"
        folders += is_folder(origin)
        if folders > 1 and is_folder(origin):
            yield path, "only one of the origins can be a folder"
    yield from _tls(document, folder, any(origin.startswith("https://") for origin in seen))


def regions_known(documents: Mapping[str, dict[str, Any]], regions: object) -> Iterator[tuple[str, KeyPath, str]]:
    """(site, key, what) for parents or regions that the network does not have, or that are named twice."""
    for name, document in documents.items():
        for key in ("parents", "regions"):
            seen: set[str] = set()
            for path, region in find(document, [key, EACH]):
                if isinstance(region, str) and isinstance(regions, dict):
                    if region not in regions:
                        yield name, path, f"the network has no region {region!r}{near(region, regions)}"
                    elif region in seen:
                        yield name, path, f"{region} is listed already"
                    seen.add(region)


def _tls(document: dict[str, Any], folder: Path, secure: bool) -> Found:
    for key in _OF_TLS:
        for path, _ in find(document, ["upstream", key]):
            if not secure:
                yield path, "has no effect: no origin is https"
    for path, name in find(document, ["upstream", "authority"]):
        if isinstance(name, str) and name:
            try:
                what = authority_problem((folder / name).read_bytes())
            except (OSError, ValueError) as error:
                what = unreadable(error)
            if what:
                yield path, f"{folder / name} {what}"


def _origin(origin: str, folder: Path) -> Iterator[str]:
    if is_folder(origin):
        if not exists(folder, origin, is_folder=True):
            server = f"; did you mean http://{origin}?" if ":" in origin else f"; a server is written {URL}"
            yield f"there is no folder {folder / origin}{server}"
        return
    scheme = origin.partition("://")[0]
    if scheme not in ("http", "https"):
        yield f"{scheme}:// is not supported; use {URL}, or a folder"
    elif not host_of(origin) or _beyond_host(origin):
        yield f"is {origin!r}, but must be {URL}, or a folder"


def host_of(url: str) -> str:
    """The host of a URL whose port is a port; "" if it has none."""
    try:
        parts = urlsplit(url)
        return (parts.hostname or "") if parts.port != 0 else ""
    except ValueError:
        return ""


def _beyond_host(url: str) -> bool:
    # Not of its parts: in making these, line ends within it are passed over.
    host = url.partition("://")[2].removesuffix("/")
    return any(not (c.isascii() and (c.isalnum() or c in "-._:[]")) for c in host)
