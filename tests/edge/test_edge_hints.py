"""Early hints: kept with what they came before, and told again to who waits for its next version."""

import asyncio
from pathlib import Path

import pytest

from edge_world import Asked, Client, World, request, response, run, world
from secure_world import streams
from waiting import until

LINK = "Link: </a.css>; rel=preload; as=style"
HINTED, BARE = "link", "</a.css>; rel=preload; as=style"


class Page:
    """An origin that hints, if it is to, and answers when it may."""

    def __init__(self, *lines: str, hints: bool = True) -> None:
        self.lines, self.hints = lines or ("Cache-Control: max-age=10",), hints
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def __call__(self, asked: Asked) -> bytes:
        if self.hints:
            asked.writer.write(f"HTTP/1.1 103 Early Hints\r\n{LINK}\r\nSet-Cookie: a=b\r\n\r\n".encode())
        await self.may_answer.wait()
        if "if-none-match" in asked.fields:
            return "\r\n".join(["HTTP/1.1 304 Not Modified", 'ETag: "1"', *self.lines, "", ""]).encode()
        return response(b"page", 'ETag: "1"', *self.lines)


async def expired(here: World, page: Page, client: Client) -> None:
    """The page is stored with its hint; then it grows old, and its origin slow and silent."""
    client.send(request("/"))
    assert (await client.head())[0] == 103
    assert (await client.response()).body == b"page"
    here.skew_s += 20.0
    page.hints = False
    page.may_answer.clear()


async def test_all_who_wait_are_told_again_over_http2_and_http3(folder: Path) -> None:
    page = Page()
    async with world(page, rules={"key": {"schemes": "together"}}) as here, streams(here, folder) as clients:
        old = await here.client()
        await expired(here, page, old)
        old.send(request("/"))
        await until(lambda: len(here.origin.asked) == 2)
        for client in clients:
            number = client.ask("/")
            while not client.got.get(number):
                await client.read()
            assert client.got[number].interim == (103,) and client.got[number].status == 0
        page.may_answer.set()
        assert (await old.response()).status == 200, "over HTTP/1.1 only what the origin says now"
        for client in clients:
            got = await client.answer(max(client.got))
            assert (got.status, got.body, got.interim) == (200, b"page", (103,))
        assert len(here.origin.asked) == 2
        here.skew_s += 20.0
        assert [(await client.get("/")).interim for client in clients] == [(103,), ()], "the second has a hit"


async def test_what_the_origin_hints_at_again_is_told_once(folder: Path) -> None:
    page = Page()
    async with world(page, rules={"key": {"schemes": "together"}}) as here, streams(here, folder) as clients:
        await expired(here, page, await here.client())
        page.hints = True
        page.may_answer.set()
        assert (await clients[0].get("/")).interim == (103,)


def test_a_site_may_want_it_for_all_or_nobody(folder: Path) -> None:
    async def test(wish: str, told: bool) -> None:
        page = Page()
        rules = {"key": {"schemes": "together"}, "early_hints": wish}
        async with world(page, rules=rules) as here, streams(here, folder) as clients:
            client = await here.client()
            await expired(here, page, client)
            client.send(request("/").replace(b"HTTP/1.1", b"HTTP/1.0"))
            page.may_answer.set()
            assert (await client.response()).status == 200, "HTTP/1.0 knows no interim responses"
            client = await here.client()
            here.skew_s += 20.0
            client.send(request("/"))
            if told:
                status, fields = await client.head()
                assert (status, fields) == (103, {HINTED: BARE})
            assert (await client.response()).status == 200
            here.skew_s += 20.0
            assert (await clients[0].get("/")).interim == ((103,) if told else ())

    run(test("all", True))
    run(test("off", False))


@pytest.mark.parametrize("terms", ["private, max-age=10", "no-cache, max-age=10", "max-age=0"])
async def test_what_each_client_must_ask_for_itself_is_not_kept(terms: str) -> None:
    page = Page(f"Cache-Control: {terms}")
    async with world(page, rules={"early_hints": "all"}) as here:
        client = await here.client()
        await expired(here, page, client)
        page.may_answer.set()
        assert (await client.get()).status == 200


async def test_a_purge_forgets_hints() -> None:
    page = Page()
    async with world(page, rules={"early_hints": "all"}) as here:
        client = await here.client()
        await expired(here, page, client)
        page.may_answer.set()
        here.purge(b"/")
        assert (await client.get()).status == 200


@pytest.mark.parametrize("wish", ["all", "auto"])
async def test_neighbours_keep_hints_that_one_of_them_got(wish: str) -> None:
    page = Page()
    async with world(page, servers=2, rules={"early_hints": wish}) as here:
        here.tell_map()
        second: set[int] = set()
        for target in ("/0", "/1", "/2", "/3", "/4", "/5"):
            first = await here.client(0)
            first.send(request(target))
            assert await first.head() == (103, {HINTED: BARE, "set-cookie": "a=b"})
            assert (await first.response()).body == b"page"
            other = await here.client(1)
            other.send(request(target))
            status, fields = await other.head()
            second.add(status)
            assert "nearmile-kept" not in fields
        # Some of them are the second's own, which has them by now.
        assert second == ({103, 200} if wish == "all" else {200}), "what was kept is not for old clients"
        kept = [[entry.kept.links for entry in server.node.store] for server in here.servers]
        assert kept == [[(BARE.encode(),)] * 6] * 2
