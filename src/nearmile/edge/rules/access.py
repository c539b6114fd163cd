"""Who may use a site: by address first, then by country."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from nearmile.config.network import Access

Address = IPv4Address | IPv6Address
IPV6_CLIENT_BITS = 64  # What one customer is given at least (RFC 6177): within it he takes any address he likes.


def read_address(text: str) -> Address | None:
    """The address, an IPv4 one if that is what an IPv6 one stands for; None where it is none."""
    try:
        address: Address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def client_key(address: Address | None) -> bytes:
    """What counts as one client."""
    if address is None:
        return b""
    return address.packed if address.version == 4 else address.packed[: IPV6_CLIENT_BITS // 8]


class Blocks:
    """A set of address blocks: one look for each length of prefix that occurs."""

    def __init__(self, blocks: tuple[str, ...]) -> None:
        nets = [ip_network(block) for block in blocks]
        self._known = {
            (n.version, n.max_prefixlen - n.prefixlen, int(n.network_address) >> (n.max_prefixlen - n.prefixlen))
            for n in nets
        }
        self._shifts = {version: {s for v, s, _ in self._known if v == version} for version in (4, 6)}

    def __contains__(self, address: Address) -> bool:
        version, number = address.version, int(address)
        return any((version, shift, number >> shift) in self._known for shift in self._shifts[version])


class AccessRules:
    """The lists of a site's document."""

    def __init__(self, access: Access) -> None:
        self._allowed, self._denied = Blocks(access.allow_addresses), Blocks(access.deny_addresses)
        self._allowed_countries = frozenset(access.allow_countries)
        self._denied_countries = frozenset(access.deny_countries)
        self._closed = bool(access.allow_addresses or access.allow_countries)

    def admits(self, address: Address | None, country: str) -> bool:
        """Whether a client with that address, in that country (empty: not known), may come in."""
        if address is not None:
            if address in self._denied:
                return False
            if address in self._allowed:
                return True
        if country in self._denied_countries:
            return False
        return country in self._allowed_countries or not self._closed
