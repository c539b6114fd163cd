"""What the cache suite's results are measured by: the deliberate exceptions, and what other caches score."""

from collections.abc import Iterable

from suite_run import Result

EXCEPTIONS: dict[str, str] = {}
"""Tests that nearmile fails on purpose, each with the reason."""

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


def score(results: Iterable[Result], kind: str) -> tuple[int, int]:
    """Tests passed, and how many there are."""
    passed = [result.passed for result in results if result.kind == kind]
    return sum(passed), len(passed)


def failures(results: Iterable[Result], kind: str) -> dict[str, str]:
    """Why tests failed, by id; without the deliberate exceptions."""
    return {r.id: r.why for r in results if r.kind == kind and not r.passed and r.id not in EXCEPTIONS}
