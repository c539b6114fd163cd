"""The origin of the edge benchmarks: COUNT objects of log-normal size (`/N`), objects of a size asked for
(`/size/BYTES`), and how often it was asked (`/asked`). `/far/BYTES` is as of an origin far away: its first byte
takes FAR_S, the rest comes at FAR_BYTES_PER_S.

python edge_origin.py ADDRESS PORT
"""

import asyncio
import random
import sys
from email.utils import formatdate

import uvloop

COUNT = 5_000
SIZE_MEDIAN_BYTES, SIZE_SIGMA = 6_000, 1.2
FAR_S, FAR_BYTES_PER_S, FAR_STEP_S = 0.2, 20e6, 0.01
SIZE_BYTES_MAX = 500_000  # keeps the tail's few giants from ruling the mean


def sizes() -> list[int]:
    """The sizes of the objects, the same in every run."""
    chance = random.Random(2009)
    return [
        max(100, min(SIZE_BYTES_MAX, int(chance.lognormvariate(0, SIZE_SIGMA) * SIZE_MEDIAN_BYTES)))
        for _ in range(COUNT)
    ]


HEAD = (
    "HTTP/1.1 200 OK\r\nServer: origin\r\nDate: {date}\r\n"
    "Content-Type: text/html; charset=utf-8\r\nContent-Length: {size}\r\nCache-Control: public, max-age=864000\r\n"
    'Expires: Thu, 31 Dec 2099 23:59:59 GMT\r\nETag: "{size:x}-5f3e"\r\n'
    "Last-Modified: Mon, 03 Nov 2025 10:00:00 GMT\r\nAccept-Ranges: bytes\r\n"
    "X-Content-Type-Options: nosniff\r\n\r\n"
)


class Origin(asyncio.Protocol):
    """Answers `/N` with object N, `/size/BYTES` with so many bytes."""

    bodies = tuple(random.Random(size).randbytes(size) for size in sizes())
    asked = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.held = b""

    def data_received(self, data: bytes) -> None:
        *requests, self.held = (self.held + data).split(b"\r\n\r\n")
        for request in requests:
            target = request.split(b" ", 2)[1]
            if target.startswith(b"/far/"):
                asyncio.get_running_loop().call_later(FAR_S, self.trickle, memoryview(self.answer(target)))
            else:
                self.transport.write(self.answer(target))  # type: ignore[attr-defined]

    def trickle(self, answer: memoryview) -> None:
        step = int(FAR_BYTES_PER_S * FAR_STEP_S)
        self.transport.write(answer[:step])  # type: ignore[attr-defined]
        if len(answer) > step:
            asyncio.get_running_loop().call_later(FAR_STEP_S, self.trickle, answer[step:])

    @classmethod
    def answer(cls, target: bytes) -> bytes:
        if target == b"/asked":
            text = b"%d" % cls.asked
            return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text)
        cls.asked += 1
        kind, _, size = target[1:].partition(b"?")[0].rpartition(b"/")
        body = b"x" * int(size) if kind else cls.bodies[int(size)]
        return HEAD.format(size=len(body), date=formatdate(usegmt=True)).encode() + body


async def serve(address: str, port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Origin, address, port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], int(sys.argv[2])))
