"""What an edge does with its journal of hits each second, without a loop and a bus."""

from nearmile.reports.disk import Journal
from nearmile.reports.segment import to_end


def seal(journal: Journal) -> None:
    """Seals all closed slots."""
    while (closed := to_end(journal.drafting())) is not None:
        journal.seal(*closed)
