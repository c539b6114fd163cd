"""What a new configuration changes in a network that runs, and what that takes: for each key of the documents.

Most keys are taken up by processes as they run. Some are read when a process starts, so it is started again. A few
would move what others rely on, addresses, ports and names: they wait until the whole network is started again.
"""

from collections.abc import Iterator, Mapping
from typing import TypeVar

from msgspec import Struct, structs

from nearmile.config.layout import Config, Process, Role

# Users' URLs, delegations and resolvers' caches have ports and names, and all processes the bus's address.
REFUSED = ("name", "zone", "loopback", "nats", "dns.port", "edge.http_port", "edge.https_port")
# What processes of a role read only when they start; of `[[nameservers]]` it is `delayed_s`.
AT_START: Mapping[Role, tuple[str, ...]] = {
    "edge": ("edge.http3", "edge.memory_mb", "edge.disk_mb", "edge.optimise"),
}
T = TypeVar("T")


class Moved(Struct, frozen=True):
    """Names of what was added, changed and removed."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


class Change(Struct, frozen=True):
    """``processes`` changed are those that start again; ``keys`` are the network document's; ``refused`` of them
    are not taken up by a network that runs."""

    sites: Moved = Moved()
    processes: Moved = Moved()
    keys: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


def change(old: Config, new: Config) -> Change:
    """What the new configuration changes."""
    keys = tuple(_differing(old.network, new.network, ""))
    return Change(
        sites=_moved({site.name: site for site in old.sites}, {site.name: site for site in new.sites}),
        processes=_moved(_at_start(old), _at_start(new)),
        keys=keys,
        refused=tuple(key for key in keys if key in REFUSED),
    )


def other_serials(old: Config, new: Config) -> dict[str, int]:
    """By name, sites that have a hostname which had another serial, and that: resolvers still have its alias."""
    had = {host: site.serial for site in old.sites for host in site.document.hostnames}
    return {
        site.name: had[host]
        for site in new.sites
        for host in reversed(site.document.hostnames)
        if had.get(host, site.serial) != site.serial
    }


def at_start(config: Config, process: Process) -> tuple[object, ...]:
    """All that the process goes by from its start to its end, whatever configuration comes."""
    keys = tuple(_value(config.network, key) for key in AT_START.get(process.role, ()))
    return (process.role, process.region, process.tier, process.address, process.port, process.delayed_s, *keys)


def _at_start(config: Config) -> dict[str, tuple[object, ...]]:
    return {process.name: at_start(config, process) for process in config.processes}


def _value(document: object, key: str) -> object:
    for part in key.split("."):
        document = getattr(document, part)
    return document


def _moved(old: Mapping[str, T], new: Mapping[str, T]) -> Moved:
    return Moved(
        added=tuple(name for name in new if name not in old),
        changed=tuple(name for name in new if name in old and new[name] != old[name]),
        removed=tuple(name for name in old if name not in new),
    )


def _differing(old: object, new: object, key: str) -> Iterator[str]:
    """The keys whose values differ, as deep as both documents have them."""
    if old == new:
        return
    if isinstance(old, Struct) and isinstance(new, Struct) and type(old) is type(new):
        fields = [field.name for field in structs.fields(old)]
        pairs = [(name, getattr(old, name), getattr(new, name)) for name in fields]
    elif isinstance(old, dict) and isinstance(new, dict):
        pairs = [(name, old.get(name), new.get(name)) for name in {**old, **new}]
    else:
        yield key
        return
    for name, before, after in pairs:
        yield from _differing(before, after, f"{key}.{name}".lstrip("."))
