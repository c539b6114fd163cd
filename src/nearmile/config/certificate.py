"""Whether a certificate and a key, as they lie on disk, can serve a site's hostnames."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key


def certificate_problems(certificate: bytes, key: bytes, hostnames: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(`certificate` or `key`, what is wrong with it) for two PEM files; says nothing of what is in the key."""
    leaf, private = None, None
    try:
        leaf = x509.load_pem_x509_certificates(certificate)[0]
    except ValueError:
        yield "certificate", "the file holds no certificate in PEM form"
    try:
        private = load_pem_private_key(key, password=None)
    except (ValueError, TypeError):
        yield "key", "the file holds no private key in PEM form without a password"
    if leaf is None or private is None:
        return
    if leaf.public_key() != private.public_key():
        yield "key", "the key is not the certificate's"
    missing = [name for name in hostnames if not covers(names_of(leaf), name)]
    if missing:
        yield "certificate", f"the certificate is not for {', '.join(missing)}"


def end_of(certificate: bytes) -> datetime:
    """When a certificate in a PEM file ends; ValueError where there is none."""
    return x509.load_pem_x509_certificates(certificate)[0].not_valid_after_utc


def authority_problem(pem: bytes) -> str:
    """What is wrong with a file of authorities to trust; "" if nothing is."""
    try:
        x509.load_pem_x509_certificates(pem)
    except ValueError:
        return "holds no certificate in PEM form"
    return ""


def names_of(certificate: x509.Certificate) -> list[str]:
    """The host names it is for, in lower case (RFC 9525: subjectAltName alone counts)."""
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [name.lower() for name in alternatives.get_values_for_type(x509.DNSName)]


def covers(names: Iterable[str], hostname: str) -> bool:
    """Whether one of a certificate's names, or a wildcard in place of the first label, is that host."""
    parent = hostname.partition(".")[2]
    return any(name == hostname or (name.startswith("*.") and name[2:] == parent) for name in names)
