"""The account and its key."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from nearmile.config.network import Acme
from nearmile.services.acme.account import Account, account_key
from nearmile.services.acme.issuer import NotIssued
from nearmile.services.acme.jws import jwk
from nearmile.services.runtime import Runtime


def test_the_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "acme" / "account.key"
    first = account_key(path)
    assert jwk(account_key(path)) == jwk(first) and path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(b"damaged")
    assert jwk(account_key(path)) != jwk(first)
    assert isinstance(first.curve, ec.SECP256R1)


def test_the_account_changes_with_the_document(tmp_path: Path) -> None:
    network = SimpleNamespace(acme=None)
    runtime = cast(Runtime, SimpleNamespace(root=tmp_path, config=SimpleNamespace(network=network)))
    account = Account(runtime)
    with pytest.raises(NotIssued, match=r"no \[acme\] any more"):
        account.issuer()
    network.acme = Acme(directory="https://a.test/d")
    first = account.issuer()
    assert account.issuer() is first
    network.acme = Acme(directory="https://b.test/d")
    assert account.issuer() is not first
    network.acme = Acme(directory="https://b.test/d", root=str(tmp_path / "none.pem"))
    with pytest.raises(NotIssued, match="cannot be used"):
        account.issuer()
