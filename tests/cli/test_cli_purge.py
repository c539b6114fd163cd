"""What the arguments of `nearmile purge` ask for."""

import pytest

from nearmile.base.errors import WrongInput
from nearmile.cli.main import parser
from nearmile.cli.purge import order_of
from small_network import shop_and_blog

CONFIG = shop_and_blog(("shop.example", "www.shop.example"), ("blog.example",))


@pytest.mark.parametrize(
    ("arguments", "serial", "kind", "values", "soft"),
    [
        ("http://shop.example", 7, "url", ("//shop.example/",), False),
        ("https://www.shop.example:8443/a?b=c#d", 7, "url", ("//www.shop.example/a?b=c",), False),
        ("http://blog.example/a --soft", 8, "url", ("/a",), True),
        ("--prefix http://shop.example/a/", 7, "prefix", ("//shop.example/a/",), False),
        ("--host www.shop.example", 7, "prefix", ("//www.shop.example/",), False),
        ("--host blog.example", 8, "all", (), False),
        ("--host Blog.Example.", 8, "all", (), False),
        ("http://blog.example/ü", 8, "url", ("/%C3%BC",), False),
        ("--site blog --all", 8, "all", (), False),
        ("--site blog --tag a b,c", 8, "tag", ("a", "b", "c"), False),
    ],
)
def test_orders(arguments: str, serial: int, kind: str, values: tuple[str, ...], soft: bool) -> None:
    order = order_of(parser().parse_args(["purge", *arguments.split()]), CONFIG)
    assert (order.serial, order.kind, order.values, order.soft) == (serial, kind, values, soft)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("", "what is to be purged"),
        ("--all", "what is to be purged"),
        ("--site shop", "what is to be purged"),
        ("--tag a", "what is to be purged"),
        ("http://shop.example/ --host shop.example", "what is to be purged"),
        ("--site shop --all --tag a", "what is to be purged"),
        ("http://shop.example/ --site shop", "what is to be purged"),
        ("ftp://shop.example/", "not a URL"),
        ("http://elsewhere.example/", "blog.example"),
        ("--host elsewhere.example", "blog.example"),
        ("--site chop --all", "shop"),
        ("--site shop --tag ,", "names no tag"),
        ("--prefix http://[shop/", "not a URL"),
        ("--prefix http://shop.example/" + "x" * 9000, "at most"),
    ],
)
def test_mistakes(arguments: str, words: str) -> None:
    with pytest.raises(WrongInput, match=words):
        order_of(parser().parse_args(["purge", *arguments.split()]), CONFIG)
