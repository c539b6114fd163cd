"""The public suite "Tests for HTTP Caches" over a real edge process; see docs/cache-conformance.md."""

import asyncio
from pathlib import Path

import pytest

from suite_cases import FILE, load
from suite_report import EXCEPTIONS, OPTIMAL_SHARE_MIN, PAGE, failures, page, score
from suite_run import Result, run_suite

pytestmark = pytest.mark.skipif(not FILE.exists(), reason=f"the suite's cases are not at {FILE}")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    folder: Path = tmp_path_factory.mktemp("suite")
    return asyncio.run(run_suite(load(), folder, "127.41.0.0/16"))


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
