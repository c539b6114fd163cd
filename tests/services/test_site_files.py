"""Keys and pages read from where the documents say."""

import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nearmile.config.layout import NamedSite
from nearmile.config.network import Site
from nearmile.edge.rules.site import Page
from nearmile.services.site_files import read_files


def named(rules: dict[str, Any]) -> NamedSite:
    document = msgspec.convert({"hostnames": ["a.test"], "origin": "http://o", **rules}, Site)
    return NamedSite(name="a", serial=1, origins=("http://o",), document=document)


def test_what_is_there_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_bytes(b" " + b"f" * 32 + b"\n")
    (tmp_path / "page.json").write_bytes(b"{}")
    (tmp_path / "page.html").write_bytes(b"<p>")
    monkeypatch.setenv("NM_TEST_KEY", "e" * 32)
    keys = {"f": {"file": str(tmp_path / "key")}, "e": {"environment": "NM_TEST_KEY"}}
    pages = {"403": str(tmp_path / "page.json"), "502": str(tmp_path / "page.html")}
    files = read_files(named({"signed": {"keys": keys}, "error_pages": pages}))
    assert files.secrets == {"f": b"f" * 32, "e": b"e" * 32}
    assert files.pages == {
        403: Page(b"application/json", b"{}"),
        502: Page(b"text/html; charset=utf-8", b"<p>"),
    }
    assert files.whole


def test_what_is_missing_is_logged_without_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "short").write_bytes(b"geheim")
    (tmp_path / "long").write_bytes(b"x" * 5000)
    monkeypatch.delenv("NM_TEST_NONE", raising=False)
    keys = {name: {"file": str(tmp_path / name)} for name in ("short", "long", "gone")}
    keys["none"] = {"environment": "NM_TEST_NONE"}
    with caplog.at_level(logging.ERROR):
        files = read_files(named({"signed": {"keys": keys}, "error_pages": {"403": str(tmp_path)}}))
    assert (files.secrets, files.pages, files.whole) == ({}, {}, False)
    assert len(caplog.records) == 5
    assert "geheim" not in caplog.text and "$NM_TEST_NONE must have 32" in caplog.text
