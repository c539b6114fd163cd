"""Sites with several hostnames: what an origin says by one name is not said by another."""

import pytest

from edge_world import Asked, Client, Response, request, response, world
from nearmile.cache.purge import Order, Position

FRESH = "Cache-Control: max-age=60"
BARE, WWW = "shop.example", "www.shop.example"
NAMES = {"hostnames": [BARE, WWW, "*.shop.example"]}
TOGETHER = {"hostnames": [BARE, WWW], "key": {"hosts": "together"}}


async def ask(client: Client, host: str, target: str = "/", method: str = "GET") -> Response:
    """One request by that name."""
    client.send(request(target, method=method).replace(b"www.test.example", host.encode()))
    return await client.response()


async def ask_whole(client: Client, host: str, other: str) -> Response:
    """A request whose target names the host, and whose field names another."""
    client.send(request(f"http://{host}/").replace(b"www.test.example", other.encode()))
    return await client.response()


async def insists(asked: Asked) -> bytes:
    """Sends whoever comes by the bare name to the other; tells what it was asked for."""
    host = asked.fields["host"]
    if host == BARE:
        return response(b"", FRESH, f"Location: http://{WWW}/", status="301 Moved Permanently")
    return response(f"{host} {asked.fields['x-forwarded-host']}".encode(), FRESH)


async def test_an_origin_that_insists_on_one_name_makes_no_loop() -> None:
    async with world(insists, rules=NAMES) as here:
        client = await here.client()
        for _ in range(2):
            assert (await ask(client, BARE)).status == 301
            found = await ask(client, WWW)
            assert (found.status, found.body) == (200, f"{WWW} {WWW}".encode())
        assert found.cache == "here-1; hit"
        assert (await ask_whole(client, BARE, WWW)).status == 301
        assert len(here.origin.asked) == 2


async def test_names_that_a_wildcard_stands_for_are_apart() -> None:
    async with world(insists, rules=NAMES) as here:
        client = await here.client()
        for host in ("a.shop.example", "b.shop.example", "A.Shop.Example:8080", "b.shop.example."):
            found = await ask(client, host, "/x")
            assert found.body[:6] == host[:6].lower().encode()
        assert len(here.origin.asked) == 2


async def test_the_end_of_one_name_is_no_target_of_another() -> None:
    async with world(insists, rules={"hostnames": [WWW, f"{WWW}.test"]}) as here:
        client = await here.client()
        assert (await ask(client, f"{WWW}.test", "/x")).status == 200
        assert (await ask(client, WWW, ".test/x")).status == 400


async def test_they_may_be_one() -> None:
    async with world(insists, rules=TOGETHER | {"hostnames": [WWW, BARE]}) as here:
        client = await here.client()
        for host in (BARE, WWW, BARE):
            assert (await ask(client, host)).body == f"{WWW} {WWW}".encode()
        assert len(here.origin.asked) == 1
        assert (await ask(client, BARE, method="POST")).body == f"{WWW} {WWW}".encode()


async def test_the_owner_of_an_object_knows_its_name() -> None:
    async with world(insists, servers=2, rules=NAMES) as here:
        here.tell_map()
        clients = [await here.client(0), await here.client(1)]
        for number in range(8):
            for client in clients:
                for host in (WWW, "a.shop.example"):
                    assert (await ask(client, host, f"/{number}")).body == f"{host} {host}".encode()
        assert len(here.origin.asked) == 16


@pytest.mark.parametrize(
    ("kind", "value", "left"),
    [
        ("url", "//www.shop.example/x", {BARE, "a.shop.example"}),
        ("prefix", "//a.shop.example/", {BARE, WWW}),
        ("all", "", set()),
    ],
)
async def test_a_purge_concerns_the_name_it_names(kind: str, value: str, left: set[str]) -> None:
    async with world(insists, rules=NAMES) as here:
        client, hosts = await here.client(), (BARE, WWW, "a.shop.example")
        for host in hosts:
            await ask(client, host, "/x")
        values = (value,) if value else ()
        order = Order("1", here.node.sites[WWW.encode()].serial, kind, values)  # type: ignore[arg-type]
        here.node.purge(order, Position("log", 1))
        assert {host for host in hosts if (await ask(client, host, "/x")).cache == "here-1; hit"} == left


async def test_a_post_forgets_what_it_changed_by_that_name() -> None:
    async with world(insists, rules=NAMES) as here:
        client = await here.client()
        for host in (WWW, "a.shop.example"):
            await ask(client, host, "/x")
        await ask(client, WWW, "/x", method="POST")
        assert (await ask(client, "a.shop.example", "/x")).cache == "here-1; hit"
        assert (await ask(client, WWW, "/x")).cache == "here-1; fwd=uri-miss; stored"
