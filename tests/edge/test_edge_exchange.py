"""Requests that need the origin, end to end over real sockets."""

import asyncio
import gzip

import pytest
from msgspec import structs

from edge_world import (
    ADDRESSES,
    HOST,
    PORT,
    Asked,
    Client,
    Response,
    request,
    response,
    world,
)
from nearmile.edge import limits
from nearmile.edge.origins.peer import Origin, Peer
from nearmile.edge.sites import Sites
from nearmile.mapping.beacons import Sighting
from nearmile.reports.hit import Cache
from waiting import PATIENCE_S, at_rest, until

FRESH, NO_STORE = "Cache-Control: max-age=60", "Cache-Control: no-store"


async def hello(asked: Asked) -> bytes:
    return response(b"hello", FRESH, 'ETag: "1"')


async def test_a_miss_then_a_hit() -> None:
    async with world(hello) as here:
        client = await here.client()
        first, second = await client.get("/a"), await client.get("/a")
        assert first.body == second.body == b"hello"
        assert first.cache == "here-1; fwd=uri-miss; stored"
        assert second.cache == "here-1; hit"
        assert second.fields["via"] == "1.1 here-1" and second.fields["age"] == "0"
        assert len(here.origin.asked) == 1
        (miss, hit) = here.records
        assert miss[:2] == (200, Cache.MISS) and hit[:2] == (200, Cache.HIT)
        assert miss[3] and hit[3]
        assert here.requests == 2


async def test_what_the_origin_is_told() -> None:
    async with world(hello) as here:
        client = await here.client(local="127.31.50.7")
        lines = (
            "Connection: X-Gone",
            "X-Gone: 1",
            "X-Stays: 2",
            "X-Forwarded-For: 9.9.9.9",
            "Nearmile-Hop: 1",
            "TE: x",
        )
        await client.get("/a", *lines)
        fields = here.origin.asked[0].fields
        assert fields["host"] == HOST
        assert fields["x-stays"] == "2"
        assert fields["via"] == "1.1 here-1"
        assert fields["x-forwarded-for"] == "127.31.50.7"
        assert not {"x-gone", "connection", "nearmile-hop", "te"} & fields.keys()


async def test_fifty_clients_one_fetch_streamed_to_all() -> None:
    go, first = asyncio.Event(), b"1" * 1000

    async def slow(asked: Asked) -> bytes:
        asked.writer.write(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 2000\r\n\r\n" + first)
        await go.wait()
        return b"2" * 1000

    async with world(slow) as here:
        clients = [await here.client() for _ in range(50)]
        for client in clients:
            client.send(request("/big"))
        for client in clients:
            status, _ = await client.head()
            assert status == 200
            # The first half is with every client before the origin has sent the second.
            assert await client.reader.readexactly(1000) == first
        late = await here.client()
        late.send(request("/big"))
        await late.head()
        assert await late.reader.readexactly(1000) == first
        go.set()
        for client in [*clients, late]:
            assert await client.reader.readexactly(1000) == b"2" * 1000
        assert len(here.origin.asked) == 1


async def test_uncacheable_is_not_waited_for() -> None:
    go = asyncio.Event()

    async def slow(asked: Asked) -> bytes:
        asked.writer.write(b"HTTP/1.1 200 OK\r\nCache-Control: private\r\nContent-Length: 1\r\n\r\n")
        await go.wait()
        return b"x"

    async with world(slow) as here:
        clients = [await here.client() for _ in range(5)]
        for client in clients:
            client.send(request("/mine"))
        await until(lambda: len(here.origin.asked) == 5)
        go.set()
        for client in clients:
            assert (await client.response()).body == b"x"
        # From now on nobody waits at all.
        assert (await clients[0].get("/mine")).cache == "here-1; fwd=bypass"


async def test_a_cacheable_fill_goes_on_without_its_client() -> None:
    go = asyncio.Event()

    async def slow(asked: Asked) -> bytes:
        asked.writer.write(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 4\r\n\r\nab")
        await go.wait()
        return b"cd"

    async with world(slow) as here:
        client = await here.client()
        client.send(request("/a"))
        await client.head()
        client.writer.close()
        await until(lambda: here.servers[0].connections == 0)
        go.set()
        other = await here.client()
        assert (await other.get("/a")).body == b"abcd"
        assert (await other.get("/a")).cache == "here-1; hit"
        assert len(here.origin.asked) == 1
        assert not here.records[0][3], "the client that went away did not get it all"


async def test_a_truncated_response_is_never_stored_and_ends_the_client() -> None:
    async def truncated(asked: Asked) -> bytes | None:
        if len(pieces := asked.line.split("?")) and "chunked" in pieces[0]:
            asked.writer.write(
                b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
            )
        else:
            asked.writer.write(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 9\r\n\r\nabc")
        await asked.writer.drain()
        return None

    async with world(truncated) as here:
        for number, target in enumerate(("/sized", "/chunked", "/sized"), start=1):
            client = await here.client()
            client.send(request(target))
            await client.head()
            left = await client.ended()
            assert b"0\r\n\r\n" not in left
            assert len(here.origin.asked) == number
        assert not any(record[3] for record in here.records)


async def test_posts_pass_with_their_bodies() -> None:
    async def echo(asked: Asked) -> bytes:
        return response(asked.line.encode() + b"|" + await asked.body(), NO_STORE)

    async with world(echo) as here:
        client = await here.client()
        client.send(request("/p", "Transfer-Encoding: chunked", method="POST") + b"5\r\nhel")
        await until(lambda: len(here.origin.asked) == 1)
        client.send(b"lo\r\n6;x=y\r\n world\r\n0\r\nTrailer: 1\r\n\r\n")
        answer = await client.response()
        assert answer.body == b"POST /p HTTP/1.1|hello world"
        assert answer.cache == "here-1; fwd=method"
        client.send(request("/q", "Content-Length: 3", method="PUT") + b"abc")
        assert (await client.response()).body == b"PUT /q HTTP/1.1|abc"
        client.send(request("/q", method="DELETE"))
        assert (await client.response()).body == b"DELETE /q HTTP/1.1|"
        assert [record[1] for record in here.records] == [Cache.PASS] * 3


async def test_a_large_upload_waits_for_a_slow_origin_in_bounded_memory() -> None:
    go = asyncio.Event()
    total_bytes = 64 << 20

    async def sink(asked: Asked) -> bytes:
        await go.wait()
        return response(b"%d" % len(await asked.body()), NO_STORE)

    async with world(sink) as here:
        client = await here.client()
        client.send(request("/up", f"Content-Length: {total_bytes}", method="POST"))
        sending = asyncio.create_task(send_all(client, b"x" * total_bytes))
        await until(lambda: bool(here.origin.asked))
        await at_rest(client.writer.transport.get_write_buffer_size)
        assert not sending.done(), "nobody reads: the kernel's buffers and ours are full"
        go.set()
        await sending
        assert (await client.response()).body == b"%d" % total_bytes


async def send_all(client: Client, data: bytes) -> None:
    client.send(data)
    await client.writer.drain()


async def test_expect_100_continue() -> None:
    async def echo(asked: Asked) -> bytes:
        assert "expect" not in asked.fields
        return response(await asked.body(), NO_STORE)

    async with world(echo) as here:
        client = await here.client()
        client.send(request("/p", "Expect: 100-continue", "Content-Length: 2", method="POST"))
        assert (await client.head())[0] == 100
        client.send(b"ok")
        assert (await client.response()).body == b"ok"


async def test_bodies_that_break_the_rules_end_at_400() -> None:
    async def echo(asked: Asked) -> bytes:
        return response(await asked.body(), NO_STORE)

    async with world(echo) as here:
        client = await here.client()
        client.send(request("/p", "Transfer-Encoding: chunked", method="POST") + b"3\r\nabc\r\n")
        await until(lambda: len(here.origin.asked) == 1)
        client.send(b"zz\r\nGET /smuggled HTTP/1.1\r\n\r\n")
        answer = await client.response()
        assert answer.status == 400 and answer.fields["connection"] == "close"
        assert await client.ended() == b""
        assert len(here.origin.asked) == 1


async def test_revalidation_by_etag() -> None:
    async def once(asked: Asked) -> bytes:
        if asked.fields.get("if-none-match") == '"1"':
            return b"HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=60\r\n\r\n"
        return response(b"hello", "Cache-Control: max-age=10", 'ETag: "1"')

    async with world(once) as here:
        client = await here.client()
        await client.get("/a")
        here.skew_s = 30
        answer = await client.get("/a")
        assert answer.body == b"hello" and answer.cache == "here-1; fwd=stale; fwd-status=304"
        assert (await client.get("/a")).cache == "here-1; hit"
        assert [record[1] for record in here.records] == [Cache.MISS, Cache.REVALIDATED, Cache.HIT]


async def test_conditions_are_answered_at_the_edge() -> None:
    async with world(hello) as here:
        client = await here.client()
        answers = [await client.get("/a", 'If-None-Match: "1"') for _ in range(2)]
        assert [answer.status for answer in answers] == [304, 304]
        assert answers[1].cache == "here-1; hit" and "content-length" not in answers[1].fields
        assert (await client.get("/a", 'If-None-Match: "2"')).body == b"hello"
        assert "if-none-match" not in here.origin.asked[0].fields
        assert len(here.origin.asked) == 1


async def test_stale_stands_in_for_a_broken_origin() -> None:
    answers: list[bytes | None] = [response(b"old", "Cache-Control: max-age=10", 'ETag: "1"')]
    answers += [response(b"oops", status="503 No"), None]

    async def failing(asked: Asked) -> bytes | None:
        return answers[min(len(here.origin.asked), 3) - 1]

    async with world(failing) as here:
        client = await here.client()
        await client.get("/a")
        here.skew_s = 30
        for _ in range(2):
            answer = await client.get("/a")
            assert answer.body == b"old"
            assert answer.cache.startswith("here-1; hit; ttl=-")
        assert (await client.get("/b")).status == 502
        assert [record[1] for record in here.records] == [Cache.MISS, Cache.STALE, Cache.STALE, Cache.ERROR]


async def test_a_connection_that_died_while_idle_is_replaced() -> None:
    async def quits(asked: Asked) -> bytes | None:
        # Each connection serves one request and ends without a word at the second.
        served = [one for one in here.origin.asked if one.connection == asked.connection]
        return response(b"x", NO_STORE) if len(served) == 1 else None

    async with world(quits) as here:
        client = await here.client()
        assert (await client.get("/a")).status == 200
        assert (await client.get("/b")).status == 200
        assert here.origin.connections == 2 and len(here.origin.asked) == 3
        # What is not safe to repeat takes a fresh connection, and is sent once.
        assert (await client.get("/c", method="POST")).status == 200
        assert len(here.origin.asked) == 4


async def test_purge_during_a_fill() -> None:
    go = asyncio.Event()

    async def versions(asked: Asked) -> bytes:
        number = len(here.origin.asked)
        asked.writer.write(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 2\r\n\r\nv")
        if number == 1:
            await go.wait()
        return b"%d" % number

    async with world(versions) as here:
        before, after = await here.client(), await here.client()
        before.send(request("/a"))
        await before.head()
        assert here.purge(b"/a") == 0
        # Who comes after the purge must not join what began before it.
        assert (await after.get("/a")).body == b"v2"
        go.set()
        assert await before.reader.readexactly(2) == b"v1"
        assert (await after.get("/a")).body == b"v2"
        assert (await after.get("/a")).cache == "here-1; hit"
        assert here.purge(b"/a") == 1


async def test_a_post_forgets_what_it_changed() -> None:
    async with world(hello) as here:
        client = await here.client()
        await client.get("/a")
        await client.get("/a", method="POST")
        assert (await client.get("/a")).cache == "here-1; fwd=uri-miss; stored"


async def test_variants_are_kept_apart() -> None:
    async def encoded(asked: Asked) -> bytes:
        packed = "gzip" in asked.fields.get("accept-encoding", "")
        lines = (FRESH, "Vary: Accept-Encoding")
        return (
            response(gzip.compress(b"x"), *lines, "Content-Encoding: gzip") if packed else response(b"x", *lines)
        )

    async with world(encoded) as here:
        plain, packed = await here.client(), await here.client()
        plain.send(request("/a"))
        packed.send(request("/a", "Accept-Encoding: gzip"))
        assert (await plain.response()).body == b"x"
        assert gzip.decompress((await packed.response()).body) == b"x"
        assert (await plain.get("/a")).cache == "here-1; hit"
        # It had waited for the other variant and then gone its own way; from now on the two are told apart.
        again = [await packed.get("/a", "Accept-Encoding: gzip") for _ in range(2)]
        assert [answer.cache for answer in again] == ["here-1; fwd=vary-miss; stored", "here-1; hit"]


async def test_the_owner_of_an_object_is_asked_first() -> None:
    async with world(hello, servers=2) as here:
        here.tell_map()
        first, second = await here.client(0), await here.client(1)
        for number in range(10):
            await first.get(f"/{number}")
            await second.get(f"/{number}")
        # Each object came from the origin once, whichever server was asked first.
        assert len(here.origin.asked) == 10
        ways = {asked.fields["via"] for asked in here.origin.asked}
        assert ways == {"1.1 here-1", "1.1 here-1, 1.1 here-2"}
        assert all("nearmile-hop" not in asked.fields for asked in here.origin.asked)
        assert len(here.records) == 20, "questions between servers are no hits"


async def test_an_owner_that_is_gone_is_passed_by() -> None:
    async with world(hello, servers=2) as here:
        here.tell_map()
        await here.servers[1].close()
        client = await here.client()
        for number in range(10):
            assert (await client.get(f"/{number}")).status == 200


async def test_only_servers_may_say_that_they_are_servers() -> None:
    async with world(hello, servers=2) as here:
        stranger = await here.client(local="127.31.50.7")
        neighbour = await here.client(local=ADDRESSES[1])
        await stranger.get("/a", "Nearmile-Hop: 1")
        assert len(here.records) == 1
        await neighbour.get("/a", "Nearmile-Hop: 1")
        assert len(here.records) == 1


@pytest.mark.parametrize(
    ("lines", "method", "target", "status"),
    [
        (("Content-Length: 999999999999",), "POST", "/", 413),
        (("Cache-Control: only-if-cached",), "GET", "/", 504),
        (("CDN-Loop: cdn.example, Test.example ; site=www",), "GET", "/", 508),
        (("CDN-Loop: test.example;site=www", "CDN-Loop: x"), "POST", "/", 508),
        (("Connection: CDN-Loop", "CDN-Loop: test.example;site=www"), "GET", "/", 508),
        ((), "TRACE", "/", 501),
        ((), "OPTIONS", "*", 501),
    ],
)
async def test_refusals(lines: tuple[str, ...], method: str, target: str, status: int) -> None:
    async with world(hello) as here:
        client = await here.client()
        assert (await client.get(target, *lines, method=method)).status == status
        assert not here.origin.asked


async def test_a_name_that_is_no_site() -> None:
    async with world(hello) as here:
        client = await here.client()
        client.send(b"GET / HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n")
        assert (await client.response()).status == 421
        assert (await client.get("/")).status == 200, "the connection goes on"


async def test_old_clients_and_old_origins() -> None:
    async def old(asked: Asked) -> bytes | None:
        asked.writer.write(b"HTTP/1.0 200 OK\r\nCache-Control: no-store\r\n\r\nold")
        await asked.writer.drain()
        return None

    async with world(old) as here:
        new = await (await here.client()).get("/")
        assert new.fields["transfer-encoding"] == "chunked" and new.body == b"old"
        client = await here.client()
        client.send(f"GET / HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode())
        answer: Response = await client.response()
        assert answer.body == b"old" and answer.fields["connection"] == "close"


async def test_a_slow_reader_holds_up_an_unstored_response_but_not_the_memory() -> None:
    sent_bytes = 0
    total_bytes = 64 << 20

    async def endless(asked: Asked) -> bytes | None:
        nonlocal sent_bytes
        asked.writer.write(
            b"HTTP/1.1 200 OK\r\n%b\r\nContent-Length: %d\r\n\r\n" % (NO_STORE.encode(), total_bytes)
        )
        while sent_bytes < total_bytes:
            asked.writer.write(b"x" * 65536)
            await asked.writer.drain()
            sent_bytes += 65536
        return b""

    async with world(endless) as here:
        client = await here.client()
        client.send(request("/"))
        await client.head()
        await at_rest(lambda: sent_bytes)
        assert sent_bytes < total_bytes / 2, "the origin was paused"
        got = 0
        while got < total_bytes:
            got += len(await client.reader.read(1 << 20))


async def test_stale_is_served_while_it_is_revalidated() -> None:
    async def changing(asked: Asked) -> bytes:
        number = len(here_origin)
        here_origin.append(asked)
        return response(b"v%d" % number, "Cache-Control: max-age=10, stale-while-revalidate=60")

    here_origin: list[Asked] = []
    async with world(changing) as here:
        client = await here.client()
        await client.get("/a")
        here.skew_s = 30
        answer = await client.get("/a")
        assert answer.body == b"v0" and answer.cache == "here-1; hit; ttl=-20"
        await until(lambda: len(here_origin) == 2 and not here.node.fills)
        assert (await client.get("/a")).body == b"v1"


async def test_an_origin_that_is_not_there() -> None:
    async with world(hello) as here:
        site = here.node.sites[HOST.encode()]
        nobody = Origin((Peer(host="127.31.41.99", port=PORT, site="www"),))
        here.node.sites = Sites([(HOST.encode(), structs.replace(site, origin=nobody))])
        client = await here.client()
        assert (await client.get("/a")).status == 502
        assert (await client.get("/a", method="POST")).status == 502
        assert [record[:2] for record in here.records] == [(502, Cache.ERROR)] * 2


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nX : y\r\nContent-Length: 1\r\n\r\na",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * (limits.INTERIM_MAX + 1),
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000,
    ],
)
async def test_an_origin_that_breaks_the_rules_is_a_bad_gateway(answer: bytes) -> None:
    async def broken(asked: Asked) -> bytes:
        return answer

    async with world(broken) as here:
        client = await here.client()
        assert (await client.get("/a")).status == 502
        assert (await client.get("/b", method="POST")).status == 502


async def test_what_an_origin_sends_after_its_response_reaches_nobody() -> None:
    async def chatty(asked: Asked) -> bytes:
        return response(b"x", NO_STORE) + response(b"poison", NO_STORE)

    async with world(chatty) as here:
        client = await here.client()
        for number in range(3):
            assert (await client.get(f"/{number}")).body == b"x"
        assert here.origin.connections == 3, "none was used again"


@pytest.mark.virtual
async def test_a_silent_origin_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SWEEP_S", 0.05)
    done = asyncio.Event()

    async def silent(asked: Asked) -> None:
        await done.wait()

    async with world(silent, rules={"upstream": {"first_byte_timeout_s": 0.2}}) as here:
        client = await here.client()
        assert (await client.get("/a")).status == 504
        done.set()


async def test_requests_at_an_origin_are_limited() -> None:
    go = asyncio.Event()

    async def slow(asked: Asked) -> bytes:
        await go.wait()
        return response(b"x", NO_STORE)

    async with world(slow, rules={"upstream": {"requests_max": 2}}) as here:
        clients = [await here.client() for _ in range(5)]
        for number, client in enumerate(clients):
            client.send(request(f"/{number}"))
        refused = await asyncio.wait_for(first_answer(clients), PATIENCE_S)
        assert refused.status == 503 and refused.fields["retry-after"] == "2"
        go.set()
        await until(lambda: len(here.records) == 5)
        assert sorted(record[0] for record in here.records) == [200, 200, 200, 200, 503]
        assert here.origin.connections == 2


async def first_answer(clients: list[Client]) -> Response:
    tasks = [asyncio.ensure_future(client.response()) for client in clients]
    done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    return done.pop().result()


async def test_a_herd_shares_one_fetch_of_something_large() -> None:
    body, asked_by = bytes(range(256)) * 4096, 0

    async def large(asked: Asked) -> bytes:
        await until(lambda: asked_by == 20)
        return response(body, FRESH)

    async def ask(client: Client) -> Response:
        nonlocal asked_by
        client.send(request("/large"))
        asked_by += 1
        return await client.response()

    async with world(large) as here:
        clients = [await here.client() for _ in range(20)]
        answers = await asyncio.gather(*map(ask, clients))
        assert all(answer.body == body for answer in answers)
        assert len(here.origin.asked) == 1


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
async def test_a_beacon_is_answered_and_its_client_noted(method: str) -> None:
    async with world(hello, trusted=("127.45.1.1/32",)) as here:
        name = "0123456789abcdef.who.g.test.example"
        for local, *lines in (("127.45.0.9",), ("127.45.1.1", "X-Forwarded-For: 192.0.2.7")):
            client = await here.client(local=local)
            client.send("\r\n".join([f"{method} /a?b HTTP/1.1", f"Host: {name}:80", *lines, "", ""]).encode())
            answer = await client.response(method)
            assert (answer.status, answer.fields["cache-control"]) == (204, "no-store")
            assert answer.fields["access-control-allow-origin"] == "*"
            assert "set-cookie" not in answer.fields and "content-length" not in answer.fields
            assert (await client.get("/a")).body == b"hello"
        seen = here.node.beacons.take()
        assert seen == (
            Sighting("0123456789abcdef", 4, 0x7F2D00),
            Sighting("0123456789abcdef", 4, 0xC00002),
        )
        assert len(here.origin.asked) == 1


async def test_a_site_below_which_beacons_are_is_not_asked_for_them() -> None:
    async with world(hello, rules={"hostnames": [HOST, "*.who.g.test.example"]}) as here:
        client = await here.client()
        client.send(b"GET / HTTP/1.1\r\nHost: 0123456789abcdef.who.g.test.example\r\n\r\n")
        assert (await client.response()).status == 204
        assert not here.origin.asked
