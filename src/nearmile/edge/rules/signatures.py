"""Signed URLs: who has the key says what may be fetched, until when, and from where.

    /film.mp4?lang=en&nm-expires=1790000000&nm-key=spring&nm-signature=...

The signature is HMAC-SHA256 (RFC 2104), in base64url without padding, of these lines joined by line feeds:
``nearmile-1``, the site's name, the target without these parameters (in the form of the site's key), the time of
expiry in seconds since 1970, the key's id, and the block of client addresses (``nm-for``) or nothing. What is
signed is what is looked up, and what the origin is asked for.
"""

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from ipaddress import ip_network

from msgspec import Struct

from nearmile.base.addresses import Address

VERSION = b"nearmile-1"
EXPIRES, KEY, FOR, SIGNATURE = b"nm-expires", b"nm-key", b"nm-for", b"nm-signature"
NAMES = frozenset((EXPIRES, KEY, FOR, SIGNATURE))
# Seconds since 1970 of the year 5138: no honest URL lives longer.
EXPIRES_DIGITS_MAX = 11


class Claims(Struct, frozen=True):
    """What a URL says of its signature."""

    expires: bytes = b""
    key: bytes = b""
    block: bytes = b""
    signature: bytes = b""


def split(target: bytes) -> tuple[bytes, Claims | None]:
    """The target without its signature, and that; None where there is none, or parts of two."""
    path, mark, query = target.partition(b"?")
    parts = query.split(b"&") if mark else []
    said = [part.partition(b"=") for part in parts if part.partition(b"=")[0] in NAMES]
    if not said:
        return target, None
    rest = b"&".join(part for part in parts if part.partition(b"=")[0] not in NAMES)
    bare = path + b"?" + rest if rest else path
    values = {name: value for name, _, value in said}
    if len(values) != len(said):
        return bare, None
    block = values.get(FOR, b"").replace(b"%2F", b"/").replace(b"%3A", b":")
    return bare, Claims(values.get(EXPIRES, b""), values.get(KEY, b""), block, values.get(SIGNATURE, b""))


def signature(secret: bytes, site: str, target: bytes, claims: Claims) -> bytes:
    """The signature of that target under those claims (whose own is not looked at)."""
    text = b"\n".join((VERSION, site.encode(), target, claims.expires, claims.key, claims.block))
    return urlsafe_b64encode(hmac.digest(secret, text, "sha256")).rstrip(b"=")


def signed(secret: bytes, site: str, target: bytes, claims: Claims) -> bytes:
    """The target with its signature."""
    path, _, query = target.partition(b"?")
    # A mark with nothing behind it would not be there any more once the signature is taken away.
    target = target if query else path
    said = [(EXPIRES, claims.expires), (KEY, claims.key)] + ([(FOR, claims.block)] if claims.block else [])
    said.append((SIGNATURE, signature(secret, site, target, claims)))
    return target + (b"&" if b"?" in target else b"?") + b"&".join(b"%b=%b" % one for one in said)


class Keys:
    """A site's keys by id. Not a Struct, so that no log line shows what is in it."""

    def __init__(self, site: str, secrets: Mapping[str, bytes]) -> None:
        self._site, self._secrets = site, {key.encode(): secret for key, secret in secrets.items()}

    def fault(self, target: bytes, claims: Claims | None, address: Address | None, now_s: float) -> str:
        """Why the URL is not to be served; empty where it is. Tells nobody which part of a forgery was right."""
        if claims is None:
            return "the URL is not signed"
        secret = self._secrets.get(claims.key)
        if secret is None:
            return "the URL's signature is wrong"
        if not hmac.compare_digest(signature(secret, self._site, target, claims), claims.signature):
            return "the URL's signature is wrong"
        # From here on the claims are those of somebody with the key.
        if not claims.expires.isdigit() or len(claims.expires) > EXPIRES_DIGITS_MAX:
            return "the URL has no time of expiry"
        if now_s >= int(claims.expires):
            return "the URL has expired"
        if claims.block and not _within(address, claims.block):
            return "the URL is for another client"
        return ""


def _within(address: Address | None, block: bytes) -> bool:
    try:
        return address is not None and address in ip_network(block.decode("latin-1"), strict=False)
    except ValueError:
        return False
