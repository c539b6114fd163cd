"""The public suite "Tests for HTTP Caches" over a real edge process; see docs/cache-conformance.md."""

import asyncio

import pytest

from suite_cases import FILE, load
from suite_h2 import PROTOCOLS
from suite_report import EXCEPTIONS, OPTIMAL_SHARE_MIN, PAGE, failures, page, score
from suite_run import Result, run_suite, run_without_cache

pytestmark = pytest.mark.skipif(not FILE.exists(), reason=f"the suite's cases are not at {FILE}")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[list[Result]]:
    """With the edge over each protocol, and without any cache."""
    groups = load()

    async def run() -> list[list[Result]]:
        # The cases count seconds: one protocol at a time, or this process would be too slow.
        bare = asyncio.create_task(run_without_cache(groups, "127.141.0.0/16"))
        through = [
            await run_suite(groups, tmp_path_factory.mktemp("suite"), "127.41.0.0/16", speak)
            for speak in PROTOCOLS.values()
        ]
        return [*through, await bare]

    return asyncio.run(run())


@pytest.fixture(params=range(len(PROTOCOLS)), ids=list(PROTOCOLS))
def results(runs: list[list[Result]], request: pytest.FixtureRequest) -> list[Result]:
    return runs[request.param]


def test_the_judge_tells_a_cache_from_none(runs: list[list[Result]]) -> None:
    bare = runs[-1]
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


def test_the_page_says_what_is_so(runs: list[list[Result]]) -> None:
    assert PAGE.read_text() == page(dict(zip(PROTOCOLS, runs, strict=False))), (
        "write it anew: python benchmarks/conformance.py --write-page"
    )
