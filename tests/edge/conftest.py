"""What tests of encrypted connections begin with."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge_world import config
from nearmile.services import authority


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A state folder with the local authority, and its certificate for the world's site."""
    authority.ensure(tmp_path, config(), datetime.now(UTC))
    yield tmp_path
