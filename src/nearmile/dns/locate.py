"""Where askers are: of a resolver and of a client subnet, remembered so that the database is rarely asked."""

from collections.abc import Callable
from ipaddress import ip_address, ip_network
from zlib import crc32

from msgspec import Struct

from nearmile.base.geography import Place, Point
from nearmile.dns.wire import Subnet
from nearmile.mapping.map import PARTS, unit_of

# Answers are tailored no finer than this, by address family (RFC 7871, section 11.1, and what resolvers send).
SCOPE_MAX = {0: 0, 1: 24, 2: 48}
ADDRESS_BYTES = {1: 4, 2: 16}
# About 10 MB of memory when full; it is then emptied, which costs each asker one look into the database again.
REMEMBERED_MAX = 65_536


class Spot(Struct, frozen=True):
    """What an answer depends on: the mapping unit ("" where nothing is known) and the point."""

    unit: str
    point: Point | None
    trusted: bool = False
    """Whether this resolver's client subnet also tells where the resolver is."""
    part: int = 0
    """Which of the PARTS parts of its unit it belongs to: always the same for an address."""


class Locator:
    """Finds spots by asking ``place_of(address)``, once for all addresses of a subnet; bounded in memory."""

    def __init__(self, place_of: Callable[[str], Place], trusted: tuple[str, ...] = ()) -> None:
        self._place_of = place_of
        self._trusted = tuple(ip_network(block, strict=False) for block in trusted)
        self._resolvers: dict[str, Spot] = {}
        self._subnets: dict[int, dict[bytes, Spot]] = {family: {} for family in ADDRESS_BYTES}

    def resolver(self, address: str) -> Spot:
        """Where that resolver is."""
        spot = self._resolvers.get(address)
        if spot is None:
            if len(self._resolvers) >= REMEMBERED_MAX:
                self._resolvers.clear()
            spot = self._resolvers[address] = self._spot(address, self._is_trusted(address))
        return spot

    def subnet(self, subnet: Subnet) -> Spot:
        """Where that subnet, of family 1 or 2, is."""
        known = self._subnets[subnet.family]
        prefix = subnet.address[: SCOPE_MAX[subnet.family] // 8]
        spot = known.get(prefix)
        if spot is None:
            if len(known) >= REMEMBERED_MAX:
                known.clear()
            address = ip_address(prefix.ljust(ADDRESS_BYTES[subnet.family], b"\0"))
            spot = known[prefix] = self._spot(str(address))
        return spot

    def _spot(self, address: str, trusted: bool = False) -> Spot:
        place = self._place_of(address)
        return Spot(unit_of(place), place.point, trusted, crc32(address.encode()) % PARTS)

    def _is_trusted(self, address: str) -> bool:
        if not self._trusted:
            return False
        parsed = ip_address(address)
        return any(parsed in block for block in self._trusted)
