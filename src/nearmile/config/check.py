"""Checks a document's values against its types, and finds everything that is wrong, not only the first thing.

``msgspec.convert`` does the same checks but stops at the first; it stays the last word (see ``read.py``).
"""

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from msgspec import inspect

from nearmile.config.describe import MANY, allowed, alternatives, bare, note, of_value
from nearmile.config.lines import KeyPath
from nearmile.config.problems import near

BROADCAST = IPv4Address("255.255.255.255")
Found = Iterator[tuple[KeyPath, str]]
"""Pairs of a key and what is wrong with it."""


def check(value: object, kind: inspect.Type, path: KeyPath = ()) -> Found:
    """Everything in ``value`` that its type does not allow."""
    options = alternatives(kind)
    fitting = [option for option in options if _fits(value, bare(option))]
    if not fitting:
        yield path, f"is {of_value(value)}, but must be {allowed(kind)}"
        return
    chosen, plain = fitting[0], bare(fitting[0])
    if isinstance(value, dict) and isinstance(plain, inspect.StructType):
        yield from _table(value, plain, path)
    elif isinstance(value, dict) and isinstance(plain, inspect.DictType):
        yield from _named(value, plain, kind, path)
    elif isinstance(value, list) and isinstance(plain, MANY):
        yield from _many(value, plain, kind, path)
    else:
        yield from _single(value, chosen, path)


def _fits(value: object, kind: inspect.Type) -> bool:
    """Whether the value is of that kind at all, whatever its bounds."""
    if isinstance(kind, inspect.LiteralType):
        return type(value) is type(kind.values[0])
    if isinstance(value, bool):
        return isinstance(kind, inspect.BoolType)
    if isinstance(value, int):
        return isinstance(kind, inspect.IntType | inspect.FloatType)
    if isinstance(value, float):
        return isinstance(kind, inspect.FloatType)
    if isinstance(value, str):
        return isinstance(kind, inspect.StrType)
    if isinstance(value, list):
        return isinstance(kind, MANY)
    return isinstance(value, dict) and isinstance(kind, inspect.StructType | inspect.DictType)


def _table(value: dict[str, object], kind: inspect.StructType, path: KeyPath) -> Found:
    fields = {field.encode_name: field for field in kind.fields}
    missing = [name for name, field in fields.items() if field.required and name not in value]
    for name in missing:
        yield path, f"`{name}` is missing; it must be {allowed(fields[name].type)}"
    for name, item in value.items():
        if name in fields:
            yield from check(item, fields[name].type, (*path, name))
        else:
            unused = [field for field in fields if field not in value]
            hint = near(name, unused)
            yield (*path, name), f"unknown key{hint or '; allowed here: ' + ', '.join(fields)}"


def _named(value: dict[str, object], kind: inspect.DictType, whole: inspect.Type, path: KeyPath) -> Found:
    if len(value) < (kind.min_length or 0) or len(value) > (kind.max_length or len(value)):
        yield path, f"has {len(value)}, but must be {allowed(whole)}"
    for name, item in value.items():
        yield from _single(name, kind.key_type, (*path, name))
        yield from check(item, kind.value_type, (*path, name))


def _many(
    value: list[object], kind: inspect.VarTupleType | inspect.ListType, whole: inspect.Type, path: KeyPath
) -> Found:
    if len(value) < (kind.min_length or 0) or len(value) > (kind.max_length or len(value)):
        yield path, f"has {len(value)}, but must be {allowed(whole)}"
    for index, item in enumerate(value):
        yield from check(item, kind.item_type, (*path, index))


def _single(value: object, kind: inspect.Type, path: KeyPath) -> Found:
    plain = bare(kind)
    wrong = f"is {_shown(value)}, but must be {allowed(kind)}"
    if isinstance(plain, inspect.LiteralType):
        if value not in plain.values:
            yield path, wrong + near(str(value), [str(choice) for choice in plain.values])
    elif isinstance(plain, inspect.IntType | inspect.FloatType) and isinstance(value, int | float):
        low, high = plain.ge, plain.le
        if not (low is None or value >= low) or not (high is None or value <= high):
            yield path, wrong
    elif isinstance(plain, inspect.StrType) and isinstance(value, str):
        if plain.pattern is not None and re.search(plain.pattern, value) is None:
            yield path, wrong
        elif len(value) < (plain.min_length or 0):
            yield path, "is empty"
        else:
            problem = _FORMATS.get(note(kind, "format"), _anything)(value)
            if problem:
                yield path, f"is {_shown(value)}, {problem}"


def _shown(value: object) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _anything(_value: str) -> str:
    return ""


def _address(value: str) -> str:
    try:
        address = ip_address(value)
    except ValueError:
        return "but must be an IPv4 or IPv6 address"
    mapped = isinstance(address, IPv6Address) and (address.scope_id or address.ipv4_mapped)
    if mapped or address.is_unspecified or address.is_multicast or address.is_link_local or address == BROADCAST:
        return "but must be the address of one host, as clients elsewhere know it"
    return ""


def _block(value: str) -> str:
    try:
        ip_network(value)
    except ValueError:
        try:
            return f"which has bits set outside its prefix; did you mean {ip_network(value, strict=False)}?"
        except ValueError:
            return "but must be an address block such as 10.20.0.0/16 or 2001:db8::/32"
    return ""


_FORMATS = {"address": _address, "block": _block}
