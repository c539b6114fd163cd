"""What can be wrong in a site's rules for its clients, and how that is said."""

from pathlib import Path

import pytest

from nearmile.config.problems import DocumentErrors
from nearmile.config.read import read_directory

NETWORK = """
name = "n"
zone = "n.test"
regions = { paris = { city = "Paris" } }
nameservers = [{ tier = "top", city = "Paris" }, { tier = "low", city = "Paris" }]
"""
SITE = 'hostnames = ["www.a.test"]\norigin = "http://localhost:81"\n'


def write(folder: Path, rules: str) -> Path:
    (folder / "sites").mkdir()
    (folder / "network.toml").write_text(NETWORK)
    (folder / "sites" / "a.toml").write_text(SITE + rules)
    (folder / "key").write_bytes(b"k" * 32 + b"\n")
    (folder / "short").write_bytes(b"k" * 31 + b"\n")
    (folder / "page.html").write_bytes(b"<p>No.")
    (folder / "large.html").write_bytes(b"x" * ((64 << 10) + 1))
    return folder


def test_files_get_absolute_paths_and_secrets_stay_in_theirs(tmp_path: Path) -> None:
    rules = 'error_pages = {403 = "page.html"}\nsigned.keys = {a = {file = "key"}, b = {environment = "K"}}\n'
    site = read_directory(write(tmp_path, rules)).sites["a"]
    assert site.error_pages == {"403": str(tmp_path / "page.html")}
    assert site.signed is not None
    assert [(key.file, key.environment) for key in site.signed.keys.values()] == [
        (str(tmp_path / "key"), None),
        (None, "K"),
    ]
    assert "kkk" not in repr(site)


@pytest.mark.parametrize(
    ("rules", "found"),
    [
        (
            '[key]\nquery = "ony"',
            "4: key.query: is 'ony', but must be `ignore` or `keep` or `only` or `without`; did",
        ),
        ('[key]\nquery = "only"', "key.query: is 'only', but `parameters` names none"),
        ('[key]\nparameters = ["a"]', "key.parameters: has no effect; `query` must be `only` or `without`"),
        ('[key]\nparameter = ["a"]', "key.parameter: unknown key; did you mean parameters?"),
        ('[key]\nheaders = ["Cookie"]', "key.headers[1]: Cookie cannot tell variants apart; see `cookies`"),
        ('[compress]\ntypes = ["*a*/x"]', "compress.types[1]: is '*a*/x', but must be a media type in lower case"),
        (
            '[[cache.rules]]\npath = "/a*b*"\nedges = "no-store"',
            "cache.rules[1].path: is '/a*b*', but must be a path that begins with /, such as `/static/*`",
        ),
        (
            '[[cache.rules]]\npath = "/a"\nedges = "maxage=5"',
            "cache.rules[1].edges: is 'maxage=5', but must be directives of Cache-Control, such as `max-age=600",
        ),
        ('[key]\nheaders = ["a b"]', "key.headers[1]: is 'a b', but must be the name of a header field"),
        ('[key]\ncookies = ["a;b"]', "key.cookies[1]: is 'a;b', but must be a name without white space"),
        (
            '[access]\ndeny_countries = ["UK"]',
            "access.deny_countries[1]: no country has the code 'UK'; did you mean GB?",
        ),
        (
            '[access]\ndeny_countries = ["de"]',
            "deny_countries[1]: is 'de', but must be a country's code of two capital",
        ),
        ('[access]\nallow_addresses = ["10.0.0.1/8"]', "did you mean 10.0.0.0/8?"),
        ("[limits]\nclient_per_s = 0", "limits.client_per_s: is 0, but must be a number from 0.01 to 1000000"),
        ('methods = ["get"]', "methods[1]: is 'get', but must be a method in capitals, such as `GET`"),
        ("max_body_kb = -1", "max_body_kb: is -1, but must be a whole number from 0 to 524288"),
        (
            '[[redirects]]\npath = "/a*"\nto = "/b"',
            "redirects[1].path: is '/a*', but `*` can only stand at the end",
        ),
        (
            '[[redirects]]\npath = "/a"\nto = "/b/*"',
            "redirects[1].to: is '/b/*', but ends with /* only if `path` does",
        ),
        ('[[redirects]]\npath = "/a"\nto = "/a"', "redirects[1].to: is the path itself"),
        ('[[redirects]]\npath = "/a"\nto = "javascript:x"', "but must be a URL with a path, or a path"),
        ('[[redirects]]\npath = "/a"\nto = "/b c"', "but must be a URL with a path, or a path"),
        ('[[redirects]]\npath = "/a/*"\nto = "https://b.test*"', "but must be a URL with a path, or a path"),
        (
            '[[redirects]]\npath = "/a"\nto = "/b"\nstatus = 300',
            "is 300, but must be `301` or `302` or `307` or `308`",
        ),
        (
            '[[redirects]]\npath = "/a"\nto = "/b"\n[[redirects]]\npath = "/a"\nto = "/c"',
            "redirects[2].path: /a is redir",
        ),
        (
            '[response_headers]\nset = {Content-Length = "1"}',
            "response_headers.set.Content-Length: Content-Length is",
        ),
        ('[response_headers]\nset = {Cache-Control = "x"}', "the edge's own, or the origin's to say"),
        ('[response_headers]\nset = {X-A = "a\\r\\nX-B: b"}', "but must be the value of a header field"),
        ('[response_headers]\nset = {"X-A: b" = "a"}', "but must be the name of a header field"),
        ('[response_headers]\nset = {X-A = "1", x-a = "2"}', "x-a is named twice"),
        (
            '[request_headers]\nremove = ["X-Forwarded-For"]',
            "request_headers.remove[1]: X-Forwarded-For is the edge's",
        ),
        ('[request_headers]\nset = {Nearmile-Hop = "1"}', "Nearmile-Hop is the edge's own"),
        ('[request_headers]\nremove = ["CDN-Loop"]', "CDN-Loop is the edge's own"),
        (
            '[signed.keys.k]\nfile = "key"\nenvironment = "K"',
            "signed.keys.k: must have either `file` or `environment`",
        ),
        ('[signed.keys.k]\nfile = "gone"', "gone cannot be read: No such file"),
        ('[signed.keys.k]\nfile = "short"', "short must have 32 to 4096 bytes"),
        (
            '[signed]\nopen = ["/x/"]\nkeys = {k = {environment = "K"}}',
            "signed.open: needs `key.normalise = true`",
        ),
        ("[signed]\nkeys = {}", "signed.keys: has 0, but must be tables by name, at least 1"),
        ('[error_pages]\n404 = "page.html"', "error_pages.404: is '404', but must be `400` or `403`"),
        ('[error_pages]\n403 = "large.html"', "large.html must have 1 to 65536 bytes"),
        ('[error_pages]\n403 = "pages.html"', "pages.html cannot be read: No such file"),
    ],
)
def test_a_wrong_rule_is_named(tmp_path: Path, rules: str, found: str) -> None:
    with pytest.raises(DocumentErrors) as caught:
        read_directory(write(tmp_path, rules))
    assert any(found in str(problem) for problem in caught.value.problems), caught.value


@pytest.mark.parametrize(
    "rules",
    ["key = 5", "[key]\nheaders = 5", "access = []", "redirects = [1]", "signed = 1", "signed.keys = 1",
     "signed.keys.k = 1", "error_pages = 1", "error_pages.403 = 1", "response_headers.set = 1", "key.query = 1"],
)  # fmt: skip
def test_wrong_types_hide_nothing_and_break_nothing(tmp_path: Path, rules: str) -> None:
    with pytest.raises(DocumentErrors) as caught:
        read_directory(write(tmp_path, "max_body_kb = -1\n" + rules))
    assert len(caught.value.problems) >= 2


def test_a_document_with_everything_is_read(tmp_path: Path) -> None:
    rules = (Path(__file__).parent.parent.parent / "docs" / "site-rules.md").read_text()
    examples = "".join(part.partition("```")[0] for part in rules.split("```toml\n")[1:])
    (tmp_path / "errors").mkdir()
    for status in (403, 503):
        (tmp_path / "errors" / f"{status}.html").write_bytes(b"<p>No.")
    site = read_directory(write(tmp_path, examples)).sites["a"]
    assert [redirect.status for redirect in site.redirects] == [308, 302]
    assert site.signed is not None and site.limits.client_per_s == 10 and site.key.sort


def test_a_wildcard_is_no_name_to_tell_an_origin(tmp_path: Path) -> None:
    folder = write(tmp_path, "")
    (folder / "sites" / "a.toml").write_text(SITE.replace("www", "*") + 'key.hosts = "together"\n')
    with pytest.raises(DocumentErrors, match=r"key.hosts: .* \*\.a\.test is no name"):
        read_directory(folder)
