"""A certificate authority for development: so that every site can be had over TLS before it has a certificate.

``authority/ca.pem`` is for a client to trust; ``ca.key`` stays with its owner (0600), as does each site's key
(``NAME.pem``, ``NAME.key``). No key leaves the machine. A certificate is made anew when its hostnames have changed
or its end is near; the agent sees to that when it starts and every hour.
"""

import logging
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from nearmile.base.errors import NearmileError
from nearmile.config.certificate import names_of
from nearmile.config.layout import Config
from nearmile.services import state

AUTHORITY_DAYS = 3650
# Browsers refuse certificates of more than 398 days.
LEAF_DAYS = 397
RENEW_DAYS = 60
# Clocks of clients may be behind.
BACKDATED = timedelta(hours=1)

log = logging.getLogger("nearmile.authority")
Pair = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def ensure(root: Path, config: Config, now: datetime) -> None:
    """Makes what is missing or too old: the authority, and a certificate for each site that brings none."""
    files = state.authority_files(root)
    files[0].parent.mkdir(parents=True, exist_ok=True)
    authority = _load(*files)
    if authority is None and any(file.exists() for file in files):
        log.warning("%s or its key is damaged: another authority takes its place, trust that one", files[0])
    if authority is None or _near_its_end(authority[0], now):
        authority = _make_authority(config.network.name, now)
        _save(authority, *files)
    for site in config.sites:
        if site.document.tls is not None and not site.document.tls.acme:
            continue
        files = state.site_files(root, site.name)
        have = _load(*files)
        hostnames = site.document.hostnames
        if have is None or not _still_good(have[0], authority[0], hostnames, now):
            _save(_make_leaf(authority, hostnames, now), *files)


def _still_good(
    certificate: x509.Certificate, authority: x509.Certificate, hostnames: tuple[str, ...], now: datetime
) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except Exception:  # whatever is wrong with it, another is made
        return False
    return names_of(certificate) == list(hostnames) and not _near_its_end(certificate, now)


def _near_its_end(certificate: x509.Certificate, now: datetime) -> bool:
    return certificate.not_valid_after_utc - now < timedelta(days=RENEW_DAYS)


def _make_authority(network: str, now: datetime) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"nearmile {network}, local authority")])
    usage = _usage(signs=True)
    builder = (
        _builder(name, name, key, now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
    )
    return builder.sign(key, hashes.SHA256()), key


def _make_leaf(authority: Pair, hostnames: tuple[str, ...], now: datetime) -> Pair:
    issuer, issuer_key = authority
    key = ec.generate_private_key(ec.SECP256R1())
    alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in hostnames])
    builder = (
        _builder(x509.Name([]), issuer.subject, key, now, LEAF_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        # Without a subject's name the alternatives are all there is (RFC 5280 section 4.2.1.6).
        .add_extension(alternatives, critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    return builder.sign(issuer_key, hashes.SHA256()), key


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now - BACKDATED + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _load(certificate: Path, key: Path) -> Pair | None:
    """What was made before; None where it is not there or cannot be used."""
    try:
        leaf = x509.load_pem_x509_certificate(certificate.read_bytes())
        private = load_pem_private_key(key.read_bytes(), password=None)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        return None
    except OSError as error:
        raise NearmileError(f"{error.filename} cannot be read: {error.strerror}") from None
    fits = isinstance(private, ec.EllipticCurvePrivateKey) and private.public_key() == leaf.public_key()
    return (leaf, private) if fits and isinstance(private, ec.EllipticCurvePrivateKey) else None


def _save(pair: Pair, certificate: Path, key: Path) -> None:
    """The key first: a server that sees the new certificate finds its key."""
    private = pair[1].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    state.write_atomically(key, private, mode=0o600)
    state.write_atomically(certificate, pair[0].public_bytes(Encoding.PEM))
