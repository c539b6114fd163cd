"""Addresses: what counts as one client."""

import pytest

from nearmile.edge.rules.access import client_address, client_key


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
    assert (client_key(client_address(one)) == client_key(client_address(other))) is same
