"""The public suite "Tests for HTTP Caches" over a real edge process; see docs/cache-conformance.md."""

import asyncio

import pytest

from suite_cases import FILE, load
from suite_report import EXCEPTIONS, OPTIMAL_SHARE_MIN, PAGE, failures, page, score
from suite_run import Result, run_suite, run_without_cache

pytestmark = pytest.mark.skipif(not FILE.exists(), reason=f"the suite's cases are not at {FILE}")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Result], list[Result]]:
    """With the edge, and without any cache."""
    groups, folder = load(), tmp_path_factory.mktemp("suite")

    async def run() -> tuple[list[Result], list[Result]]:
        through = run_suite(groups, folder, "127.41.0.0/16")
        return await asyncio.gather(through, run_without_cache(groups, "127.141.0.0/16"))

    return asyncio.run(run())


@pytest.fixture
def results(both: tuple[list[Result], list[Result]]) -> list[Result]:
    return both[0]


def test_the_judge_tells_a_cache_from_none(both: tuple[list[Result], list[Result]]) -> None:
    _, bare = both
    passed, count = score(bare, "required")
    # The suite's authors count 22 of 160 and 0 of 105.
    assert passed < count / 6
    assert score(bare, "optimal")[0] == 0


def test_every_required_case_holds(results: list[Result]) -> None:
    assert failures(results, "required") == {}


def test_hardly_an_optimal_case_is_missed(results: list[Result]) -> None:
    assert failures(results, "optimal") == {}
    passed, count = score(results, "optimal")
    assert passed >= OPTIMAL_SHARE_MIN * count


def test_exceptions_are_exceptions(results: list[Result]) -> None:
    failed = {result.id: result.why for result in results if not result.passed}
    for case in EXCEPTIONS:
        # It must fail as the reason says, not for want of what it builds on.
        assert case in failed and not failed[case].startswith("setup"), case


def test_the_page_says_what_is_so(results: list[Result]) -> None:
    assert PAGE.read_text() == page(results), "write it anew: python benchmarks/conformance.py --write-page"
