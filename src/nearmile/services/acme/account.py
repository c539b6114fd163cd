"""The network's account at the authority that its document names."""

import contextlib
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from nearmile.config.network import Acme as Settings
from nearmile.services import state
from nearmile.services.acme.issuer import Acme, Issuer, NotIssued
from nearmile.services.runtime import Runtime


class Account:
    """One controller's; the same until the document names another authority."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._settings: Settings | None = None
        self._issuer: Issuer | None = None

    def issuer(self) -> Issuer:
        """Who makes certificates now; NotIssued where nobody does."""
        settings = self._runtime.config.network.acme
        if settings is None:
            raise NotIssued("the network document has no [acme] any more")
        if self._issuer is None or self._settings != settings:
            try:
                key = account_key(state.account_key(self._runtime.root))
                self._issuer = Acme(settings.directory, settings.contact, key, settings.root)
            except OSError as error:
                raise NotIssued(f"{error.filename or settings.root} cannot be used: {error.strerror}") from None
            self._settings = settings
        return self._issuer


def account_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The key in that file; made where there is none that can be used."""
    with contextlib.suppress(FileNotFoundError, ValueError, TypeError):
        key = load_pem_private_key(path.read_bytes(), password=None)
        if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
            return key
    key = ec.generate_private_key(ec.SECP256R1())
    path.parent.mkdir(parents=True, exist_ok=True)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    state.write_atomically(path, private, mode=0o600)
    return key
