"""Rate limits: a token bucket for each client and each site, in bounded memory.

A bucket is one number, the time at which it will be full again (the generic cell rate algorithm of ATM, ITU-T
I.371): a request costs 1/rate seconds, and is refused where it would bring that time further ahead than a burst.
"""

from math import ceil

from msgspec import Struct

from nearmile.cache.shares import Table
from nearmile.edge.limits import RATED_CLIENTS_MAX

CLOCK_GRAIN_S = 1e-6


class Rate(Struct, frozen=True):
    """So many requests a second in the long run, and ``burst`` at once."""

    per_s: float
    burst: int


class Limiter:
    """All buckets of an edge server. Time is an argument, and may be any clock that does not run backwards far."""

    def __init__(self, clients_max: int = RATED_CLIENTS_MAX) -> None:
        self._full_at_s: Table[bytes, float] = Table(clients_max)
        self._sites_full_at_s: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self._full_at_s)

    def take(
        self, serial: int, client: bytes, client_rate: Rate | None, site_rate: Rate | None, now_s: float
    ) -> int:
        """0 if the request may pass, else after how many seconds to come again. Who is refused pays nothing."""
        clients, sites = self._full_at_s, self._sites_full_at_s
        client_s, client_wait_s = _look(client_rate, clients.get(serial, client) or now_s, now_s)
        site_s, site_wait_s = _look(site_rate, sites.get(serial, now_s), now_s)
        # A client over its own limit must not use up what is the others'.
        wait_s = client_wait_s or site_wait_s
        paid = 0 if wait_s else 1
        if client_rate is not None:
            # Forgotten is who was not here for longest: most likely full again.
            clients.put(serial, client, client_s + paid / client_rate.per_s)
        if site_rate is not None:
            sites[serial] = site_s + paid / site_rate.per_s
        return ceil(wait_s)

    def keep_sites(self, serials: set[int]) -> None:
        """Forgets the sites that are no more."""
        self._sites_full_at_s = {serial: at for serial, at in self._sites_full_at_s.items() if serial in serials}


def _look(rate: Rate | None, full_at_s: float, now_s: float) -> tuple[float, float]:
    """When the bucket is full again, and how long one more request has to wait (0: not at all)."""
    if rate is None:
        return now_s, 0.0
    empty_s = rate.burst / rate.per_s
    # A clock set back must not shut anybody out for longer than an empty bucket would.
    full_at_s = min(max(full_at_s, now_s), now_s + empty_s)
    wait_s = full_at_s + 1 / rate.per_s - now_s - empty_s
    # Times since 1970 are exact to a quarter of a microsecond.
    return full_at_s, wait_s if wait_s > CLOCK_GRAIN_S else 0.0
