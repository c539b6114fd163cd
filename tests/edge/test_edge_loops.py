"""Requests that come back (RFC 8586), and those that only pass several networks."""

import pytest

from edge_world import ADDRESSES, PORT, Asked, response, world

OTHERS = 'cdn.example;a="1, test.example;site=www", test.example;site=other'


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("rules", [{}, {"request_headers": {"set": {"X-A": "b"}}}])
async def test_the_origin_is_told_and_the_entries_of_others_stay(method: str, rules: dict[str, object]) -> None:
    async def origin(asked: Asked) -> bytes:
        return response(b"hello")

    async with world(origin, servers=2, rules=rules) as here:
        here.tell_map()
        client = await here.client()
        for number in range(8):
            lines = f"CDN-Loop: {OTHERS}", "Connection: CDN-Loop", "Content-Length: 0", "Via: 1.1 here-1"
            assert (await client.get(f"/{number}", *lines, method=method)).status == 200
        said = {asked.fields["cdn-loop"] for asked in here.origin.asked}
        assert said == {f"{OTHERS}, test.example;site=www"}, "once, whichever servers it passed"


@pytest.mark.parametrize("servers", [1, 2])
async def test_an_origin_that_leads_back_ends_it_at_once(servers: int) -> None:
    back = {"origin": f"http://{ADDRESSES[-1]}:{PORT}"}
    async with world(lambda _: pytest.fail("not asked"), servers=2, rules=back) as here:
        if servers == 2:
            here.tell_map()
        client = await here.client()
        for number in range(8):
            assert (await client.get(f"/{number}")).status == 508
        assert here.requests <= 16, "the client's, and each once more"
