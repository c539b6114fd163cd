"""Who may use a site: by address first, then by country."""

from ipaddress import ip_network

from nearmile.base.addresses import Address, BlockTable, read_address
from nearmile.config.network import Access

IPV6_CLIENT_BITS = 64  # What one customer is given at least (RFC 6177): within it he takes any address he likes.


def client_address(text: str) -> Address | None:
    """As ``read_address``; None for what is no address."""
    try:
        return read_address(text)
    except ValueError:
        return None


def client_key(address: Address | None) -> bytes:
    """What counts as one client."""
    if address is None:
        return b""
    return address.packed if address.version == 4 else address.packed[: IPV6_CLIENT_BITS // 8]


class AccessRules:
    """The lists of a site's document."""

    def __init__(self, access: Access) -> None:
        lists = (access.allow_addresses, access.deny_addresses)
        self._allowed, self._denied = (BlockTable((ip_network(one), True) for one in blocks) for blocks in lists)
        self._allowed_countries = frozenset(access.allow_countries)
        self._denied_countries = frozenset(access.deny_countries)
        self._closed = bool(access.allow_addresses or access.allow_countries)

    def admits(self, address: Address | None, country: str) -> bool:
        """Whether a client with that address, in that country (empty: not known), may come in."""
        if address is not None:
            if self._denied.find(address):
                return False
            if self._allowed.find(address):
                return True
        if country in self._denied_countries:
            return False
        return country in self._allowed_countries or not self._closed
