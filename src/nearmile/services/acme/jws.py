"""What ACME asks of JSON Web Signatures: flattened, by ES256, and nothing else (RFC 7515, RFC 7638, RFC 8555).

Sixty lines beside ``cryptography``, which is here anyway, in place of two libraries with four dependencies.
"""

from base64 import urlsafe_b64encode
from hashlib import sha256

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

# Of a coordinate, and of each half of a signature, on P-256 (RFC 7518 sections 3.4 and 6.2).
NUMBER_BYTES = 32


def b64(data: bytes) -> str:
    """Base64 for URLs, without padding (RFC 7515 section 2)."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def jwk(key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    """The public key, its members in the order of their names."""
    numbers = key.public_key().public_numbers()
    x, y = (b64(number.to_bytes(NUMBER_BYTES, "big")) for number in (numbers.x, numbers.y))
    return {"crv": "P-256", "kty": "EC", "x": x, "y": y}


def key_authorization(token: str, key: ec.EllipticCurvePrivateKey) -> bytes:
    """What proves that the account's holder controls a name (RFC 8555 section 8.1)."""
    thumbprint = sha256(msgspec.json.encode(jwk(key))).digest()
    return f"{token}.{b64(thumbprint)}".encode()


def signed(key: ec.EllipticCurvePrivateKey, account: str | None, url: str, nonce: str, payload: bytes) -> bytes:
    """A request's body (RFC 8555 section 6.2); ``account`` is the account's URL, None while there is none."""
    who = {"jwk": jwk(key)} if account is None else {"kid": account}
    protected = b64(msgspec.json.encode({"alg": "ES256", "nonce": nonce, "url": url, **who}))
    body = b64(payload)
    r, s = decode_dss_signature(key.sign(f"{protected}.{body}".encode(), ec.ECDSA(hashes.SHA256())))
    signature = b64(r.to_bytes(NUMBER_BYTES, "big") + s.to_bytes(NUMBER_BYTES, "big"))
    return msgspec.json.encode({"protected": protected, "payload": body, "signature": signature})
