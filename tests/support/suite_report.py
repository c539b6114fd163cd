"""What the cache suite's results are measured by: the deliberate exceptions, and what other caches score."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from textwrap import fill

from suite_run import Result

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cache-conformance.md"
EXCEPTIONS = {
    "vary-normalise-lang-select": (
        "A response in German, stored for `Accept-Language: en, de`, would have to serve `fr;q=0.5, de` too. "
        "These fields do not mean the same, so RFC 9111 section 4.1 forbids it: an answer may tell more than its "
        "language (for one, that the language asked for first is missing)."
    ),
    "conditional-lm-fresh-no-lm": (
        "A 304 is wanted for an `If-Modified-Since` older than the `Date` of the stored response, which stands "
        "in for its missing `Last-Modified` (RFC 9111 section 4.3.2). By that date it was modified since; with a "
        "304 the client would keep a copy that nobody compared with it."
    ),
    "partial-store-partial-complete": (
        "The rest of a stored part is to be fetched. But the part has no validator, and without a strong one, "
        "parts must not be joined (RFC 9111 section 3.4): the bytes may be of two versions. The whole is fetched "
        "instead."
    ),
}
"""Tests that nearmile fails on purpose, each with the reason. None of them is a required one."""

OPTIMAL_SHARE_MIN = 0.95
SUITE_REQUIRED, SUITE_OPTIMAL = 160, 105
PUBLISHED = (
    ("Traffic Server 9.2", 132, 70),
    ("Apache", 131, 68),
    ("Squid", 122, 59),
    ("Varnish 7", 119, 45),
    ("Caddy", 121, 44),
    ("nginx 1.22", 100, 58),
    ("no cache at all", 22, 0),
)
"""Tests passed of the whole suite's required and optimal ones, as the suite's authors publish them."""

INTRODUCTION = """\
# HTTP caching, judged by others

The public suite [Tests for HTTP Caches](https://cache-tests.fyi/) asks a cache some hundreds of questions about
RFC 9111 and its neighbours: *required* ones, which are requirements of the RFCs, *optimal* ones, which save
requests to the origin, and ones that only note what a cache does. `tests/conformance` runs those of its cases that
are at hand against a real edge process, over HTTP/1.1 and over HTTP/2 (which the independent library h2 speaks),
each on both paths through the server: the short one for plain hits, and the long one.
`python benchmarks/conformance.py --failures` prints the score, and what failed.

"""
AFTER_TABLE = """
The others' figures are those that the suite's authors publish for the whole suite, which has some more cases.

## Deliberate exceptions

"""


def score(results: Iterable[Result], kind: str) -> tuple[int, int]:
    """Tests passed, and how many there are."""
    passed = [result.passed for result in results if result.kind == kind]
    return sum(passed), len(passed)


def failures(results: Iterable[Result], kind: str) -> dict[str, str]:
    """Why tests failed, by id; without the deliberate exceptions."""
    return {r.id: r.why for r in results if r.kind == kind and not r.passed and r.id not in EXCEPTIONS}


def table(over: Mapping[str, list[Result]]) -> str:
    """The scores, by protocol, beside the published ones, as Markdown."""
    own = [(f"nearmile, {name}", score(got, "required"), score(got, "optimal")) for name, got in over.items()]
    whole = [(name, (must, SUITE_REQUIRED), (may, SUITE_OPTIMAL)) for name, must, may in PUBLISHED]
    rows = [f"| {name} | {_share(must)} | {_share(may)} |" for name, must, may in [*own, *whole]]
    return "\n".join(("| cache | required | optimal |", "|---|---|---|", *rows)) + "\n"


def page(over: Mapping[str, list[Result]]) -> str:
    """The page for the documentation, of the results by protocol."""
    names = {result.id: result.name for results in over.values() for result in results}
    reasons = [f"**{names[case]}** (`{case}`)\n\n{fill(reason, 115)}\n" for case, reason in EXCEPTIONS.items()]
    return INTRODUCTION + table(over) + AFTER_TABLE + "\n".join(reasons)


def _share(passed_of: tuple[int, int]) -> str:
    passed, count = passed_of
    return f"{passed} of {count} ({passed / count:.1%})"
