"""What follows the handshake of WebSocket: bytes both ways, whatever they are."""

import contextlib
from collections.abc import AsyncIterator

from nearmile.edge.messages import response_start
from nearmile.edge.origins import websocket
from nearmile.edge.origins.client import Answer
from nearmile.edge.origins.peer import UpstreamError
from nearmile.edge.reply import Reply
from nearmile.http.fields import Pairs
from nearmile.http.head import Request


async def tunnel(reply: Reply, request: Request, answer: Answer, pairs: Pairs) -> None:
    """Passes on the origin's 101, then bytes until one side ends; each way waits for who is to take them.

    ``pairs`` are the 101's fields for the client. Raises UpstreamError.
    """
    if not websocket.agreed(request, answer.head):
        raise UpstreamError("the origin did not agree to WebSocket")
    answer.switch()
    client = reply.client
    status, pairs = websocket.agreement(pairs, client.multiplexed)
    await reply.switch(status, response_start(status, pairs))
    sending = reply.node.spawn(_send_on(client.switch(), answer))
    try:
        while pieces := await answer.pieces():
            await client.write(pieces)
    finally:
        sending.cancel()


async def _send_on(pieces: AsyncIterator[list[bytes]], answer: Answer) -> None:
    """The client's side, to its end."""
    with contextlib.suppress(UpstreamError):
        async for some in pieces:
            await answer.send(b"".join(some))
        await answer.send(b"", end=True)
