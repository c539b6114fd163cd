"""What the public suite "Tests for HTTP Caches" says of nearmile, beside its published figures of other caches.

python benchmarks/conformance.py [--json] [--failures] [--write-page]
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from measure import Case, case, show

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from suite_cases import FILE, load
from suite_h2 import PROTOCOLS
from suite_report import EXCEPTIONS, PAGE, PUBLISHED, SUITE_OPTIMAL, SUITE_REQUIRED, page, score, table
from suite_run import Result, run_suite

LOOPBACK = "127.142.0.0/16"


def share(name: str, passed_of: tuple[int, int], best: int, of: int, goal: str) -> Case:
    """Shares in percent, so that our part of the suite compares with the whole."""
    return case(name, [100 * passed_of[0] / passed_of[1]], [100 * best / of], "%", goal)


def cases(name: str, results: list[Result]) -> list[Case]:
    """Against the best of the others."""
    must, may = max(must for _, must, _ in PUBLISHED), max(may for _, _, may in PUBLISHED)
    required, optimal = score(results, "required"), score(results, "optimal")
    return [
        share(f"cache suite over {name}, required cases passed", required, must, SUITE_REQUIRED, "100 %"),
        share(f"cache suite over {name}, optimal cases passed", optimal, may, SUITE_OPTIMAL, "95 % or more"),
    ]


def run() -> dict[str, list[Result]]:
    """The results by protocol."""
    over = {}
    for name, speak in PROTOCOLS.items():
        with tempfile.TemporaryDirectory() as folder:
            over[name] = asyncio.run(run_suite(load(), Path(folder), LOOPBACK, speak))
    return over


def main() -> None:
    """Runs the suite and prints."""
    parser = argparse.ArgumentParser(description="Runs the cases of the public HTTP cache suite.")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--failures", action="store_true", help="print what failed, and why")
    parser.add_argument("--write-page", action="store_true", help=f"write docs/{PAGE.name} anew")
    options = parser.parse_args()
    if not FILE.exists():
        sys.exit(f"the suite's cases are not at {FILE}")
    over = run()
    if options.json:
        show([case for name, results in over.items() for case in cases(name, results)], as_json=True)
    else:
        print(table(over))
        for name, results in over.items():
            did, asked = score(results, "check")
            print(f"noted only, over {name}: {did} of {asked} things that the suite asks about are done")
    if options.failures:
        for name, result in ((name, result) for name, results in over.items() for result in results):
            if not result.passed:
                known = " (deliberate)" if result.id in EXCEPTIONS else ""
                print(f"{name} {result.kind:<9} {result.id}: {result.why}{known}")
    if options.write_page:
        PAGE.write_text(page(over))


if __name__ == "__main__":
    main()
