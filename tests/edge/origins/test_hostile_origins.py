"""Origins that lie about where a response ends: no wrong byte, none of one response in another, none stored."""

import asyncio

import pytest

from edge_world import Asked, Client, world
from nearmile.edge import limits
from waiting import PATIENCE_S

FRESH = b"Cache-Control: max-age=60\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
POISON = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 6\r\n\r\npoison"
OK = b"HTTP/1.1 200 OK\r\n" + FRESH

# No response can be made of these: 502 to all methods.
NO_RESPONSE = {
    "cl-and-te": OK + CHUNKED + b"Content-Length: 5\r\n\r\n0\r\n\r\n" + POISON,
    "te-and-cl": OK + b"Content-Length: 5\r\n" + CHUNKED + b"\r\n0\r\n\r\n" + POISON,
    "two-lengths": OK + b"Content-Length: 1\r\nContent-Length: 7\r\n\r\na" + POISON,
    "two-equal-lengths": OK + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na" + POISON,
    "list-of-lengths": OK + b"Content-Length: 1, 7\r\n\r\na" + POISON,
    "signed-length": OK + b"Content-Length: +1\r\n\r\na" + POISON,
    "negative-length": OK + b"Content-Length: -1\r\n\r\na" + POISON,
    "hexadecimal-length": OK + b"Content-Length: 0x1\r\n\r\na" + POISON,
    "empty-length": OK + b"Content-Length:\r\n\r\n" + POISON,
    "length-that-overflows": OK + b"Content-Length: 18446744073709551617\r\n\r\na" + POISON,
    "chunked-twice": OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" + POISON,
    "chunked-not-last": OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n" + POISON,
    "coding-before-chunked": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + POISON,
    "vertical-tab-before-coding": OK + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + POISON,
    "space-before-colon": OK + b"Content-Length : 1\r\n\r\na" + POISON,
    "folded": OK + b"X: y\r\n Content-Length: 1\r\n\r\na" + POISON,
    "bare-cr-in-field": OK + b"X: y\rSet-Cookie: a=b\r\nContent-Length: 1\r\n\r\na",
    "bare-lf-in-field": OK + b"X: y\nSet-Cookie: a=b\r\nContent-Length: 1\r\n\r\na",
    "bare-lf-ends-head": OK + b"Content-Length: 1\n\na\r\n\r\n",
    "nul-in-field": OK + b"X: \x00\r\nContent-Length: 1\r\n\r\na",
    "bare-cr-in-reason": b"HTTP/1.1 200 O\rK\r\nContent-Length: 1\r\n\r\na",
    "no-name": OK + b": y\r\nContent-Length: 1\r\n\r\na",
    "status-of-four-digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 1\r\n\r\na",
    "status-0": b"HTTP/1.1 000 OK\r\nContent-Length: 1\r\n\r\na",
    "http-2": b"HTTP/2 200\r\nContent-Length: 1\r\n\r\na",
    "http-0.9": b"hello\r\n\r\n",
    "nothing": b"",
    "half-a-head": OK,
    "giant-head": OK + b"X: %b\r\n" % (b"y" * 70_000),
    "giant-head-of-many": OK + b"X: y\r\n" * 200 + b"\r\n",
    "interim-flood": b"HTTP/1.1 103 Early Hints\r\n\r\n" * (limits.INTERIM_MAX + 1)
    + OK
    + b"Content-Length: 0\r\n\r\n",
    "upgrade-that-nobody-asked-for": b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + POISON,
}
# A response begins, and its end is not where it says: the client sees that it is not whole.
BROKEN = {
    "short-of-its-length": OK + b"Content-Length: 9\r\n\r\nbegun",
    "no-last-chunk": OK + CHUNKED + b"\r\n5\r\nbegun\r\n",
    "half-a-chunk": OK + CHUNKED + b"\r\n9\r\nbegun",
    "half-a-trailer": OK + CHUNKED + b"\r\n5\r\nbegun\r\n0\r\n",
    "chunk-longer-than-its-size": OK + CHUNKED + b"\r\n5\r\nbegun-poison\r\n0\r\n\r\n",
    "chunk-without-end": OK + CHUNKED + b"\r\n5\r\nbegun0\r\n\r\n" + POISON,
    "chunk-with-bare-lf": OK + CHUNKED + b"\r\n5\r\nbegun\n0\r\n\r\n" + POISON,
    "size-with-0x": OK + CHUNKED + b"\r\n5\r\nbegun\r\n0x0\r\n\r\n" + POISON,
    "size-with-sign": OK + CHUNKED + b"\r\n5\r\nbegun\r\n-1\r\n\r\n" + POISON,
    "size-that-overflows": OK + CHUNKED + b"\r\n5\r\nbegun\r\n10000000000000000\r\n\r\n" + POISON,
    "bare-lf-in-extension": OK + CHUNKED + b"\r\n5\r\nbegun\r\n0;x\ny\r\n\r\n" + POISON,
    "response-for-a-trailer": OK + CHUNKED + b"\r\n5\r\nbegun\r\n0\r\n" + POISON,
}
# A whole response, and more behind it that is nobody's.
MORE = {
    "more-than-its-length": OK + b"Content-Length: 5\r\n\r\nbegun" + POISON,
    "more-than-its-chunks": OK + CHUNKED + b"\r\n5\r\nbegun\r\n0\r\n\r\n" + POISON,
    "trailer-with-framing": OK + CHUNKED + b"\r\n5\r\nbegun\r\n0\r\nContent-Length: 9\r\n\r\n" + POISON,
    "interim-before": b"HTTP/1.1 102 Processing\r\n\r\n" + OK + b"Content-Length: 5\r\n\r\nbegun" + POISON,
}


class Sender:
    """Sends the same to everyone, and ends or not."""

    def __init__(self, wire: bytes, ends: bool) -> None:
        self.wire, self.ends = wire, ends

    async def __call__(self, asked: Asked) -> bytes | None:
        asked.writer.write(self.wire)
        await asked.writer.drain()
        return None if self.ends else b""


@pytest.mark.parametrize("name", NO_RESPONSE)
async def test_what_is_no_response_is_a_bad_gateway(name: str) -> None:
    async with world(Sender(NO_RESPONSE[name], ends=True)) as here:
        for method in ("GET", "GET", "POST", "HEAD"):
            answer = await final(await here.client(), method)
            assert answer.startswith(b"HTTP/1.1 502 "), answer
            assert b"poison" not in answer and b"set-cookie" not in answer.lower()
        assert not len(here.node.store)


@pytest.mark.parametrize("name", BROKEN)
async def test_a_response_that_breaks_off_is_not_whole_and_not_stored(name: str) -> None:
    async with world(Sender(BROKEN[name], ends=True)) as here:
        for method in ("GET", "GET", "POST"):
            answer = await final(await here.client(), method)
            head, _, body = answer.partition(b"\r\n\r\n")
            assert b"poison" not in answer
            if not head.startswith(b"HTTP/1.1 502 "):
                whole = b"\r\n0\r\n\r\n" in body if b"chunked" in head else len(body) >= 9
                assert not whole, answer
        assert not len(here.node.store)
        assert len(here.origin.asked) == 3


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("name", MORE)
async def test_what_follows_a_response_reaches_nobody(name: str, ends: bool) -> None:
    async with world(Sender(MORE[name], ends)) as here:
        client = await here.client()
        for target in ("/a", "/b", "/a"):
            client.send(f"GET {target} HTTP/1.1\r\nHost: www.test.example\r\n\r\n".encode())
            while (answer := await client.response()).status < 200:
                pass
            assert answer.body == b"begun"
        assert here.origin.connections == 2, "none is used again"


async def final(client: Client, method: str) -> bytes:
    """All that the client gets for one request, without interim responses."""
    client.send(f"{method} /a HTTP/1.1\r\nHost: www.test.example\r\nConnection: close\r\n\r\n".encode())
    async with asyncio.timeout(PATIENCE_S):
        answer = await client.ended()
    while answer.startswith(b"HTTP/1.1 1"):
        answer = answer.partition(b"\r\n\r\n")[2]
    return answer
