"""What must hold between the keys of the documents, beyond each value's own type.

The rules look at documents as they were parsed and pass over what has the wrong type: that is found elsewhere, and
must not hide what else is wrong.
"""

from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from nearmile.base.gazetteer import find_city, near_misses
from nearmile.config.certificate import certificate_problems
from nearmile.config.check import Found
from nearmile.config.clients import client_rules
from nearmile.config.find import EACH, exists, find, unreadable
from nearmile.config.layout import serial_of_name
from nearmile.config.lines import KeyPath
from nearmile.config.names import name_rules
from nearmile.config.network import Edge, Health
from nearmile.config.origins import host_of, origin_rules
from nearmile.config.problems import did_you_mean, key_text, near

# One lost heartbeat, and one that is late, must not take a healthy server out of the answers.
BEATS_MIN = 3


def network_rules(document: dict[str, Any], folder: Path) -> Found:
    """What is wrong between the keys of a network document; ``folder`` is where it lies."""
    yield from _cities(document)
    yield from _points(document)
    yield from _addresses(document)
    yield from _places(document)
    yield from _tiers(document)
    yield from _delayed(document)
    yield from _health(document)
    yield from _ports(document)
    yield from _contracts(document)
    built_in = "; leave the key out for the built-in database"
    for pattern, mend in ((["acme", "root"], ""), (["geography"], built_in), (["networks"], "")):
        for path, name in find(document, pattern):
            if isinstance(name, str) and not exists(folder, name):
                yield path, f"there is no {folder / name}{mend}"
    for path, url in find(document, ["nats"]):
        if isinstance(url, str) and not (url.startswith(("nats://", "tls://")) and host_of(url)):
            yield path, f"is {url!r}, but must be nats://host[:port]"


def _contracts(document: dict[str, Any]) -> Found:
    known = document.get("contracts", {})
    for path, name in find(document, ["regions", EACH, "contract"]):
        if isinstance(name, str) and isinstance(known, dict) and name not in known:
            yield path, f"there is no [contracts.{name}]{near(name, known)}"


def site_rules(document: dict[str, Any], folder: Path) -> Found:
    """What is wrong between the keys of a site document; ``folder`` is where its network's document lies."""
    yield from origin_rules(document, folder)
    yield from _certificate(document, folder)
    yield from client_rules(document, folder)
    yield from name_rules(document)


def between_sites(documents: Mapping[str, dict[str, Any]]) -> Iterator[tuple[str, KeyPath, str]]:
    """(site, key, what) for what two sites both claim: a hostname or a serial."""
    hostnames: dict[str, str] = {}
    serials: dict[int, str] = {}
    for name, document in sorted(documents.items()):
        for path, hostname in find(document, ["hostnames", EACH]):
            if isinstance(hostname, str):
                other = hostnames.setdefault(hostname, f"{name} {key_text(path)}")
                if other != f"{name} {key_text(path)}":
                    yield name, path, f"{hostname} is a hostname of site {other.split()[0]} already"
        serial = document.get("serial")
        made = serial_of_name(name) if serial is None else serial
        if isinstance(made, int) and serials.setdefault(made, name) != name:
            yield name, ("serial",) if serial else (), f"serial {made} is site {serials[made]}'s; choose another"


def without_authority(
    network: dict[str, Any], documents: Mapping[str, dict[str, Any]]
) -> Iterator[tuple[str, KeyPath, str]]:
    """(site, key, what) for sites that want certificates of an authority which the network does not name."""
    if "acme" not in network:
        for name, document in documents.items():
            for path, wanted in find(document, ["tls", "acme"]):
                if wanted is True:
                    yield name, path, "the network document names no authority; add a table `[acme]` to it"


def _cities(document: dict[str, Any]) -> Found:
    for pattern in (["regions", EACH], ["nameservers", EACH], ["places", EACH]):
        for path, table in find(document, pattern):
            city = table.get("city") if isinstance(table, dict) else None
            if isinstance(city, str) and "point" not in table and find_city(city) is None:
                mend = "" if pattern[0] == "places" else "; or give its `point = {lat = ..., lon = ...}`"
                yield (*path, "city"), f"no city {city!r} is known{did_you_mean(near_misses(city)) or mend}"


def _points(document: dict[str, Any]) -> Found:
    for table in ("regions", "nameservers"):
        for key, bound in (("lat", 90), ("lon", 180)):
            for path, degrees in find(document, [table, EACH, "point", key]):
                if isinstance(degrees, int | float) and not -bound <= degrees <= bound:
                    yield path, f"is {degrees}, but must be from -{bound} to {bound} degrees"


def _addresses(document: dict[str, Any]) -> Found:
    for pattern in (["regions", EACH, "servers", EACH], ["nameservers", EACH, "address"]):
        seen: dict[object, KeyPath] = {}
        for path, text in find(document, pattern):
            try:
                address = ip_address(text) if isinstance(text, str) else None
            except ValueError:
                continue
            if address is not None and seen.setdefault(address, path) != path:
                yield path, f"{address} is the address of {key_text(seen[address])} already"


def _places(document: dict[str, Any]) -> Found:
    seen: dict[str, KeyPath] = {}
    for path, block in find(document, ["places", EACH, "block"]):
        if isinstance(block, str) and seen.setdefault(block, path) != path:
            yield path, f"{block} is the block of {key_text(seen[block][:-1])} already"


def _tiers(document: dict[str, Any]) -> Found:
    servers = document.get("nameservers")
    if not isinstance(servers, list) or not servers:
        return
    found = {tier for _, tier in find(document, ["nameservers", EACH, "tier"]) if isinstance(tier, str)}
    if found <= {"top", "low"}:
        for tier in ("top", "low"):
            if tier not in found:
                yield ("nameservers",), f"none is of tier `{tier}`; at least one must be"


def _delayed(document: dict[str, Any]) -> Found:
    servers = document.get("nameservers")
    if not isinstance(servers, list):
        return
    for path, delayed_s in find(document, ["nameservers", EACH, "delayed_s"]):
        if delayed_s and servers[int(path[1])].get("tier") == "top":
            yield path, "is of a `top` server, which needs no map; set it for a `low` one"
    low = [table for table in servers if isinstance(table, dict) and table.get("tier") == "low"]
    if low and all(table.get("delayed_s") for table in low):
        yield ("nameservers",), "every `low` server has `delayed_s`; at least one must run on the current map"


def _health(document: dict[str, Any]) -> Found:
    table = document.get("health")
    if not isinstance(table, dict):
        return
    beat_ms = table.get("beat_ms", Health().beat_ms)
    dead_after_ms = table.get("dead_after_ms", Health().dead_after_ms)
    if isinstance(beat_ms, int) and isinstance(dead_after_ms, int) and dead_after_ms < BEATS_MIN * beat_ms:
        key = "dead_after_ms" if "dead_after_ms" in table else "beat_ms"
        what = f"dead_after_ms is {dead_after_ms}, but must be at least {BEATS_MIN} beats of {beat_ms} ms"
        yield ("health", key), what


def _ports(document: dict[str, Any]) -> Found:
    table = document.get("edge")
    if not isinstance(table, dict):
        return
    http, https = table.get("http_port", Edge().http_port), table.get("https_port", Edge().https_port)
    if http == https:
        yield ("edge", "https_port" if "https_port" in table else "http_port"), "both ports cannot be the same"


def _certificate(document: dict[str, Any], folder: Path) -> Found:
    table = document.get("tls")
    if not isinstance(table, dict):
        return
    files: dict[str, bytes] = {}
    named = [key for key in ("certificate", "key") if key in table]
    if table.get("acme") is True:
        yield from ((("tls", key), "there is none beside `acme = true`; leave one of them out") for key in named)
        return
    if len(named) == 1:
        yield ("tls",), "has one of `certificate` and `key`; both are needed"
    elif not named:
        yield ("tls",), "names no certificate; give `certificate` and `key`, or `acme = true`"
    for key in ("certificate", "key"):
        if isinstance(name := table.get(key), str):
            try:
                files[key] = (folder / name).read_bytes()
            except (OSError, ValueError) as error:
                yield ("tls", key), f"{folder / name} {unreadable(error)}"
    if len(files) == 2:
        hostnames = [name for _, name in find(document, ["hostnames", EACH]) if isinstance(name, str)]
        for key, what in certificate_problems(files["certificate"], files["key"], hostnames):
            yield ("tls", key), what
