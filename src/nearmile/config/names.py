"""What the documents say of DNS: the name servers' answers, a site's zones and records, and the rules of names."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from msgspec import Meta

from nearmile.config.find import EACH, find
from nearmile.config.lines import KeyPath
from nearmile.config.values import Document, HostName, Port, RecordName

Found = Iterator[tuple[KeyPath, str]]
ZONES_MAX, CAA_MAX, TXT_NAMES_MAX, TXT_MAX = 64, 16, 256, 8

Authority = Annotated[
    str,
    Meta(
        pattern=r"\A(0|128) [A-Za-z0-9]{1,15} (\"[\x20\x21\x23-\x7e]{0,255}\"|[\x21\x23-\x7e]{1,255})\Z",
        title='flags, tag and value of a CAA record, such as `0 issue "letsencrypt.org"`',
        extra_json_schema={"titles": 'CAA records, such as `0 issue "letsencrypt.org"`'},
    ),
]
Text = Annotated[str, Meta(pattern=r"\A[\x20-\x7e]{0,900}\Z", title="at most 900 printable ASCII characters")]


class Dns(Document, frozen=True, kw_only=True):
    """What the name servers answer with."""

    port: Annotated[Port, Meta(description="UDP and TCP port of every name server.")] = 5300
    top_ttl_s: Annotated[
        int, Meta(ge=1, le=86400, description="TTL of delegations to low-level name servers, and of their glue.")
    ] = 1800
    low_ttl_s: Annotated[int, Meta(ge=1, le=3600, description="TTL of edge server addresses.")] = 20
    dnssec: Annotated[
        bool,
        Meta(
            description="Whether all zones are signed. Resolvers check that once the zone's parent has the DS "
            "records that `nearmile dns ds` prints; take them out of the parent, and wait a day, before you "
            "turn this off."
        ),
    ] = True
    answers: Annotated[int, Meta(ge=1, le=8, description="How many servers an answer names.")] = 2
    rate_per_s: Annotated[
        int,
        Meta(
            ge=10,
            le=1_000_000,
            description="Responses of one kind (a name's, or refusals) to one client block, over UDP, no cookie.",
        ),
    ] = 1000


class SiteDns(Document, frozen=True, kw_only=True):
    """What the network's name servers say of the site besides its addresses."""

    zones: Annotated[
        tuple[HostName, ...],
        Meta(
            max_length=ZONES_MAX,
            description="Zones that are delegated to the network's top-level name servers; a hostname that is a "
            "zone's name is answered directly, others by an alias.",
        ),
    ] = ()
    caa: Annotated[
        tuple[Authority, ...],
        Meta(max_length=CAA_MAX, description="CAA records of all hostnames: which authorities may certify them."),
    ] = ()
    txt: Annotated[
        dict[RecordName, Annotated[tuple[Text, ...], Meta(min_length=1, max_length=TXT_MAX)]],
        Meta(max_length=TXT_NAMES_MAX, description="TXT records by name, each within one of the `zones`."),
    ] = {}  # noqa: RUF012


def name_rules(document: dict[str, Any]) -> Found:
    """What is wrong between a site's names."""
    hostnames = [(path, name) for path, name in find(document, ["hostnames", EACH]) if isinstance(name, str)]
    zones = [zone for _, zone in find(document, ["dns", "zones", EACH]) if isinstance(zone, str)]
    acme = any(wanted is True for _, wanted in find(document, ["tls", "acme"]))
    for index, (path, name) in enumerate(hostnames):
        if name.startswith("*.") and index == 0:
            yield path, f"{name} cannot be the first, which stands for the site; put a name without `*` before it"
        elif name.startswith("*.") and acme:
            yield path, f"{name} cannot be proved to an authority by http; give `certificate` and `key` instead"
    aliases = {name for _, name in hostnames} - set(zones)
    for path, _ in find(document, ["dns", "txt", EACH]):
        name = str(path[-1])
        if not any(is_within(name, zone) for zone in zones):
            yield path, f"{name} is in none of the site's `dns.zones`"
        elif name in aliases:
            yield path, f"{name} is an alias, which can have no other records (RFC 1034)"


def zone_rules(
    network: dict[str, Any], documents: Mapping[str, dict[str, Any]]
) -> Iterator[tuple[str, KeyPath, str]]:
    """(site, key, what) for zones and names of sites that are the network's own."""
    own = network.get("zone")
    if not isinstance(own, str):
        return
    for name, document in documents.items():
        for path, zone in find(document, ["dns", "zones", EACH]):
            if isinstance(zone, str) and (is_within(zone, own) or is_within(own, zone)):
                yield name, path, f"{zone} and the network's zone {own} cannot be in each other"
        for path, host in find(document, ["hostnames", EACH]):
            if isinstance(host, str) and _is_taken(host, own):
                yield name, path, f"{host} is a name that the network itself needs; choose another"


def _is_taken(host: str, own: str) -> bool:
    """Whether it is a top-level name server's name, or one of the low tier's that beacons need not have."""
    low = f"g.{own}"
    return (is_within(host, low) and host != f"*.who.{low}") or re.fullmatch(
        rf"ns\d+\.{re.escape(own)}", host
    ) is not None


def is_within(name: str, zone: str) -> bool:
    """Whether the name is the zone's or below it."""
    return name == zone or name.endswith(f".{zone}")
