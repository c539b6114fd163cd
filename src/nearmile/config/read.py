"""Reads a network's folder: ``network.toml`` and ``sites/NAME.toml``, checked whole.

This is the only place where documents are read. All that is wrong is reported at once, as ``DocumentErrors``.
"""

import errno
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, inspect, structs

from nearmile.base.gazetteer import find_city
from nearmile.base.geography import Point
from nearmile.config.carried import beyond_the_bus
from nearmile.config.check import Found, check
from nearmile.config.describe import allowed
from nearmile.config.find import unreadable
from nearmile.config.layout import Config, lay_out
from nearmile.config.lines import KeyPath, line_of, lines_of
from nearmile.config.names import zone_rules
from nearmile.config.network import Nameserver, Network, PlaceEntry, Region, Site, Tls
from nearmile.config.origins import regions_known
from nearmile.config.problems import DocumentErrors, Problem, key_text
from nearmile.config.rules import between_sites, network_rules, site_rules, without_authority
from nearmile.config.upstream import is_folder
from nearmile.config.values import Name

NETWORK_FILE, SITES_FOLDER = "network.toml", "sites"
# Far above any document a person writes; a wrong file must not fill the memory.
DOCUMENT_BYTES_MAX = 8 << 20
STAMP_BYTES = 8
T = TypeVar("T")
type_info = cache(inspect.type_info)  # msgspec takes 1.7 ms to look through a site's types


class Documents(Struct, frozen=True):
    """A network's documents, checked; folders in them are absolute paths. ``points`` has every city they name."""

    network: Network
    sites: dict[str, Site]
    points: dict[str, Point]


class _File:
    """One document as parsed, and what is wrong with it."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self.problems: list[Problem] = []
        self.lines: dict[KeyPath, int] = {}
        self.values: dict[str, Any] | None = None
        try:
            text = _read_text(path)
            self.values = tomllib.loads(text)
            self.lines = lines_of(text)
        except FileNotFoundError:
            link = "is a link that leads nowhere"
            self.add((), link if path.is_symlink() else "there is no such file; a network's folder has one")
        except OSError as error:
            self.add((), unreadable(error))
        except UnicodeDecodeError as error:
            self.add((), f"is not UTF-8 text (byte {error.start})")
        except RecursionError:
            self.add((), "is nested too deeply")
        except ValueError as error:  # tomllib.TOMLDecodeError is one; its text names line and column
            self.add((), f"is not valid TOML: {error}")

    def add(self, path: KeyPath, what: str) -> None:
        self.problems.append(Problem(self.name, line_of(self.lines, path), key_text(path), what))

    def examine(self, kind: type, rules: Found) -> None:
        for path, what in (*check(self.values, type_info(kind)), *rules):
            self.add(path, what)

    def convert(self, kind: type[T]) -> T | None:
        """The typed document, where nothing was found wrong with it."""
        if self.problems:
            return None
        try:
            return msgspec.convert(self.values, kind, strict=True)
        except msgspec.ValidationError as error:
            self.add((), str(error))
            return None


def read_directory(folder: Path) -> Documents:
    """Reads and checks all documents of a folder; DocumentErrors with everything that is wrong."""
    network_file = _File(folder / NETWORK_FILE)
    site_files = dict(_site_files(folder))
    folder = folder.absolute()
    if network_file.values is not None:
        network_file.examine(Network, network_rules(network_file.values, folder))
    for file in site_files.values():
        if file.values is not None:
            file.examine(Site, site_rules(file.values, folder))
    parsed = {name: file.values for name, file in site_files.items() if file.values is not None}
    whole = network_file.values or {}
    for name, path, what in (
        *between_sites(parsed),
        *regions_known(parsed, whole.get("regions")),
        *without_authority(whole, parsed),
        *zone_rules(whole, parsed),
    ):
        site_files[name].add(path, what)
    network = network_file.convert(Network)
    sites = {name: file.convert(Site) for name, file in site_files.items()}
    problems = [problem for file in (network_file, *site_files.values()) for problem in file.problems]
    if problems or network is None:
        raise DocumentErrors(problems)
    found = {name: _with_paths(site, folder) for name, site in sites.items() if site is not None}
    return Documents(_network_with_paths(network, folder), found, _points(network))


def read_config(folder: Path, version: int, loopback: str = "", former: Config | None = None) -> Config:
    """Reads, checks and lays out a network; ``loopback`` stands in for its own block where that is taken.

    Processes that were in the ``former`` layout of that block stay what they were.
    """
    documents = read_directory(folder)
    config = lay_out(documents.network, documents.sites, documents.points, version, loopback, former)
    problems = [Problem(str(folder / NETWORK_FILE), 0, "", what) for what in clashes(config)]
    for name, key, what in beyond_the_bus(config):
        file = folder / SITES_FOLDER / f"{name}.toml" if name else folder / NETWORK_FILE
        problems.append(Problem(str(file), 0, key, what))
    if problems:
        raise DocumentErrors(problems)
    return structs.replace(config, sites=tuple(structs.replace(s, files=_stamp(s.document)) for s in config.sites))


def _stamp(site: Site) -> str:
    """Of the files that edge servers read for it; those of certificates they look at by themselves."""
    keys = site.signed.keys.values() if site.signed is not None else ()
    digest, names = blake2b(digest_size=STAMP_BYTES), (*site.error_pages.values(), *(key.file for key in keys))
    for name in filter(None, (*names, site.upstream.authority)):
        with suppress(OSError):
            found = Path(name).stat()
            digest.update(f"{name} {found.st_mtime_ns} {found.st_size}".encode())
    return digest.hexdigest()


def clashes(config: Config) -> Iterator[str]:
    """What two processes both would have, or a server and a region: commands name either (`nearmile drain`)."""
    owners, names = dict[tuple[str, int], str](), set[str]()
    for process in config.processes:
        if process.name in names or (process.role == "edge" and process.name in config.network.regions):
            yield f"{process.name} would be the name of two; give region {process.region} another name"
        names.add(process.name)
        if process.port:
            owner = owners.setdefault((process.address, process.port), process.name)
            if owner != process.name:
                yield f"{owner} and {process.name} would both listen on {process.address} port {process.port}"


def _site_files(folder: Path) -> Iterator[tuple[str, _File]]:
    """Every site document by its name, which is the file's."""
    name_type = type_info(Name)
    for path in sorted((folder / SITES_FOLDER).glob("*.toml")):
        file = _File(path)
        for _, _what in check(path.stem, name_type):
            file.add((), f"its name makes the site's, which must be {allowed(name_type)}")
        yield path.stem, file


def _read_text(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(DOCUMENT_BYTES_MAX + 1)
    if len(data) > DOCUMENT_BYTES_MAX:
        raise OSError(errno.EFBIG, f"longer than {DOCUMENT_BYTES_MAX} bytes")
    return data.decode("utf-8-sig")  # some editors begin a file with a byte order mark


def _network_with_paths(network: Network, folder: Path) -> Network:
    """The network with the files that it names as absolute paths."""
    if network.geography is not None:
        network = structs.replace(network, geography=str(folder / network.geography))
    if network.networks is not None:
        network = structs.replace(network, networks=str(folder / network.networks))
    if network.acme is not None and network.acme.root is not None:
        acme = structs.replace(network.acme, root=str(folder / network.acme.root))
        network = structs.replace(network, acme=acme)
    return network


def _with_paths(site: Site, folder: Path) -> Site:
    """The site with an origin folder, and the files that it names, as absolute paths."""
    origins = tuple(str((folder / name).resolve()) if is_folder(name) else name for name in site.all_origins)
    site = structs.replace(site, origin=origins[0] if isinstance(site.origin, str) else origins)
    if site.upstream.authority is not None:
        upstream = structs.replace(site.upstream, authority=str(folder / site.upstream.authority))
        site = structs.replace(site, upstream=upstream)
    if site.tls is not None and site.tls.certificate is not None and site.tls.key is not None:
        tls = Tls(certificate=str(folder / site.tls.certificate), key=str(folder / site.tls.key))
        site = structs.replace(site, tls=tls)
    if site.signed is not None:
        keys = {
            name: structs.replace(key, file=str(folder / key.file)) if key.file is not None else key
            for name, key in site.signed.keys.items()
        }
        site = structs.replace(site, signed=structs.replace(site.signed, keys=keys))
    pages = {status: str(folder / page) for status, page in site.error_pages.items()}
    return structs.replace(site, error_pages=pages)


def _points(network: Network) -> dict[str, Point]:
    named: Iterable[Region | Nameserver | PlaceEntry]
    named = (*network.regions.values(), *network.nameservers, *network.places)
    found = {item.city: find_city(item.city) for item in named}
    return {name: city.point for name, city in found.items() if city is not None}
