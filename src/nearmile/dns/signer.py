"""Signatures as they are asked for, each made once: 50 us of work, so nothing may make a server do much of it.

What a zone has (its names, with the answers that maps lead to) is remembered apart from what strangers make up
(names that do not exist, or only by a wildcard), and each zone apart from the others: made-up names push out only
each other. How many of those are signed in a second is limited where packets are counted (`responder`).
"""

from collections.abc import Mapping
from itertools import groupby
from math import floor

from nearmile.dns import wire
from nearmile.dns.dnssec import AFTER_S, BEFORE_S, WINDOW_S, Key
from nearmile.dns.memo import Memo
from nearmile.dns.records import Record

# Some 600 bytes each. Sites times regions are rarely more; a busy typing error comes again within its share.
LASTING_MAX, PASSING_MAX = 65_536, 16_384
SHARE_MIN = 64
# What a key that only begins or ends to be used signs as well (RFC 7344, section 4.1, and RFC 6781, section 4.1).
OF_KEYS = {wire.DNSKEY, wire.CDS, wire.CDNSKEY}
Signatures = tuple[Record, ...]
Secrets = tuple[bytes, ...]
NO_OWN: Mapping[bytes, Secrets] = {}


class ZoneSigner:
    """Signs one zone's records by its keys, of which the first is in use; ``zones`` share the memory."""

    def __init__(self, keys: tuple[Key, ...], inception: int, expiration: int, zones: int) -> None:
        self.keys = keys
        self._times = inception, expiration
        self._lasting, self._passing = (
            Memo[tuple[Record, ...], Signatures](max(bound // zones, SHARE_MIN))
            for bound in (LASTING_MAX, PASSING_MAX)
        )

    def signed(self, records: tuple[Record, ...], made_up: bool = False) -> tuple[Record, ...]:
        """The records, each set of them followed by its signatures."""
        found: list[Record] = []
        for _, group in groupby(records, lambda record: (record.owner, record.rtype)):
            rrset = tuple(group)
            found += rrset
            found += self._signatures(rrset, self._passing if made_up else self._lasting)
        return tuple(found)

    def _signatures(self, rrset: tuple[Record, ...], memo: Memo[tuple[Record, ...], Signatures]) -> Signatures:
        known = memo.get(rrset)
        if known is None:
            keys = self.keys if rrset[0].rtype in OF_KEYS else self.keys[:1]
            known = tuple(key.signature(rrset, *self._times) for key in keys)
            memo.put(rrset, known)
        return known


class Signer:
    """All zones' of one name server, for the day of ``now_s`` (Unix time).

    ``secrets`` make the keys, but of those apexes that have ``own`` ones.
    """

    def __init__(self, secrets: Secrets, now_s: float, own: Mapping[bytes, Secrets] = NO_OWN) -> None:
        begun = floor(now_s / WINDOW_S) * WINDOW_S
        self.secrets, self.own = secrets, own
        self.from_s, self.until_s = begun, begun + WINDOW_S
        self._times = begun - BEFORE_S, begun + WINDOW_S + AFTER_S
        self._zones: dict[bytes, ZoneSigner] = {}

    def zone(self, apex: bytes, zones: int) -> ZoneSigner:
        """The zone's signer, one of so many; the same as long as it is of these secrets and this day."""
        known = self._zones.get(apex)
        if known is None:
            known = self._zones[apex] = ZoneSigner(self.keys(apex), *self._times, zones)
        return known

    def keys(self, apex: bytes) -> tuple[Key, ...]:
        """The zone's keys."""
        return tuple(Key(secret, apex) for secret in self.own.get(apex, self.secrets))
