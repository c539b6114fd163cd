"""What turned out lately is remembered for its time, whatever happens to the clock."""

import pytest

from nearmile.edge.lately import Lately

KEY = bytes(16)


@pytest.mark.parametrize(
    ("after_s", "remembered"), [(0.0, True), (59.9, True), (60.0, False), (7200.0, False), (-7200.0, False)]
)
def test_for_its_time_and_not_longer(after_s: float, remembered: bool) -> None:
    lately = Lately(60.0, 10)
    lately.add(KEY, 1e9)
    assert lately.has(KEY, 1e9 + after_s) == remembered
    assert not lately.has(bytes(15) + b"x", 1e9)
