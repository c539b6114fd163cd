"""What tests of encrypted connections begin with."""

import inspect
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge_world import config, run
from nearmile.services import authority


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A state folder with the local authority, and its certificate for the world's site."""
    authority.ensure(tmp_path, config(), datetime.now(UTC))
    yield tmp_path


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """A test that is a coroutine runs as the product does."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    run(
        pyfuncitem.obj(
            **{name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}
        )
    )
    return True
