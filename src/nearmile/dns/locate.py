"""Where askers are: of a resolver and of a client subnet, remembered so that the database is rarely asked."""

from collections.abc import Callable, Mapping
from ipaddress import ip_address, ip_network
from zlib import crc32

from msgspec import Struct

from nearmile.base.addresses import BlockTable, read_address
from nearmile.base.geography import Place, Point
from nearmile.dns.memo import Memo
from nearmile.dns.wire import Subnet
from nearmile.mapping.alike import Alike
from nearmile.mapping.atlas import Atlas, numbered
from nearmile.mapping.beacons import Sightings
from nearmile.mapping.map import PARTS, Map, Units, View, unit_of
from nearmile.mapping.plans import TOLD_MAX, Seen, block_number, resolver_block

# Answers are tailored no finer than this, by address family (RFC 7871, section 11.1, and what resolvers send).
SCOPE_MAX = {0: 0, 1: 24, 2: 48}
ADDRESS_BYTES = {1: 4, 2: 16}
# Resolvers, and subnets of each family: about 10 MB of memory when full.
REMEMBERED_MAX = 65_536
# Pairs of resolver and client block between two reports; 200 bytes each.
SEEN_MAX = 4 * TOLD_MAX
# Resolvers that are known to tell subnets: far more than there are.
TELLERS_MAX = 16_384
# So few that it costs those that will not show it nothing, so many that a busy one soon has.
SHOW_EVERY = 64
Shares = Mapping[str, tuple[int, ...]]


class Spot(Struct, frozen=True):
    """What an answer depends on: the address as a number (see ``mapping.atlas``), its place's unit and point."""

    family: int
    number: int
    unit: str
    """By the place database; empty where nothing is known."""
    point: Point | None
    trusted: bool = False
    """Whether this resolver's client subnet also tells where the resolver is."""
    block: str = ""
    """Under which name its plan is, as that of a resolver."""
    part: int = 0
    """Which of the PARTS parts of its unit it belongs to: always the same for an address."""

    @property
    def block_number(self) -> int:
        """Its block as a number (see ``mapping.plans``)."""
        return block_number(self.family, self.number)


class Locator:
    """Finds spots by asking ``place_of(address)``, once for all addresses of a subnet; bounded in memory.

    With an atlas it also finds who is answered alike by a map; without one, each /24 or /48 is on its own.
    """

    def __init__(
        self, place_of: Callable[[str], Place], trusted: tuple[str, ...] = (), atlas: Atlas | None = None
    ) -> None:
        self._place_of = place_of
        self._atlas = atlas
        self._seen: dict[tuple[str, int, int], int] = {}
        self._tellers: Memo[str, bool] = Memo(TELLERS_MAX)
        self._unshown = 0
        self.beacons = Sightings()
        """Which resolvers asked for beacons' names."""
        self._alike: dict[int, tuple[Units, Shares, Alike]] = {}
        self._trusted = BlockTable((ip_network(block, strict=False), True) for block in trusted)
        self._resolvers: Memo[str, Spot] = Memo(REMEMBERED_MAX)
        self._subnets: dict[int, Memo[bytes, Spot]] = {family: Memo(REMEMBERED_MAX) for family in ADDRESS_BYTES}

    def resolver(self, address: str) -> Spot:
        """Where that resolver is."""
        spot = self._resolvers.get(address)
        if spot is None:
            spot = self._spot(address, bool(self._trusted.find(read_address(address))))
            self._resolvers.put(address, spot)
        return spot

    def subnet(self, subnet: Subnet) -> Spot:
        """Where that subnet, of family 1 or 2, is."""
        known = self._subnets[subnet.family]
        prefix = subnet.address[: SCOPE_MAX[subnet.family] // 8]
        spot = known.get(prefix)
        if spot is None:
            address = ip_address(prefix.ljust(ADDRESS_BYTES[subnet.family], b"\0"))
            spot = self._spot(str(address))
            known.put(prefix, spot)
        return spot

    def note(self, resolver: Spot, client: Spot, real: bool) -> bool:
        """That resolver has asked for that client subnet; strangers beyond the bound are not counted.

        Nor is who never told one when it was ``real``: the address may be forged, of a resolver that tells none.
        False for every ``SHOW_EVERY``th of these: it should come again over TCP, and show that it does.
        """
        if real:
            self._tellers.put(resolver.block, True)
        elif not self._tellers.get(resolver.block):
            self._unshown += 1
            return self._unshown % SHOW_EVERY > 0
        key = (resolver.block, client.family, client.block_number)
        if key in self._seen or len(self._seen) < SEEN_MAX:
            self._seen[key] = self._seen.get(key, 0) + 1
        return True

    def take_seen(self) -> tuple[Seen, ...]:
        """Who asked for whom since the last time, the most frequent; all is then forgotten."""
        seen, self._seen = self._seen, {}
        most = sorted(seen.items(), key=lambda each: -each[1])[:TOLD_MAX]
        return tuple(Seen(*key, count) for key, count in most)

    def alike(self, current: Map) -> tuple[Alike, ...]:
        """For the map itself and each of its views who is answered alike by it; nothing without an atlas.

        What stays from map to map is kept.
        """
        if self._atlas is None:
            return ()
        wanted = [(current.units, current.shares), *(_answered(current, view) for view in current.views)]
        for at, (units, shares) in enumerate(wanted):
            kept = self._alike.get(at)
            if kept is None or kept[:2] != (units, shares):
                another = self._alike[0][2] if self._alike else None
                self._alike[at] = units, shares, Alike(self._atlas, units, shares, another)
        return tuple(self._alike[at][2] for at in range(len(wanted)))

    def _spot(self, address: str, trusted: bool = False) -> Spot:
        place = self._place_of(address)
        family, number = numbered(address)
        part = crc32(address.encode()) % PARTS
        return Spot(family, number, unit_of(place), place.point, trusted, resolver_block(family, number), part)


def _answered(current: Map, view: View) -> tuple[Units, Shares]:
    """All units as they are answered by the view."""
    return current.units.with_(view.units) if view.partial else view.units, view.shares
