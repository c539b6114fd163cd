"""Addresses as numbers of their families, and the longest prefix around them."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearmile.base.addresses import BlockTable, read_address


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:DB8::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_an_address_is_what_it_stands_for(text: str, expected: str) -> None:
    assert str(read_address(text)) == expected


@pytest.mark.parametrize("text", ["", "192.0.2", "www.example.com", "192.0.2.1/32"])
def test_what_is_none_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        read_address(text)


def test_the_longest_prefix_counts() -> None:
    blocks = {"10.0.0.0/8": 0, "10.1.0.0/16": 1, "10.1.2.3/32": 2, "2001:db8::/32": 3}
    table = BlockTable((ip_network(block), value) for block, value in blocks.items())
    addresses = ("10.2.0.1", "10.1.0.1", "10.1.2.3", "192.0.2.1", "2001:db8::1", "2001:db9::1")
    assert [table.find(read_address(address)) for address in addresses] == [0, 1, 2, None, 3, None]


@given(
    st.lists(st.ip_addresses(v=4).flatmap(lambda a: st.integers(0, 32).map(lambda n: f"{a}/{n}")), max_size=5),
    st.ip_addresses(),
)
def test_blocks_are_sets_of_addresses(texts: list[str], address: object) -> None:
    nets = [ip_network(text, strict=False) for text in texts]
    asked = ip_address(str(address))
    found = BlockTable((net, True) for net in nets).find(asked)
    assert bool(found) == any(asked in net for net in nets)
