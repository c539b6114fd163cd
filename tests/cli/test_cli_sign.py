"""``nearmile sign``: what it prints is what an edge takes."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from edge_world import config
from nearmile.base.errors import NearmileError
from nearmile.cli.main import parser
from nearmile.cli.purge import order_of
from nearmile.edge.rules.rates import Limiter
from nearmile.edge.rules.site import Allow, Asked, Refuse, rules_of
from nearmile.services.site_files import read_files

URL = "http://www.test.example/film?utm_source=x&lang=en"


def root(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (folder / "key").write_bytes(b"f" * 32 + b"\n")
    monkeypatch.setenv("NM_TEST_KEY", "e" * 40)
    keys: dict[str, Any] = {"a": {"environment": "NM_TEST_KEY"}, "b": {"file": str(folder / "key")}}
    rules = {"signed": {"keys": keys}, "key": {"query": "without", "parameters": ["utm_*"]}}
    (folder / "config.json").write_bytes(msgspec.json.encode(config(rules=rules)))
    return folder


def sign(state: Path, *arguments: str) -> None:
    args = parser().parse_args(["sign", URL, "--state", str(state), *arguments])
    assert args.action(args) == 0


@pytest.mark.parametrize("arguments", [(), ("--key", "a"), ("--site", "www"), ("--for", "192.0.2.9/24")])
def test_signed_urls_are_good_until_they_expire(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    monkeypatch.setattr("time.time", lambda: 1000.0)
    sign(root(tmp_path, monkeypatch), "--expires", "10m", *arguments)
    url = urlsplit(capsys.readouterr().out.strip())
    assert url.netloc == "www.test.example"
    [named] = msgspec.json.decode((tmp_path / "config.json").read_bytes(), type=type(config())).sites
    rules, asked = rules_of(named, read_files(named)), Asked(b"GET", b"", None, "192.0.2.1", lambda _: "")
    asked = msgspec.structs.replace(asked, target=f"{url.path}?{url.query}".encode())
    assert rules.check(asked, 1599.0, Limiter()) == Allow(b"/film?lang=en")
    assert rules.check(asked, 1600.0, Limiter()) == Refuse(403, "the URL has expired")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--key", "c"), "no key 'c'; there are: a, b"),
        (("--site", "x"), "no site 'x'; there are: www"),
        (("--for", "here"), "cannot sign: 'here' does not appear to be an IPv4 or IPv6 network"),
        (("--expires", "0s"), "--expires must be a time span above 0"),
    ],
)
def test_what_cannot_be_signed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], says: str
) -> None:
    with pytest.raises(NearmileError, match=says):
        sign(root(tmp_path, monkeypatch), "--expires", "10m", *arguments)


def test_a_site_without_signatures(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(msgspec.json.encode(config()))
    with pytest.raises(NearmileError, match="without signatures"):
        sign(tmp_path, "--expires", "10m")


def test_a_purge_by_url_names_what_is_stored(tmp_path: Path) -> None:
    made = config(rules={"key": {"normalise": True, "sort": True}})
    args = parser().parse_args(["purge", "http://www.test.example/x/../a?c&b=%41"])
    assert order_of(args, made).values == ("/a?b=A&c",)
    args = parser().parse_args(["purge", "--prefix", "http://www.test.example/a?c"])
    assert order_of(args, made).values == ("/a?c",)
