"""In which order processes of a network that runs are started again."""

from collections.abc import Sequence

from nearmile.config.layout import Process

# As many edge servers at a time: the others carry their load, as they do when so many die.
SHARE = 1 / 6


def next_turn(todo: Sequence[Process], edges: int) -> tuple[Process, ...]:
    """Those of ``todo`` to start now, when all of the last turn are ready; ``edges`` is how many the network has.

    Edge servers come last, a share of all of them at a time, and never two of a region. Others come one by one.
    """
    first = next((process for process in todo if process.role != "edge"), None)
    if first is not None:
        return (first,)
    by_region = {process.region: process for process in reversed(todo)}
    return tuple(by_region[name] for name in sorted(by_region))[: max(1, int(edges * SHARE))]
