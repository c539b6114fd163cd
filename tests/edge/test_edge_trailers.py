"""Trailer fields end to end: behind the body, apart from its head, and nothing there that could harm."""

import asyncio
from pathlib import Path

import pytest

from edge_world import Asked, World, request, world
from h2_origin import H2Origin, Stream
from nearmile.edge.trailers import passed_on, wants_trailers
from nearmile.http.limits import FIELDS_MAX, TRAILER_BYTES_MAX
from secure_world import streams
from tls_origin import OTHER
from waiting import until

WANTED, PART = ("TE: trailers", "Connection: te, close"), b"5\r\nhello\r\n"
TOGETHER = {"key": {"schemes": "together"}}
GOOD = {"x-sum": "1", "content-digest": "sha-256=:AA==:", "server-timing": "db;dur=1"}
HOSTILE = (
    "Content-Length: 9", "Transfer-Encoding: chunked", "Host: other", "Set-Cookie: a=b", "Cache-Control: x",
    "Authorization: x", "Content-Type: text/html", "Content-Encoding: gzip", "Location: /", "Age: 1", "Via: x",
    "X-Forwarded-For: 1.1.1.1", "Access-Control-Allow-Origin: *", "Connection: x-sum", "TE: trailers", "Vary: *",
    "Nearmile-Vary: ours", "Surrogate-Key: a", "Proxy-Authenticate: x", "If-Match: x", "X-Odd: 1", "X-Gone: 1",
)  # fmt: skip


class Page:
    """An origin that ends its chunked body with ``lines``, when it may."""

    def __init__(self, *lines: str, cache: str = "max-age=60") -> None:
        self.cache, self.lines = cache, lines
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def __call__(self, asked: Asked) -> bytes:
        fields = f"Cache-Control: {self.cache}\r\nTrailer: X-Sum\r\nConnection: x-odd\r\n"
        asked.writer.write(f"HTTP/1.1 200 OK\r\n{fields}Transfer-Encoding: chunked\r\n\r\n".encode() + PART)
        await self.may_end.wait()
        return "\r\n".join(["0", *self.lines, "", ""]).encode()


def lines_of(fields: dict[str, str]) -> tuple[str, ...]:
    return tuple(f"{name}: {value}" for name, value in fields.items())


async def raw(here: World, *lines: str, target: str = "/") -> bytes:
    """All of a response over HTTP/1.1."""
    client = await here.client()
    client.send(request(target, *lines))
    return await client.ended()


@pytest.mark.parametrize("cache", ["max-age=60", "no-store", "private"])
async def test_over_http1_to_who_knows_trailers(cache: str) -> None:
    async with world(Page(*lines_of(GOOD), cache=cache)) as here:
        head, _, body = (await raw(here, *WANTED)).partition(b"\r\n\r\n")
        assert body == PART + "\r\n".join(["0", *lines_of(GOOD), "", ""]).encode()
        assert b"x-sum" not in head and b"trailer" not in head.lower()
        asked = here.origin.asked[-1].fields
        assert (asked["te"], asked["connection"]) == ("trailers", "te")
        plain = await raw(here, "Connection: close", target="/other")
        assert plain.endswith(b"\r\n\r\n" + PART + b"0\r\n\r\n") and "te" not in here.origin.asked[-1].fields


async def test_a_hit_has_none() -> None:
    async with world(Page(*lines_of(GOOD))) as here:
        await raw(here, *WANTED)
        again = await raw(here, *WANTED)
        assert again.endswith(b"\r\n\r\nhello") and b"hit" in again and b"x-sum" not in again.lower()


async def test_all_who_wait_get_them_over_http2_and_http3(folder: Path) -> None:
    page = Page(*lines_of(GOOD))
    async with world(page, rules=TOGETHER) as here, streams(here, folder) as clients:
        page.may_end.clear()
        numbers = [client.ask("/") for client in clients]
        await until(lambda: len(here.origin.asked) == 1)
        page.may_end.set()
        for client, number in zip(clients, numbers, strict=True):
            got = await client.answer(number)
            assert (got.status, got.body, got.trailers) == (200, b"hello", GOOD)
            assert "x-sum" not in got.fields
            got = await client.get("/")
            assert (got.status, got.trailers) == (200, {})
        page.cache = "no-store"
        for client in clients:
            got = await client.get("/", method="POST")
            assert got.trailers == GOOD
        head = await clients[0].get("/other", method="HEAD")
        assert (head.status, head.trailers) == (200, {})
        assert len(here.origin.asked) == 4


async def test_what_could_harm_goes_no_further(folder: Path) -> None:
    page = Page(*HOSTILE, "X-Sum: 1", cache="no-store")
    rules = {**TOGETHER, "response_headers": {"remove": ["X-Gone"]}}
    async with world(page, rules=rules) as here, streams(here, folder) as clients:
        head, _, body = (await raw(here, *WANTED)).partition(b"\r\n\r\n")
        assert body == PART + b"0\r\nx-sum: 1\r\n\r\n" and b"set-cookie" not in head.lower()
        for client in clients:
            assert (await client.get("/")).trailers == {"x-sum": "1"}


@pytest.mark.parametrize(
    "lines",
    [
        ("X-Sum : 1",),
        ("X-Sum: 1", " folded"),
        ("X-Sum: \x01",),
        (": 1",),
        ("X-Sum: a\nX-Sum: b",),
        ("X-Sum: " + "x" * TRAILER_BYTES_MAX,),
        ("X: 1",) * (FIELDS_MAX + 1),
    ],
)
async def test_trailers_that_are_none_break_the_response_off(lines: tuple[str, ...]) -> None:
    async with world(Page(*lines)) as here:
        got = await raw(here, *WANTED)
        assert not got.endswith(b"0\r\n\r\n") and b"x-sum" not in got.lower() and b"X: 1" not in got
        assert len(here.node.store) == 0


async def test_from_an_origin_of_http2(folder: Path) -> None:
    async def hinted(stream: Stream) -> None:
        stream.head_only(("cache-control", "no-store"))
        await stream.data(b"hello")
        fields = {"/": [*GOOD.items(), ("set-cookie", "a=b")], "/large": [("x-sum", "x" * TRAILER_BYTES_MAX)]}
        stream.connection.h2.send_headers(stream.number, fields[stream.head[":path"]], end_stream=True)
        stream.connection.flush()

    async def unasked(_asked: Asked) -> None:
        raise AssertionError("the origin is another")

    origin = H2Origin(hinted, None)
    server = await asyncio.start_server(origin.serve, OTHER, 8080)
    rules = {**TOGETHER, "origin": f"http://{OTHER}:8080", "upstream": {"http2": "always"}}
    async with server, world(unasked, rules=rules) as here, streams(here, folder) as clients:
        for client in clients:
            got = await client.get("/", ("te", "trailers"))
            assert (got.body, got.trailers) == (b"hello", GOOD)
            assert (await client.get("/large")).error is not None
        assert (await raw(here, *WANTED)).endswith("\r\n".join(["0", *lines_of(GOOD), "", ""]).encode())


async def test_neighbours_hand_them_on() -> None:
    async with world(Page(*lines_of(GOOD), cache="private"), servers=2) as here:
        here.tell_map()
        for number in range(6):
            assert (await raw(here, *WANTED, target=f"/{number}")).endswith(b"db;dur=1\r\n\r\n")


def test_who_wants_trailers() -> None:
    assert wants_trailers(((b"te", b"gzip;q=0.5, Trailers"),))
    assert not wants_trailers(((b"te", b"gzip"), (b"accept", b"trailers")))


def test_what_is_passed_on() -> None:
    head = ((b"connection", b"x-hop"),)
    trailers = ((b"x-hop", b"1"), (b"x-own", b"1"), (b"x-sum", b"1"), (b"date", b"1"))
    assert passed_on(head, trailers, frozenset((b"x-own",))) == ((b"x-sum", b"1"),)
    assert passed_on(head, (), frozenset()) == ()
