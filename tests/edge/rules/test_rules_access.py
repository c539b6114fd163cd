"""Addresses: what counts as one client, and sets of blocks."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearmile.edge.rules.access import Blocks, client_key, read_address


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:0:0:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("nonsense", "", True),
    ],
)
def test_one_client(one: str, other: str, same: bool) -> None:
    assert (client_key(read_address(one)) == client_key(read_address(other))) is same


@given(
    st.lists(st.ip_addresses(v=4).flatmap(lambda a: st.integers(0, 32).map(lambda n: f"{a}/{n}")), max_size=5),
    st.ip_addresses(),
)
def test_blocks_are_sets_of_addresses(texts: list[str], address: object) -> None:
    nets = [ip_network(text, strict=False) for text in texts]
    asked = ip_address(str(address))
    assert (asked in Blocks(tuple(map(str, nets)))) == any(asked in net for net in nets)
