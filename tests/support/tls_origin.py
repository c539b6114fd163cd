"""Certificates for origins, and origins that fail in the ways that real ones do."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from edge_world import PORT, Handler, Origin

OTHER, TLS_PORT = "127.31.41.2", 8443
"""Where a second origin may be."""
SIGNS = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
"""An authority's key signs certificates: Python 3.13 believes none that does not say so."""


class Authority(NamedTuple):
    """Who vouches for certificates; ``pem`` is for others to trust."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    folder: Path

    @property
    def pem(self) -> str:
        """Its certificate."""
        return self.certificate.public_bytes(Encoding.PEM).decode()

    def context(self, *names: str, days: int = 1, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
        """A server's, with a certificate for these names or addresses; with ``days`` below 0 it has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        addresses = [name for name in names if name[0].isdigit()]
        alternatives: list[x509.GeneralName] = [x509.IPAddress(ip_address(name)) for name in addresses]
        alternatives += [x509.DNSName(name) for name in names if name not in addresses]
        builder = _builder(x509.Name([]), self.certificate.subject, key, days)
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=True)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = builder.add_extension(issuer, critical=False)
        file = self.folder / f"{'-'.join(names)}{days}.pem"
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        file.write_bytes(private + builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context


def authority(folder: Path) -> Authority:
    """A new one."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, folder.name)])
    builder = _builder(name, name, key, 1)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return Authority(builder.add_extension(SIGNS, critical=True).sign(key, hashes.SHA256()), key, folder)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=10))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


@contextlib.asynccontextmanager
async def listening(
    handler: Handler, address: str = OTHER, port: int = PORT, context: ssl.SSLContext | None = None
) -> AsyncIterator[Origin]:
    """One more origin."""
    origin = Origin(handler)
    server = await asyncio.start_server(origin.serve, address, port, ssl=context)
    try:
        yield origin
    finally:
        server.close()


def secure(**upstream: Any) -> dict[str, Any]:
    """The document of a site whose origin is there, over TLS."""
    return {"origin": f"https://{OTHER}:{TLS_PORT}", "upstream": {"authority": "ca.pem", **upstream}}
