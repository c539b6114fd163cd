"""The heads and small pages an edge server writes, and what it changes in those that pass through it."""

from functools import lru_cache

from nearmile.cache.dates import format_date
from nearmile.cache.directives import list_members, values_of
from nearmile.cache.entry import status_line
from nearmile.cache.policy import connection_fields
from nearmile.cache.purge import APPLIED, UNTOLD
from nearmile.edge.origins.peer import Question
from nearmile.edge.rules.site import COOKIES, Page
from nearmile.edge.trailers import TE, wants_trailers
from nearmile.edge.visitors import HOP, SHAPE, Hop
from nearmile.http.fields import Pairs, field
from nearmile.http.head import Request, write_fields
from nearmile.http.limits import LENGTH_DIGITS_MAX

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
# Framing is the receiver's own; the rest is answered or rewritten here.
_REQUEST_DROPPED = frozenset((b"content-length", b"host", b"expect", HOP, SHAPE, COOKIES))
# What proxies say of a request: an origin that believed a client's own word for it would let the client choose how
# others see the page. We say it ourselves, or nobody does.
_PROXIES_WORDS = frozenset(
    b"forwarded front-end-https true-client-ip x-client-ip x-cluster-client-ip x-host x-original-forwarded-for "
    b"x-original-host x-original-url x-real-ip x-rewrite-url x-url-scheme".split()
)
# And whatever begins so.
_PROXIES_WORD = b"x-forwarded-"
OVERRIDES = frozenset((b"x-http-method", b"x-http-method-override", b"x-method-override"))
"""By these some origins take a GET for another method: what they answer then is not what a GET is to get."""
# Programs behind CGI, WSGI and their kin cannot tell "content_length" from "content-length".
_DASHED = bytes(byte if chr(byte).isalnum() and byte < 128 else 0x2D for byte in range(256))
CDN_LOOP = b"cdn-loop"
"""Which networks a request has passed (RFC 8586): everybody adds to it, and nobody takes anything from it."""
MAX_FORWARDS = b"max-forwards"
TEXT = b"text/plain; charset=utf-8"
_RESPONSE_DROPPED = frozenset((b"content-length",))
# A client asks for one object after another with the same fields; each memo holds a few megabytes at worst.
_MEMO_SIZE = 64


def request_head(question: Question) -> bytes:
    """The head of a request in HTTP/1.1."""
    asked, framing = question, b""
    if asked.framing == "chunked":
        framing = b"transfer-encoding: chunked\r\n"
    elif asked.framing is not None:
        framing = b"content-length: %d\r\n" % asked.framing
    lines = _request_lines(asked.pairs)
    return b"%b %b HTTP/1.1\r\nhost: %b\r\n%b%b\r\n" % (asked.method, asked.target, asked.host, lines, framing)


@lru_cache(_MEMO_SIZE)
def _request_lines(pairs: Pairs) -> bytes:
    return write_fields(pairs) + (b"connection: te\r\n" if TE in pairs else b"")


@lru_cache(_MEMO_SIZE)
def forwarded_request(pairs: Pairs, dropped: frozenset[bytes], forwarded: Pairs, name: bytes, hop: Hop) -> Pairs:
    """A client's fields as the next server gets them (RFC 9110 section 7.6).

    ``dropped`` names more fields to leave out; ``forwarded`` is what we say of the request; ``hop`` tells another
    server as what it is asked.
    """
    gone = _request_gone(connection_fields(pairs), dropped)
    kept = [pair for pair in pairs if not _goes(pair[0], gone) and not _goes(pair[0].translate(_DASHED), gone)]
    ours = (*forwarded, (b"via", b"1.1 " + name))
    if wants_trailers(pairs):
        ours += (TE,)
    return (*kept, *ours, (HOP, b"%d" % hop)) if hop else (*kept, *ours)


def disguises(pairs: Pairs, names: tuple[bytes, ...]) -> bool:
    """Whether origins may take a field for one of those names that it does not have: X_Device for X-Device."""
    return bool(names) and any(
        (dashed := name.translate(_DASHED)) != name and dashed in names for name, _ in pairs
    )


def _goes(name: bytes, gone: frozenset[bytes]) -> bool:
    return name in gone or name.startswith(_PROXIES_WORD)


@lru_cache(_MEMO_SIZE)
def _request_gone(connection: frozenset[bytes], dropped: frozenset[bytes]) -> frozenset[bytes]:
    return (connection - {CDN_LOOP}) | _REQUEST_DROPPED | _PROXIES_WORDS | dropped


@lru_cache(_MEMO_SIZE)
def has_passed(pairs: Pairs, entry: bytes) -> bool:
    """Whether CDN-Loop in a request's fields has that entry, however it is written."""
    said = list_members(values_of(pairs, CDN_LOOP))
    return entry in [member.translate(None, b" \t").lower() for member in said]


def forwards_left(request: Request) -> int | None:
    """How often an OPTIONS may still be forwarded (RFC 9110 section 7.6.2); None where it does not say."""
    said = request.fields.get(MAX_FORWARDS) if request.method == b"OPTIONS" else None
    return int(said) if said is not None and said.isdigit() and len(said) <= LENGTH_DIGITS_MAX else None


def counted(pairs: Pairs, left: int | None) -> Pairs:
    """The fields of a request that could be forwarded so often, with one less."""
    if left is None:
        return pairs
    return (*(pair for pair in pairs if pair[0] != MAX_FORWARDS), (MAX_FORWARDS, b"%d" % (left - 1)))


def forwarded_response(pairs: Pairs, hop: bool) -> Pairs:
    """An origin's fields as the client gets them, without framing (RFC 9110 section 7.6).

    The answer to a neighbour (``hop``) keeps the tags, by which the neighbour is to be able to purge it.
    """
    gone = connection_fields(pairs) | _RESPONSE_DROPPED | ({APPLIED} if hop else UNTOLD)
    return tuple(pair for pair in pairs if pair[0] not in gone)


def dated(pairs: Pairs, now_s: float) -> Pairs:
    """The fields with the time at which they came, where the origin does not say one (RFC 9110 section 6.6.1)."""
    return pairs if field(pairs, b"date") is not None else (*pairs, (b"date", format_date(int(now_s))))


def response_start(status: int, pairs: Pairs) -> bytes:
    """Status line and fields, without the empty line."""
    return status_line(status) + write_fields(pairs)


def interim_head(status: int, pairs: Pairs, hop: bool) -> bytes:
    """An origin's interim response as the client, or a neighbour, gets it (RFC 9110 section 15.2)."""
    return response_start(status, forwarded_response(pairs, hop)) + b"\r\n"


def forwarding(request: Request, scheme: bytes, host: bytes, peer: str, trusted: bool, internal: bool) -> Pairs:
    """What the next server is told of who asked, and for what: by that ``scheme`` and ``host``.

    In X-Forwarded-For only what trusted peers said is kept before the peer's own address.
    """
    said = request.fields.get(b"x-forwarded-for") if trusted or internal else None
    if said is None:
        said = peer.encode()
    elif not internal:
        said += b", " + peer.encode()
    return (b"x-forwarded-for", said), (b"x-forwarded-proto", scheme), (b"x-forwarded-host", host)


def page(status: int, text: str, now_s: float, own: Page | None = None) -> tuple[bytes, bytes]:
    """A small page of our own, or of the site's: the start of its head (no empty line), and its body."""
    line = status_line(status)
    kind, body = (own.kind, own.body) if own else (TEXT, b"%b\n%b\n" % (line[9:].strip(), text.encode()))
    return b"%bdate: %b\r\ncontent-type: %b\r\ncache-control: no-store\r\ncontent-length: %d\r\n" % (
        line,
        format_date(int(now_s)),
        kind,
        len(body),
    ), body
