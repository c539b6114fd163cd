"""benchmarks/anatomy.py takes the hit path apart by its insides; so it must be kept in step with them."""

from pathlib import Path

import anatomy
import pytest


def test_the_parts_of_a_hit_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anatomy, "CALLS", 10)
    parts = anatomy.steps(tmp_path)
    assert len(parts) == 8 and parts["hit path"] > 0
    assert anatomy.plot(parts).count("<rect") == 16
