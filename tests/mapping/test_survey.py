"""Databases read whole: as maxminddb reads them address by address; and what an atlas is made of."""

from pathlib import Path
from random import Random

import pytest
from mmdb_writer import MMDBWriter
from msgspec import structs
from netaddr import IPSet

from nearmile.base.errors import NearmileError
from nearmile.base.geography import Point
from nearmile.config.network import Nameserver, Network, PlaceEntry, Region
from nearmile.mapping import mmdb
from nearmile.mapping.atlas import Finder
from nearmile.mapping.map import unit_of
from nearmile.mapping.places import Places, built_in_file
from nearmile.mapping.survey import basis_of, make_atlas, read

NETWORK = Network(
    name="n",
    zone="n.test",
    regions={"tokyo": Region(city="Tokyo")},
    nameservers=(Nameserver(tier="top", city="Tokyo"), Nameserver(tier="low", city="Tokyo")),
    places=(PlaceEntry(block="192.0.2.0/24", city="Tokyo"),),
)
TOKYO = [Point(35.7, 139.7)]


def write(path: Path, family: int, *records: tuple[str, dict[str, object]]) -> Path:
    writer = MMDBWriter(ip_version=family, ipv4_compatible=family == 6, int_type="u32", float_type="f32")
    for block, record in records:
        writer.insert_network(IPSet([block]), record)
    writer.to_db_file(str(path))
    return path


def test_the_built_in_database_is_read_as_it_is_looked_up() -> None:
    survey = read([built_in_file()])
    places, chance = Places([built_in_file()]), Random(1)
    atlas = make_atlas(structs.replace(NETWORK, places=()), [built_in_file()], None, TOKYO)
    finder = Finder(atlas)
    assert len(survey.places) > 500 and len(atlas.names) > 3000
    for _ in range(3000):
        four = ".".join(str(chance.randrange(256)) for _ in range(3)) + ".0"
        six = f"{chance.randrange(0x2000, 0x4000):x}:{chance.randrange(1 << 16):x}::"
        for address in (four, six):
            assert atlas.names[finder.unit(address)] == unit_of(places.lookup(address)), address


def test_places_networks_and_the_operators_word(tmp_path: Path) -> None:
    full = {"country_code": "FR", "state1": "Brittany", "city": "Rennes", "latitude": 48.1, "longitude": -1.7}
    four = write(tmp_path / "four.mmdb", 4, ("198.51.100.0/22", full), ("192.0.0.0/16", full))
    asn = write(tmp_path / "asn.mmdb", 6, ("192.0.0.0/16", {"autonomous_system_number": 64500}))
    atlas = make_atlas(NETWORK, [built_in_file(), four], asn, TOKYO)
    finder = Finder(atlas)
    found = [atlas.names[finder.unit(address)] for address in ("192.0.9.9", "192.0.2.9", "198.51.100.9")]
    assert found == ["FR/Brittany/AS64500", "JP/Tokyo", "FR/Brittany"]


def test_an_atlas_is_made_anew_when_it_would_differ(tmp_path: Path) -> None:
    first = basis_of(NETWORK, [built_in_file()], TOKYO)
    assert first == basis_of(NETWORK, [built_in_file()], TOKYO)
    others = (
        basis_of(structs.replace(NETWORK, units=1000), [built_in_file()], TOKYO),
        basis_of(structs.replace(NETWORK, places=()), [built_in_file()], TOKYO),
        basis_of(NETWORK, [built_in_file()], []),
        basis_of(NETWORK, [write(tmp_path / "x.mmdb", 4, ("192.0.2.0/24", {}))], TOKYO),
    )
    assert len({first, *others}) == 5


@pytest.mark.parametrize("data", [b"", b"no database", b"x" * 4000])
def test_what_is_no_database_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "broken.mmdb"
    path.write_bytes(data)
    with pytest.raises(NearmileError, match=r"broken\.mmdb cannot be read"):
        mmdb.read(path, {4: 24, 6: 48})
