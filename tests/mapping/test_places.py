from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from nearmile.base.errors import NearmileError
from nearmile.base.gazetteer import cities, find_city
from nearmile.base.geography import NOWHERE, Place, Point
from nearmile.config.network import Nameserver, Network, PlaceEntry, Region
from nearmile.mapping import places
from nearmile.mapping.places import FULL_NAMES, Places, built_in_file, database_files


@pytest.fixture(scope="module")
def built_in() -> Places:
    return Places([built_in_file()])


def full_like(path: Path, family: int, block: str, city: str) -> None:
    """A database with the records of the full one, for one family."""
    writer = MMDBWriter(ip_version=family, database_type="city", float_type="f32")
    record = {"country_code": "FR", "state1": "Brittany", "city": city, "latitude": 48.0, "longitude": -2.0}
    writer.insert_network(IPSet([block]), record)
    writer.to_db_file(str(path))


def network(places: tuple[PlaceEntry, ...]) -> Network:
    servers = (Nameserver(tier="top", city="Paris"), Nameserver(tier="low", city="Paris"))
    return Network(
        name="n", zone="n.test", regions={"a": Region(city="Paris")}, nameservers=servers, places=places
    )


@pytest.mark.parametrize(
    ("address", "country", "state"),
    [
        ("171.64.1.1", "US", "California"),
        ("::ffff:171.64.1.1", "US", "California"),
        ("2001:630::1", "GB", ""),
        ("133.242.0.3", "JP", "Tokyo"),
    ],
)
def test_the_built_in_database_knows_both_families(
    built_in: Places, address: str, country: str, state: str
) -> None:
    place = built_in.lookup(address)
    assert (place.country, place.state) == (country, state)
    assert place.point is not None


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "192.168.1.1", "100.64.0.1", "224.0.0.1", "::1", "fe80::1", "fe80::1%eth0",
     "fd00::1", "2001:db8::1", "", "x", "1.2.3", "1.2.3.4.5", "1.2.3.4/8", "999.1.1.1", "::ffff:10.0.0.1"],
)  # fmt: skip
def test_what_has_no_place_is_nowhere(built_in: Places, address: str) -> None:
    assert built_in.lookup(address) == NOWHERE


@given(st.text(max_size=50) | st.ip_addresses().map(str))
@settings(max_examples=200)
def test_lookup_never_raises(address: str) -> None:
    found = Places([built_in_file()]).lookup(address)
    assert isinstance(found, Place)


def test_every_city_has_an_address_that_the_built_in_database_places_there(built_in: Places) -> None:
    for city in cities():
        place = built_in.lookup(city.address)
        assert place.country == city.country, city
        assert place.state in ("", city.state), city


def test_full_databases_are_read_by_family(tmp_path: Path) -> None:
    full_like(tmp_path / FULL_NAMES[0], 4, "20.0.0.0/8", "Rennes")
    full_like(tmp_path / FULL_NAMES[1], 6, "2001:4::/32", "Brest")
    files = database_files(None, tmp_path)
    assert [file.name for file in files] == list(FULL_NAMES)
    full = Places(reversed(files))
    assert full.lookup("20.1.2.3") == Place("FR", "Brittany", "Rennes", Point(48.0, -2.0))
    assert full.lookup("2001:4::1").city == "Brest"
    assert full.lookup("21.1.2.3") == NOWHERE == full.lookup("2002::1")
    assert database_files(str(tmp_path), Path("/nonexistent")) == files
    assert database_files(str(files[0]), Path("/nonexistent")) == files[:1]


def test_one_family_alone_leaves_the_other_unknown(tmp_path: Path) -> None:
    full_like(tmp_path / "only.mmdb", 4, "20.0.0.0/8", "Rennes")
    assert Places([tmp_path / "only.mmdb"]).lookup("2001:4::1") == NOWHERE


def test_half_an_installation_is_none(tmp_path: Path) -> None:
    full_like(tmp_path / FULL_NAMES[0], 4, "20.0.0.0/8", "Rennes")
    assert database_files(None, tmp_path) == (built_in_file(),)


def test_a_missing_or_broken_database_is_named(tmp_path: Path) -> None:
    with pytest.raises(NearmileError, match=r"geography: .*gone.mmdb"):
        database_files(str(tmp_path / "gone.mmdb"), tmp_path)
    (tmp_path / "broken.mmdb").write_bytes(b"not a database")
    with pytest.raises(NearmileError, match=r"broken.mmdb cannot be read"):
        Places([tmp_path / "broken.mmdb"])


def test_entries_of_the_document_win_and_the_longest_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(places, "installed_folder", lambda: tmp_path)
    entries = (
        PlaceEntry(block="8.0.0.0/8", city="Tokyo"),
        PlaceEntry(block="8.8.0.0/16", city="Paris"),
        PlaceEntry(block="fd00::/8", city="London"),
    )
    opened = Places.open(network(entries))
    paris = find_city("Paris")
    assert paris is not None
    assert opened.lookup("8.8.8.8") == Place("FR", paris.state, "Paris", paris.point)
    assert opened.lookup("8.9.8.8").city == "Tokyo"
    assert opened.lookup("fd00::1").city == "London"
    assert opened.lookup("9.9.9.9").city == ""


def test_the_memo_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "MEMO_MAX", 10)
    table = Places([], [(ip_network("1.0.0.0/24"), Place("XX"))])
    for _ in range(2):
        assert {table.lookup(f"1.0.0.{host}").country for host in range(256)} == {"XX"}
        assert len(table._memo) <= 10
