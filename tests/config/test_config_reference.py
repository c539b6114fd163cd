from pathlib import Path

from nearmile.config.reference import render

PAGE = Path(__file__).parent.parent.parent / "docs" / "reference.md"


def test_the_page_is_what_the_types_say() -> None:
    assert PAGE.read_text() == render(), "run: python -m nearmile.config.reference > docs/reference.md"


def test_every_key_is_explained() -> None:
    rows = [line.split("|") for line in render().splitlines() if line.startswith("| `")]
    assert len(rows) > 30
    assert all(cell.strip() for row in rows for cell in row[1:5]), rows
