"""Signed URLs: only whole, unexpired ones by a known key are good."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearmile.base.addresses import read_address
from nearmile.edge.rules.signatures import Claims, Keys, signed, split

SECRETS = {"old": b"o" * 32, "new": b"n" * 32}
KEYS = Keys("site", SECRETS)
NOW_S = 1_000.0


def fault(url: bytes, client: str = "192.0.2.1", keys: Keys = KEYS, now_s: float = NOW_S) -> str:
    target, claims = split(url)
    return keys.fault(target, claims, read_address(client), now_s)


def sign(
    target: bytes, expires: bytes = b"1001", key: str = "new", block: bytes = b"", site: str = "site"
) -> bytes:
    return signed(SECRETS[key], site, target, Claims(expires, key.encode(), block))


GOOD = sign(b"/film?lang=en")


def test_a_known_answer() -> None:
    """Other programs sign too: the text that is signed must not change."""
    url = signed(
        b"0123456789abcdef0123456789abcdef", "films", b"/a?b=c", Claims(b"1790000000", b"k", b"10.0.0.0/8")
    )
    assert url == (
        b"/a?b=c&nm-expires=1790000000&nm-key=k&nm-for=10.0.0.0/8&nm-signature=hWniOqDQLqc0SgO0Y5atsjmE3VawI_WGQ04UUV_YL34"
    )


@pytest.mark.parametrize("key", ["old", "new"])
def test_while_keys_are_rotated_both_are_good(key: str) -> None:
    assert fault(sign(b"/a", key=key)) == ""
    assert fault(sign(b"/a", key=key), keys=Keys("site", {"old": SECRETS["old"]})) == (
        "" if key == "old" else "the URL's signature is wrong"
    )


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (b"/film?lang=en", "the URL is not signed"),
        (GOOD.replace(b"film", b"Film"), "the URL's signature is wrong"),
        (GOOD.replace(b"=en", b"=de"), "the URL's signature is wrong"),
        (GOOD + b"&more=1", "the URL's signature is wrong"),
        (GOOD.replace(b"1001", b"9001"), "the URL's signature is wrong"),
        (GOOD.replace(b"nm-key=new", b"nm-key=old"), "the URL's signature is wrong"),
        (GOOD.replace(b"nm-key=new", b"nm-key=%ff"), "the URL's signature is wrong"),
        (GOOD + b"A", "the URL's signature is wrong"),
        (GOOD[:-1], "the URL's signature is wrong"),
        (GOOD + b"&nm-expires=9001", "the URL is not signed"),
        (GOOD + b"&nm-for=192.0.2.0/24", "the URL's signature is wrong"),
        (sign(b"/film", site="other"), "the URL's signature is wrong"),
        (sign(b"/film", b"1000"), "the URL has expired"),
        (sign(b"/film", b""), "the URL has no time of expiry"),
        (sign(b"/film", b"-5"), "the URL has no time of expiry"),
        (sign(b"/film", b"9" * 12), "the URL has no time of expiry"),
        (sign(b"/film", block=b"198.51.100.0/24"), "the URL is for another client"),
        (sign(b"/film", block=b"nonsense"), "the URL is for another client"),
        (sign(b"/film", block=b"192.0.2.0/24"), ""),
        (GOOD.replace(b"/film?lang=en&", b"/film?") + b"&lang=en", ""),
        (GOOD, ""),
    ],
)
def test_faults(url: bytes, why: str) -> None:
    assert fault(url) == why


def test_the_block_may_be_escaped_and_of_ipv6() -> None:
    url = sign(b"/a", block=b"2001:db8::/32")
    for written in (url, url.replace(b":", b"%3A").replace(b"::/32", b"::%2F32")):
        assert fault(written, "2001:db8::5") == ""
        assert fault(written, "2001:db9::5") == fault(written) == "the URL is for another client"


targets = st.text("abc/&=?%", max_size=12).map(lambda text: b"/" + text.encode())


@given(targets, targets)
def test_a_signature_is_for_one_target(target: bytes, other: bytes) -> None:
    url = sign(target)
    assert fault(url) == ""
    bare = target if target.partition(b"?")[2] else target.partition(b"?")[0]
    assert split(url)[0] == bare
    said = url[len(bare) + 1 :]
    moved = other + (b"&" if b"?" in other else b"?") + said
    assert (fault(moved) == "") is (split(moved)[0] == split(url)[0])
