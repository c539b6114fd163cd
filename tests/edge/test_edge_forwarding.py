"""What an intermediary owes to messages that it only passes on (RFC 9110)."""

import pytest

from edge_world import Asked, response, world
from nearmile.cache.dates import parse_date

DATE = "Tue, 10 Nov 2026 10:00:00 GMT"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
async def test_what_has_no_date_gets_one(method: str) -> None:
    async def handler(asked: Asked) -> bytes:
        dated = (f"Date: {DATE}",) if asked.line.split()[1] == "/dated" else ()
        return response(b"" if method == "HEAD" else b"x", "Cache-Control: private", *dated)

    async with world(handler) as here:
        client = await here.client()
        for _ in range(2):  # waited for, and passed by
            came = (await client.get("/", method=method)).fields["date"]
            assert abs((parse_date(came.encode(), 0) or 0) - here.node.now_s()) < 5
        assert (await client.get("/dated", method=method)).fields["date"] == DATE


@pytest.mark.parametrize(
    ("method", "said", "told"),
    [
        ("OPTIONS", "0", None),
        ("OPTIONS", "1", "0"),
        ("OPTIONS", "12", "11"),
        ("OPTIONS", "none", "none"),
        ("GET", "0", "0"),
    ],
)
async def test_a_request_goes_no_further_than_it_says(method: str, said: str, told: str | None) -> None:
    async def handler(asked: Asked) -> bytes:
        return response(b"x", "Cache-Control: private")

    async with world(handler) as here:
        assert (await (await here.client()).get("/", f"Max-Forwards: {said}", method=method)).status == 200
        assert [asked.fields["max-forwards"] for asked in here.origin.asked] == ([told] if told else [])
