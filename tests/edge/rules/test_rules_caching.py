"""A site's own word on caching."""

import pytest

from nearmile.config.caching import CacheRule
from nearmile.edge.rules.caching import reading, words_of
from nearmile.http.fields import Fields, Pairs
from nearmile.http.head import ResponseHead

NO_CACHE = (b"cache-control", b"no-cache")
DAY = (b"cdn-cache-control", b"max-age=86400")
ETAG = (b"etag", b'"1"')


def answered(rules: list[CacheRule], target: str, *pairs: tuple[bytes, bytes], status: int = 200) -> Pairs:
    head = ResponseHead(status=status, minor=1, fields=Fields(pairs=pairs))
    read = reading(words_of(rules), target.encode())
    return head.fields.pairs if read is None else read(head).fields.pairs


@pytest.mark.parametrize(
    ("path", "target", "fits"),
    [
        ("/a", "/a", True),
        ("/a", "/a?b=c", True),
        ("/a", "/a/", False),
        ("/a/*", "/a/b/c", True),
        ("/a/*", "/a/", True),
        ("/a/*", "/a", False),
        ("/*.css", "/a/b.css?v=1", True),
        ("/*.css", "/b?x=.css", False),
        ("/a*a", "/a", False),
        ("/a*a", "/aa", True),
        ("/%C3%BC/*", "/%C3%BC/a%20b", True),
        # What the origin might answer as something else.
        ("/static/*", "/static/../account", False),
        ("/static/*", "/static/%2e%2e/account", False),
        ("/static/*", "/static/..%2Faccount", False),
        ("/*.css", "/account;a.css", False),
        ("/*.css", "/account%3Ba.css", False),
        ("/*.css", "/account%3Fa.css", False),
        ("/*.css", "/account%23a.css", False),
        ("/*.css", "/account%00.css", False),
        ("/*.css", "/account%0Aa.css", False),
        ("/*.css", "/account%253Ba.css", False),
        ("/*.css", "/account\\a.css", False),
    ],
)
def test_paths(path: str, target: str, fits: bool) -> None:
    rules = [CacheRule(path=path, edges="max-age=86400")]
    assert answered(rules, target, NO_CACHE) == ((NO_CACHE, DAY) if fits else (NO_CACHE,))


def test_the_first_that_fits_path_and_status_counts() -> None:
    rules = [
        CacheRule(path="/*", edges="max-age=5", statuses=(404, 410)),
        CacheRule(path="/a/*", edges="no-store"),
        CacheRule(path="/*", edges="max-age=86400"),
    ]
    assert answered(rules, "/a/b", ETAG) == (ETAG, (b"cdn-cache-control", b"no-store"))
    assert answered(rules, "/b", ETAG) == (ETAG, DAY)
    assert answered(rules, "/a/b", status=404) == ((b"cdn-cache-control", b"max-age=5"),)
    assert answered(rules, "/b", NO_CACHE, status=500) == (NO_CACHE,)
    assert answered(rules, "/b", ETAG, status=304) == answered(rules, "/b", ETAG, status=206) == (ETAG, DAY)


def test_clients_are_told_their_own() -> None:
    rules = [CacheRule(path="/*", edges="max-age=86400", clients="no-cache")]
    said = answered(rules, "/", (b"cache-control", b"max-age=1"), (b"expires", b"0"), (b"pragma", b"x"), DAY, ETAG)
    assert said == (ETAG, DAY, NO_CACHE)


@pytest.mark.parametrize(
    "private",
    [(b"cache-control", b"max-age=60, private"), (b"cache-control", b"no-store"), (b"set-cookie", b"user=1")],
)
def test_what_is_for_one_alone(private: tuple[bytes, bytes]) -> None:
    rule = CacheRule(path="/*", edges="max-age=86400")
    assert answered([rule], "/", private) == (private,)
    over = CacheRule(path="/*", edges="max-age=86400", over_private=True)
    withheld = b', no-cache="set-cookie"' if private[0] == b"set-cookie" else b""
    assert answered([over], "/", private) == (private, (DAY[0], DAY[1] + withheld))
