"""Values in a document as it was parsed, by where they stand; and whether what they name is there."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from nearmile.config.lines import KeyPath

EACH = "*"


def find(value: object, pattern: Iterable[str], path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Every value at that place; ``EACH`` stands for all items of a list or table."""
    name, *rest = pattern
    items: Iterable[tuple[str | int, object]] = ()
    if isinstance(value, dict):
        items = value.items() if name == EACH else [(name, value[name])] if name in value else ()
    elif isinstance(value, list) and name == EACH:
        items = enumerate(value)
    for key, item in items:
        if rest:
            yield from find(item, rest, (*path, key))
        else:
            yield (*path, key), item


def exists(folder: Path, name: str, is_folder: bool = False) -> bool:
    """Whether the path, relative to the folder, leads to something; never raises."""
    try:
        path = folder / name
        return path.is_dir() if is_folder else path.exists()
    except (OSError, ValueError):
        return False


def unreadable(error: OSError | ValueError) -> str:
    """What to say of a file that could not be read."""
    return f"cannot be read: {getattr(error, 'strerror', None) or error}"
