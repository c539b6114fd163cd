"""The rules of the house that a program can check: directions of imports, purity of decisions, sizes."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "nearmile"
FLOOR = {
    "base": 0,
    "config": 0,
    "http": 1,
    "cache": 1,
    "dns": 2,
    "mapping": 2,
    "fleet": 2,
    "reports": 2,
    "edge": 3,
    "simulate": 4,
    "services": 5,
    "cli": 5,
}
IMPURE = {"asyncio", "socket", "time", "random", "uvloop", "threading", "subprocess", "nats", "ssl", "duckdb"}
# Modules named for input and output; everything else in the rooms decides, and is told the time.
SHELL_MODULES = {
    "link",
    "pool",
    "h2link",
    "answer",
    "server",
    "door",
    "h1server",
    "h2server",
    "tlsserver",
    "h3server",
    "udpserver",
    "multiplex",
    "backlog",
    "errand",
    "client",
    "agent",
    "disk",
    "disk_writer",
    "store",
    "bus",
    "process",
}
SHELL_ROOMS = {"services", "cli"}
FILE_LINES_MAX, FUNCTION_LINES_MAX = 450, 60
MODULES = sorted(PACKAGE.rglob("*.py"))


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else ""


def ids(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_imports_run_downwards(path: Path) -> None:
    room = room_of(path)
    if not room:
        return
    for module in imports(ast.parse(path.read_text())):
        parts = module.split(".")
        if parts[0] == "nearmile" and len(parts) > 1:
            assert FLOOR[parts[1]] <= FLOOR[room], f"{room} must not import {module}"


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_decisions_have_no_clock_chance_or_socket(path: Path) -> None:
    room = room_of(path)
    if room in SHELL_ROOMS or path.stem in SHELL_MODULES:
        return
    allowed = {"random"} if room == "simulate" else set()
    used = {module.split(".")[0] for module in imports(ast.parse(path.read_text()))} & IMPURE
    assert used <= allowed, f"a decision must be told the time, the chance and the bytes: {sorted(used)}"


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_a_file_tells_one_story(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= FILE_LINES_MAX
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= FUNCTION_LINES_MAX, f"{node.name} has {lines} lines"


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*/__init__.py")), ids=ids)
def test_a_room_tells_of_what_is_in_it(path: Path) -> None:
    named = re.findall(r"``(\w+)``", ast.get_docstring(ast.parse(path.read_text())) or "")
    assert not set(named) - {one.stem for one in path.parent.iterdir()}
