"""Writes the reference of every key, its bounds, its default and its meaning, from the types themselves.

``python -m nearmile.config.reference > docs/reference.md``
"""

import sys
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import NODEFAULT, inspect

from nearmile.config.describe import MANY, allowed, alternatives, bare, note
from nearmile.config.network import Network, Site

HEADING = """# Reference of the documents

A network is a folder with one `network.toml` and a document for each site in `sites/NAME.toml`, all in
[TOML](https://toml.io). `nearmile check DIR` says whether they are right. Generated from the types in
`src/nearmile/config/` by `python -m nearmile.config.reference > docs/reference.md`.
"""


def render() -> str:
    """The whole page, in Markdown."""
    parts = [HEADING]
    for title, document in (("network.toml", Network), ("sites/NAME.toml", Site)):
        parts.append(f"## {title}\n")
        parts += _tables(inspect.type_info(document), "")
    return "\n".join(parts)


def _tables(kind: inspect.Type, name: str) -> Iterator[str]:
    """The table of a struct's keys, and after it those of the structs inside it."""
    assert isinstance(kind, inspect.StructType)
    if name:
        yield f"### `{name}`\n\n{_first_line(kind.cls)}\n"
    yield "| key | what it may be | default | meaning |\n|---|---|---|---|"
    inner = []
    for field in kind.fields:
        struct, heading = _struct_in(field, name)
        if struct is not None:
            inner.append((struct, heading))
        meaning = note(field.type, "description") or (_first_line(struct.cls) if struct is not None else "")
        yield f"| `{field.encode_name}` | {allowed(field.type)} | {_default(field)} | {meaning} |"
    yield ""
    for struct, heading in inner:
        yield from _tables(struct, heading)


def _struct_in(field: inspect.Field, name: str) -> tuple[inspect.StructType | None, str]:
    """The struct that a key holds, by itself or many, with its heading in TOML's own notation."""
    path = f"{name.strip('[]')}.{field.encode_name}".lstrip(".")
    for option in alternatives(field.type):
        plain = bare(option)
        heading = f"[{path}]"
        if isinstance(plain, inspect.DictType):
            plain, heading = bare(plain.value_type), f"[{path}.NAME]"
        elif isinstance(plain, MANY):
            plain, heading = bare(plain.item_type), f"[[{path}]]"
        if isinstance(plain, inspect.StructType) and plain.cls.__name__ != "Point":
            return plain, heading
    return None, ""


def _default(field: inspect.Field) -> str:
    default: Any = field.default
    if field.default_factory is not NODEFAULT:
        default = field.default_factory()
    if default is NODEFAULT:
        return "required"
    if default is None or isinstance(default, msgspec.Struct):
        return "none" if default is None else "see below"
    return f"`{msgspec.json.encode(default).decode()}`"


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").strip().partition("\n")[0]


if __name__ == "__main__":
    sys.stdout.write(render())
