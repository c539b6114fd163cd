"""A site's rules, held to real sockets."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from edge_world import ADDRESSES, HOST, Asked, config, request, response, world
from h2_client import SECURE_PORT, connect, trusting
from nearmile.edge.rules.signatures import Claims, signed
from nearmile.edge.rules.site import Files, Page
from nearmile.reports.hit import Cache
from nearmile.services import authority, state
from nearmile.services.certificates import Certificates

FRESH = "Cache-Control: max-age=60"
SECRETS = {"old": b"o" * 32, "new": b"n" * 32}
SIGNED: dict[str, Any] = {"signed": {"keys": {key: {"environment": "X"} for key in SECRETS}}}


async def hello(asked: Asked) -> bytes:
    return response(b"hello", FRESH, 'ETag: "1"', "Server: secret/1.0", "X-Old: 1")


async def echo(asked: Asked) -> bytes:
    """The target and some fields, as the origin saw them."""
    said = [asked.line.split()[1], asked.fields.get("x-device", "-"), asked.fields.get("cookie", "-")]
    return response("|".join(said).encode(), FRESH)


async def test_hits_of_a_guarded_site_are_checked_too() -> None:
    async with world(hello, rules={"access": {"deny_countries": ["FR"]}}) as here:
        german, french = await here.client(local="127.45.1.1"), await here.client(local="127.45.2.1")
        assert (await german.get("/")).cache == "here-1; fwd=uri-miss; stored"
        assert (await german.get("/")).cache == "here-1; hit"
        refused = await french.get("/")
        assert (refused.status, refused.fields["cache-control"]) == (403, "no-store")
        assert [record[:2] for record in here.records] == [
            (200, Cache.MISS), (200, Cache.HIT), (403, Cache.ERROR)
        ]  # fmt: skip
        assert len(here.origin.asked) == 1


async def test_hits_over_http_2_are_checked_too(tmp_path: Path) -> None:
    authority.ensure(tmp_path, config(), datetime.now(UTC))
    certificates = Certificates(tmp_path)
    certificates.take_config(config())
    certificates.refresh()
    async with world(hello, rules={"limits": {"client_per_s": 0.01, "client_burst": 2}}) as here:
        await here.servers[0].listen_secure(ADDRESSES[0], SECURE_PORT, certificates.context)
        client = await connect(trusting(str(state.authority_files(tmp_path)[0]), "h2"))
        answers = [await client.answer(client.ask("/")) for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 429]
        assert dict(answers[2].fields)["retry-after"] == "100"


async def test_the_address_a_trusted_proxy_names_counts() -> None:
    rules = {"access": {"allow_addresses": ["192.0.2.0/24"]}}
    async with world(hello, trusted=("127.45.9.0/24",), rules=rules) as here:
        proxy, liar = await here.client(local="127.45.9.1"), await here.client(local="127.45.8.1")
        assert (await proxy.get("/", "X-Forwarded-For: 192.0.2.7")).status == 200
        assert (await proxy.get("/", "X-Forwarded-For: 192.0.3.7")).status == 403
        assert (await proxy.get("/")).status == 403
        assert (await liar.get("/", "X-Forwarded-For: 192.0.2.7")).status == 403


async def test_rates_per_client_and_when_to_come_again() -> None:
    async with world(hello, rules={"limits": {"client_per_s": 0.1, "client_burst": 2}}) as here:
        client, other = await here.client(local="127.45.1.1"), await here.client(local="127.45.1.2")
        assert [(await client.get("/")).status for _ in range(2)] == [200, 200]
        refused = await client.get("/")
        assert (refused.status, refused.fields["retry-after"]) == (429, "10")
        assert (await other.get("/")).status == 200
        here.skew_s = 11
        assert (await client.get("/")).status == 200


async def test_a_rate_of_the_whole_site_holds_for_pipelined_hits() -> None:
    async with world(hello, rules={"limits": {"site_per_s": 0.01, "site_burst": 3}}) as here:
        client = await here.client()
        client.send(request("/") * 5)
        assert [(await client.response()).status for _ in range(5)] == [200, 200, 200, 429, 429]


async def test_methods_and_bodies() -> None:
    async with world(echo, rules={"methods": ["GET", "POST"], "max_body_kb": 1}) as here:
        client = await here.client()
        refused = await client.get("/", method="DELETE")
        assert (refused.status, refused.fields["allow"]) == (405, "GET, HEAD, POST")
        assert (await client.get("/", method="HEAD")).status == 200
        client.send(request("/", "Content-Length: 1024", method="POST") + b"x" * 1024)
        assert (await client.response()).status == 200
        client.send(request("/", "Content-Length: 1025", method="POST") + b"x" * 1025)
        assert (await client.response()).status == 413
        asked = len(here.origin.asked)
        assert [one.line.split()[0] for one in here.origin.asked] == ["HEAD", "POST"]
        client = await here.client()
        chunk = b"200\r\n" + b"x" * 512 + b"\r\n"
        client.send(request("/", "Transfer-Encoding: chunked", method="POST") + chunk * 3 + b"0\r\n\r\n")
        assert (await client.response()).status == 413
        assert len(here.origin.asked) <= asked + 1


async def test_redirects_and_then_hits_of_the_same_site() -> None:
    rules = {"redirects": [{"path": "/old/*", "to": "https://new.test/*", "status": 308}]}
    async with world(hello, rules=rules) as here:
        client = await here.client()
        moved = await client.get("/old/a?b=c")
        assert (moved.status, moved.fields["location"]) == (308, "https://new.test/a?b=c")
        assert [(await client.get("/new")).cache for _ in range(2)][1] == "here-1; hit"
        assert not here.node.sites[HOST.encode()].guarded


async def test_header_rules_at_each_way_that_a_response_takes() -> None:
    rules = {
        "request_headers": {"set": {"X-Origin-Key": "k"}, "remove": ["Accept-Language"]},
        "response_headers": {"set": {"X-Frame-Options": "DENY"}, "remove": ["server", "x-old"]},
    }
    async with world(hello, rules=rules) as here:
        client = await here.client()
        lines = ("Accept-Language: de", "X-Origin-Key: forged")
        ways = [await client.get("/", *lines), await client.get("/", *lines)]
        here.skew_s = 100
        ways += [await client.get("/"), await client.get("/", *lines, method="POST")]
        ways += [await client.get("/new", "Cache-Control: no-store"), await client.get("*", method="OPTIONS")]
        assert [way.status for way in ways] == [200] * 5 + [501]
        for way in ways:
            assert way.fields["x-frame-options"] == "DENY"
            assert not {"server", "x-old"} & set(way.fields)
        for asked in here.origin.asked:
            fields = asked.fields
            assert fields["x-origin-key"] == "k" and "accept-language" not in fields


async def test_a_renewed_response_keeps_its_rules() -> None:
    async def handler(asked: Asked) -> bytes:
        if "if-none-match" in asked.fields:
            return response(status="304 Not Modified").replace(
                b"Content-Length: 0\r\n", b"Server: again\r\n" + FRESH.encode() + b"\r\n"
            )
        return await hello(asked)

    async with world(handler, rules={"response_headers": {"remove": ["server"]}}) as here:
        client = await here.client()
        await client.get("/")
        here.skew_s = 100
        renewed, hit = await client.get("/"), await client.get("/")
        assert "fwd-status=304" in renewed.cache and hit.cache == "here-1; hit"
        assert "server" not in renewed.fields and "server" not in hit.fields


async def test_new_rules_forget_what_was_stored_under_others() -> None:
    async with world(hello) as here:
        client = await here.client()
        assert [("server" in (await client.get("/")).fields) for _ in range(2)] == [True, True]
        here.node.take_config(config(rules={"response_headers": {"remove": ["server"]}}))
        fresh = await client.get("/")
        assert (fresh.cache, "server" in fresh.fields) == ("here-1; fwd=uri-miss; stored", False)
        here.node.take_config(config(rules={"response_headers": {"remove": ["server"]}, "methods": ["GET"]}))
        assert (await client.get("/")).cache == "here-1; hit"


async def test_signed_urls() -> None:
    def sign(target: bytes, key: str, lasts_s: int = 60, block: bytes = b"") -> str:
        claims = Claims(b"%d" % (time.time() + lasts_s), key.encode(), block)
        return signed(SECRETS.get(key, b"?" * 32), "www", target, claims).decode()

    async with world(echo, rules=SIGNED, files=Files(SECRETS)) as here:
        client = await here.client(local="127.45.1.1")
        assert (await client.get(sign(b"/a?b=c", "old"))).body == b"/a?b=c|-|-"
        assert (await client.get(sign(b"/a?b=c", "new"))).cache == "here-1; hit"
        wrong = (
            "/a?b=c",
            sign(b"/a", "none"),
            sign(b"/a", "old", lasts_s=-1),
            sign(b"/x", "old").replace("x", "y"),
        )
        assert [(await client.get(url)).status for url in wrong] == [403] * 4
        assert (await client.get(sign(b"/a", "old", block=b"127.45.1.0/24"))).status == 200
        assert (await client.get(sign(b"/a", "old", block=b"127.45.2.0/24"))).status == 403
        now = config(rules=SIGNED)
        now = structs.replace(now, sites=(structs.replace(now.sites[0], files="changed"),))
        here.node.take_config(now, lambda _: Files({"new": SECRETS["new"]}))
        assert (await client.get(sign(b"/a?b=c", "old"))).status == 403
        assert (await client.get(sign(b"/a?b=c", "new"))).cache == "here-1; hit"
        here.skew_s = 61
        assert (await client.get(sign(b"/a?b=c", "new"))).status == 403


async def test_pages_of_the_site_s_own() -> None:
    async with world(
        hello,
        rules={
            "methods": ["GET"],
            "error_pages": {"405": "x.html"},
            "response_headers": {"set": {"X-A": "1"}},
        },
        files=Files(pages={405: Page(b"text/html", b"<p>No.")}),
    ) as here:
        client = await here.client()
        refused = await client.get("/", method="PUT")
        assert (refused.status, refused.body, refused.fields["content-type"]) == (405, b"<p>No.", "text/html")
        assert refused.fields["allow"] == "GET, HEAD" and refused.fields["x-a"] == "1"
        assert (await client.get("/")).status == 200


@pytest.mark.parametrize("over", [True, False])
async def test_pages_over_the_origin_s(over: bool) -> None:
    async def failing(asked: Asked) -> bytes:
        if "/late" in asked.line:
            return response(b"no", "Cache-Control: max-age=60", status="404 Not Found")
        return response(b"a trace of calls", "Retry-After: 7", "X-Debug: 1", status="503 Service Unavailable")

    rules = {"error_pages": {"503": "x.html"}, "error_pages_over_origin": over}
    files = Files(pages={503: Page(b"text/html", b"<p>Soon.")})
    async with world(failing, servers=2, rules=rules, files=files) as here:
        here.tell_map()
        for server in (0, 1):
            client = await here.client(server)
            for method, line in (("GET", "X: y"), ("GET", "Cache-Control: no-store"), ("DELETE", "X: y")):
                found = await client.get("/", line, method=method)
                assert (found.status, found.fields["retry-after"]) == (503, "7")
                assert found.body == (b"<p>Soon." if over else b"a trace of calls")
                assert ("x-debug" in found.fields) is not over
            assert (await client.get("/late")).body == b"no"


async def test_a_key_of_query_and_path_is_what_the_origin_is_asked_for() -> None:
    rules = {"key": {"normalise": True, "query": "without", "parameters": ["utm_*"], "sort": True}}
    async with world(echo, rules=rules) as here:
        client = await here.client()
        for number, target in enumerate(("/a?x=1&b=2", "/z/../%61?b=2&utm_source=mail&x=1", "/./a?x=%31&b=2")):
            found = await client.get(target)
            assert found.body == b"/a?b=2&x=1|-|-"
            assert ("hit" in found.cache) is (number > 0)
        assert (await client.get("/a%2F..%2Fb")).status == 400
        assert len(here.origin.asked) == 1
        assert here.purge(b"/a?b=2&x=1") == 1


async def test_variants_by_chosen_fields_and_cookies() -> None:
    rules = {"key": {"headers": ["X-Device"], "cookies": ["lang"]}}
    phone, german = "X-Device: phone", "Cookie: id=1; lang=de"
    async with world(echo, rules=rules) as here:
        client = await here.client()
        for lines in ((), (phone,), (german,), (phone, german)):
            assert (await client.get("/", *lines)).cache.endswith("stored")
        for lines in ((), (phone,), (german,), (phone, german)):
            other = tuple(line.replace("id=1", "id=2") for line in lines)
            found = await client.get("/", *other)
            assert found.cache == "here-1; hit"
            assert (
                found.body.decode()
                == f"/|{'phone' if phone in lines else '-'}|{german[8:] if german in lines else '-'}"
            )
        assert here.purge(b"/") == 4


@pytest.mark.parametrize(
    "rules",
    [{"key": {"cookies": ["lang"], "normalise": True}}, {"limits": {"client_per_s": 0.01, "client_burst": 4}}],
)
async def test_neighbours_share_under_the_same_rules(rules: dict[str, Any]) -> None:
    """The rules for clients are applied once, at the server that the client asks."""
    async with world(echo, servers=2, rules=rules) as here:
        here.tell_map()
        for index in (0, 1):
            client = await here.client(index)
            for number in range(4):
                found = await client.get(f"/{number}", "Cookie: lang=de")
                assert found.body == f"/{number}|-|lang=de".encode()
        assert len(here.origin.asked) == 4


async def test_a_neighbour_under_other_rules_is_not_relied_on() -> None:
    async with world(echo, servers=2) as here:
        here.tell_map()
        here.node.take_config(config(rules={"request_headers": {"set": {"X-Device": "new"}}}))
        client = await here.client()
        for number in range(8):
            found = await client.get(f"/{number}")
            assert found.body == f"/{number}|new|-".encode()
        assert len(here.origin.asked) == 8


async def test_fields_that_go_no_further_tell_no_variants_apart() -> None:
    async with world(echo, rules={"key": {"cookies": ["currency"], "headers": ["X-Device"]}}) as here:
        euro = ["Cookie: currency=EUR", "X-Device: phone"]
        liar, client = await here.client(), await here.client()
        assert (await liar.get("/", *euro, "Connection: Cookie, X-Device")).body == b"/|-|-"
        assert (await client.get("/", *euro)).body == b"/|phone|currency=EUR"
        # Nor do those that look like others to some origins alone.
        for line in ("X_Device: phone", "X.Device: phone"):
            assert "stored" not in (await liar.get("/b", line)).cache
        assert (await client.get("/b")).cache == "here-1; fwd=uri-miss; stored"
