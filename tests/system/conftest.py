"""Networks of real processes for the tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from live_network import EXAMPLES, LiveNetwork


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(item.path).parent == Path(__file__).parent:
            item.add_marker("system")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNetwork]:
    """`examples/world`, running; each test leaves it ready."""
    with LiveNetwork(EXAMPLES / "world", tmp_path_factory.mktemp("world")) as network:
        yield network
