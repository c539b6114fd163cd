"""The handshake of WebSocket (RFC 6455 section 4), as far as one between client and origin must check it.

What follows it is the business of the two: frames pass as they are, and the extensions that both agree on.
"""

import binascii
from base64 import b64decode, b64encode
from hashlib import sha1

from nearmile.edge.rules.site import Refuse
from nearmile.http.fields import Fields, Pairs, members
from nearmile.http.head import Request, ResponseHead

SWITCHING = 101
HANDSHAKE: Pairs = ((b"connection", b"Upgrade"), (b"upgrade", b"websocket"))
"""What both sides say of this connection."""
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY_BYTES = 16
_VERSION = b"13"


def wants(fields: Fields) -> bool:
    """Whether a request or response offers to switch to WebSocket."""
    return b"upgrade" in fields.connection and b"websocket" in members(fields.get(b"upgrade") or b"")


def fault(request: Request) -> Refuse | None:
    """What is wrong with a client's handshake (section 4.2.1)."""
    fields = request.fields
    if request.method != b"GET" or request.minor == 0 or fields.chunked or fields.length:
        return Refuse(400, "WebSocket begins with a GET of HTTP/1.1 without a body")
    if fields.get(b"sec-websocket-version") != _VERSION:
        return Refuse(426, "only version 13 of WebSocket is served", ((b"sec-websocket-version", _VERSION),))
    try:
        key = b64decode(fields.get(b"sec-websocket-key") or b"", validate=True)
    except binascii.Error:
        key = b""
    if len(key) != _KEY_BYTES:
        return Refuse(400, "Sec-WebSocket-Key is not 16 bytes in base64")
    return None


def agreed(request: Request, head: ResponseHead) -> bool:
    """Whether the origin's 101 answers this handshake (section 4.1): else what follows would be read by nobody."""
    key = request.fields.get(b"sec-websocket-key") or b""
    accept = b64encode(sha1(key + _GUID, usedforsecurity=False).digest())
    return wants(head.fields) and head.fields.get(b"sec-websocket-accept") == accept
