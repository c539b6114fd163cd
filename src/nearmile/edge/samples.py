"""What mapping learns from clients that pass by: how far they are, as their connections' handshakes say, and how
fast their bytes come."""

from collections.abc import Callable

# A connection is looked at in 2 us: a busy server spends a ten thousandth of its time on so many.
SAMPLES_PER_S = 50
# Clients that are remembered between two reports; 200 bytes each.
CLIENTS_MAX = 4096


class Samples:
    """The least time of each client that was sampled, in ms, since they were last taken."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._second = 0
        self._left = 0
        self._clients: dict[str, float] = {}

    def wanted(self) -> bool:
        """Whether this connection is to be looked at; it counts as such."""
        second = int(self._now_s())
        if second != self._second:
            self._second, self._left = second, SAMPLES_PER_S
        self._left -= 1
        return self._left >= 0 and len(self._clients) < CLIENTS_MAX

    def heard(self, client: str, time_ms: float) -> None:
        """It took a client so long."""
        self._clients[client] = min(time_ms, self._clients.get(client, time_ms))

    def take(self) -> dict[str, float]:
        """What was heard, by address; it is then forgotten."""
        found, self._clients = self._clients, {}
        return found
