"""The handshake of WebSocket (RFC 6455 section 4), as far as one between client and origin must check it.

What follows it is the business of the two: frames pass as they are, and the extensions that both agree on.
"""

import binascii
from base64 import b64decode, b64encode
from hashlib import sha1

from msgspec import structs

from nearmile.edge.rules.site import Refuse
from nearmile.http.fields import Fields, Pairs, members
from nearmile.http.head import Request, ResponseHead

SWITCHING, OPENED = 101, 200
HANDSHAKE: Pairs = ((b"connection", b"Upgrade"), (b"upgrade", b"websocket"))
"""What both sides say of this connection."""
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
KEY_BYTES = 16
_KEY, _ACCEPT = b"sec-websocket-key", b"sec-websocket-accept"
_VERSION = b"13"


def wants(fields: Fields) -> bool:
    """Whether a request or response offers to switch to WebSocket."""
    return b"upgrade" in fields.connection and b"websocket" in members(fields.get(b"upgrade") or b"")


def keyed(request: Request, key: bytes) -> Request:
    """A handshake that came on a stream, where there is no key, with one of 16 bytes by chance for the origin."""
    fields = request.fields
    pairs = tuple([pair for pair in fields.pairs if pair[0] != _KEY])
    fields = structs.replace(fields, pairs=(*pairs, (_KEY, b64encode(key))))
    return structs.replace(request, fields=fields)


def fault(request: Request) -> Refuse | None:
    """What is wrong with a client's handshake (section 4.2.1)."""
    fields = request.fields
    if request.method != b"GET" or request.minor == 0 or fields.chunked or fields.length:
        return Refuse(400, "WebSocket begins with a GET of HTTP/1.1 without a body")
    if fields.get(b"sec-websocket-version") != _VERSION:
        return Refuse(426, "only version 13 of WebSocket is served", ((b"sec-websocket-version", _VERSION),))
    try:
        key = b64decode(fields.get(_KEY) or b"", validate=True)
    except binascii.Error:
        key = b""
    if len(key) != KEY_BYTES:
        return Refuse(400, "Sec-WebSocket-Key is not 16 bytes in base64")
    return None


def opens(status: int, on_stream: bool) -> bool:
    """Whether by that status a client would learn that WebSocket begins."""
    return status == SWITCHING or (on_stream and 200 <= status < 300)


def agreement(pairs: Pairs, on_stream: bool) -> tuple[int, Pairs]:
    """The status, and with those of the origin the fields, by which a client learns that WebSocket begins; on a
    stream that is said by the status alone (RFC 8441 section 5)."""
    if on_stream:
        return OPENED, tuple([pair for pair in pairs if pair[0] != _ACCEPT])
    return SWITCHING, pairs + HANDSHAKE


def agreed(request: Request, head: ResponseHead) -> bool:
    """Whether the origin answers this handshake with 101 (section 4.1): else nobody would read what follows."""
    key = request.fields.get(_KEY) or b""
    accept = b64encode(sha1(key + _GUID, usedforsecurity=False).digest())
    return head.status == SWITCHING and wants(head.fields) and head.fields.get(_ACCEPT) == accept
