"""A kept connection to an origin, as the kernel has it."""

import asyncio
import socket
import time

from nearmile.edge.origins.link import Link
from nearmile.edge.origins.peer import Peer


async def test_what_came_unasked_is_not_taken_for_the_next_answer() -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()
        _, link = await loop.create_connection(
            lambda: Link(Peer(site="shop", host=host, port=port), loop, lambda _: None, lambda _: None),
            host,
            port,
        )
        origin, _ = server.accept()
        with origin:
            assert link.usable
            origin.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
            # The event loop does not run, so only the kernel has it yet; on loopback that takes no time.
            end_s = time.monotonic() + 5
            while link.usable:
                assert time.monotonic() < end_s
