"""The heartbeat every process sends."""

from msgspec import Struct

SUBJECT = "beat"  # on the bus: beat.<process name>


class Beat(Struct, frozen=True, kw_only=True):
    """I am alive. ``epoch`` is the wall-clock millisecond this process started at; ``seq`` counts its beats."""

    name: str
    role: str
    epoch: int
    seq: int
    ready: bool
    full: bool = False
    """Whether no more clients should come for now."""
    requests_per_s: float = 0.0
    cpu: float = 0.0
    """Share of one core used since the last beat."""
    serials: dict[int, float] = {}
    """Requests a second of the sites that had the most, by serial."""
    others_per_s: float = 0.0
    """Those of all other sites, in the same time."""
    config_version: int = 0
    map_version: int = 0
    detail: dict[str, float] = {}
