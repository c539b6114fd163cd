"""What an edge does with its journal of hits each second, without a loop and a bus."""

from nearmile.reports.disk import Journal


def seal(journal: Journal) -> None:
    """Seals all closed slots."""
    while (closed := journal.draft()) is not None:
        journal.seal(*closed)
