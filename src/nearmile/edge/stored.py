"""Serving what is stored: the whole, a part of it, or the news that the client has it already."""

from nearmile.cache.entry import Damaged, Elsewhere, Entry, not_modified_head, partial_head, unsatisfiable_head
from nearmile.cache.ranges import Cut, Uncut, cut
from nearmile.cache.reuse import age_s, not_modified
from nearmile.edge.peer import UpstreamError
from nearmile.edge.reply import STATED, Reply
from nearmile.http.head import Request


def cut_for(request: Request, entry: Entry) -> Cut | Uncut:
    """What of that response answers the request."""
    return cut(request.method, request.fields.pairs, entry.kept, entry.body_bytes)


async def send_stored(reply: Reply, request: Request, entry: Entry, how: bytes) -> bool:
    """Sends a stored response; False if its body turned out damaged before anything of it was sent.

    Raises UpstreamError where that turns out later.
    """
    kept, now_s, found = entry.kept, reply.node.now_s(), cut_for(request, entry)
    status, head = kept.status, entry.head
    start, end = 0, entry.body_bytes
    if not_modified(request.fields.pairs, kept, now_s):
        status, head, end = 304, not_modified_head(head), 0
    elif isinstance(found, Cut):
        status, start, end = 206, found.start, found.end
        head = partial_head(head, found.content_range, end - start)
    elif found is Uncut.UNSATISFIABLE:
        status, head, end = 416, unsatisfiable_head(head, end), 0
    reply.tell_tags(kept)
    age, away = age_s(kept, now_s), entry.elsewhere
    if away is None or end == 0 or reply.bodiless:
        await reply.whole(status, head, how, age, entry.body[start:end])
        return True
    return await _from_elsewhere(reply, away, start, end, (status, head, how, age))


async def _from_elsewhere(
    reply: Reply, away: Elsewhere, start: int, end: int, begin: tuple[int, bytes, bytes, int]
) -> bool:
    """The body is elsewhere; nothing has been sent before its first piece is known to be good."""
    pieces = away.pieces(start, end)
    try:
        first = await anext(pieces)
    except Damaged:
        return False
    reply.begin(*begin, STATED)
    try:
        await reply.send((first,))
        async for piece in pieces:
            await reply.send((piece,))
    except Damaged:
        raise UpstreamError("the stored body is damaged") from None
    await reply.end()
    return True
