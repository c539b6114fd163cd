"""Addresses of hosts as sockets and documents write them, and what is known of blocks of them."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Generic, TypeVar

Address = IPv4Address | IPv6Address
Block = IPv4Network | IPv6Network
T = TypeVar("T")


def read_address(given: str | bytes | int) -> Address:
    """Without its zone (RFC 4007, section 11), and IPv4 also where IPv6 carries it (RFC 4291, section 2.5.5.2).

    Given as ``ip_address`` takes it; ValueError for what is no address.
    """
    address: Address = ip_address(given.partition("%")[0] if isinstance(given, str) else given)
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def bracketed(host: str) -> str:
    """A host as it stands before a port (RFC 3986, section 3.2.2): an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


class BlockTable(Generic[T]):
    """What is known of blocks; of several around an address the longest prefix counts.

    One look into a dictionary for each length that occurs.
    """

    def __init__(self, entries: Iterable[tuple[Block, T]]) -> None:
        self._known: dict[tuple[int, int, int], T] = {}
        for block, value in entries:
            shift = block.max_prefixlen - block.prefixlen
            self._known[block.version, shift, int(block.network_address) >> shift] = value
        self._shifts = {v: sorted({shift for version, shift, _ in self._known if version == v}) for v in (4, 6)}

    def find(self, address: Address) -> T | None:
        """What is known of it; None: nothing."""
        number = int(address)
        for shift in self._shifts[address.version]:
            found = self._known.get((address.version, shift, number >> shift))
            if found is not None:
                return found
        return None
