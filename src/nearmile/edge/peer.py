"""Whom an edge server asks for what it does not have."""

from msgspec import Struct

from nearmile.edge.limits import CONNECT_TIMEOUT_S


class Peer(Struct, frozen=True):
    """An origin, or another server of the region; ``local`` is the address to speak from (empty: any)."""

    host: str
    port: int
    local: str = ""
    connect_timeout_s: float = CONNECT_TIMEOUT_S


class UpstreamError(Exception):
    """No (whole) answer; ``status`` is what to tell a client that has got nothing yet."""

    def __init__(self, reason: str, status: int = 502) -> None:
        super().__init__(reason)
        self.status = status
