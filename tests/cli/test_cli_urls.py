"""URLs as people type them."""

import pytest

from nearmile.base.errors import WrongInput
from nearmile.cli import urls


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("http://www.example.test", "http://www.example.test/"),
        ("https://WWW.Example.test.:8443/A?b", "https://www.example.test:8443/A?b"),
        (
            "http://www.example.test/a b/ü?q=é&r=%20#part",
            "http://www.example.test/a%20b/%C3%BC?q=%C3%A9&r=%20#part",
        ),
        ("http://user:secret@www.example.test/", "http://www.example.test/"),
        ("http://[2001:db8::1]:8080/", "http://[2001:db8::1]:8080/"),
        ("http://www.example.test//a/;b={c}", "http://www.example.test//a/;b={c}"),
        ("http://www.example.test?#part", "http://www.example.test/?#part"),
    ],
)
def test_urls_are_asked_for_as_browsers_do(text: str, sent: str) -> None:
    assert urls.split(text).geturl() == sent


@pytest.mark.parametrize(
    "text",
    [
        "",
        "www.example.test",
        "ftp://www.example.test/",
        "http://",
        "http://a:99999/",
        "http://a:b/",
        "http://[::1/",
    ],
)
def test_what_is_no_url_is_named(text: str) -> None:
    with pytest.raises(WrongInput, match="is not a URL"):
        urls.split(text)


def test_the_target_has_the_query_and_not_the_fragment() -> None:
    for target in ("/a?b=c", "/a?", "/a", "/?"):
        assert urls.target(urls.split(f"http://www.example.test{target}#d")) == target
