"""The form of targets: what is equal becomes equal, and nothing else does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearmile.cache.target import ambiguous, cookie_values, form_of, normal
from nearmile.config.key import Key

TRACKING = ("utm_*", "fbclid")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/", b"/"),
        (b"*", b"*"),
        (b"/a/./b/../c", b"/a/c"),
        (b"/..", b"/"),
        (b"/../../etc", b"/etc"),
        (b"/a/..", b"/"),
        (b"/a/b/..", b"/a/"),
        (b"/a/.", b"/a/"),
        (b"/a//b/", b"/a//b/"),
        (b"/a/.b/..c", b"/a/.b/..c"),
        (b"/%7euser/%41", b"/~user/A"),
        (b"/%2e%2E/x", b"/x"),
        (b"/a%2fb%c3%a9", b"/a%2Fb%C3%A9"),
        (b"/a?q=%7e&r=/../%2f", b"/a?q=~&r=/../%2F"),
        (b"/%252e", b"/%252e"),
        (b"/%%34%31/../x", b"/%%34%31/../x"),
        (b"/100%", b"/100%"),
        (b"/.?%", b"/?%"),
        (b"/a?x=%&y=%41", b"/a?x=%&y=A"),
    ],
)
def test_normal(target: bytes, expected: bytes) -> None:
    assert normal(target) == expected


@pytest.mark.parametrize(
    ("target", "twice"),
    [
        (b"/a/b.c", False),
        (b"/a%2Fb", False),
        (b"/a?x=%2F..%2F%00", False),
        (b"/...", False),
        (b"/a%2F..%2Fb", True),
        (b"/a\\..\\b", True),
        (b"/a%5C..", True),
        (b"/..;/b", True),
        (b"/a/.;x=1", True),
        (b"/a%00.html", True),
        (b"/100%", True),
    ],
)
def test_what_can_be_read_in_two_ways(target: bytes, twice: bool) -> None:
    assert ambiguous(target) is twice


@pytest.mark.parametrize(
    ("key", "target", "expected"),
    [
        (Key(query="ignore"), b"/a?b=1&c", b"/a"),
        (Key(query="only", parameters=("page", "s*")), b"/a?x=1&page=2&sort=up&pages=3", b"/a?page=2&sort=up"),
        (Key(query="without", parameters=TRACKING), b"/a?utm_source=x&b=1&fbclid=2&utm=3", b"/a?b=1&utm=3"),
        (Key(query="without", parameters=TRACKING), b"/a?utm_source=x", b"/a"),
        (Key(sort=True), b"/a?b=2&a=1&b=1&&a", b"/a?a=1&a&b=2&b=1"),
        (Key(sort=True), b"/a?", b"/a"),
        (Key(normalise=True, sort=True), b"/x/../a?%62=1&a=2", b"/a?a=2&b=1"),
        (Key(normalise=True, query="without", parameters=TRACKING), b"/a?%75tm_source=x", b"/a"),
        (Key(normalise=True, query="ignore"), b"/.?%", b"/"),
        (Key(normalise=True, query="without", parameters=TRACKING), b"/a?utm_x=%&b=%41", b"/a?b=A"),
    ],
)
def test_forms(key: Key, target: bytes, expected: bytes) -> None:
    form = form_of(key)
    assert form is not None and form.of(target) == expected


def test_a_site_that_asks_for_nothing_has_no_form() -> None:
    assert form_of(Key()) is None
    assert form_of(Key(headers=("Accept-Language",), cookies=("lang",))) is None


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], b""),
        ([b"a=1; lang=de; b=2"], b"lang=de"),
        ([b"lang=de;cur=eur", b"lang=en"], b"lang=de;cur=eur;lang=en"),
        ([b"lang; xlang=1;lang=; LANG=x"], b"lang;lang="),
        ([b"lang =de; xlang"], b"lang =de"),
    ],
)
def test_cookies(lines: list[bytes], expected: bytes) -> None:
    assert cookie_values(lines, (b"lang", b"cur")) == expected


keys = st.builds(
    Key,
    normalise=st.booleans(),
    sort=st.booleans(),
    query=st.sampled_from(("keep", "ignore", "only", "without")),
    parameters=st.sampled_from(((), ("a",), ("a*", "b"))),
)
pieces = st.sampled_from(
    [b"/", b".", b"..", b"%", b"%2e", b"%2F", b"%41", b"41", b"a", b"b", b"=", b"&", b"?", b";", b"\\", b"%c3"]
)
targets = st.lists(pieces, max_size=12).map(lambda parts: b"/" + b"".join(parts))


@given(keys, targets | st.binary().map(lambda data: b"/" + data))
def test_a_form_is_final_and_a_target(key: Key, target: bytes) -> None:
    """What is looked up under a key is what the origin is asked for: the form. So it must be its own form."""
    form = form_of(key)
    if form is not None:
        written = form.of(target)
        assert form.of(written) == written
        assert written.startswith(b"/") and len(written) <= len(target)
        assert set(written) <= set(target) | set(b"%0123456789ABCDEF") | set(b"A.")  # nothing made up


@given(targets)
def test_what_is_not_ambiguous_leaves_no_dot_segment(target: bytes) -> None:
    written = normal(target)
    if not ambiguous(written):
        assert not {b".", b".."} & set(written.partition(b"?")[0].split(b"/"))
