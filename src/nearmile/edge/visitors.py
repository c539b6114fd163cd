"""Who a request comes from: a neighbour of the network, a trusted proxy, or a client; and where a client is."""

from collections.abc import Callable, Iterable
from enum import IntEnum
from ipaddress import ip_address, ip_network

from nearmile.base.addresses import BlockTable, read_address
from nearmile.edge.limits import PLACES_MAX
from nearmile.http.fields import Pairs, field

HOP = b"nearmile-hop"
"""The field by which one server of the network asks another; believed from a server's address alone."""


class Hop(IntEnum):
    """Who asks; as a number, the value of HOP. Only a later one follows each, so that no question goes round."""

    CLIENT = 0
    NEIGHBOUR = 1
    """A server of the same region asks the owner of an object."""
    CHILD = 2
    """A server of another region asks its parent."""


_HOPS = {b"%d" % hop: hop for hop in Hop if hop}

SHAPE = b"nearmile-rules"
"""The field that says under which rules of the site it asks; absent where there are none."""


def _unknown(_address: str) -> str:
    return ""


class Visitors:
    """``place_id`` gives the number, in the journal, of an address's place; ``country`` its code, or nothing."""

    def __init__(self, place_id: Callable[[str], int], country: Callable[[str], str] = _unknown) -> None:
        self._look_up = place_id
        self.country = country
        self._places: dict[str, int] = {}
        self._trusted: BlockTable[bool] | None = None
        self._servers: frozenset[str] = frozenset()

    def configure(self, trusted: Iterable[str], servers: Iterable[str]) -> None:
        """Whom to believe: blocks of proxies, and the addresses of the network's own servers."""
        blocks = [(ip_network(block, strict=False), True) for block in trusted]
        self._trusted = BlockTable(blocks) if blocks else None
        self._servers = frozenset(servers)
        self._places.clear()

    def trusts(self, peer: str) -> bool:
        """Whether that peer's X-Forwarded-For is believed."""
        return self._trusted is not None and bool(self._trusted.find(read_address(peer)))

    def is_server(self, peer: str) -> bool:
        """Whether that is the address of one of the network's own servers."""
        return peer in self._servers

    def hop(self, peer: str, pairs: Pairs) -> Hop:
        """Who asks: another server of the network, or anybody else."""
        said = field(pairs, HOP) if peer in self._servers else None
        return Hop.CLIENT if said is None else _HOPS.get(said, Hop.CHILD)

    def client(self, trusted: bool, peer: str, pairs: Pairs) -> str:
        """The client's address: the peer's, or what a trusted peer says (the last X-Forwarded-For address)."""
        if trusted and (value := field(pairs, b"x-forwarded-for")) is not None:
            last = value.rpartition(b",")[2].strip().decode("latin-1")
            try:
                return str(ip_address(last))
            except ValueError:
                return peer
        return peer

    def secure(self, believed: bool, secure: bool, pairs: Pairs) -> bool:
        """Whether the client uses https: as its connection does, or as a believed peer says (X-Forwarded-Proto).

        Of several values the last counts: those before it may be the client's own.
        """
        said = field(pairs, b"x-forwarded-proto") if believed else None
        return secure if said is None else said.rpartition(b",")[2].strip().lower() == b"https"

    def place_of_trusted(self, peer: str, pairs: Pairs) -> int:
        """The place of the client behind a trusted peer."""
        return self.place_id(self.client(True, peer, pairs))

    def place_id(self, address: str) -> int:
        """The place of an address, remembered."""
        place = self._places.get(address)
        if place is None:
            if len(self._places) >= PLACES_MAX:
                self._places.clear()
            place = self._places[address] = self._look_up(address)
        return place
