"""Serving what is stored: the whole, a part of it, several parts, or the news that the client has it already."""

from contextlib import aclosing
from hashlib import blake2b

from msgspec import Struct

from nearmile.cache.entry import (
    Damaged,
    Elsewhere,
    Entry,
    fields_of,
    multipart_head,
    not_modified_head,
    partial_head,
    renewing_head,
    unsatisfiable_head,
)
from nearmile.cache.pages import cut_body
from nearmile.cache.policy import Storable
from nearmile.cache.ranges import Cuts, Uncut, cut
from nearmile.cache.reuse import age_s, not_modified
from nearmile.edge.origins.peer import UpstreamError
from nearmile.edge.reply import STATED, Reply
from nearmile.http.head import Request

# As long as browsers make them for forms: nothing in a body looks like it by chance.
BOUNDARY_BYTES = 16


class Piece(Struct, frozen=True):
    """Bytes of our own, and those of the stored body that follow them."""

    lead: bytes
    start: int
    end: int


class Plan(Struct, frozen=True):
    """A response made of a stored one."""

    status: int
    head: bytes
    pieces: tuple[Piece, ...] = ()
    tail: bytes = b""


def cut_for(request: Request, entry: Entry) -> Cuts | Uncut:
    """What of that response answers the request."""
    return cut(request.method, request.fields.pairs, entry.kept, entry.body_bytes)


def plan(request: Request, entry: Entry, now_s: float, internal: bool) -> Plan:
    """What to answer with a stored response that is usable; ``internal``: to another server, which stores it."""
    kept, head, found = entry.kept, entry.head, cut_for(request, entry)
    if not_modified(request.fields.pairs, kept, now_s):
        return Plan(304, renewing_head(head) if internal else not_modified_head(head))
    if found is Uncut.UNSATISFIABLE:
        return Plan(416, unsatisfiable_head(head, entry.body_bytes))
    if isinstance(found, Uncut):
        return Plan(kept.status, head, (Piece(b"", 0, entry.body_bytes),))
    if len(found) > 1:
        return _several(head, found)
    (one,) = found
    return Plan(206, partial_head(head, one.content_range, one.end - one.start), (Piece(b"", one.start, one.end),))


def _several(head: bytes, cuts: Cuts) -> Plan:
    """As multipart/byteranges (RFC 9110 section 14.6)."""
    boundary = blake2b(head + repr(cuts).encode(), digest_size=BOUNDARY_BYTES).hexdigest().encode()
    kind = next(
        (b"content-type: %b\r\n" % value for name, value in fields_of(head) if name == b"content-type"), b""
    )
    lead = b"\r\n--%b\r\n%bcontent-range: %%b\r\n\r\n" % (boundary, kind.replace(b"%", b"%%"))
    pieces = tuple(Piece(lead % one.content_range, one.start, one.end) for one in cuts)
    tail = b"\r\n--%b--\r\n" % boundary
    body_bytes = sum(len(piece.lead) + piece.end - piece.start for piece in pieces) + len(tail)
    return Plan(206, multipart_head(head, boundary, body_bytes), pieces, tail)


async def send_stored(reply: Reply, request: Request, entry: Entry, how: bytes, stale: bool) -> bool:
    """Sends a stored response; False if its body turned out damaged before anything of it was sent.

    ``stale``: nobody has confirmed it. Raises UpstreamError where that turns out later.
    """
    now_s, away = reply.node.now_s(), entry.elsewhere
    made = plan(request, entry, now_s, reply.internal)
    reply.tell_neighbour(entry.kept, stale)
    if stale:
        how += b"; ttl=%d" % (entry.kept.fresh_until_s - now_s)
    if away is not None and made.pieces and not reply.bodiless:
        return await _from_elsewhere(reply, entry.kept, away, made, how)
    parts = [part for one in made.pieces for part in (one.lead, cut_body(entry.body, one.start, one.end))]
    await reply.whole(made.status, made.head, how, age_s(entry.kept, now_s), *parts, made.tail)
    return True


async def _from_elsewhere(reply: Reply, kept: Storable, away: Elsewhere, made: Plan, how: bytes) -> bool:
    """The body is elsewhere; nothing has been sent before its first bytes are known to be good."""
    begun = False

    def begin() -> None:
        nonlocal begun
        begun = True
        # It may have waited long for those bytes, and is older by that.
        fetched = b"fwd=partial" if away.fetched else how
        reply.begin(made.status, made.head, fetched, age_s(kept, reply.node.now_s()), STATED)

    try:
        for piece in made.pieces:
            lead = piece.lead
            async with aclosing(away.pieces(piece.start, piece.end)) as data:
                async for some in data:
                    if not begun:
                        begin()
                    await reply.send((lead, some) if lead else (some,))
                    lead = b""
    except Damaged:
        if not begun:
            return False
        raise UpstreamError("the stored body is damaged") from None
    if not begun:
        begin()
    if made.tail:
        await reply.send((made.tail,))
    await reply.end()
    return True
