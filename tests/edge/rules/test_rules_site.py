"""Which requests a site's rules let pass, send elsewhere or refuse."""

from typing import Any

import msgspec
import pytest

from nearmile.config.layout import NamedSite
from nearmile.config.network import Site
from nearmile.edge.rules.rates import Limiter
from nearmile.edge.rules.redirects import To
from nearmile.edge.rules.signatures import Claims, signed
from nearmile.edge.rules.site import (
    NO_FILES,
    NO_RULES,
    Allow,
    Asked,
    Files,
    Refuse,
    Rules,
    rules_of,
    stored_target,
)

KEYS: dict[str, Any] = {"signed": {"keys": {"k": {"environment": "K"}}}}
SECRET = b"s" * 32
NOW_S = 1_000.0


def document(rules: dict[str, Any]) -> Site:
    return msgspec.convert({"hostnames": ["www.a.test"], "origin": "http://o", **rules}, Site)


def made(rules: dict[str, Any], files: Files = NO_FILES) -> Rules:
    return rules_of(NamedSite(name="a", serial=7, origins=("http://o",), document=document(rules)), files)


def check(
    rules: Rules,
    target: bytes = b"/",
    method: bytes = b"GET",
    body_bytes: int | None = None,
    client: str = "192.0.2.1",
) -> Allow | Refuse | To:
    countries = {"192.0.2.1": "DE", "192.0.2.2": "FR"}
    asked = Asked(method, target, body_bytes, client, lambda address: countries.get(address, ""))
    return rules.check(asked, NOW_S, Limiter())


def status(found: Allow | Refuse | To) -> int:
    return 200 if isinstance(found, Allow) else found.status


def test_a_site_without_rules_has_none() -> None:
    assert made({}) is NO_RULES
    assert NO_RULES.plain and not NO_RULES.guarded


@pytest.mark.parametrize(
    ("rules", "guarded"),
    [
        ({"key": {"normalise": True}}, False),
        ({"key": {"headers": ["x-device"]}}, False),
        ({"key": {"cookies": ["lang"]}}, True),
        ({"methods": ["GET"]}, False),
        ({"methods": ["POST"]}, True),
        ({"max_body_kb": 1}, False),
        ({"redirects": [{"path": "/a", "to": "/b"}]}, False),
        ({"response_headers": {"remove": ["server"]}}, False),
        ({"access": {"deny_countries": ["DE"]}}, True),
        ({"limits": {"site_per_s": 5}}, True),
        (KEYS, True),
    ],
)
def test_only_what_depends_on_who_asks_is_kept_from_the_hit_path(rules: dict[str, Any], guarded: bool) -> None:
    assert made(rules).guarded is guarded
    assert not made(rules).plain


@pytest.mark.parametrize(
    ("access", "client", "admitted"),
    [
        ({"deny_countries": ["DE"]}, "192.0.2.1", False),
        ({"deny_countries": ["DE"]}, "192.0.2.2", True),
        ({"deny_countries": ["DE"]}, "192.0.2.3", True),
        ({"allow_countries": ["DE"]}, "192.0.2.1", True),
        ({"allow_countries": ["DE"]}, "192.0.2.3", False),
        ({"deny_addresses": ["192.0.2.0/31"]}, "192.0.2.1", False),
        ({"deny_addresses": ["192.0.2.0/31"]}, "192.0.2.2", True),
        ({"deny_addresses": ["192.0.2.0/24"]}, "::ffff:192.0.2.1", False),
        ({"deny_addresses": ["2001:db8::/32"]}, "2001:db8:ff::1", False),
        ({"allow_addresses": ["192.0.2.1/32", "2001:db8::/32"]}, "192.0.2.1", True),
        ({"allow_addresses": ["192.0.2.1/32"]}, "192.0.2.2", False),
        ({"allow_addresses": ["192.0.2.0/24"], "deny_addresses": ["192.0.2.1/32"]}, "192.0.2.1", False),
        ({"allow_addresses": ["192.0.2.1/32"], "deny_countries": ["DE"]}, "192.0.2.1", True),
        ({"allow_addresses": ["192.0.2.9/32"], "allow_countries": ["FR"]}, "192.0.2.2", True),
        ({"allow_addresses": ["0.0.0.0/0"]}, "nonsense", False),
        ({"deny_addresses": ["0.0.0.0/0"]}, "nonsense", True),
    ],
)
def test_access(access: dict[str, Any], client: str, admitted: bool) -> None:
    assert status(check(made({"access": access}), client=client)) == (200 if admitted else 403)


def test_methods() -> None:
    rules = made({"methods": ["GET", "POST"]})
    assert [status(check(rules, method=m)) for m in (b"GET", b"HEAD", b"POST", b"PUT", b"get")] == [
        200,
        200,
        200,
        405,
        405,
    ]
    assert check(rules, method=b"PUT") == Refuse(405, "not by this method", ((b"allow", b"GET, HEAD, POST"),))


def test_bodies() -> None:
    rules = made({"max_body_kb": 2})
    assert [status(check(rules, body_bytes=size)) for size in (None, 0, 2048, 2049)] == [200, 200, 200, 413]
    assert rules.body_bytes_max == 2048
    assert status(check(made({"max_body_kb": 0}), body_bytes=1)) == 413


@pytest.mark.parametrize(
    ("target", "location"),
    [
        (b"/old", b"/new"),
        (b"/old?a=1", b"/new?a=1"),
        (b"/older", None),
        (b"/docs/a/b?x", b"https://docs.a.test/a/b?x"),
        (b"/docs/", b"https://docs.a.test/"),
        (b"/docs", None),
        (b"/docs/v1/a", b"/v1/a"),
        (b"/docs/v1//evil.test", b"/v1//evil.test"),
        (b"/bare//evil.test", b"/evil.test"),
        (b"/bare/\\evil.test", b"/evil.test"),
        (b"/asked?a=1", b"/b?c=2"),
        (b"/all/x/y", b"/"),
    ],
)
def test_redirects(target: bytes, location: bytes | None) -> None:
    table = [
        {"path": "/old", "to": "/new", "status": 301},
        {"path": "/docs/*", "to": "https://docs.a.test/*"},
        {"path": "/docs/v1/*", "to": "/v1/*"},
        {"path": "/bare/*", "to": "/*"},
        {"path": "/asked", "to": "/b?c=2"},
        {"path": "/all/*", "to": "/"},
    ]
    found = check(made({"redirects": table}), target)
    assert found == Allow(target) if location is None else isinstance(found, To) and found.location == location
    assert target != b"/old" or status(found) == 301


def test_normal_targets_go_on_and_ambiguous_ones_do_not() -> None:
    rules = made({"key": {"normalise": True, "query": "without", "parameters": ["utm_*"]}})
    assert check(rules, b"/a/../%62?utm_x=1&c=2") == Allow(b"/b?c=2")
    assert status(check(rules, b"/a%2f..%2fb")) == 400
    assert status(check(rules, b"/..;/b")) == 400
    assert check(made({"key": {"sort": True}}), b"/a%2f..%2fb") == Allow(b"/a%2f..%2fb")


def test_rates() -> None:
    rules, limiter = made({"limits": {"client_per_s": 0.5, "client_burst": 2}}), Limiter()

    def ask(client: str, now_s: float) -> Allow | Refuse | To:
        return rules.check(Asked(b"GET", b"/", None, client, lambda _: ""), now_s, limiter)

    assert [status(ask("2001:db8::1", 0)), status(ask("2001:db8::2", 0)), status(ask("2001:db8:0:1::", 0))] == [
        200
    ] * 3
    refused = ask("2001:db8::3", 0)
    assert isinstance(refused, Refuse) and (refused.status, refused.fields) == (429, ((b"retry-after", b"2"),))
    assert status(ask("2001:db8::3", 2)) == 200


def test_signatures_and_what_is_open() -> None:
    rules = made(
        {"signed": {**KEYS["signed"], "open": ["/open/"]}, "key": {"normalise": True}},
        Files({"k": SECRET}),
    )
    good = signed(SECRET, "a", b"/film?x=1", Claims(b"2000", b"k"))
    assert check(rules, good) == Allow(b"/film?x=1")
    assert check(rules, b"/%66ilm?x=1" + good.removeprefix(b"/film?x=1")) == Allow(b"/film?x=1")
    assert status(check(rules, b"/film?x=1")) == 403
    assert status(check(rules, good.replace(b"x=1", b"x=2"))) == 403
    assert check(rules, b"/open/a") == Allow(b"/open/a")
    assert check(rules, b"/open/a?nm-key=1&b") == Allow(b"/open/a?b")
    assert status(check(rules, b"/open/../film?x=1")) == 403
    assert status(check(rules, b"/open%2f../film?x=1")) == 400


def test_no_secret_is_shown() -> None:
    assert "sss" not in repr(made(KEYS, Files({"k": SECRET})))


def test_the_order_of_rules() -> None:
    """Who is shut out learns nothing else; who is sent elsewhere needs no signature."""
    rules: dict[str, Any] = {
        **KEYS,
        "methods": ["GET"],
        "access": {"deny_countries": ["DE"]},
        "redirects": [{"path": "/a", "to": "/b"}],
    }
    assert status(check(made(rules), b"/a", b"PUT")) == 403
    assert status(check(made(rules), b"/a", b"PUT", client="192.0.2.2")) == 405
    assert status(check(made(rules), b"/a", client="192.0.2.2")) == 302
    assert status(check(made(rules), b"/b", client="192.0.2.2")) == 403


def test_where_a_url_is_stored() -> None:
    assert stored_target(document({"key": {"sort": True}}), b"/a?c&b&nm-key=k") == b"/a?b&c&nm-key=k"
    assert stored_target(document({**KEYS, "key": {"sort": True}}), b"/a?c&b&nm-key=k") == b"/a?b&c"
    assert stored_target(document({}), b"/a?c&b") == b"/a?c&b"
