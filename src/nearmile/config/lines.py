"""Which line of a TOML text each key and value stands on, so that an error can name it.

``tomllib`` gives values without positions. This scanner only runs on texts that ``tomllib`` has accepted, so it
needs to know no more of TOML than where keys and values begin.
"""

import re
from collections.abc import Iterator

KeyPath = tuple[str | int, ...]
"""Names of tables and keys, and indexes into arrays, from the top of the document."""

_TOKEN = re.compile(
    r"(?P<skip>[ \t\r]+|\#[^\n]*)"
    r'|(?P<text>"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\')'
    r"|(?P<bare>[^\s\[\]{}=,.\"'#]+)"
    r"|(?P<mark>[\[\]{}=,.\n])",
    re.DOTALL,
)
_QUOTES = "\"'"
_END = ("", 0)


def lines_of(text: str) -> dict[KeyPath, int]:
    """The line (from 1) of every table, key and array item of a valid document."""
    return _Scanner(text).scan()


def line_of(lines: dict[KeyPath, int], path: KeyPath) -> int:
    """The line of that key, or of the nearest table around it that is written; 0 if there is none."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 0)


def _tokens(text: str) -> Iterator[tuple[str, int]]:
    line = 1
    for match in _TOKEN.finditer(text):
        if match.lastgroup != "skip":
            yield match.group(), line
        line += match.group().count("\n")


class _Scanner:
    def __init__(self, text: str) -> None:
        self.tokens = list(_tokens(text))
        self.at = 0
        self.lines: dict[KeyPath, int] = {}
        self.items: dict[KeyPath, int] = {}
        """Arrays of tables, with the index of the item that headers add to now."""

    def peek(self) -> str:
        return self.tokens[self.at][0] if self.at < len(self.tokens) else ""

    def next(self) -> tuple[str, int]:
        self.at += 1
        return self.tokens[self.at - 1] if self.at <= len(self.tokens) else _END

    def scan(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        while self.at < len(self.tokens):
            mark = self.peek()
            if mark == "\n":
                self.next()
            elif mark == "[":
                table = self.header()
            else:
                self.pair(table)
        return self.lines

    def header(self) -> KeyPath:
        _, line = self.next()
        is_item = self.peek() == "["
        if is_item:
            self.next()
        names = self.key()
        while self.peek() == "]":
            self.next()
        path: KeyPath = ()
        for depth, name in enumerate(names):
            path = (*path, name)
            if is_item and depth == len(names) - 1:
                self.items[path] = self.items.get(path, -1) + 1
            self.lines.setdefault(path, line)
            if path in self.items:
                path = (*path, self.items[path])
                self.lines.setdefault(path, line)
        return path

    def pair(self, table: KeyPath) -> None:
        line = self.tokens[self.at][1]
        path = table
        for name in self.key():
            path = (*path, name)
            self.lines.setdefault(path, line)
        self.next()  # the equals sign
        self.value(path)

    def key(self) -> list[str]:
        names = []
        while True:
            token, _ = self.next()
            names.append(token[1:-1] if token[:1] in _QUOTES else token)
            if self.peek() != ".":
                return names
            self.next()

    def value(self, path: KeyPath) -> None:
        if self.peek() == "[":
            self.array(path)
        elif self.peek() == "{":
            self.inline_table(path)
        else:
            while self.at < len(self.tokens) and self.peek() not in (",", "]", "}", "\n"):
                self.next()

    def array(self, path: KeyPath) -> None:
        self.next()
        index = 0
        while self.at < len(self.tokens) and self.peek() != "]":
            if self.peek() in ("\n", ","):
                self.next()
                continue
            self.lines.setdefault((*path, index), self.tokens[self.at][1])
            self.value((*path, index))
            index += 1
        self.next()

    def inline_table(self, path: KeyPath) -> None:
        self.next()
        while self.at < len(self.tokens) and self.peek() != "}":
            if self.peek() in ("\n", ","):
                self.next()
                continue
            self.pair(path)
        self.next()
