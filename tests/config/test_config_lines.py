import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearmile.config.lines import KeyPath, line_of, lines_of

DOCUMENT = '''# a comment with = and [x]
title = "not a # comment" # but this is
"quoted key" = 'literal \\'

[regions]
paris = { city = "Paris", servers = 3 }
london.city = "London"
[regions.tokyo]
city = "Tokyo"
servers = [
  "10.0.0.1", # one
  "10.0.0.2",
]
text = """
many = 1
[lines] "" """
after = 1979-05-27 07:32:00

[[nameservers]]
tier = "top"
[[nameservers]]
tier = "low"
[nameservers.point]
lat = -1.5
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("title",), 2),
        (("quoted key",), 3),
        (("regions",), 5),
        (("regions", "paris"), 6),
        (("regions", "paris", "servers"), 6),
        (("regions", "london", "city"), 7),
        (("regions", "tokyo"), 8),
        (("regions", "tokyo", "servers", 0), 11),
        (("regions", "tokyo", "servers", 1), 12),
        (("regions", "tokyo", "text"), 14),
        (("regions", "tokyo", "after"), 17),
        (("nameservers", 0), 19),
        (("nameservers", 0, "tier"), 20),
        (("nameservers", 1, "tier"), 22),
        (("nameservers", 1, "point", "lat"), 24),
        (("nameservers", 1, "city"), 21),
        (("nowhere",), 0),
        ((), 0),
    ],
)
def test_every_key_has_its_line(path: KeyPath, line: int) -> None:
    tomllib.loads(DOCUMENT)
    assert line_of(lines_of(DOCUMENT), path) == line


def paths(value: object, path: KeyPath = ()) -> list[KeyPath]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [p for key, item in items for p in [(*path, key), *paths(item, (*path, key))]]


PIECES = [
    "[a]",
    "[[b]]",
    "[b.c]",
    "x=1",
    "y = [1, [2, {z = 3}], 'q']",
    'd.e = "#"',
    "t = '''\n'''",
    "",
    "# c",
    "'k' = {}",
]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("\n".join) | st.text(max_size=60))
@settings(max_examples=200)
def test_every_value_of_a_valid_document_has_a_line(text: str) -> None:
    lines = lines_of(text)
    try:
        value = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    for path in paths(value):
        if "\\" not in text:  # a key with escapes has the line of its table
            assert 1 <= lines[path] <= text.count("\n") + 1, path
