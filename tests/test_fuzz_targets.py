"""What is fuzzed keeps holding: the seeds of each target, and every input that once did harm."""

from pathlib import Path

import pytest

from targets import TARGETS

REGRESSIONS = Path(__file__).parent.parent / "fuzz" / "regressions"


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_regressions(name: str) -> None:
    target, seeds = TARGETS[name]
    for data in (*seeds, b"", *(path.read_bytes() for path in sorted((REGRESSIONS / name).glob("*")))):
        target(data)
        for end in range(0, len(data), 7):
            target(data[:end])
