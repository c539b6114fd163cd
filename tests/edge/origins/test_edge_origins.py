"""Several origins, failing ones, and origins over TLS."""

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from edge_world import ORIGIN_ADDRESS, PORT, Asked, Handler, request, response, run, world
from nearmile.edge.origins import client as origins_client
from nearmile.edge.origins.health import FAILURES_MAX
from nearmile.edge.origins.peer import Peer, Trust
from nearmile.edge.origins.pool import new_context
from nearmile.edge.rules.site import Files
from tls_origin import OTHER, TLS_PORT, Authority, authority, listening, secure
from waiting import until

FRESH, NO_STORE = "Cache-Control: max-age=60", "Cache-Control: no-store"
FIRST, SECOND = f"http://{ORIGIN_ADDRESS}:{PORT}", f"http://{OTHER}:{PORT}"
NOBODY = "http://127.31.41.9:1"


def both(first: str = FIRST, second: str = SECOND, **upstream: Any) -> dict[str, Any]:
    return {"origin": [first, second], "upstream": upstream}


async def one(_asked: Asked) -> bytes:
    return response(b"one", FRESH)


async def two(_asked: Asked) -> bytes:
    return response(b"two", FRESH)


async def echo(asked: Asked) -> bytes:
    return response(b"echo " + await asked.body(), FRESH)


async def never(asked: Asked) -> None:
    await asked.reader.read()


async def hang_up(_asked: Asked) -> None:
    return None


# --- several origins


async def test_the_first_that_answers_is_asked() -> None:
    async with world(one, rules=both()) as here, listening(two) as other:
        client = await here.client()
        assert (await client.get("/a")).body == b"one"
        assert not other.asked


async def test_the_sweep_ends_no_connection_that_has_just_come_about() -> None:
    async with world(echo) as here:
        loop, client = asyncio.get_running_loop(), await here.client()

        def sweep() -> None:
            here.node.origins.sweep(loop.time())
            loop.call_soon(sweep)

        sweep()
        for method in ("POST", "GET"):
            assert (await client.get("/a", method=method)).status == 200


@pytest.mark.parametrize("leaves", [True, False], ids=["leaves", "breaks the rules"])
async def test_clients_who_break_off_put_no_origin_aside(leaves: bool) -> None:
    async with world(echo, rules=both()) as here, listening(two) as other:
        for number in range(1, 2 * FAILURES_MAX):
            client = await here.client()
            client.send(request("/a", "Transfer-Encoding: chunked", method="POST") + b"3\r\nabc\r\n")
            await until(lambda: len(here.origin.asked) == number)  # noqa: B023
            if leaves:
                client.writer.close()
            else:
                client.send(b"+\r\n")
                assert (await client.response()).status == 400
        pools = here.node.origins._pools.values()
        await until(lambda: not any(pool.links for pool in pools))
        assert not any(pool.health.failures for pool in pools) and not other.asked


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
async def test_where_no_connection_comes_about_any_request_goes_to_the_next(method: str) -> None:
    async with world(one, rules=both(NOBODY)) as here, listening(two) as other:
        client = await here.client()
        answer = await client.get("/a", *(("Content-Length: 0",) if method == "POST" else ()), method=method)
        assert answer.status == 200 and len(other.asked) == 1


@pytest.mark.virtual
@pytest.mark.parametrize(
    ("fails", "upstream"), [(hang_up, {}), (never, {"first_byte_timeout_s": 0.2})], ids=["hangs up", "is silent"]
)
async def test_what_may_be_repeated_goes_to_the_next(
    fails: Handler, upstream: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nearmile.edge.limits.SWEEP_S", 0.05)
    async with world(fails, rules=both(**upstream)) as here, listening(two) as other:
        client = await here.client()
        assert (await client.get("/a")).body == b"two"
        assert (await client.get("/b", method="POST")).status in (502, 504)
        client.send(request("/c", "Content-Length: 1", method="PUT") + b"x")
        assert (await client.response()).status in (502, 504)
        assert [asked.line for asked in other.asked] == ["GET /a HTTP/1.1"]


async def test_a_response_that_has_begun_is_not_tried_again() -> None:
    async def breaks_off(asked: Asked) -> None:
        asked.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
        await asked.writer.drain()

    async with world(breaks_off, rules=both()) as here, listening(two) as other:
        client = await here.client()
        client.send(request("/a"))
        assert (await client.ended()).endswith(b"half") and not other.asked


async def test_errors_of_an_origin_are_its_answer_unless_the_site_says_else() -> None:
    async def fails(asked: Asked) -> bytes:
        return response(b"sorry", status="503 Service Unavailable")

    async with world(fails, rules=both()) as here, listening(two) as other:
        client = await here.client()
        assert (await client.get("/a")).body == b"sorry" and not other.asked
    async with world(fails, rules=both(failover_on_5xx=True)) as here, listening(two):
        client = await here.client()
        assert (await client.get("/a")).body == b"two"
        assert (await client.get("/b", method="POST")).body == b"sorry"
    async with world(fails, rules=both(second=NOBODY, failover_on_5xx=True)) as here:
        client = await here.client()
        assert (await client.get("/a")).body == b"sorry", "an answer is better than none"
        assert len(here.origin.asked) == 1


@pytest.mark.virtual
async def test_an_origin_that_keeps_failing_is_left_alone_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearmile.edge.origins.health.ASIDE_S", 10.0)
    down = True

    async def first(_asked: Asked) -> bytes | None:
        return None if down else response(b"one", NO_STORE)

    async with world(first, rules=both()) as here, listening(two) as other:
        client = await here.client()
        for number in range(10):
            assert (await client.get(f"/{number}")).body == b"two"
        assert len(here.origin.asked) == 3 and len(other.asked) == 10
        down = False
        while (await client.get("/x", "Cache-Control: no-cache")).body != b"one":
            await asyncio.sleep(0.01)
        assert (await client.get("/y")).body == b"one"


@pytest.mark.virtual
async def test_a_probe_finds_out_without_a_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearmile.edge.limits.SWEEP_S", 0.02)
    down = True

    async def first(asked: Asked) -> bytes:
        assert asked.fields["host"] == "www.test.example"
        ill = down and asked.line == "GET /well?x=1 HTTP/1.1"
        return response(b"one", NO_STORE, status="500 Ill" if ill else "200 OK")

    probe = {"path": "/well?x=1", "interval_s": 0.5}
    async with world(first, rules=both(probe=probe)) as here, listening(two) as other:
        client = await here.client()
        await until(lambda: len(here.origin.asked) >= 3 and len(other.asked) >= 1)
        while (await client.get("/a", "Cache-Control: no-cache")).body != b"two":
            await asyncio.sleep(0.01)
        down = False
        while (await client.get("/b", "Cache-Control: no-cache")).body != b"one":
            await asyncio.sleep(0.01)


async def test_what_is_stored_stands_in_for_an_origin_that_is_busy() -> None:
    go = asyncio.Event()

    async def slow(asked: Asked) -> bytes:
        if "/slow" in asked.line:
            await go.wait()
        return response(b"old", "Cache-Control: max-age=1, stale-if-error=99", "X: y")

    async with world(slow, rules={"upstream": {"requests_max": 1}}) as here:
        client = await here.client()
        assert (await client.get("/a")).body == b"old"
        here.skew_s = 30
        others = [await here.client() for _ in range(2)]
        for number, other in enumerate(others):
            other.send(request(f"/slow{number}"))
        await until(lambda: here.node.waiting.total == 2)
        answer = await client.get("/a")
        assert answer.body == b"old" and "hit" in answer.cache
        assert (await client.get("/b")).status == 503
        go.set()
        for other in others:
            assert (await other.response()).status == 200


async def test_one_site_takes_no_more_than_its_share_of_those_who_wait() -> None:
    async with world(never) as here:
        here.node.waiting.site_max = 3
        clients = [await here.client() for _ in range(5)]
        for client in clients[:3]:
            client.send(request("/same"))
        await until(lambda: here.node.waiting.total == 3)
        for client in clients[3:]:
            answer = await client.get("/same")
            assert answer.status == 503 and answer.fields["retry-after"] == "2"
        for client in clients[:3]:
            client.writer.close()
        await until(lambda: here.node.waiting.total == 0)


async def test_one_site_has_no_more_fills_than_its_share() -> None:
    async with world(never) as here:
        here.node.fetching.site_max = 1
        clients = [await here.client() for _ in range(3)]
        for number, client in enumerate(clients):
            client.send(request(f"/{number}"))
        await until(lambda: len(here.origin.asked) == 3)
        assert len(here.node.fills) == here.node.fetching.total == 1, "the others go by themselves"


async def test_the_host_may_be_another() -> None:
    async with world(one, rules={"upstream": {"host": "inside.example"}}) as here:
        client = await here.client()
        await client.get("/a")
        await client.get("/b", method="POST")
        assert [asked.fields["host"] for asked in here.origin.asked] == ["inside.example"] * 2


# --- TLS


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("authority"))


@pytest.mark.parametrize("name", ["inside.example", OTHER])
async def test_an_origin_over_tls(trusted: Authority, name: str) -> None:
    asked_for: list[str | None] = []
    context = trusted.context(name)
    context.sni_callback = lambda _tls, said, _context: asked_for.append(said)
    rules = secure() if name == OTHER else secure(server_name=name)
    here_files = Files(authorities=trusted.pem)
    async with (
        world(one, rules=rules, files=here_files) as here,
        listening(echo, OTHER, TLS_PORT, context) as o,
    ):
        client = await here.client()
        for number in range(3):
            assert (await client.get(f"/{number}")).body == b"echo "
        assert o.connections == 1 and not here.origin.asked
        assert o.asked[0].fields["host"] == "www.test.example"
        assert asked_for == [None if name == OTHER else name]
        client.send(request("/post", "Transfer-Encoding: chunked", method="POST") + b"3\r\nabc\r\n0\r\n\r\n")
        assert (await client.response()).body == b"echo abc"


def test_certificates_that_are_not_right(
    trusted: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = authority(tmp_path)
    cases = {
        "expired": (trusted.context("inside.example", days=-1), trusted.pem, "certificate has expired"),
        "of another": (trusted.context("other.example"), trusted.pem, "Hostname mismatch"),
        "by a stranger": (stranger.context("inside.example"), trusted.pem, "unable to get local issuer"),
        "no authority": (trusted.context("inside.example"), "", "unable to get local issuer"),
    }

    async def test(context: ssl.SSLContext, pem: str) -> None:
        rules = secure(server_name="inside.example")
        async with (
            world(one, rules=rules, files=Files(authorities=pem)) as here,
            listening(echo, OTHER, TLS_PORT, context) as other,
        ):
            answer = await (await here.client()).get("/a")
            assert (answer.status, answer.body) == (502, b"502 Bad Gateway\nthe origin cannot be trusted\n")
            assert not other.asked

    for context, pem, why in cases.values():
        caplog.clear()
        with caplog.at_level(logging.WARNING, "nearmile.origins"):
            run(test(context, pem))
        [line] = [record.getMessage() for record in caplog.records if record.name == "nearmile.origins"]
        assert line.startswith(f"site www: https://{OTHER}:{TLS_PORT}: its certificate is not accepted for inside")
        assert why in line and "upstream.authority" in line


async def test_what_is_trusted_is_read_again_only_where_it_has_changed(
    trusted: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's authorities take 20 ms, in which the edge does nothing else."""
    made, system, make = list[str | None](), [1.0], new_context

    def noted(authorities: str | None, http2: str) -> ssl.SSLContext:
        made.append(authorities)
        return make(authorities, http2)

    monkeypatch.setattr(origins_client, "new_context", noted)
    monkeypatch.setattr(origins_client, "system_authorities", lambda: (system[0],))
    origins = origins_client.Origins(asyncio.get_running_loop())
    peer = Peer(host="o", port=1, site="a", trust=Trust("o", None))
    other = structs.replace(peer, trust=Trust("o", trusted.pem))

    def meet(*peers: Peer) -> list[str | None]:
        made.clear()
        origins.watch(peers)
        for number, one in enumerate(peers):
            origins._context(structs.replace(one, port=number))
        return list(made)

    assert meet(peer, other) == [None, trusted.pem]
    assert meet(peer) == []
    assert meet(peer, other) == [trusted.pem], "nobody trusted it meanwhile"
    system[0] = 2.0
    assert None in meet(peer, other)


async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        await _reader.read()
        await _reader.read()
    writer.close()


async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(response(b"no TLS at all"))
    await writer.drain()
    await silent(reader, writer)


@pytest.mark.parametrize(("serve", "status"), [(silent, 504), (plain, 502)])
async def test_an_origin_that_does_not_shake_hands(trusted: Authority, serve: Any, status: int) -> None:
    server = await asyncio.start_server(serve, OTHER, TLS_PORT)
    rules = secure(connect_timeout_s=0.3)
    async with server, world(one, rules=rules, files=Files(authorities=trusted.pem)) as here:
        client = await here.client()
        for number in range(3):
            assert (await client.get(f"/{number}")).status == status
        [pool] = here.node.origins._pools.values()
        assert pool.unused


async def test_a_body_that_lasts_until_the_end_must_be_ended_by_tls_itself(trusted: Authority) -> None:
    """RFC 9112 section 9.8: else anybody on the way could cut it short."""

    async def until_the_end(asked: Asked) -> None:
        cut = "/cut" in asked.line
        asked.writer.write(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n\r\nhalf")
        await asked.writer.drain()
        if cut:
            descriptor = os.dup(asked.writer.transport.get_extra_info("socket").fileno())
            with socket.socket(fileno=descriptor) as below:
                below.shutdown(socket.SHUT_RDWR)

    context = trusted.context(OTHER)
    async with (
        world(one, rules=secure(), files=Files(authorities=trusted.pem)) as here,
        listening(until_the_end, OTHER, TLS_PORT, context),
    ):
        client = await here.client()
        assert (await client.get("/whole")).body == b"half"
        client.send(request("/cut"))
        data = await client.ended()
        assert b"half" in data and not data.endswith(b"0\r\n\r\n")
        client = await here.client()
        assert (await client.get("/whole")).cache == "here-1; hit"
