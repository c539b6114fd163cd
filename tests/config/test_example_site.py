"""The example site as a browser would read it: whole, small, and needing nothing from elsewhere."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest

SITE = Path(__file__).parent.parent.parent / "examples" / "world" / "site"
PAGES = sorted(SITE.rglob("*.html"))
VOID = {"meta", "link", "img", "input"}
SITE_BYTES_MAX = 1_500_000


class Reader(HTMLParser):
    """Collects what a page refers to, and checks that every element is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.resources: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        assert len(values) == len(attrs), "an attribute twice"
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "a":
            self.links.append(values["href"] or "")
        elif tag in ("link", "img", "script"):
            self.resources.append(values.get("href") or values.get("src") or "")
        assert tag != "img" or {"alt", "width", "height"} <= set(values)
        self.ids += [value for name, value in attrs if name == "id" and value]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def file_of(link: str) -> Path:
    return SITE / f"{link}index.html".lstrip("/") if link.endswith("/") else SITE / link.lstrip("/")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(SITE)))
def test_a_page_is_whole_and_needs_nothing_from_elsewhere(page: Path) -> None:
    text = page.read_text()
    read = Reader(text)
    assert text.startswith("<!doctype html>\n<html lang")
    assert read.tags.count("title") == read.tags.count("h1") == read.tags.count("main") == 1
    assert len(read.ids) == len(set(read.ids))
    assert len(read.resources) >= 6
    for resource in read.resources:
        assert resource.startswith("/") and file_of(resource).is_file(), resource
    for link in read.links:
        parts = urlsplit(link)
        if parts.scheme:
            assert parts.hostname in ("www.geonames.org", "db-ip.com")
        elif link.startswith("#"):
            assert link[1:] in read.ids
        else:
            assert file_of(link).is_file(), link


def test_the_site_is_some_dozen_pages_all_linked_and_small() -> None:
    assert 36 <= len(PAGES) <= 60
    linked = {file_of(link) for page in PAGES for link in Reader(page.read_text()).links if link.startswith("/")}
    assert set(PAGES) - linked == {SITE / "404.html"}
    assert sum(path.stat().st_size for path in SITE.rglob("*") if path.is_file()) < SITE_BYTES_MAX
