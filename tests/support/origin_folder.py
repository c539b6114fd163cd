"""Folders as origins: what their files must arrive as."""

import hashlib
from pathlib import Path
from urllib.parse import quote


def digests_of(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below the folder by its URL path."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        "/" + quote(str(path.relative_to(folder))): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }
