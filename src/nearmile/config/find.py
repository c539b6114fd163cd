"""Values in a document as it was parsed, by where they stand."""

from collections.abc import Iterable, Iterator
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
