"""A site's own word on caching, held to real sockets."""

from edge_world import Asked, response, run, world

RULES = {
    "cache": {
        "rules": [
            {"path": "/static/*", "edges": "max-age=60", "clients": "max-age=5"},
            {"path": "/live/*", "edges": "no-store"},
            {"path": "/*", "edges": "max-age=9", "statuses": [404]},
        ]
    }
}


async def strict(asked: Asked) -> bytes:
    if "if-none-match" in asked.fields:
        return response(status="304 Not Modified")
    if "/gone" in asked.line:
        return response(b"gone", "Cache-Control: no-cache", status="404 Not Found")
    return response(b"hello", "Cache-Control: no-cache", "Expires: 0", 'ETag: "1"')


def test_edges_and_clients_are_told_each_their_own() -> None:
    async def test() -> None:
        async with world(strict, servers=2, rules=RULES) as here:
            here.tell_map()
            for server in (0, 1):
                client = await here.client(server)
                for _ in range(2):
                    found = await client.get("/static/a")
                    assert (found.body, found.fields["cache-control"]) == (b"hello", "max-age=5")
                    assert "expires" not in found.fields
                assert found.cache.endswith("; hit")
            assert len(here.origin.asked) == 1

    run(test())


def test_what_is_confirmed_is_kept_for_as_long_again() -> None:
    async def test() -> None:
        async with world(strict, rules=RULES) as here:
            client = await here.client()
            await client.get("/static/a")
            for skew_s in (61.0, 122.0):
                here.skew_s = skew_s
                renewed, hit = await client.get("/static/a"), await client.get("/static/a")
                assert "fwd-status=304" in renewed.cache and hit.cache == "here-1; hit"
                assert hit.fields["cache-control"] == "max-age=5"

    run(test())


def test_heads_are_told_the_same() -> None:
    async def test() -> None:
        async with world(strict, rules=RULES) as here:
            client = await here.client()
            found = await client.get("/static/a", method="HEAD")
            assert found.fields["cache-control"] == "max-age=5"
            posted = await client.get("/static/a", method="POST")
            assert posted.fields["cache-control"] == "no-cache"

    run(test())


def test_no_store_and_other_statuses() -> None:
    async def test() -> None:
        async with world(strict, rules=RULES) as here:
            client = await here.client()
            assert ["stored" in (await client.get("/live/a")).cache for _ in range(2)] == [False] * 2
            assert [(await client.get("/gone")).status for _ in range(2)] == [404, 404]
            assert len(here.origin.asked) == 3
            here.skew_s = 10
            await client.get("/gone")
            assert len(here.origin.asked) == 4

    run(test())
