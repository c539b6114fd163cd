"""A site's own word on caching, held to real sockets."""

from edge_world import Asked, response, world

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


async def test_edges_and_clients_are_told_each_their_own() -> None:
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


async def test_what_is_confirmed_is_kept_for_as_long_again() -> None:
    async with world(strict, rules=RULES) as here:
        client = await here.client()
        await client.get("/static/a")
        for skew_s in (61.0, 122.0):
            here.skew_s = skew_s
            renewed, hit = await client.get("/static/a"), await client.get("/static/a")
            assert "fwd-status=304" in renewed.cache and hit.cache == "here-1; hit"
            assert hit.fields["cache-control"] == "max-age=5"


async def test_heads_are_told_the_same() -> None:
    async with world(strict, rules=RULES) as here:
        client = await here.client()
        found = await client.get("/static/a", method="HEAD")
        assert found.fields["cache-control"] == "max-age=5"
        posted = await client.get("/static/a", method="POST")
        assert posted.fields["cache-control"] == "no-cache"


async def test_no_store_and_other_statuses() -> None:
    async with world(strict, rules=RULES) as here:
        client = await here.client()
        assert ["stored" in (await client.get("/live/a")).cache for _ in range(2)] == [False] * 2
        assert [(await client.get("/gone")).status for _ in range(2)] == [404, 404]
        assert len(here.origin.asked) == 3
        here.skew_s = 10
        await client.get("/gone")
        assert len(here.origin.asked) == 4


async def test_parts_of_what_is_large_are_kept_as_it_is() -> None:
    body = bytes(range(256)) * (12 << 10)  # three slices

    async def large(asked: Asked) -> bytes:
        lines = ["Cache-Control: no-cache", 'ETag: "1"', "Accept-Ranges: bytes"]
        if "range" not in asked.fields:
            return response(body, *lines)
        first, last = (int(end) for end in asked.fields["range"].removeprefix("bytes=").split("-"))
        last = min(last, len(body) - 1)
        lines.append(f"Content-Range: bytes {first}-{last}/{len(body)}")
        return response(body[first : last + 1], *lines, status="206 Partial Content")

    async with world(large, rules=RULES) as here:
        client = await here.client()
        for _ in range(2):
            for first in (0, 5, 2_100_000):
                found = await client.get("/static/film", f"Range: bytes={first}-{first + 9}")
                assert (found.status, found.body) == (206, body[first : first + 10])
                assert found.fields["cache-control"] == "max-age=5"
        assert "hit" in found.cache and len(here.origin.asked) <= 3
