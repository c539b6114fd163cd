"""http and https: what the origin is told, what is told apart, and who is sent from one to the other."""

import asyncio
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge_world import ADDRESSES, HOST, Asked, World, config, response, world
from edge_world import Client as PlainClient
from h2_client import SECURE_PORT, connect, trusting
from nearmile.cache.purge import Kind, Order, Position
from nearmile.services import authority, state
from nearmile.services.certificates import Certificates

FRESH = "Cache-Control: max-age=60"
PROXY, STRANGER = "127.45.9.1", "127.45.8.1"
TRUSTED = ("127.45.9.0/24",)
HTTPS, HTTP = "X-Forwarded-Proto: https", "X-Forwarded-Proto: http"


async def said(asked: Asked) -> bytes:
    """What the origin was told of the scheme."""
    return response(asked.fields["x-forwarded-proto"].encode(), FRESH)


async def insists(asked: Asked) -> bytes:
    """An origin that sends clients of http to https, for good."""
    if asked.fields["x-forwarded-proto"] == "https":
        return response(b"welcome", FRESH)
    return response(b"", FRESH, f"Location: https://{HOST}/", status="301 Moved Permanently")


async def secure(here: World, folder: Path) -> ssl.SSLContext:
    """The first edge server listens for TLS too; whom its clients trust."""
    authority.ensure(folder, config(), datetime.now(UTC))
    certificates = Certificates(folder)
    certificates.take_config(config())
    certificates.refresh()
    await here.servers[0].listen_secure(ADDRESSES[0], SECURE_PORT, certificates.context)
    return trusting(str(state.authority_files(folder)[0]), "h2")


async def test_an_origin_that_insists_on_https_makes_no_loop(tmp_path: Path) -> None:
    async with world(insists) as here:
        trust = await secure(here, tmp_path)
        plain, client = await here.client(), await connect(trust)
        assert [(await plain.get("/")).status for _ in range(2)] == [301, 301]
        assert [(await client.get("/")).body for _ in range(2)] == [b"welcome", b"welcome"]
        reader_writer = await asyncio.open_connection(
            ADDRESSES[0],
            SECURE_PORT,
            ssl=trusting(str(state.authority_files(tmp_path)[0])),
            server_hostname=HOST,
        )
        old = PlainClient(*reader_writer)
        assert (await old.get("/")).cache == "here-1; hit"
        assert len(here.origin.asked) == 2
        client.writer.close()
        old.writer.close()


@pytest.mark.parametrize(
    ("local", "lines", "told"),
    [
        (PROXY, [HTTPS], b"https"),
        (PROXY, [HTTP, HTTPS], b"https"),
        (PROXY, ["X-Forwarded-Proto: https, http"], b"http"),
        (PROXY, [], b"http"),
        (STRANGER, [HTTPS], b"http"),
    ],
)
async def test_the_scheme_that_a_trusted_proxy_tells_counts(local: str, lines: list[str], told: bytes) -> None:
    async with world(said, trusted=TRUSTED) as here:
        client = await here.client(local=local)
        assert [(await client.get("/", *lines)).body for _ in range(2)] == [told, told]
        assert (await client.get("/", *lines)).cache == "here-1; hit"
        assert (await (await here.client()).get("/")).body == b"http"


async def test_neighbours_tell_the_scheme() -> None:
    async with world(said, servers=2, trusted=TRUSTED) as here:
        here.tell_map()
        for index in (0, 1):
            client = await here.client(index, local=PROXY)
            for number in range(6):
                assert (await client.get(f"/{number}", HTTPS)).body == b"https"
                assert (await client.get(f"/{number}", HTTP)).body == b"http"
        assert len(here.origin.asked) == 12


async def test_the_words_of_proxies_are_not_a_clients_to_say() -> None:
    async with world(said) as here:
        client = await here.client()
        lies = ["X-Forwarded-Host: evil.test", "X-Forwarded-Port: 99", "Forwarded: proto=https;host=evil.test"]
        for method in ("GET", "POST"):
            await client.get("/", *lies, "X_Forwarded_Host: evil.test", "X-Original-URL: /x", method=method)
            fields = here.origin.asked[-1].fields
            assert fields["x-forwarded-host"] == HOST and fields["x-forwarded-proto"] == "http"
            assert not {"forwarded", "x-forwarded-port", "x-original-url", "x_forwarded_host"} & fields.keys()
        for name in ("X-Forwarded-User", "X_Forwarded_Path", "X-Real-IP", "True-Client-IP"):
            await client.get(f"/{name}", f"{name}: root")
            assert name.lower() not in here.origin.asked[-1].fields


async def test_a_get_that_calls_itself_another_method_is_a_get_where_it_is_stored() -> None:
    async with world(said) as here:
        client = await here.client()
        await client.get("/", "X-HTTP-Method-Override: POST", "X_Method_Override: POST")
        assert not any("method" in name for name in here.origin.asked[-1].fields)
        await client.get("/", "X-HTTP-Method-Override: PUT", method="POST")
        assert here.origin.asked[-1].fields["x-http-method-override"] == "PUT"


async def test_no_target_by_http_is_an_object_of_https(tmp_path: Path) -> None:
    async with world(said) as here:
        client = await connect(await secure(here, tmp_path))
        assert (await client.get("/secret")).body == b"https"
        plain = await here.client()
        assert (await plain.get("s/secret")).status == 400
        client.writer.close()


async def test_a_site_may_be_one_for_both() -> None:
    async with world(insists, trusted=TRUSTED, rules={"key": {"schemes": "together"}}) as here:
        client = await here.client(local=PROXY)
        assert (await client.get("/", HTTP)).body == b"welcome"
        assert (await client.get("/", HTTPS)).cache == "here-1; hit"


async def test_clients_are_sent_to_https_but_for_challenges() -> None:
    async with world(said, trusted=TRUSTED, rules={"https": "redirect"}) as here:
        client = await here.client(local=PROXY)
        assert (await client.get("/a", HTTPS)).status == 200
        for method, status in (("GET", 301), ("HEAD", 301), ("POST", 308)):
            moved = await client.get("/a?b=c", HTTP, method=method)
            assert (moved.status, moved.fields["location"]) == (status, f"https://{HOST}:8443/a?b=c")
        assert [(await client.get("/a", line)).status for line in (HTTP, HTTPS)] == [301, 200]
        assert (await client.get("/.well-known/acme-challenge/x", HTTP)).body == b"http"


@pytest.mark.parametrize("kind", ["url", "prefix"])
async def test_a_purge_concerns_both(kind: Kind) -> None:
    async with world(said, trusted=TRUSTED) as here:
        client = await here.client(local=PROXY)
        for line in (HTTP, HTTPS):
            await client.get("/a", line)
        serial = here.node.sites[HOST.encode()].serial
        here.node.purge(Order(id="1", serial=serial, kind=kind, values=("/a",)), Position("log", 1))
        for line in (HTTP, HTTPS):
            assert (await client.get("/a", line)).cache == "here-1; fwd=uri-miss; stored"
            assert (await client.get("/a", line)).cache == "here-1; hit"
        await client.get("/a", HTTPS, method="POST")
        for line in (HTTP, HTTPS):
            assert (await client.get("/a", line)).cache == "here-1; fwd=uri-miss; stored", "RFC 9111 section 4.4"
