"""Scores of downloads: how long a large body takes from a region, in milliseconds as the round trips of pages are.

A body takes the handshakes and the request, and then its bytes at the rate that TCP reaches, which falls with the
round trip and the losses of the path: rate = C * MSS / (RTT * sqrt(p)) (Mathis, Semke, Mahdavi and Ott, "The
Macroscopic Behavior of the TCP Congestion Avoidance Algorithm", 1997). Where nothing is known of a path, it loses
what a good one does, so the time is a multiple of the round trip and the order of regions is that of pages. Edges
measure how much longer downloads take than that.
"""

from math import sqrt

import numpy as np
from msgspec import Struct

from nearmile.mapping.allocate import Candidates, Floats, in_order

# Of TCP, of TLS 1.3, and of the request.
ROUNDS = 3.0
BODY_BYTES = 1_000_000
MSS_BYTES = 1460
# The formula's constant where every segment is acknowledged.
C = sqrt(3 / 2)
# What a good path loses.
LOSS = 1e-4
# Round trips that the body takes on a good path, and all together.
BODY_ROUNDS = BODY_BYTES * sqrt(LOSS) / (C * MSS_BYTES)
ROUNDS_ALL = ROUNDS + BODY_ROUNDS
# Whatever the round trip: with the worst that is measured it stays below what a dead region has.
EXPECTED_MS_MAX = 4000.0
# A ten-thousandth cannot be told from nothing in less: a loss or two are chance.
SEGMENTS_MIN = 200


class Delivery(Struct, frozen=True):
    """What the kernel knows of a connection that has carried much; ``loss`` is the share of segments sent again.

    ``limited`` says that not the path set the rate, but the sender, or the client's window.
    """

    rtt_ms: float
    bytes_per_s: float
    limited: bool
    segments: int
    loss: float


def beyond_ms(seen: Delivery) -> float | None:
    """How much longer the body takes than the round trip lets expect; None where it does not say.

    Where the path was not the limit, what it loses still says what it could do, if that is more than usual.
    """
    if seen.rtt_ms <= 0:
        return None
    rate = seen.bytes_per_s
    if seen.limited:
        if seen.segments < SEGMENTS_MIN or seen.loss <= LOSS:
            return None
        rate = max(rate, 1000 * C * MSS_BYTES / (seen.rtt_ms * sqrt(seen.loss)))
    return 1000 * BODY_BYTES / rate - BODY_ROUNDS * seen.rtt_ms if rate > 0 else None


def of_downloads(pages: Candidates, penalties_ms: Floats) -> Candidates:
    """The candidates by what round trips let expect of downloads, in order; penalties are what they are."""
    penalties = penalties_ms[pages.regions].astype(np.float32)
    expected_ms = np.minimum((pages.scores - penalties) * np.float32(ROUNDS_ALL), np.float32(EXPECTED_MS_MAX))
    scores, regions = in_order(expected_ms + penalties, pages.regions)
    return Candidates(regions, scores)
