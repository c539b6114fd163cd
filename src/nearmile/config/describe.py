"""The documents' types in words: what a key may be. Errors and the reference say it alike."""

from typing import Any

from msgspec import inspect

MANY = (inspect.VarTupleType, inspect.ListType)


def bare(kind: inspect.Type) -> inspect.Type:
    """The type without its notes."""
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    return kind


def note(kind: inspect.Type, name: str) -> str:
    """What the type's notes say under that name ("title", "description", "format"); "" if nothing."""
    while isinstance(kind, inspect.Metadata):
        found = (kind.extra_json_schema or {}).get(name)
        if found is not None:
            return str(found)
        kind = kind.type
    return ""


def alternatives(kind: inspect.Type) -> list[inspect.Type]:
    """The types a value may have; TOML has no null, so None is only a default."""
    plain = bare(kind)
    if isinstance(plain, inspect.UnionType):
        return [part for part in plain.types if not isinstance(bare(part), inspect.NoneType)]
    return [kind]


def allowed(kind: inspect.Type) -> str:
    """What is allowed, as a noun: "a whole number from 1 to 65535"."""
    parts = alternatives(kind)
    if len(parts) > 1:
        return " or ".join(allowed(part) for part in parts)
    plain = bare(parts[0])
    if isinstance(plain, inspect.LiteralType):
        return " or ".join(f"`{value}`" for value in plain.values)
    if isinstance(plain, inspect.IntType):
        return "a whole number" + _bounds(plain.ge, plain.le)
    if isinstance(plain, inspect.FloatType):
        return "a number" + _bounds(plain.ge, plain.le)
    if isinstance(plain, inspect.BoolType):
        return "true or false"
    if isinstance(plain, MANY):
        return f"a list of {_plural(plain.item_type)}{_count(plain.min_length, plain.max_length)}"
    if isinstance(plain, inspect.DictType):
        named = "tables" if isinstance(bare(plain.value_type), inspect.StructType) else "texts"
        return f"{named} by name{_count(plain.min_length, plain.max_length)}"
    return note(parts[0], "title") or ("a table" if isinstance(plain, inspect.StructType) else "text")


def _bounds(low: Any, high: Any) -> str:
    return f" from {low} to {high}" if low is not None and high is not None else ""


def _count(least: int | None, most: int | None) -> str:
    return (f", at least {least}" if least else "") + (f", at most {most}" if most else "")


def _plural(kind: inspect.Type) -> str:
    if isinstance(bare(kind), inspect.StructType):
        return "tables"
    return note(kind, "titles") or "texts"


def of_value(value: object) -> str:
    """What a value of a TOML document is: "text", "a list"."""
    for kind, name in (
        (bool, "true or false"),
        (int, "a whole number"),
        (float, "a number"),
        (str, "text"),
        (list, "a list"),
        (dict, "a table"),
    ):
        if isinstance(value, kind):
            return name
    return "a date or time"
