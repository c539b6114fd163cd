"""Fuzzes each target for its share of the time: ``python fuzz/run.py [--seconds N] [TARGET...]``.

libFuzzer drives (by atheris), guided by what of the code each input reaches. Prints executions and speed; on a
crash or a hang saves the input to fuzz/crashes/, says so, and ends with status 1. Put such an input into
fuzz/regressions/<target>/ together with the fix: tests/test_fuzz_targets.py replays it from then on.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
CRASHES, REGRESSIONS = HERE / "crashes", HERE / "regressions"
sys.path.insert(0, str(HERE.parent / "tests" / "support"))

# A hang, and a memory that grows, are crashes too. No reader here takes more than a datagram or a head at a time.
INPUT_SECONDS_MAX, MEMORY_MB_MAX, INPUT_BYTES_MAX = 5, 1024, 8192


def fuzz_one(name: str, arguments: list[str]) -> None:
    """In a process of its own, since libFuzzer never returns."""
    import atheris

    with atheris.instrument_imports(include=["nearmile"]):
        from targets import TARGETS
    atheris.Setup([name, *arguments], TARGETS[name][0])
    atheris.Fuzz()


def run(name: str, seconds: int) -> bool:
    """Fuzzes one target and tells of it; returns whether it held."""
    from targets import TARGETS

    CRASHES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(TARGETS[name][1]):
            (Path(corpus) / str(number)).write_bytes(seed)
        folders = [corpus, *(str(folder) for folder in (REGRESSIONS / name,) if folder.is_dir())]
        command = [
            sys.executable, __file__, "--one", name, "--", *folders, f"-max_total_time={seconds}",
            f"-timeout={INPUT_SECONDS_MAX}", f"-rss_limit_mb={MEMORY_MB_MAX}", f"-max_len={INPUT_BYTES_MAX}",
            f"-artifact_prefix={CRASHES}/{name}-", "-print_final_stats=1",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    counted = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    number = int(counted[1]) if counted else 0
    print(f"{name:14} {number:>10,} executions {number // max(seconds, 1):>8,}/s", flush=True)
    if done.returncode:
        print(done.stdout + done.stderr)
        print(f"{name} failed; the input is in {CRASHES}", flush=True)
    return done.returncode == 0


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description="fuzz the readers of bytes from outside")
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--seconds", type=int, default=66, help="for all targets together (default 66)")
    arguments = parser.parse_args()
    from targets import TARGETS

    names = arguments.targets or [*TARGETS]
    seconds = max(1, arguments.seconds // len(names))
    held = [run(name, seconds) for name in names]
    return 0 if all(held) else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        fuzz_one(sys.argv[2], sys.argv[4:])
    else:
        sys.exit(main())
